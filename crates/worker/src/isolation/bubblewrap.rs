//! The bubblewrap backend: no daemon, no storage, a tenth of a second.
//!
//! As root two layers: the outer one, root, sees the supplier's folders and builds the sandbox's
//! view of them, its empty network and its process namespace, then gives up root for good; the
//! inner one, an unprivileged user of the host's, maps itself to the sandbox's user and puts the
//! system call filter on. So nothing in the sandbox is ever the host's root. Without root one
//! layer does both. It makes no control groups: the worker's own holds it, from before it runs.

use std::{
    ffi::OsString,
    fs,
    io::{self, Read, Write},
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    process::Command,
};

use super::{
    BackendKind, Isolation, IsolationError, Plan, Started, process, process::Keeper, rootfs::INSIDE_ID,
    seccomp,
};

/// Bubblewrap through its command line.
#[derive(Debug, Clone, Default)]
pub struct Bubblewrap {}

/// The first version with every flag used here.
const VERSION_MIN: (u32, u32) = (0, 8);

fn version() -> Option<(u32, u32)> {
    let output = Command::new("bwrap").arg("--version").output().ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.trim().rsplit(' ').next()?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// The sandbox's view: what is bound, what is fresh, what is empty.
fn view(plan: &Plan) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let mut add = |parts: &[&dyn AsRef<std::ffi::OsStr>]| {
        args.extend(parts.iter().map(|part| part.as_ref().to_owned()));
    };
    for flag in ["--die-with-parent", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"] {
        add(&[&flag]);
    }
    add(&[&"--new-session", &"--hostname", &"node"]);
    add(&[&"--ro-bind", &plan.folder.root(), &"/"]);
    for (from, to) in plan.binds() {
        add(&[&"--ro-bind", &from, &to]);
    }
    add(&[&"--proc", &"/proc", &"--dev", &"/dev"]);
    for device in &plan.gpu.devices {
        add(&[&"--dev-bind", device, device]);
    }
    for (path, bytes) in plan.tmpfs() {
        add(&[&"--perms", &"1777", &"--size", &bytes.to_string(), &"--tmpfs", &path]);
    }
    add(&[&"--remount-ro", &"/dev", &"--remount-ro", &"/", &"--chdir", &"/home/ray", &"--clearenv"]);
    for (name, value) in plan.environment() {
        add(&[&"--setenv", &name, &value]);
    }
    args
}

/// Groups of the host that own the devices passed through, so that the mapped user may open them.
fn device_groups(plan: &Plan) -> String {
    use std::os::unix::fs::MetadataExt;
    let mut groups: Vec<u32> = plan
        .gpu
        .devices
        .iter()
        .filter_map(|device| fs::metadata(device).ok())
        .filter(|meta| meta.mode() & 0o006 != 0o006 && meta.mode() & 0o060 == 0o060 && meta.gid() != 0)
        .map(|meta| meta.gid())
        .collect();
    groups.sort_unstable();
    groups.dedup();
    groups.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// The user namespace and the filter: common to both shapes.
fn user_layer(filter: &OwnedFd) -> Vec<OsString> {
    let id = INSIDE_ID.to_string();
    let mut args: Vec<OsString> =
        ["--unshare-user", "--disable-userns", "--unshare-cgroup", "--uid", &id, "--gid", &id]
            .map(OsString::from)
            .to_vec();
    args.extend(["--seccomp".into(), filter.as_raw_fd().to_string().into()]);
    args
}

fn arguments(plan: &Plan, filter: &OwnedFd, as_root: bool) -> Vec<OsString> {
    let mut args = view(plan);
    if as_root {
        let id = plan.outside_id.to_string();
        let groups = device_groups(plan);
        let groups =
            if groups.is_empty() { "--clear-groups".to_owned() } else { format!("--groups={groups}") };
        args.extend(
            ["--", "/usr/bin/setpriv", "--reuid", &id, "--regid", &id, &groups]
                .into_iter()
                .chain(["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"])
                .chain(["--", "/usr/bin/bwrap", "--die-with-parent"])
                .map(OsString::from),
        );
        args.extend(user_layer(filter));
        args.extend(["--dev-bind", "/", "/", "--chdir", "/home/ray"].map(OsString::from));
    } else {
        args.extend(user_layer(filter));
    }
    args.push("--".into());
    args.extend(plan.argv.iter().map(OsString::from));
    args
}

impl Isolation for Bubblewrap {
    fn kind(&self) -> BackendKind {
        BackendKind::Bubblewrap
    }

    fn missing(&self, _cgroup_version: u8) -> Result<(), String> {
        if super::find_program("bwrap").is_none() {
            return Err("bubblewrap is not installed (apt install bubblewrap)".to_owned());
        }
        match version() {
            Some(found) if found >= VERSION_MIN => {}
            Some((major, minor)) => {
                return Err(format!("bubblewrap {major}.{minor} is too old; 0.8 or later is needed"));
            }
            None => return Err("bwrap --version did not answer with a version".to_owned()),
        }
        if nix::unistd::geteuid().is_root() {
            // The inner layer runs from the sandbox's view, which has the host's /usr.
            for path in ["/usr/bin/setpriv", "/usr/bin/bwrap"] {
                if !Path::new(path).exists() {
                    return Err(format!("{path} is missing (apt install util-linux bubblewrap)"));
                }
            }
        }
        Ok(())
    }

    fn start(&self, plan: &Plan) -> Result<Started, IsolationError> {
        let failed = |source| IsolationError::Start { backend: BackendKind::Bubblewrap, source };
        let filter = seccomp::compiled().map_err(|e| failed(io::Error::other(e)))?;
        let filter = plan.folder.write(Path::new("seccomp.bpf"), &filter)?;
        let filter: OwnedFd = fs::File::open(filter).map_err(failed)?.into();
        // The gate holds the sandbox's first program until its processes are in their group.
        let (gate, mut opener) = io::pipe().map_err(failed)?;
        let (mut news, info) = io::pipe().map_err(failed)?;
        let (gate, info): (OwnedFd, OwnedFd) = (gate.into(), info.into());
        let args = arguments(plan, &filter, nix::unistd::geteuid().is_root());
        let mut packed = Vec::new();
        let gates = [
            OsString::from("--block-fd"),
            gate.as_raw_fd().to_string().into(),
            OsString::from("--info-fd"),
            info.as_raw_fd().to_string().into(),
        ];
        let split = args.iter().position(|a| a == "--").unwrap_or(args.len());
        for arg in gates.iter().chain(&args[..split]) {
            packed.extend_from_slice(arg.as_encoded_bytes());
            packed.push(0);
        }
        // Through a file, because the sandbox can read its own first process's command line.
        let packed = plan.folder.write(Path::new("bwrap.args"), &packed)?;
        let packed: OwnedFd = fs::File::open(packed).map_err(failed)?.into();
        for fd in [&filter, &gate, &info, &packed] {
            process::inheritable(fd).map_err(failed)?;
        }
        let mut command = Command::new("bwrap");
        command.arg("--args").arg(packed.as_raw_fd().to_string()).args(&args[split..]);
        let (keeper, pipes, pid) = Keeper::start(command).map_err(failed)?;
        drop((filter, gate, info, packed));
        let mut enter = || -> io::Result<()> {
            plan.group.add(pid)?;
            // Not to the end of the pipe: a process started meanwhile may hold its other end.
            let (mut text, mut byte) = (Vec::new(), [0]);
            while !text.ends_with(b"}") && text.len() < 4096 && news.read(&mut byte)? == 1 {
                text.push(byte[0]);
            }
            let inner = serde_json::from_slice::<serde_json::Value>(&text)
                .ok()
                .and_then(|info| info["child-pid"].as_u64())
                .and_then(|pid| u32::try_from(pid).ok())
                .ok_or_else(|| io::Error::other("bubblewrap did not name its child"))?;
            plan.group.add(inner)?;
            opener.write_all(b"1")
        };
        if let Err(source) = enter() {
            keeper.kill();
            let mut log = String::new();
            let _ = pipes.stderr.take(4096).read_to_string(&mut log);
            let log = log.trim();
            let source = if log.is_empty() { source } else { io::Error::other(format!("{source}: {log}")) };
            return Err(failed(source));
        }
        Ok(Started { keeper, pipes })
    }

    fn remove(&self, _plan: &Plan) -> Result<(), IsolationError> {
        // It has no state: with its processes gone nothing of it is left.
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse_version("bubblewrap 0.11.0\n"), Some((0, 11)));
        assert!(parse_version("bubblewrap 0.8.0").unwrap() >= VERSION_MIN);
        assert!(parse_version("bubblewrap 0.6.1").unwrap() < VERSION_MIN);
        assert_eq!(parse_version("bwrap"), None);
    }
}
