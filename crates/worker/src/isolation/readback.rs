//! What is really in force around a sandbox, read from the host's side of the kernel and never
//! from inside, and whether that is enough.
//!
//! Reading and judging are apart: [`observe`] looks, [`ReadBack::shortcomings`] decides.

use std::{collections::BTreeSet, fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    BackendKind, Plan,
    cgroup::{self, Limits},
};

/// One range of a user namespace's map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many ids.
    pub count: u32,
}

/// A writable file system with its ceiling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Where it is inside.
    pub path: String,
    /// Its size in bytes; `None` is unlimited.
    pub bytes_max: Option<u64>,
}

/// One process inside the sandbox, as the host's kernel sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inmate {
    /// Its id on the host.
    pub pid: u32,
    /// Its user on the host.
    pub uid_outside: u32,
    /// 2 is "by a filter".
    pub seccomp_mode: u8,
    /// Whether it can never gain rights by executing a file.
    pub no_new_privileges: bool,
    /// All five capability sets or-ed together; 0 is none.
    pub capabilities: u64,
    /// Whether it is in the sandbox's control group for memory, cpu and pids.
    pub limited: bool,
    /// Kinds of namespaces it shares with the host; must be empty.
    pub namespaces_shared: Vec<String>,
}

/// What is in force; evidence to show and to store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBack {
    /// Which backend made the sandbox.
    pub backend: BackendKind,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// The control group's name.
    pub cgroup: String,
    /// The limits the kernel keeps.
    pub limits: Limits,
    /// Network interfaces inside.
    pub interfaces: Vec<String>,
    /// The user map.
    pub uid_map: Vec<IdRange>,
    /// Whether the root file system is read-only.
    pub root_read_only: bool,
    /// What may be written, with its ceiling.
    pub tmpfs: Vec<Tmpfs>,
    /// Mounts that may be written beside those and the kernel's own; must be empty.
    pub writable_others: Vec<String>,
    /// Devices passed through that are visible inside.
    pub devices: Vec<PathBuf>,
    /// Every process inside when it was looked at.
    pub inmates: Vec<Inmate>,
}

const NAMESPACES: [&str; 6] = ["user", "net", "pid", "mnt", "ipc", "uts"];

fn namespace(pid: &str, kind: &str) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/{kind}"))
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("could not find {what}"))
}

fn parse_uid_map(text: &str) -> Vec<IdRange> {
    text.lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().map(|n| n.parse().ok());
            Some(IdRange { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? })
        })
        .collect()
}

/// Size in bytes of a tmpfs's super options ("size=500000k").
fn tmpfs_bytes(options: &str) -> Option<u64> {
    let size = options.split(',').find_map(|o| o.strip_prefix("size="))?;
    let digits = size.trim_end_matches(['k', 'm', 'g', '%']);
    let number: u64 = digits.parse().ok()?;
    match &size[digits.len()..] {
        "" => Some(number),
        "k" => Some(number << 10),
        "m" => Some(number << 20),
        "g" => Some(number << 30),
        _ => None,
    }
}

fn in_group(cgroups: &str, name: &str) -> bool {
    let has = |path: &str| path.split('/').any(|part| part == name);
    let v1 = |controller: &str| {
        cgroups.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let controllers = parts.next()?;
            controllers.split(',').any(|c| c == controller).then(|| parts.next()).flatten()
        })
    };
    let unified = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
    ["memory", "cpu", "pids"].iter().all(|c| v1(c).or(unified).is_some_and(has))
}

fn inmate(pid: u32, group: &str) -> io::Result<Inmate> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let text = |name| field(&status, name).ok_or_else(|| bad(name));
    let number = |name| text(name)?.parse::<u8>().map_err(|_| bad(name));
    let mut capabilities = 0;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        capabilities |= u64::from_str_radix(text(set)?, 16).map_err(|_| bad(set))?;
    }
    // Real, effective, saved and file system user: all four must be the same one.
    let uids: BTreeSet<&str> = text("Uid")?.split_whitespace().collect();
    let uid = uids.first().filter(|_| uids.len() == 1).and_then(|uid| uid.parse().ok());
    let mut namespaces_shared = Vec::new();
    for kind in NAMESPACES {
        if namespace(&pid.to_string(), kind)? == namespace("self", kind)? {
            namespaces_shared.push(kind.to_owned());
        }
    }
    Ok(Inmate {
        pid,
        uid_outside: uid.ok_or_else(|| bad("one user"))?,
        seccomp_mode: number("Seccomp")?,
        no_new_privileges: number("NoNewPrivs")? == 1,
        capabilities,
        limited: in_group(&fs::read_to_string(format!("/proc/{pid}/cgroup"))?, group),
        namespaces_shared,
    })
}

/// Looks at a running sandbox.
///
/// # Errors
/// When something cannot be read, or no process is inside: could not look is never good enough.
pub fn observe(plan: &Plan, backend: BackendKind) -> io::Result<ReadBack> {
    let host = namespace("self", "user")?;
    let mut inmates = Vec::new();
    for pid in plan.group.members() {
        // The backend's own helpers stay in the host's user namespace; programs never are.
        let inside = match namespace(&pid.to_string(), "user") {
            Ok(own) => own != host,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if inside {
            inmates.push(inmate(pid, &plan.name)?);
        }
    }
    let first = inmates.first().ok_or_else(|| bad("a process in a user namespace of its own"))?.pid;
    let proc = |name: &str| fs::read_to_string(format!("/proc/{first}/{name}"));
    let interfaces = proc("net/dev")?
        .lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect();
    let (mut tmpfs, mut writable_others, mut root_read_only) = (Vec::new(), Vec::new(), false);
    for (point, kind, options, super_options) in cgroup::mounts(&proc("mountinfo")?) {
        let read_only = options.split(',').any(|o| o == "ro");
        let path = point.display().to_string();
        if path == "/" {
            root_read_only = read_only;
        }
        if read_only {
            continue;
        }
        match kind.as_str() {
            "tmpfs" if path == "/dev" || path.starts_with("/proc/") || path.starts_with("/sys/") => {}
            "tmpfs" => tmpfs.push(Tmpfs { path, bytes_max: tmpfs_bytes(&super_options) }),
            // Kernel interfaces, guarded by the user and not by the mount; single device files.
            "proc" | "devpts" | "mqueue" | "sysfs" => {}
            _ if path.starts_with("/dev/") || path.starts_with("/proc/") => {}
            _ => writable_others.push(path),
        }
    }
    let devices = plan
        .gpu
        .devices
        .iter()
        .filter(|device| {
            use std::os::unix::fs::FileTypeExt;
            let inside = format!("/proc/{first}/root{}", device.display());
            fs::symlink_metadata(inside).is_ok_and(|meta| meta.file_type().is_char_device())
        })
        .cloned()
        .collect();
    Ok(ReadBack {
        backend,
        cgroup_version: plan.group_place.version(),
        cgroup: plan.name.clone(),
        limits: plan.group.limits()?,
        interfaces,
        uid_map: parse_uid_map(&proc("uid_map")?),
        root_read_only,
        tmpfs,
        writable_others,
        devices,
        inmates,
    })
}

impl ReadBack {
    /// Everything that is not as `plan` demands, in words; empty is good.
    pub fn shortcomings(&self, plan: &Plan) -> Vec<String> {
        let mut short = Vec::new();
        let mut demand = |holds: bool, text: String| {
            if !holds {
                short.push(text);
            }
        };
        let (want, have) = (plan.limits, self.limits);
        demand(have == want, format!("limits are {have:?}, not {want:?}"));
        demand(
            self.interfaces == ["lo"],
            format!("network interfaces are {:?}, not lo alone", self.interfaces),
        );
        demand(self.root_read_only, "the root file system may be written".to_owned());
        demand(self.writable_others.is_empty(), format!("{:?} may be written", self.writable_others));
        for (path, bytes) in plan.tmpfs() {
            // The kernel rounds a size up to whole pages.
            let found = self.tmpfs.iter().find(|t| t.path == path);
            demand(
                found.and_then(|t| t.bytes_max).is_some_and(|max| max <= bytes + 4096),
                format!("{path} is {found:?}, not a tmpfs of {bytes} bytes"),
            );
        }
        for other in self.tmpfs.iter().filter(|t| !plan.tmpfs().iter().any(|(path, _)| *path == t.path)) {
            demand(false, format!("{} may be written", other.path));
        }
        demand(!self.uid_map.is_empty(), "there is no user map".to_owned());
        for range in &self.uid_map {
            demand(range.outside != 0, format!("the host's root is mapped: {range:?}"));
        }
        for device in plan.gpu.devices.iter().filter(|d| !self.devices.contains(d)) {
            demand(false, format!("{} is not visible", device.display()));
        }
        demand(!self.inmates.is_empty(), "no process was seen inside".to_owned());
        for inmate in &self.inmates {
            let pid = inmate.pid;
            demand(inmate.uid_outside != 0, format!("process {pid} is the host's root"));
            demand(
                inmate.seccomp_mode == 2,
                format!("process {pid} has seccomp mode {}", inmate.seccomp_mode),
            );
            demand(inmate.no_new_privileges, format!("process {pid} may gain privileges"));
            demand(
                inmate.capabilities == 0,
                format!("process {pid} has capabilities {:x}", inmate.capabilities),
            );
            demand(inmate.limited, format!("process {pid} is outside the control group"));
            demand(
                inmate.namespaces_shared.is_empty(),
                format!("process {pid} shares {:?} with the host", inmate.namespaces_shared),
            );
        }
        short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_understood() {
        let map = parse_uid_map("      1000       1000          1\n");
        assert_eq!(map, [IdRange { inside: 1000, outside: 1000, count: 1 }]);
        assert_eq!(tmpfs_bytes("rw,size=250000k"), Some(256_000_000));
        assert_eq!(tmpfs_bytes("rw"), None);
        let v1 = "4:memory:/gangline-a\n2:cpu,cpuacct:/gangline-a/x\n8:pids:/gangline-a\n0::/elsewhere\n";
        assert!(in_group(v1, "gangline-a"));
        assert!(!in_group(&v1.replace("memory:/gangline-a", "memory:/"), "gangline-a"));
        assert!(in_group("0::/user.slice/gangline-a/libpod-1\n", "gangline-a"));
        assert!(!in_group("0::/gangline-ab\n", "gangline-a"));
    }
}
