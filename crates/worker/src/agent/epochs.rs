//! Epochs: when the network says that the bell will ring, the GPUs are made ready in children of their own,
//! wait for the bell, and answer all at once. A renter's work comes first: a GPU's child ends the moment a
//! cluster is on it, while the machine's other GPUs answer; and a GPU gives no more of its time to proving than
//! its hour allows.
//!
//! Judges nothing: what an epoch is worth comes back as a verdict.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use gangline_proof::epoch::{Budget, GpuKey, OverBudget};
use gangline_types::{GpuId, ProofId, Text};
use gangline_wire::{
    api::epoch::{
        BellGpu, BellRequest, BellUnable, EpochChallenge, EpochCommit, EpochNotice, EpochOpen, EpochReady,
        EpochVerdict,
    },
    api::machine::Observed,
    endpoints::{EpochBegin, EpochOpened, EpochRoots},
};
use tokio::task::JoinSet;

use super::{
    backoff::Backoff,
    child::{ChildError, ProverChild},
    inventory::LocalGpu,
    preflight::chain,
    proving::{doing, problem, show},
    shared::Shared,
};
use crate::client::{self, ClientError};

/// The answer to a request for challenges comes with the bell: at most the notice and this much later.
const BELL_SECONDS_MAX: u64 = 60;
/// Enrolment has three epochs within minutes: the hour's budget allows as many times ten seconds.
const ENROLMENT_MILLIS: u64 = 3 * Budget::LIMIT_MILLIS;

/// A server waits so long for an opening at least, after the roots.
const OPENED_WITHIN: Duration = Duration::from_secs(900);

/// Why an epoch was not answered.
#[derive(Debug, thiserror::Error)]
enum EpochFailure {
    #[error(transparent)]
    Child(#[from] ChildError),
    #[error("the server did not take a step of the epoch")]
    Server(#[from] ClientError),
    #[error("a renter's cluster came first")]
    Hired,
}

/// What each GPU's hour has been spent on, and how long its last epoch took.
#[derive(Default)]
struct Spending {
    budgets: BTreeMap<GpuId, Budget>,
    last_millis: BTreeMap<GpuId, u64>,
}

impl Spending {
    /// Whether this GPU may answer another epoch now. The first hour of a worker holds its enrolment.
    fn may_start(&mut self, gpu: GpuId, first_hour: bool) -> Result<(), OverBudget> {
        let expected = self.last_millis.get(&gpu).copied().unwrap_or(0);
        let budget = self.budgets.entry(gpu).or_insert_with(|| {
            Budget::with_limit(if first_hour { ENROLMENT_MILLIS } else { Budget::LIMIT_MILLIS })
        });
        budget.may_start(client::now(), expected)
    }
    fn spend(&mut self, gpu: GpuId, took: Duration) {
        let millis = took.as_millis() as u64;
        self.budgets.entry(gpu).or_default().spend(client::now(), millis);
        self.last_millis.insert(gpu, millis);
    }
    /// After the first hour every budget is the network's promise and no more.
    fn settle(&mut self) {
        for budget in self.budgets.values_mut() {
            let mut settled = Budget::new();
            let now = client::now();
            settled.spend(now, budget.spent_millis(now));
            *budget = settled;
        }
    }
}

/// Answers whenever the bell rings, until the worker stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut notices = shared.epochs();
    let mut backoff = Backoff::default();
    let mut spending = Spending::default();
    let started = Instant::now();
    let mut settled = false;
    loop {
        let notice: Option<EpochNotice> = notices.borrow_and_update().clone();
        let Some(notice) = notice.and_then(|notice| unhired(&shared, notice)) else {
            tokio::select! {
                () = shared.stop.cancelled() => return,
                _ = notices.changed() => continue,
            }
        };
        let first_hour = started.elapsed() < Duration::from_secs(3600);
        if !first_hour && !settled {
            spending.settle();
            settled = true;
        }
        let gpus: Vec<GpuId> = notice.gpus.iter().map(|ready| ready.gpu).collect();
        let worked = tokio::select! {
            () = shared.stop.cancelled() => return,
            worked = round(&shared, notice, &mut spending, first_hour) => worked,
        };
        for gpu in gpus {
            show(&shared, gpu, None);
        }
        shared.expect_epoch(None);
        if worked {
            backoff.worked();
            continue;
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(backoff.failed()) => {}
        }
    }
}

/// Whether a renter's cluster is on this GPU.
fn is_hired(shared: &Shared, gpu: GpuId) -> bool {
    let is_live = |state| matches!(state, Observed::Starting | Observed::Running);
    shared.read(|status| status.clusters.iter().any(|c| c.gpu == Some(gpu) && is_live(c.state)))
}

/// The part of a notice that is about GPUs without a renter; none if nothing is left of it.
fn unhired(shared: &Shared, mut notice: EpochNotice) -> Option<EpochNotice> {
    notice.gpus.retain(|ready| !is_hired(shared, ready.gpu));
    (!notice.gpus.is_empty()).then_some(notice)
}

/// The first of these GPUs that a renter's cluster is on, once there is one.
async fn hired(shared: &Shared, gpus: &[GpuId]) -> GpuId {
    let mut news = shared.news();
    loop {
        news.borrow_and_update();
        if let Some(gpu) = gpus.iter().find(|gpu| is_hired(shared, **gpu)) {
            return *gpu;
        }
        if news.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What comes of `work`, which is left as it is when a renter's cluster comes to this GPU.
async fn unless_hired<T, E: Into<EpochFailure>>(
    shared: &Shared,
    gpu: GpuId,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, EpochFailure> {
    let gpus = [gpu];
    tokio::select! {
        biased;
        _ = hired(shared, &gpus) => Err(EpochFailure::Hired),
        done = work => done.map_err(Into::into),
    }
}

/// A GPU that is ready.
struct Ready {
    gpu: GpuId,
    local: LocalGpu,
    child: ProverChild,
    key: GpuKey,
}

/// One epoch; whether every GPU got a verdict.
async fn round(shared: &Arc<Shared>, notice: EpochNotice, spending: &mut Spending, first_hour: bool) -> bool {
    let Some(machine_key) = shared.client.key() else { return false };
    let (mut ready, mut unable, mut all_well) = (Vec::new(), Vec::new(), true);
    let mut warming = JoinSet::new();
    for EpochReady { gpu, params } in notice.gpus {
        let Some((_, local)) = shared.gpus().into_iter().find(|(known, _)| *known == gpu) else { continue };
        if let Err(over) = spending.may_start(gpu, first_hour) {
            tracing::warn!(%gpu, why = %over, "no epoch is answered");
            unable.push(BellUnable { gpu, why: Text::lossy(&over.to_string()) });
            continue;
        }
        let (shared, key) = (Arc::clone(shared), GpuKey::derive(&machine_key.seed(), gpu));
        warming.spawn(async move {
            show(&shared, gpu, doing("getting ready for the bell", 0, 0));
            let child = async {
                let mut child = ProverChild::start_epochs(&shared.executable, &local.adapter).await?;
                child.epoch_warm_up(params).await?;
                Ok::<_, ChildError>(child)
            };
            match unless_hired(&shared, gpu, child).await {
                Ok(child) => Ok(Ready { gpu, local, child, key }),
                Err(failure) => {
                    failed(&shared, gpu, &failure);
                    let is_unable = !matches!(failure, EpochFailure::Hired);
                    Err(is_unable.then(|| BellUnable { gpu, why: Text::lossy(&chain(&failure)) }))
                }
            }
        });
    }
    while let Some(done) = warming.join_next().await {
        match done {
            Ok(Ok(one)) => ready.push(one),
            Ok(Err(None)) => {}
            Ok(Err(Some(one))) => {
                all_well = false;
                unable.push(one);
            }
            Err(_) => all_well = false,
        }
    }
    if ready.is_empty() && unable.is_empty() {
        return all_well;
    }
    for one in &ready {
        show(shared, one.gpu, doing("waiting for the bell", 0, 0));
    }
    let gpus = ready.iter().map(|one| BellGpu { gpu: one.gpu, key: one.key.public() }).collect();
    let limit = Duration::from_secs(BELL_SECONDS_MAX);
    let (request, none) = (BellRequest { gpus, unable }, Default::default());
    let mut bell = pin!(shared.client.call_waiting::<EpochBegin>(&[], &none, &request, limit));
    let begun = loop {
        let waiting: Vec<GpuId> = ready.iter().map(|one| one.gpu).collect();
        tokio::select! {
            begun = &mut bell => break begun,
            // Its child holds the memory of the GPU, so it ends before the bell.
            gpu = hired(shared, &waiting) => {
                failed(shared, gpu, &EpochFailure::Hired);
                ready.retain(|one| one.gpu != gpu);
            }
        }
    };
    let challenges = match begun {
        Ok(begun) => begun.challenges,
        Err(error) => {
            let not_wanted = error.code() == Some("not_wanted");
            if !not_wanted {
                shared.failed("ask for an epoch's challenges", &error);
            }
            return not_wanted;
        }
    };
    shared.reached();
    let mut proving = JoinSet::new();
    for one in ready {
        let Some(challenge) = challenges.iter().find(|c| c.gpu == one.gpu).cloned() else { continue };
        let shared = Arc::clone(shared);
        proving.spawn(async move {
            let gpu = one.gpu;
            let (took, answered) = answer(&shared, one, challenge).await;
            let is_left = matches!(answered, Err(EpochFailure::Hired));
            (gpu, took, answered.map_err(|failure| failed(&shared, gpu, &failure)), is_left)
        });
    }
    while let Some(done) = proving.join_next().await {
        let Ok((gpu, took, answered, is_left)) = done else {
            all_well = false;
            continue;
        };
        spending.spend(gpu, took);
        let Ok(verdict) = answered else {
            all_well &= is_left;
            continue;
        };
        shared.reached();
        shared.judged();
        if verdict.accepted {
            tracing::info!(%gpu, standing = %verdict.standing, finding = %verdict.finding, "an epoch passed");
        } else {
            tracing::warn!(%gpu, standing = %verdict.standing, finding = %verdict.finding, "an epoch did not pass");
        }
        problem(shared, gpu, (!verdict.accepted).then(|| verdict.finding.to_string()));
        shared.update(|s| {
            if let Some(g) = s.gpus.iter_mut().find(|g| g.gpu == gpu) {
                g.standing = verdict.standing;
                g.reason = verdict.reason.to_string();
                g.proof = None;
            }
        });
    }
    all_well
}

fn failed(shared: &Shared, gpu: GpuId, failure: &EpochFailure) {
    show(shared, gpu, None);
    if let EpochFailure::Hired = failure {
        return tracing::info!(%gpu, "a renter's cluster comes first: the epoch is left");
    }
    if let EpochFailure::Server(error) = failure {
        shared.failed("answer an epoch", error);
        if error.is_passing() {
            return;
        }
    }
    let why = chain(failure);
    tracing::error!(%gpu, why, "an epoch was not answered");
    problem(shared, gpu, Some(why));
}

/// One epoch from challenge to verdict, and how long the GPU worked. A renter's cluster ends it at any moment, and the
/// child with it.
async fn answer(
    shared: &Shared,
    mut one: Ready,
    given: EpochChallenge,
) -> (Duration, Result<EpochVerdict, EpochFailure>) {
    let (gpu, began) = (one.gpu, Instant::now());
    let committed = unless_hired(shared, gpu, commit(shared, &mut one, &given)).await;
    let took = began.elapsed();
    let (nonce, commitment, wait) = match committed {
        Ok(committed) => committed,
        Err(failure) => return (took, Err(failure)),
    };
    show(shared, gpu, doing("opening", 5, 5));
    let opened = async {
        tokio::time::sleep(wait).await;
        let opening = one.child.epoch_open(nonce).await?;
        let signature = one.key.sign(&given.challenge, &commitment, &nonce, &opening);
        hand_in(shared, gpu, given.proof, &EpochOpen { opening, signature }).await
    };
    (took, unless_hired(shared, gpu, opened).await)
}

/// Hands an opening in, again and again while the server is away or busy: its clock stopped with the roots.
async fn hand_in(
    shared: &Shared,
    gpu: GpuId,
    proof: ProofId,
    open: &EpochOpen,
) -> Result<EpochVerdict, EpochFailure> {
    let until = Instant::now() + OPENED_WITHIN;
    let mut backoff = Backoff::default();
    loop {
        match shared.client.call::<EpochOpened>(&[&proof], &Default::default(), open).await {
            Err(error) if error.is_passing() && Instant::now() < until => {
                tracing::warn!(%gpu, %proof, %error, "the opening was not taken; handing it in again");
                tokio::time::sleep(backoff.failed()).await;
            }
            other => return Ok(other?),
        }
    }
}

type Committed = (gangline_types::Hash, gangline_proof::epoch::Commitment, Duration);

async fn commit(shared: &Shared, one: &mut Ready, given: &EpochChallenge) -> Result<Committed, EpochFailure> {
    let (gpu, proof) = (one.gpu, given.proof);
    tracing::info!(%gpu, %proof, deadline_millis = given.deadline_millis, "the bell rang");
    let mut bar = shared.bars.bar(one.local.claim.model.to_string(), 5);
    let progress = |part: u32| {
        const PARTS: [&str; 5] =
            ["filling memory", "walking it", "mixing", "multiplying", "walking it again"];
        let words = PARTS.get(part as usize).copied().unwrap_or("proving");
        bar.doing(words);
        bar.at(u64::from(part), 5);
        show(shared, gpu, doing(words, part, 5));
    };
    let commitment = one.child.epoch_commit(given.challenge, progress).await?;
    let roots = EpochCommit { commitment: commitment.clone() };
    let receipt = shared.client.call::<EpochRoots>(&[&proof], &Default::default(), &roots).await?;
    Ok((receipt.nonce, commitment, Duration::from_millis(receipt.open_in_millis)))
}

#[cfg(test)]
mod tests {
    use gangline_proof::epoch::{Challenge, SIZES};
    use gangline_types::{ClusterId, Hash};

    use super::{
        super::{
            child::{Executable, FoundAdapter},
            data::DataDir,
            progress::Bars,
            settings::Settings,
            status::{ClusterStatus, Status},
        },
        *,
    };
    use crate::client::Client;

    fn gpu(n: u8) -> GpuId {
        GpuId::from_bytes([n; 16])
    }

    fn shared(executable: Executable, folder: &std::path::Path) -> Shared {
        let client = Client::new("http://127.0.0.1:9", None).unwrap();
        let data = DataDir::resolve(Some(folder)).unwrap();
        Shared::new(client, data, Settings::default(), executable, Bars::new(true), Status::default())
    }

    fn put(shared: &Shared, on: GpuId, state: Observed) {
        shared.update(|status| {
            status.clusters = vec![ClusterStatus {
                cluster: ClusterId::from_bytes([7; 16]),
                gpu: Some(on),
                state,
                detail: String::new(),
                started_at: None,
                tunnel_open: false,
            }];
        });
    }

    #[test]
    fn a_hired_gpu_is_left_alone_and_the_machine_s_others_hear_the_bell() {
        let folder = tempfile::tempdir().unwrap();
        let shared = shared(Executable::at("/nowhere".into()), folder.path());
        let ready = |n| EpochReady { gpu: gpu(n), params: SIZES[0] };
        let called = |gpus: &[u8]| {
            let notice = EpochNotice { gpus: gpus.iter().copied().map(ready).collect() };
            unhired(&shared, notice).map(|left| left.gpus.iter().map(|ready| ready.gpu).collect::<Vec<_>>())
        };
        assert_eq!(called(&[1, 2]), Some(vec![gpu(1), gpu(2)]));
        for state in [Observed::Starting, Observed::Running] {
            put(&shared, gpu(1), state);
            assert_eq!(called(&[1, 2]), Some(vec![gpu(2)]), "{state:?}");
            assert_eq!(called(&[1]), None, "{state:?}");
        }
        for state in [Observed::RefusedByOwner, Observed::Failed, Observed::Gone] {
            put(&shared, gpu(1), state);
            assert_eq!(called(&[1, 2]), Some(vec![gpu(1), gpu(2)]), "{state:?}");
        }
    }

    /// A prover that gets ready, tells the id of its process when it is given work, and works for ever. Another process
    /// writes it down: what this one has open for writing, a child of another test may hold at the moment it is started.
    fn prover(folder: &std::path::Path) -> Executable {
        use std::{io::Write, process};
        let program = folder.join("program");
        let text = "#!/bin/sh\nread line\necho '{\"is\":\"ready\"}'\nread line\necho \"{\\\"is\\\":\\\"progress\\\",\\\"step\\\":$$}\"\nexec sleep 1000\n";
        let mut writing = process::Command::new("install")
            .args(["-m", "700", "/dev/stdin"])
            .arg(&program)
            .stdin(process::Stdio::piped())
            .spawn()
            .unwrap();
        writing.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(writing.wait().unwrap().success());
        Executable::at(program)
    }

    #[tokio::test]
    async fn a_prover_ends_at_once_when_its_gpu_is_hired_and_not_for_another() {
        let folder = tempfile::tempdir().unwrap();
        let shared = Arc::new(shared(prover(folder.path()), folder.path()));
        let adapter = FoundAdapter {
            index: 0,
            name: "card".into(),
            backend: gangline_types::Backend::Vulkan,
            kind: gangline_types::AdapterKind::Discrete,
            driver: String::new(),
            pci_vendor: 0,
            pci_device: 0,
            pci_address: String::new(),
        };
        let challenge = Challenge { params: SIZES[0], beacon: Hash([1; 32]), binding: Hash([2; 32]) };
        let (told, mut process) = tokio::sync::mpsc::channel(1);
        let working = {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                let child = async {
                    let mut child = ProverChild::start_epochs(&shared.executable, &adapter).await?;
                    child.epoch_commit(challenge, |id| told.try_send(id).unwrap()).await
                };
                unless_hired(&shared, gpu(1), child).await
            })
        };
        let limit = Duration::from_secs(60);
        let id = tokio::time::timeout(limit, process.recv()).await.expect("it works").expect("its id");
        let status = format!("/proc/{id}/status");
        let runs = || {
            let status = std::fs::read_to_string(&status).unwrap_or_default();
            !status.is_empty() && !status.contains("State:\tZ")
        };
        put(&shared, gpu(2), Observed::Running);
        assert_eq!(hired(&shared, &[gpu(1), gpu(2)]).await, gpu(2));
        assert!(runs() && !working.is_finished(), "it ended for another GPU's renter");
        put(&shared, gpu(1), Observed::Starting);
        let left = working.await.unwrap();
        assert!(matches!(left, Err(EpochFailure::Hired)), "{left:?}");
        let began = Instant::now();
        while runs() {
            assert!(began.elapsed() < limit, "its process goes on");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
