//! The worker's side of a proving child.

use std::{process::Stdio, time::Duration};

use gangline_proof::{Challenge, Commitment, MatrixParams, Opening, epoch};
use gangline_types::Hash;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    process::Child,
    task::JoinHandle,
};

use super::{
    ChildError, Executable, FoundAdapter,
    prove::{Reply, Request},
    read_end,
};

const SUBCOMMAND: &str = "adapter-prove";
/// The largest opening as text, and then some: 16 MiB in base64 is 22.4 MB.
const REPLY_BYTES_MAX: u64 = 32 << 20;
/// A child that says nothing for this long hangs: one step of the largest proof on a software device
/// is 5.5e11 multiply-adds, nine minutes.
const SILENCE_SECONDS_MAX: u64 = 600;

/// A child that proves on one adapter. It ends when this is dropped.
pub(crate) struct ProverChild {
    requests: Box<dyn AsyncWrite + Send + Unpin>,
    replies: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    process: Option<(Child, JoinHandle<String>)>,
}

impl ProverChild {
    /// Starts a child and opens the adapter in it.
    ///
    /// # Errors
    /// If it does not start, or the adapter cannot be opened.
    pub(crate) async fn start(executable: &Executable, adapter: &FoundAdapter) -> Result<Self, ChildError> {
        let FoundAdapter { index, name, pci_address, .. } = adapter.clone();
        Self::start_with(executable, Request::Adapter { index, name, pci_address }).await
    }

    /// Starts a child and opens the adapter in it for epochs.
    ///
    /// # Errors
    /// If it does not start, or the adapter cannot be opened.
    pub(crate) async fn start_epochs(
        executable: &Executable,
        adapter: &FoundAdapter,
    ) -> Result<Self, ChildError> {
        let FoundAdapter { index, name, pci_address, .. } = adapter.clone();
        Self::start_with(executable, Request::EpochAdapter { index, name, pci_address }).await
    }

    async fn start_with(executable: &Executable, open: Request) -> Result<Self, ChildError> {
        let start =
            |source| ChildError::Start { subcommand: SUBCOMMAND, program: executable.path().into(), source };
        let mut command = executable.command(SUBCOMMAND);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(ChildError::Failed("the proving process has no standard streams".to_owned()));
        };
        let mut this = Self::over(Box::new(stdin), Box::new(stdout));
        this.process = Some((child, tokio::spawn(read_end(stderr))));
        this.ready(open).await?;
        Ok(this)
    }

    fn over(
        requests: Box<dyn AsyncWrite + Send + Unpin>,
        replies: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Self {
        Self { requests, replies: BufReader::new(replies), process: None }
    }

    /// Gets ready for proofs of this size.
    pub(crate) async fn warm_up(&mut self, params: MatrixParams) -> Result<(), ChildError> {
        self.ready(Request::WarmUp { params }).await
    }

    /// Does the work; `progress` is told how many steps are done.
    pub(crate) async fn commit(
        &mut self,
        challenge: Challenge,
        progress: impl FnMut(u32),
    ) -> Result<Commitment, ChildError> {
        match self.ask(Request::Commit { challenge }, progress).await? {
            Reply::Committed { commitment } => Ok(commitment),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens what was committed.
    pub(crate) async fn open(&mut self, nonce: Hash) -> Result<Opening, ChildError> {
        match self.ask(Request::Open { nonce }, |_| {}).await? {
            Reply::Opened { opening } => Ok(opening),
            other => Err(unexpected(&other)),
        }
    }

    /// Gets ready for epochs of this size.
    pub(crate) async fn epoch_warm_up(&mut self, params: epoch::Params) -> Result<(), ChildError> {
        self.ready(Request::EpochWarmUp { params }).await
    }

    /// Does the work of an epoch; `progress` is told which part has begun, from 0.
    pub(crate) async fn epoch_commit(
        &mut self,
        challenge: epoch::Challenge,
        progress: impl FnMut(u32),
    ) -> Result<epoch::Commitment, ChildError> {
        match self.ask(Request::EpochCommit { challenge }, progress).await? {
            Reply::EpochCommitted { commitment } => Ok(commitment),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens what was committed in an epoch.
    pub(crate) async fn epoch_open(&mut self, nonce: Hash) -> Result<epoch::Opening, ChildError> {
        match self.ask(Request::EpochOpen { nonce }, |_| {}).await? {
            Reply::EpochOpened { opening } => Ok(opening),
            other => Err(unexpected(&other)),
        }
    }

    async fn ready(&mut self, request: Request) -> Result<(), ChildError> {
        match self.ask(request, |_| {}).await? {
            Reply::Ready => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask(&mut self, request: Request, mut progress: impl FnMut(u32)) -> Result<Reply, ChildError> {
        let mut line = serde_json::to_vec(&request).map_err(|e| ChildError::Failed(e.to_string()))?;
        line.push(b'\n');
        let sent = async {
            self.requests.write_all(&line).await?;
            self.requests.flush().await
        };
        if sent.await.is_err() {
            return Err(self.ended().await);
        }
        let silence = Duration::from_secs(SILENCE_SECONDS_MAX);
        loop {
            let mut reply = Vec::new();
            let mut limited = (&mut self.replies).take(REPLY_BYTES_MAX);
            let read = limited.read_until(b'\n', &mut reply);
            match tokio::time::timeout(silence, read).await {
                Err(_) => {
                    return Err(ChildError::Silent { subcommand: SUBCOMMAND, seconds: SILENCE_SECONDS_MAX });
                }
                Ok(Err(_) | Ok(0)) => return Err(self.ended().await),
                // The library of a driver may print lines of its own.
                Ok(Ok(_)) if reply.first() != Some(&b'{') => continue,
                Ok(Ok(_)) => {}
            }
            match serde_json::from_slice(&reply) {
                Ok(Reply::Progress { step }) => progress(step),
                Ok(Reply::Failed { why }) => return Err(ChildError::Failed(why)),
                Ok(reply) => return Ok(reply),
                Err(e) => {
                    return Err(ChildError::Failed(format!(
                        "the proving process answered something else ({e})"
                    )));
                }
            }
        }
    }

    /// What is known of a child that closed its streams.
    async fn ended(&mut self) -> ChildError {
        let (mut status, mut stderr) = (None, String::new());
        if let Some((mut child, words)) = self.process.take() {
            // It closed its output; it may take a moment more to be gone.
            status =
                tokio::time::timeout(Duration::from_secs(5), child.wait()).await.ok().and_then(Result::ok);
            drop(child);
            stderr = tokio::time::timeout(Duration::from_secs(1), words)
                .await
                .ok()
                .and_then(Result::ok)
                .unwrap_or_default();
        }
        ChildError::Ended { subcommand: SUBCOMMAND, status, stderr }
    }
}

fn unexpected(reply: &Reply) -> ChildError {
    let what = match reply {
        Reply::Progress { .. } => "progress",
        Reply::Ready => "ready",
        Reply::Committed { .. } => "committed",
        Reply::Opened { .. } => "opened",
        Reply::EpochCommitted { .. } => "epoch_committed",
        Reply::EpochOpened { .. } => "epoch_opened",
        Reply::Failed { .. } => "failed",
    };
    ChildError::Failed(format!("the proving process answered \"{what}\" to another question"))
}

#[cfg(test)]
mod tests {
    use std::{io::BufReader as StdReader, os::unix::net::UnixStream};

    use gangline_proof::{CpuProver, verify};

    use super::{
        super::prove::{Opened, serve},
        *,
    };

    fn with_cpu() -> ProverChild {
        let (ours, theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let input = StdReader::new(theirs.try_clone().unwrap());
            serve(input, theirs, |request| match request {
                Request::Adapter { index: 0, .. } => Ok(Opened::Matrix(Box::new(CpuProver::new()))),
                Request::EpochAdapter { index: 0, .. } => {
                    Ok(Opened::Epoch(Box::new(epoch::CpuProver::new())))
                }
                _ => Err("no such adapter".to_owned()),
            })
        });
        ours.set_nonblocking(true).unwrap();
        let (replies, requests) = tokio::net::UnixStream::from_std(ours).unwrap().into_split();
        ProverChild::over(Box::new(requests), Box::new(replies))
    }

    fn adapter(index: usize) -> Request {
        Request::Adapter { index, name: String::new(), pci_address: String::new() }
    }

    #[tokio::test]
    async fn a_proof_made_through_the_child_protocol_verifies() {
        let params = MatrixParams { n: 64, steps: 3, rows: 4 };
        let challenge = Challenge { params, beacon: Hash([1; 32]), binding: Hash([2; 32]) };
        let mut child = with_cpu();
        child.ready(adapter(0)).await.unwrap();
        child.warm_up(params).await.unwrap();
        let mut steps = Vec::new();
        let commitment = child.commit(challenge, |step| steps.push(step)).await.unwrap();
        assert_eq!(steps, [1, 2, 3]);
        let nonce = Hash([3; 32]);
        let opening = child.open(nonce).await.unwrap();
        verify(&challenge, &commitment, &nonce, &opening).unwrap();
        let again = child.open(nonce).await.unwrap_err().to_string();
        assert!(again.contains("nothing to open"), "{again}");
    }

    #[tokio::test]
    async fn an_epoch_made_through_the_child_protocol_verifies() {
        let chain = epoch::ChainParams { units: 64, segments: 2, steps: 32, opened: 8 };
        let memory = epoch::MemoryParams::whole(1024, 4);
        let params = epoch::Params { memory, walk: chain, alu: chain, matrix: None };
        let challenge = epoch::Challenge { params, beacon: Hash([1; 32]), binding: Hash([2; 32]) };
        let mut child = with_cpu();
        child
            .ready(Request::EpochAdapter { index: 0, name: String::new(), pci_address: String::new() })
            .await
            .unwrap();
        child.epoch_warm_up(params).await.unwrap();
        let mut parts = Vec::new();
        let commitment = child.epoch_commit(challenge, |part| parts.push(part)).await.unwrap();
        assert_eq!((parts.first(), parts.last()), (Some(&0), Some(&4)), "{parts:?}");
        let nonce = Hash([3; 32]);
        let opening = child.epoch_open(nonce).await.unwrap();
        epoch::verify(&challenge, &commitment, &nonce, &opening).unwrap();
        let other = child.open(nonce).await.unwrap_err().to_string();
        assert!(other.contains("another kind of proof"), "{other}");
    }

    #[tokio::test]
    async fn refusals_and_a_child_that_is_gone_are_told_apart() {
        let mut child = with_cpu();
        let early = child.open(Hash::default()).await.unwrap_err().to_string();
        assert!(early.contains("no adapter was opened"), "{early}");
        let missing = child.ready(adapter(1)).await.unwrap_err().to_string();
        assert!(missing.contains("no such adapter"), "{missing}");

        let (ours, theirs) = tokio::io::duplex(64);
        drop(theirs);
        let (replies, requests) = tokio::io::split(ours);
        let mut gone = ProverChild::over(Box::new(requests), Box::new(replies));
        assert!(matches!(gone.open(Hash::default()).await, Err(ChildError::Ended { .. })));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_named() {
        let nowhere = Executable::at("/nonexistent/program".into());
        let adapter = FoundAdapter {
            index: 0,
            name: "x".into(),
            backend: gangline_types::Backend::Vulkan,
            kind: gangline_types::AdapterKind::Software,
            driver: String::new(),
            pci_vendor: 0,
            pci_device: 0,
            pci_address: String::new(),
        };
        let Err(e) = ProverChild::start(&nowhere, &adapter).await else { panic!("it started") };
        assert!(e.to_string().contains("/nonexistent/program"), "{e}");
    }
}
