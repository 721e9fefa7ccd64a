//! Sandboxes for renter programs: which backend this host can use, one sandbox's start, the proof
//! that it is in force, and its end without a trace.
//!
//! Refuses to run anything unisolated: with no usable backend there is an error, and a sandbox
//! whose limits cannot be read back is torn down before it is given anything to run. Knows no
//! network, no server and no money; what runs inside is an order to `gangline node`.

mod bubblewrap;
pub mod cgroup;
mod podman;
mod process;
pub mod readback;
pub mod rootfs;
mod running;
pub mod seccomp;
mod spec;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use gangline_types::ClusterId;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use cgroup::{Limits, Use};
pub use readback::ReadBack;
pub use running::{LogTail, RunningNode, Sandbox};

use cgroup::{Group, Place};
use process::{Keeper, Pipes};
use rootfs::{Folder, NODE_PATH, RAY_PATH, RunFolder};

/// What makes the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendKind {
    /// Containers by podman.
    Podman,
    /// Namespaces by bubblewrap, control groups by the worker.
    Bubblewrap,
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BackendKind::Podman => "podman",
            BackendKind::Bubblewrap => "bubblewrap",
        })
    }
}

/// Whether this host can use a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendReport {
    /// Which one.
    pub backend: BackendKind,
    /// `None` is usable: a program ran in it just now. Otherwise why not, and how to cure it.
    pub problem: Option<String>,
}

/// A cluster's secret. Prints as `[redacted]`; wiped from memory when dropped.
#[derive(Clone)]
pub struct ClusterToken(Zeroizing<String>);

impl ClusterToken {
    /// A token from its text.
    ///
    /// # Errors
    /// When it is not 16 to 256 characters of `0-9 a-z A-Z - _ .`: it becomes an HTTP header.
    pub fn new(text: String) -> Result<Self, IsolationError> {
        let text = Zeroizing::new(text);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if (16..=256).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text))
        } else {
            Err(IsolationError::Spec("the token is not 16 to 256 letters, digits, - _ or .".to_owned()))
        }
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ClusterToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for ClusterToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Accelerators to pass through. Empty for a software device, which needs none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuPass {
    /// How many Ray may hand out.
    pub count: u32,
    /// CDI names (`nvidia.com/gpu=0`), for podman; the device files they bring must be in `devices`.
    pub cdi: Vec<String>,
    /// Device files (`/dev/nvidia0`, `/dev/dri/renderD128`): each must be visible inside.
    pub devices: Vec<PathBuf>,
}

/// What the node runs once the sandbox is proven.
#[derive(Debug, Clone)]
pub enum NodeProgram {
    /// A one-node Ray cluster.
    Ray {
        /// The cluster's secret.
        token: ClusterToken,
        /// The Ray environment, made with the host's `/usr/bin/python3`.
        ray_home: PathBuf,
    },
    /// A plain program without Ray: its arguments, the program first.
    Command(Vec<String>),
}

/// One node to start.
#[derive(Debug, Clone)]
pub struct NodeSpec {
    /// The cluster it belongs to; one node of a cluster per worker.
    pub cluster: ClusterId,
    /// What it runs.
    pub program: NodeProgram,
    /// Processor time: 1000 is one core; at least 100.
    pub cpus_millis: u32,
    /// Memory in bytes; Ray wants 1536 MiB.
    pub memory_bytes: u64,
    /// Processes and threads; Ray wants 2048.
    pub pids_max: u32,
    /// Size of the sandbox's `/tmp`, in bytes.
    pub tmp_bytes: u64,
    /// Accelerators to pass through.
    pub gpu: Option<GpuPass>,
    /// The node's executable and arguments; `None` is this executable with `node`.
    pub node: Option<(PathBuf, Vec<String>)>,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// Nothing on this host isolates; the worker takes no renter work.
    #[error("this host can isolate no renter program: {}", describe(.0))]
    NoBackend(Vec<BackendReport>),
    /// The request itself is impossible.
    #[error("the node cannot be started as asked: {0}")]
    Spec(String),
    /// A file of the sandbox could not be made or removed.
    #[error("could not {doing} {}", path.display())]
    Files {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The control group failed.
    #[error("could not {doing} the control group {name}")]
    Group {
        /// What was being done.
        doing: &'static str,
        /// To which group.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// The backend could not start the sandbox.
    #[error("{backend} could not start the sandbox")]
    Start {
        /// Which backend.
        backend: BackendKind,
        /// Why not.
        source: io::Error,
    },
    /// The sandbox could not be looked at from the host.
    #[error("could not read back what is in force around the sandbox")]
    Unreadable {
        /// Why not.
        source: io::Error,
    },
    /// Something demanded is not in force; the sandbox was torn down.
    #[error("the {backend} sandbox was refused: {}", shortcomings.join("; "))]
    NotInForce {
        /// Which backend.
        backend: BackendKind,
        /// Each thing that is missing.
        shortcomings: Vec<String>,
    },
    /// The node inside failed or went silent.
    #[error("the node did not start: {reason}")]
    Node {
        /// Why, in its own words or ours.
        reason: String,
        /// The last lines of its log.
        log: String,
    },
}

fn describe(reports: &[BackendReport]) -> String {
    reports
        .iter()
        .map(|r| format!("{}: {}", r.backend, r.problem.as_deref().unwrap_or("usable")))
        .collect::<Vec<_>>()
        .join("; ")
}

impl IsolationError {
    /// What the supplier can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoBackend(_) => Some(
                "install podman or bubblewrap 0.8 and run the worker as root; until then it proves and beats but takes no renter work",
            ),
            Self::Files { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Some("free some space")
            }
            Self::NotInForce { .. } => Some("the host ignores a limit; nothing was run in this sandbox"),
            _ => None,
        }
    }
}

/// Everything a backend needs to make one sandbox, decided before.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the container and of the control group.
    pub name: String,
    /// The part of the name that all sandboxes of this state folder share.
    pub prefix: String,
    /// The sandbox's files.
    pub folder: Folder,
    /// Where control groups are made.
    pub group_place: Place,
    /// The sandbox's own, with limits set.
    pub group: Group,
    /// The limits that must be in force.
    pub limits: Limits,
    /// The host's user that the sandbox's user is mapped to or counted from.
    pub outside_id: u32,
    /// Size of `/tmp`.
    pub tmp_bytes: u64,
    /// Size of `/dev/shm`.
    pub shm_bytes: u64,
    /// Accelerators to pass through.
    pub gpu: GpuPass,
    /// The Ray environment, if any.
    pub ray_home: Option<PathBuf>,
    /// The node's executable, if any.
    pub node: Option<PathBuf>,
    /// The first program inside.
    pub argv: Vec<String>,
}

/// Ray keeps its sessions in `/tmp`; a renter's home needs little.
const HOME_BYTES: u64 = 64 << 20;

impl Plan {
    /// Paths of the host bound read-only, and where.
    pub fn binds(&self) -> Vec<(PathBuf, &'static str)> {
        let mut binds = vec![(PathBuf::from("/usr"), "/usr")];
        for path in ["/etc/ld.so.cache", "/etc/alternatives"] {
            if Path::new(path).exists() {
                binds.push((path.into(), path));
            }
        }
        binds.extend(self.ray_home.clone().map(|home| (home, RAY_PATH)));
        binds.extend(self.node.clone().map(|node| (node, NODE_PATH)));
        binds
    }

    /// What may be written, with its size in bytes.
    pub fn tmpfs(&self) -> [(&'static str, u64); 3] {
        [("/tmp", self.tmp_bytes), ("/home/ray", HOME_BYTES), ("/dev/shm", self.shm_bytes)]
    }

    /// The first program's whole environment. Holds no secret.
    pub fn environment(&self) -> [(&'static str, &'static str); 5] {
        [
            ("PATH", "/opt/ray/bin:/usr/local/bin:/usr/bin:/bin"),
            ("HOME", "/home/ray"),
            ("USER", "ray"),
            ("LANG", "C.UTF-8"),
            ("TMPDIR", "/tmp"),
        ]
    }
}

/// A sandbox whose first program runs or is about to.
#[derive(Debug)]
pub struct Started {
    keeper: Keeper,
    pipes: Pipes,
}

/// A way to make a sandbox. Its calls block; callers give them a thread.
pub trait Isolation: Send + Sync {
    /// Which one this is.
    fn kind(&self) -> BackendKind;

    /// What the host lacks for it, as far as can be told without running anything.
    ///
    /// # Errors
    /// A sentence that says what is missing and how to cure it.
    fn missing(&self, cgroup_version: u8) -> Result<(), String>;

    /// Makes the sandbox and starts `plan.argv` in it, inside `plan.group` from its first moment.
    ///
    /// # Errors
    /// When it cannot; the caller then removes what is there.
    fn start(&self, plan: &Plan) -> Result<Started, IsolationError>;

    /// Removes what the backend itself keeps of this sandbox; the caller then empties the group.
    ///
    /// # Errors
    /// When something cannot be removed.
    fn remove(&self, plan: &Plan) -> Result<(), IsolationError>;
}

/// Every backend, the preferred one first: podman maps a whole range of users.
fn backends() -> Vec<Arc<dyn Isolation>> {
    vec![Arc::new(podman::Podman::default()), Arc::new(bubblewrap::Bubblewrap::default())]
}

pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps some runtimes where an unprivileged user's PATH does not look.
    std::env::split_paths(&path)
        .chain(["/usr/bin".into(), "/usr/sbin".into()])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// What this host can use: each backend is asked to run one program within limits. Blocks for
/// about a third of a second.
pub fn detect(state: &Path) -> Vec<BackendReport> {
    let place = cgroup::place();
    backends()
        .iter()
        .map(|backend| {
            let problem = match &place {
                Err(problem) => Some(problem.clone()),
                Ok(place) => probe(backend.as_ref(), place, &RunFolder::of(state)).err(),
            };
            BackendReport { backend: backend.kind(), problem }
        })
        .collect()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn probe(backend: &dyn Isolation, place: &Place, run: &RunFolder) -> Result<(), String> {
    backend.missing(place.version())?;
    let limits = Limits { memory_bytes: 64 << 20, cpus_millis: 500, pids_max: 64 };
    let name = format!("probe-{}-{}", backend.kind(), std::process::id());
    let plan = running::prepare(run, place, &name, limits, |plan| {
        plan.tmp_bytes = 1 << 20;
        plan.shm_bytes = 1 << 20;
        plan.argv = vec!["/usr/bin/true".to_owned()];
    })
    .map_err(|e| chain(&e))?;
    let outcome = backend.start(&plan).map_err(|e| chain(&e)).and_then(|started| {
        let Pipes { stdin, stdout, mut stderr } = started.pipes;
        drop((stdin, stdout));
        let status = started.keeper.exited_blocking(Duration::from_secs(20));
        if status.is_none() {
            started.keeper.kill();
        }
        let mut log = String::new();
        let _ = io::Read::read_to_string(&mut stderr, &mut log);
        match status {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("a trial program ended with {status}: {}", log.trim())),
            None => Err("a trial program did not end within 20 s".to_owned()),
        }
    });
    running::tear_down(backend, &plan, None).map_err(|e| chain(&e))?;
    outcome
}

/// Removes everything a killed worker of this state folder left: processes, control groups,
/// mounts, containers, files. Call it at start, while no sandbox of this state folder runs.
/// Returns the names of what was found. Blocks.
///
/// # Errors
/// When something cannot be removed; the rest is removed all the same.
pub fn sweep(state: &Path) -> Result<Vec<String>, IsolationError> {
    let run = RunFolder::of(state);
    let mut found: Vec<String> = Vec::new();
    let mut first_error = None;
    // First, so that nothing starts a container, or cleans one up, behind our back.
    let waiting = podman::kill_leftovers(&run.path);
    if let Ok(place) = cgroup::place() {
        for name in place.names(&run.prefix) {
            if let Err(source) = place.group(&name).remove() {
                first_error.get_or_insert(IsolationError::Group {
                    doing: "remove",
                    name: name.clone(),
                    source,
                });
            }
            found.push(name);
        }
    }
    if run.path.exists() {
        if found.is_empty() || waiting {
            found.push(run.path.display().to_string());
        }
        if let Err(error) = running::remove_patiently(&run.path) {
            first_error.get_or_insert(error);
        }
    }
    match first_error {
        Some(error) => Err(error),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_prints_and_never_breaks_a_header() {
        let token = ClusterToken::new("0123456789abcdef".to_owned()).unwrap();
        assert_eq!(format!("{token} {token:?}"), "[redacted] [redacted]");
        for bad in ["short", "0123456789abcdef\r\nX: y", "0123456789abcde "] {
            assert!(ClusterToken::new(bad.to_owned()).is_err(), "{bad:?} was taken for a token");
        }
    }
}
