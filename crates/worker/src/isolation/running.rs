//! One sandbox's life: prepared, started, looked at, given its order, used through the mux, torn
//! down. Dropping any part of it, also a start that is given up halfway, tears it down.

use std::{
    collections::VecDeque,
    io,
    path::Path,
    process::ExitStatus,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    task::JoinHandle,
    time::timeout,
};

use super::{
    BackendKind, Isolation, IsolationError, NodeProgram, NodeSpec, Plan, ReadBack, Started,
    cgroup::{self, Limits, Place, Use},
    process::Keeper,
    readback,
    rootfs::{Folder, NODE_PATH, RunFolder},
    spec,
};
use crate::node::{
    mux::{self, NodeStream, Opener},
    protocol::{self, Report},
};

/// Until the node says hello: a loaded machine's container start, many times over.
const HELLO_WITHIN: Duration = Duration::from_secs(30);
/// Until Ray answers: the node's own limit of 210 s and its stop.
const READY_WITHIN: Duration = Duration::from_secs(230);
/// Until a node whose stdin was closed has stopped Ray: its own 5 s and a margin.
const STOP_WITHIN: Duration = Duration::from_secs(8);
/// Twice the object store and Ray's own small segments.
const SHM_BYTES: u64 = 256 << 20;
const LOG_LINES: usize = 60;

/// The last lines of a node's log, newest last, without control characters.
#[derive(Debug, Clone, Default)]
pub struct LogTail(Arc<Mutex<VecDeque<String>>>);

impl LogTail {
    /// The lines kept.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let text: String = text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        tracing::debug!(target: "gangline_worker::node_log", "{text}");
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LOG_LINES {
            lines.pop_front();
        }
        lines.push_back(text);
    }
}

/// The host's user for a sandbox: ranges of 65,536 from 2^30, far from people and services,
/// chosen by name so that two sandboxes of a host hardly ever share one.
fn outside_id(name: &str) -> u32 {
    let hash = blake3::hash(name.as_bytes());
    let slot = u32::from(u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]])) % 4096;
    (1 << 30) + slot * 65_536
}

/// Makes the files and the control group of a sandbox.
pub(super) fn prepare(
    run: &RunFolder,
    place: &Place,
    short_name: &str,
    limits: Limits,
    fill: impl FnOnce(&mut Plan),
) -> Result<Plan, IsolationError> {
    let name = format!("{}{short_name}", run.prefix);
    // Podman takes no storage path over 50 characters.
    let folder = Folder::make(run, &blake3::hash(name.as_bytes()).to_hex()[..8])?;
    let group = place.make(&name, limits).map_err(|source| {
        let _ = folder.remove();
        IsolationError::Group { doing: "make", name: name.clone(), source }
    })?;
    let mut plan = Plan {
        outside_id: outside_id(&name),
        name,
        prefix: run.prefix.clone(),
        folder,
        group_place: place.clone(),
        group,
        limits,
        tmp_bytes: 0,
        shm_bytes: SHM_BYTES,
        gpu: super::GpuPass::default(),
        ray_home: None,
        node: None,
        argv: vec![],
    };
    fill(&mut plan);
    Ok(plan)
}

/// Removes a folder that a backend's own clean-up may still be writing to.
pub(super) fn remove_patiently(path: &Path) -> Result<(), IsolationError> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match super::rootfs::remove_tree(path) {
            Ok(()) => break,
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
    // The shared folders above go with the last sandbox; not empty is no failure.
    for above in path.ancestors().skip(1).take(2).filter(|p| p.to_string_lossy().contains("gangline")) {
        let _ = std::fs::remove_dir(above);
    }
    Ok(())
}

/// Ends a sandbox and removes every trace. Blocks.
pub(super) fn tear_down(
    backend: &dyn Isolation,
    plan: &Plan,
    keeper: Option<&Keeper>,
) -> Result<(), IsolationError> {
    // The starter first: killed halfway it makes nothing more, and what it made is in the group
    // or in the backend's records.
    if let Some(keeper) = keeper {
        keeper.kill();
        let _ = keeper.exited_blocking(Duration::from_secs(2));
    }
    let removed = backend.remove(plan);
    let failed = |doing| {
        let name = plan.name.clone();
        move |source| IsolationError::Group { doing, name, source }
    };
    let emptied = plan.group.remove().map_err(failed("remove"));
    let cleared = remove_patiently(&plan.folder.path);
    removed.and(emptied).and(cleared)
}

/// A sandbox that ends with this value.
struct Held {
    backend: Arc<dyn Isolation>,
    plan: Plan,
    keeper: Option<Keeper>,
    over: bool,
}

impl Held {
    fn end(&mut self) -> Result<(), IsolationError> {
        self.over = true;
        tear_down(self.backend.as_ref(), &self.plan, self.keeper.as_ref())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.over
            && let Err(error) = self.end()
        {
            tracing::error!(
                name = self.plan.name,
                error = super::chain(&error),
                "a sandbox left something behind"
            );
        }
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("plan", &self.plan).finish_non_exhaustive()
    }
}

/// A host's way to make sandboxes: a usable backend, a place for control groups, a run folder.
#[derive(Clone)]
pub struct Sandbox {
    backend: Arc<dyn Isolation>,
    place: Place,
    run: RunFolder,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sandbox").field("backend", &self.backend.kind()).field("run", &self.run).finish()
    }
}

impl Sandbox {
    /// The first usable backend, or `only` this one. Tries each by running a program in it; blocks
    /// for about a third of a second.
    ///
    /// # Errors
    /// [`IsolationError::NoBackend`] with every backend's problem.
    pub fn choose(state: &Path, only: Option<BackendKind>) -> Result<Self, IsolationError> {
        let run = RunFolder::of(state);
        let place = cgroup::place();
        let mut reports = Vec::new();
        for backend in super::backends() {
            let kind = backend.kind();
            if only.is_some_and(|only| only != kind) {
                continue;
            }
            let tried = place.clone().and_then(|place| {
                super::probe(backend.as_ref(), &place, &run)?;
                Ok(place)
            });
            match tried {
                Ok(place) => return Ok(Self { backend, place, run }),
                Err(problem) => {
                    reports.push(super::BackendReport { backend: kind, problem: Some(problem) });
                }
            }
        }
        Err(IsolationError::NoBackend(reports))
    }

    /// Which backend was chosen.
    pub fn backend(&self) -> BackendKind {
        self.backend.kind()
    }

    /// Starts a node: makes the sandbox, checks from outside that everything is in force, only
    /// then gives it its order, and waits until its program is ready. `progress` gets a sentence
    /// for each step. Dropping the future tears everything down (blocking for a moment).
    ///
    /// # Errors
    /// When the request is impossible, the sandbox is not in force, or the program does not start;
    /// nothing is left then.
    pub async fn start(
        &self,
        spec: NodeSpec,
        mut progress: impl FnMut(&str) + Send,
    ) -> Result<RunningNode, IsolationError> {
        progress("the sandbox is being made");
        let order = spec::order(&spec);
        let this = self.clone();
        let (mut held, started) = blocking(move || this.make(spec)).await?;
        let log = LogTail::default();
        let (stdin, stdout, stderr) = asynchronous(started)
            .map_err(|source| IsolationError::Start { backend: self.backend(), source })?;
        let logging = tokio::spawn(keep_log(stderr, log.clone()));
        let node = |reason: String| IsolationError::Node { reason, log: log.lines().join("\n") };
        let mut from = BufReader::new(stdout);
        let mut to = stdin;
        let outcome = async {
            let hello = timeout(HELLO_WITHIN, protocol::read_line::<Report>(&mut from)).await;
            match hello {
                Ok(Ok(Some(Report::Hello { version: protocol::VERSION }))) => {}
                Ok(Ok(None)) => return Err("it ended before it said hello".to_owned()),
                Ok(Ok(Some(other))) => return Err(format!("it began with {other:?}")),
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err(format!("it said nothing within {} s", HELLO_WITHIN.as_secs())),
            }
            Ok(())
        };
        if let Err(reason) = outcome.await {
            // Its log may be a moment behind its end.
            let _ = timeout(Duration::from_millis(500), logging).await;
            return Err(node(reason));
        }
        progress("the sandbox runs; what is in force is being read back");
        let kind = self.backend();
        let (returned, read_back) = blocking(move || {
            let read_back = readback::observe(&held.plan, kind);
            (held, read_back)
        })
        .await;
        held = returned;
        let read_back = read_back.map_err(|source| IsolationError::Unreadable { source })?;
        let shortcomings = read_back.shortcomings(&held.plan);
        if !shortcomings.is_empty() {
            return Err(IsolationError::NotInForce { backend: kind, shortcomings });
        }
        let ready = async {
            protocol::write_line(&mut to, &order).await.map_err(|e| e.to_string())?;
            drop(order);
            loop {
                match protocol::read_line::<Report>(&mut from).await.map_err(|e| e.to_string())? {
                    Some(Report::Progress { step }) => progress(&step),
                    Some(Report::Ready) => return Ok(()),
                    Some(Report::Failed { reason }) => return Err(reason),
                    Some(Report::Hello { .. }) => return Err("it said hello twice".to_owned()),
                    None => return Err("it ended while it was starting".to_owned()),
                }
            }
        };
        match timeout(READY_WITHIN, ready).await {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => {
                let _ = timeout(Duration::from_millis(500), logging).await;
                return Err(node(reason));
            }
            Err(_) => return Err(node(format!("it was not ready within {} s", READY_WITHIN.as_secs()))),
        }
        let keeper = held.keeper.clone();
        let (opener, driver) = mux::client(tokio::io::join(from, to));
        let driver = tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%error, "the session with a node ended");
            }
        });
        Ok(RunningNode { read_back, opener, driver, logging, log, keeper, held })
    }

    /// The blocking part of a start.
    fn make(&self, spec: NodeSpec) -> Result<(Held, Started), IsolationError> {
        spec::check(&spec)?;
        let (node, arguments) = match &spec.node {
            Some((path, arguments)) => (path.clone(), arguments.clone()),
            None => {
                let own = std::env::current_exe()
                    .map_err(|source| IsolationError::Start { backend: self.backend(), source })?;
                (own, vec!["node".to_owned()])
            }
        };
        let ray_home = match &spec.program {
            NodeProgram::Ray { ray_home, .. } => Some(spec::usable_ray(ray_home)?),
            NodeProgram::Command(_) => None,
        };
        // The kernel keeps whole pages: what is asked must be what can be read back.
        let memory_bytes = spec.memory_bytes & !0xffff;
        let limits = Limits { memory_bytes, cpus_millis: spec.cpus_millis, pids_max: spec.pids_max };
        let plan = prepare(&self.run, &self.place, &spec.cluster.to_string(), limits, |plan| {
            plan.tmp_bytes = spec.tmp_bytes & !0xffff;
            plan.gpu = spec.gpu.clone().unwrap_or_default();
            plan.ray_home = ray_home;
            plan.node = Some(node);
            plan.argv = [NODE_PATH.to_owned()].into_iter().chain(arguments).collect();
        })?;
        let mut held = Held { backend: Arc::clone(&self.backend), plan, keeper: None, over: false };
        let started = self.backend.start(&held.plan)?;
        held.keeper = Some(started.keeper.clone());
        Ok((held, started))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // The runtime is going down; the caller's future goes with it.
        Err(_) => std::future::pending().await,
    }
}

type AsyncPipes = (tokio::process::ChildStdin, tokio::process::ChildStdout, tokio::process::ChildStderr);

fn asynchronous(started: Started) -> io::Result<AsyncPipes> {
    let pipes = started.pipes;
    Ok((
        tokio::process::ChildStdin::from_std(pipes.stdin)?,
        tokio::process::ChildStdout::from_std(pipes.stdout)?,
        tokio::process::ChildStderr::from_std(pipes.stderr)?,
    ))
}

/// Drains a node's log, in pieces of at most 4 KiB so that no line fills our memory.
async fn keep_log(from: tokio::process::ChildStderr, log: LogTail) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(4096).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => log.push(&line),
        }
    }
}

/// A node whose sandbox is in force and whose program is ready.
#[derive(Debug)]
pub struct RunningNode {
    read_back: ReadBack,
    opener: Opener,
    driver: JoinHandle<()>,
    logging: JoinHandle<()>,
    log: LogTail,
    keeper: Option<Keeper>,
    held: Held,
}

impl RunningNode {
    /// A new stream to Ray's dashboard and Jobs API.
    ///
    /// # Errors
    /// `BrokenPipe` when the node is gone, `QuotaExceeded` at 256 open streams.
    pub async fn open(&self) -> io::Result<NodeStream> {
        self.opener.open().await
    }

    /// Opens streams; may be cloned and kept beside the node.
    pub fn opener(&self) -> Opener {
        self.opener.clone()
    }

    /// What was in force when the node was given its order.
    pub fn read_back(&self) -> &ReadBack {
        &self.read_back
    }

    /// What the sandbox uses now.
    ///
    /// # Errors
    /// When its control group is gone.
    pub fn used(&self) -> io::Result<Use> {
        self.held.plan.group.used()
    }

    /// The last lines of its log.
    pub fn log(&self) -> LogTail {
        self.log.clone()
    }

    /// Waits for the end of the sandbox's first program.
    pub async fn wait_exit(&self) -> ExitStatus {
        match &self.keeper {
            Some(keeper) => keeper.exited().await,
            None => std::future::pending().await,
        }
    }

    /// Lets the program end, then removes the sandbox with everything that is left in it.
    ///
    /// # Errors
    /// When something could not be removed.
    pub async fn stop(mut self) -> Result<(), IsolationError> {
        self.driver.abort();
        // With the driver gone the node's stdin is closed, which is how it is told to stop.
        let _ = (&mut self.driver).await;
        if let Some(keeper) = &self.keeper {
            let _ = timeout(STOP_WITHIN, keeper.exited()).await;
        }
        let mut held = self.held;
        let ended = blocking(move || held.end()).await;
        let _ = timeout(Duration::from_secs(1), self.logging).await;
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isolation::readback::{IdRange, Inmate};

    /// A backend that isolates nothing and says hello like a node.
    struct Lying(std::path::PathBuf);

    impl Isolation for Lying {
        fn kind(&self) -> BackendKind {
            BackendKind::Bubblewrap
        }
        fn missing(&self, _: u8) -> Result<(), String> {
            Ok(())
        }
        fn start(&self, _: &Plan) -> Result<Started, IsolationError> {
            let mut command = std::process::Command::new("/bin/sh");
            command
                .arg("-c")
                .arg(format!("echo '{{\"report\":\"hello\",\"version\":1}}'; cat > {}", self.0.display()));
            let (keeper, pipes, _) = Keeper::start(command).unwrap();
            Ok(Started { keeper, pipes })
        }
        fn remove(&self, _: &Plan) -> Result<(), IsolationError> {
            Ok(())
        }
    }

    fn place(host: &Path) -> Place {
        Place::V2 { mount: host.to_owned(), base: host.to_owned() }
    }

    #[tokio::test]
    async fn what_is_not_in_force_gets_no_order() {
        let host = tempfile::tempdir().unwrap();
        let heard = host.path().join("heard");
        let sandbox = Sandbox {
            backend: Arc::new(Lying(heard.clone())),
            place: place(host.path()),
            run: RunFolder { path: host.path().join("gangline/run"), prefix: "gangline-t-".to_owned() },
        };
        let spec = NodeSpec {
            cluster: gangline_types::ClusterId::from_bytes([1; 16]),
            program: NodeProgram::Command(vec!["/bin/true".to_owned()]),
            cpus_millis: 1000,
            memory_bytes: 64 << 20,
            pids_max: 64,
            tmp_bytes: 1 << 20,
            gpu: None,
            node: None,
        };
        let refused = sandbox.start(spec, |_| {}).await.unwrap_err();
        assert!(matches!(refused, IsolationError::Unreadable { .. }), "{refused:?}");
        assert_eq!(std::fs::read(heard).unwrap_or_default(), b"", "an order was given");
    }

    #[test]
    fn each_missing_protection_is_named() {
        let host = tempfile::tempdir().unwrap();
        let run = RunFolder { path: host.path().join("gangline/run"), prefix: "gangline-t-".to_owned() };
        let limits = Limits { memory_bytes: 64 << 20, cpus_millis: 1000, pids_max: 64 };
        let plan = prepare(&run, &place(host.path()), "x", limits, |plan| {
            plan.tmp_bytes = 1 << 20;
            plan.gpu.devices = vec!["/dev/missing".into()];
        })
        .unwrap();
        let good = ReadBack {
            backend: BackendKind::Podman,
            cgroup_version: 2,
            cgroup: plan.name.clone(),
            limits,
            interfaces: vec!["lo".to_owned()],
            uid_map: vec![IdRange { inside: 0, outside: 1 << 30, count: 65_536 }],
            root_read_only: true,
            tmpfs: plan
                .tmpfs()
                .map(|(path, bytes)| readback::Tmpfs { path: path.to_owned(), bytes_max: Some(bytes) })
                .to_vec(),
            writable_others: vec![],
            devices: vec!["/dev/missing".into()],
            inmates: vec![Inmate {
                pid: 7,
                uid_outside: 1 << 30,
                seccomp_mode: 2,
                no_new_privileges: true,
                capabilities: 0,
                limited: true,
                namespaces_shared: vec![],
            }],
        };
        assert_eq!(good.shortcomings(&plan), Vec::<String>::new());
        type Spoil = fn(&mut ReadBack);
        let spoil: [(&str, Spoil); 15] = [
            ("limits", |r| r.limits.pids_max += 1),
            ("interfaces", |r| r.interfaces.push("eth0".to_owned())),
            ("root file system", |r| r.root_read_only = false),
            ("/srv", |r| r.writable_others.push("/srv".to_owned())),
            ("/tmp is", |r| r.tmpfs[0].bytes_max = None),
            ("no user map", |r| r.uid_map.clear()),
            ("host's root is mapped", |r| r.uid_map[0].outside = 0),
            ("/dev/missing", |r| r.devices.clear()),
            ("no process", |r| r.inmates.clear()),
            ("is the host's root", |r| r.inmates[0].uid_outside = 0),
            ("seccomp", |r| r.inmates[0].seccomp_mode = 0),
            ("gain privileges", |r| r.inmates[0].no_new_privileges = false),
            ("capabilities 200000", |r| r.inmates[0].capabilities = 0x20_0000),
            ("outside the control group", |r| r.inmates[0].limited = false),
            ("shares [\"net\"]", |r| r.inmates[0].namespaces_shared.push("net".to_owned())),
        ];
        for (named, spoil) in spoil {
            let mut bad = good.clone();
            spoil(&mut bad);
            let short = bad.shortcomings(&plan);
            assert!(short.len() == 1 && short[0].contains(named), "{named}: {short:?}");
        }
    }
}
