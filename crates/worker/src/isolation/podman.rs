//! The podman backend: one container without a network, from an almost empty root tree, with its
//! own storage folder per sandbox, so that nothing is shared and everything goes with the folder.
//!
//! Rootful and rootless; it trusts neither to keep limits: the worker's own control group holds
//! the container, and what is in force is read back.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path, process::Command, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{BackendKind, Isolation, IsolationError, Plan, process::Keeper, rootfs::INSIDE_ID, seccomp};

/// Podman through its command line.
#[derive(Debug, Clone, Default)]
pub struct Podman {}

/// The OCI runtime to ask for: crun refuses the mixed layout of control groups version 1.
fn runtime(cgroup_version: u8) -> Option<&'static str> {
    let wanted: &[&str] = if cgroup_version == 1 { &["runc"] } else { &["crun", "runc"] };
    wanted.iter().copied().find(|name| super::find_program(name).is_some())
}

/// Podman with this sandbox's own storage.
fn podman(plan: &Plan, runtime: &str) -> Command {
    let own = plan.folder.path.join("pm");
    let mut command = Command::new("podman");
    command
        // Its conmon notes a memory limit that was met in a file `oom` where it was started.
        .current_dir(&plan.folder.path)
        .env("CONTAINERS_CONF", plan.folder.path.join("containers.conf"))
        .env_remove("CONTAINER_HOST")
        .arg("--root")
        .arg(own.join("root"))
        .arg("--runroot")
        .arg(own.join("run"))
        .arg("--tmpdir")
        .arg(own.join("tmp"))
        .arg("--network-config-dir")
        .arg(own.join("net"))
        .args(["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none"])
        .args(["--runtime", runtime]);
    command
}

fn files_max() -> u64 {
    nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .map_or(1024, |(_, hard)| hard.min(65_536))
}

impl Isolation for Podman {
    fn kind(&self) -> BackendKind {
        BackendKind::Podman
    }

    fn missing(&self, cgroup_version: u8) -> Result<(), String> {
        for program in ["podman", "conmon"] {
            if super::find_program(program).is_none() {
                return Err(format!("{program} is not installed; install podman (apt install podman)"));
            }
        }
        if runtime(cgroup_version).is_none() {
            return Err(if cgroup_version == 1 {
                "runc is not installed, and this host's control groups version 1 need it (apt install runc)"
            } else {
                "no OCI runtime is installed (apt install crun)"
            }
            .to_owned());
        }
        if !nix::unistd::geteuid().is_root() && super::find_program("newuidmap").is_none() {
            return Err(
                "newuidmap is not installed, and podman without root needs it (apt install uidmap)".into()
            );
        }
        Ok(())
    }

    fn start(&self, plan: &Plan) -> Result<super::Started, IsolationError> {
        let failed = |source| IsolationError::Start { backend: BackendKind::Podman, source };
        let version = plan.group_place.version();
        let runtime = runtime(version)
            .ok_or_else(|| failed(std::io::Error::new(std::io::ErrorKind::NotFound, "no OCI runtime")))?;
        let (files, limits, folder) = (files_max(), plan.limits, &plan.folder);
        folder.write(
            Path::new("containers.conf"),
            format!(
                "[containers]\ndefault_sysctls = []\ndefault_ulimits = [\"nofile={files}:{files}\", \
                 \"nproc={n}:{n}\", \"core=0:0\"]\n\
                 # The supplier's own podman must not share our locks.\n\
                 [engine]\nlock_type = \"file\"\n",
                n = limits.pids_max
            )
            .as_bytes(),
        )?;
        let profile =
            folder.write(Path::new("seccomp.json"), seccomp::oci_profile().to_string().as_bytes())?;
        let mut command = podman(plan, runtime);
        command.args(["run", "--rm", "--interactive", "--name", &plan.name]);
        command.args(["--label", &format!("gangline.state={}", plan.prefix)]);
        command.args(["--network", "none", "--no-hosts", "--hostname", "node", "--log-driver", "none"]);
        command.args(["--read-only", "--read-only-tmpfs=false", "--cap-drop=all"]);
        command.args(["--security-opt", "no-new-privileges"]);
        command.arg("--security-opt").arg(format!("seccomp={}", profile.display()));
        command.args(["--cgroupns", "private", "--cgroup-parent", &plan.group.runtime_parent()]);
        command.args(["--pids-limit", &limits.pids_max.to_string()]);
        command.args(["--memory", &format!("{}b", limits.memory_bytes)]);
        command.args(["--memory-swap", &format!("{}b", limits.memory_bytes)]);
        let cpus = format!("{}.{:03}", limits.cpus_millis / 1000, limits.cpus_millis % 1000);
        command.args(["--cpus", &cpus]);
        if nix::unistd::geteuid().is_root() {
            let map = format!("0:{}:65536", plan.outside_id);
            command.args(["--uidmap", &map, "--gidmap", &map]);
        }
        command.args(["--user", &format!("{INSIDE_ID}:{INSIDE_ID}")]);
        command.args(["--shm-size", &plan.shm_bytes.to_string()]);
        for (path, bytes) in plan.tmpfs() {
            if path != "/dev/shm" {
                command
                    .args(["--tmpfs", &format!("{path}:rw,nosuid,nodev,size={bytes},mode=1777,notmpcopyup")]);
            }
        }
        for (from, to) in plan.binds() {
            if from.as_os_str().as_bytes().contains(&b':') {
                return Err(IsolationError::Spec(format!(
                    "podman cannot bind {}: it has a colon",
                    from.display()
                )));
            }
            command.arg("--volume").arg(format!("{}:{to}:ro", from.display()));
        }
        for (name, value) in plan.environment() {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        for name in &plan.gpu.cdi {
            command.args(["--device", name]);
        }
        // A CDI name brings its device files with it; they are read back all the same.
        for device in plan.gpu.devices.iter().filter(|_| plan.gpu.cdi.is_empty()) {
            command.arg("--device").arg(device);
        }
        command.args(["--workdir", "/home/ray", "--rootfs"]).arg(folder.root()).args(&plan.argv);
        let (keeper, pipes, _) = Keeper::start(command).map_err(failed)?;
        Ok(super::Started { keeper, pipes })
    }

    fn remove(&self, plan: &Plan) -> Result<(), IsolationError> {
        // Before the container's own processes are killed: podman then forgets it in order.
        let Some(runtime) = runtime(plan.group_place.version()) else { return Ok(()) };
        if !plan.folder.path.join("pm").exists() {
            return Ok(());
        }
        let mut command = podman(plan, runtime);
        command.args(["rm", "--force", "--time", "0", "--ignore", &plan.name]);
        // Its failure is no failure: the group, the mounts and the folder are removed after it.
        match Keeper::start(command) {
            Ok((keeper, pipes, _)) => {
                drop(pipes.stdin);
                if keeper.exited_blocking(Duration::from_secs(20)).is_none() {
                    keeper.kill();
                }
            }
            Err(error) => {
                tracing::warn!(%error, name = plan.name, "could not ask podman to remove a container")
            }
        }
        Ok(())
    }
}

/// Kills what podman itself left running for storage below `run`: its client waits for a container
/// that a killed worker can no longer end in order.
pub(super) fn kill_leftovers(run: &Path) -> bool {
    let mut found = false;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let mut words = line.split(|b| *b == 0).map(|w| Path::new(OsStr::from_bytes(w)));
        let program = words.next().and_then(Path::file_name);
        let ours = program.is_some_and(|name| name == "podman" || name == "conmon");
        if ours && words.any(|word| word.starts_with(run)) {
            found = true;
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    found
}

/// Whether an OCI runtime would find this CDI name on this host.
pub(super) fn cdi_known(name: &str) -> bool {
    let Some((kind, _)) = name.split_once('=') else { return false };
    ["/etc/cdi", "/var/run/cdi"]
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .any(|entry| fs::read_to_string(entry.path()).is_ok_and(|text| text.contains(kind)))
}
