//! Control groups, version 1 (also hybrid) and 2: where this worker may make one, its limits, who
//! is in it, and its end. Everything is read back from the files the kernel enforces.
//!
//! Knows no backend and no Ray: it limits whatever processes are put into it.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// The controllers a sandbox cannot do without.
const NEEDED: [&str; 3] = ["memory", "cpu", "pids"];
/// The scheduler's period in which a quota is counted: the kernel's usual 100 ms.
const PERIOD_MICROS: u64 = 100_000;
/// How long killed processes may take to leave a group.
const EMPTY_WITHIN: Duration = Duration::from_secs(10);

/// Limits of one sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory and page cache together, in bytes; swap is not given beyond it.
    pub memory_bytes: u64,
    /// Processor time: 1000 is one core.
    pub cpus_millis: u32,
    /// Processes and threads.
    pub pids_max: u32,
}

/// What a group uses now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// The most memory so far, in bytes; 0 where the kernel does not say.
    pub memory_peak_bytes: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Processor time so far, in microseconds.
    pub cpu_micros: u64,
}

/// Where this worker may make groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Version 1: one folder per hierarchy; `others` are those without a limit of ours, in which
    /// a container runtime makes groups all the same.
    V1 {
        /// The memory hierarchy's mount point.
        memory: PathBuf,
        /// The CPU hierarchy's mount point.
        cpu: PathBuf,
        /// The pids hierarchy's mount point.
        pids: PathBuf,
        /// Every other hierarchy's mount point.
        others: Vec<PathBuf>,
    },
    /// Version 2: a folder under which groups get all needed controllers.
    V2 {
        /// The mount point of the hierarchy.
        mount: PathBuf,
        /// The folder in it.
        base: PathBuf,
    },
}

/// Decodes the octal escapes of a mount table.
pub(super) fn unescape(field: &str) -> PathBuf {
    let mut out = Vec::new();
    let bytes = field.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\').then(|| field.get(at + 1..at + 4)).flatten();
        if let Some(byte) = octal.and_then(|o| u8::from_str_radix(o, 8).ok()) {
            out.push(byte);
            at += 4;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    use std::os::unix::ffi::OsStringExt;
    std::ffi::OsString::from_vec(out).into()
}

/// Mount point, file system type and super options of each line of a `mountinfo`.
pub(super) fn mounts(mountinfo: &str) -> Vec<(PathBuf, String, String, String)> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let mut left = left.split(' ').skip(4);
            let (point, options) = (left.next()?, left.next()?);
            let mut right = right.split(' ');
            let kind = right.next()?;
            let super_options = right.nth(1)?;
            Some((unescape(point), kind.to_owned(), options.to_owned(), super_options.to_owned()))
        })
        .collect()
}

/// Finds where this process may make groups.
///
/// # Errors
/// A sentence that says what is missing and how to cure it.
pub fn place() -> Result<Place, String> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|e| format!("could not read the mount table: {e}"))?;
    let own = fs::read_to_string("/proc/self/cgroup")
        .map_err(|e| format!("could not read this process's control group: {e}"))?;
    let found = place_in(&mountinfo, &own)?;
    found.probe()?;
    Ok(found)
}

fn place_in(mountinfo: &str, own: &str) -> Result<Place, String> {
    let mounts = mounts(mountinfo);
    let v1 = |name: &str| {
        mounts
            .iter()
            .find(|(_, kind, _, options)| kind == "cgroup" && options.split(',').any(|o| o == name))
            .map(|(point, ..)| point.clone())
    };
    if let (Some(memory), Some(cpu), Some(pids)) = (v1("memory"), v1("cpu"), v1("pids")) {
        let mut others: Vec<PathBuf> = mounts
            .iter()
            .filter(|(_, kind, ..)| kind == "cgroup" || kind == "cgroup2")
            .map(|(point, ..)| point.clone())
            .filter(|point| ![&memory, &cpu, &pids].contains(&point))
            .collect();
        others.dedup();
        return Ok(Place::V1 { memory, cpu, pids, others });
    }
    let Some((mount, ..)) = mounts.iter().find(|(_, kind, ..)| kind == "cgroup2") else {
        return Err("no control groups are mounted with the memory, cpu and pids controllers; \
                    boot with systemd, or mount cgroup2 at /sys/fs/cgroup"
            .to_owned());
    };
    let own = own.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/").trim_start_matches('/');
    // The nearest folder at or above our own that hands all controllers down to its children.
    let mut folder = mount.join(own);
    loop {
        if folder == *mount {
            // The topmost group may hand controllers down whoever is in it; only root can ask.
            let _ = fs::write(folder.join("cgroup.subtree_control"), "+memory +cpu +pids");
        }
        let control = fs::read_to_string(folder.join("cgroup.subtree_control")).unwrap_or_default();
        let gives: BTreeSet<&str> = control.split_whitespace().collect();
        if NEEDED.iter().all(|c| gives.contains(c)) && writable(&folder) {
            return Ok(Place::V2 { mount: mount.clone(), base: folder });
        }
        if folder == *mount || !folder.pop() {
            break;
        }
    }
    Err("no control group above this process hands the memory, cpu and pids controllers to a folder it may \
         write; run the worker as root, or as a systemd service with Delegate=cpu memory pids"
        .to_owned())
}

fn writable(folder: &Path) -> bool {
    nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK).is_ok()
}

impl Place {
    /// 1 or 2.
    pub fn version(&self) -> u8 {
        match self {
            Place::V1 { .. } => 1,
            Place::V2 { .. } => 2,
        }
    }

    /// Makes a group with limits, reads them back, and removes it again.
    fn probe(&self) -> Result<(), String> {
        let limits = Limits { memory_bytes: 64 << 20, cpus_millis: 500, pids_max: 16 };
        // Several may be made at once in one process.
        static PROBES: AtomicU32 = AtomicU32::new(0);
        let probe = PROBES.fetch_add(1, Ordering::Relaxed);
        let name = format!("gangline-probe-{}-{probe}", std::process::id());
        // One that a process of the same number left, when it was ended in the middle of this.
        let _ = self.group(&name).remove();
        let group = self.make(&name, limits).map_err(|e| {
            format!("could not make a control group with limits ({e}); run the worker as root")
        })?;
        let found = group.limits();
        group.remove().map_err(|e| format!("could not remove a control group: {e}"))?;
        match found {
            Ok(found) if found == limits => Ok(()),
            Ok(found) => Err(format!("the kernel keeps other limits than were set: {found:?}")),
            Err(error) => Err(format!("could not read limits back: {error}")),
        }
    }

    fn roots(&self) -> Vec<&PathBuf> {
        match self {
            Place::V1 { memory, cpu, pids, others } => {
                [memory, cpu, pids].into_iter().chain(others.iter()).collect()
            }
            Place::V2 { base, .. } => vec![base],
        }
    }

    /// The group of this name, whether it exists or not.
    pub fn group(&self, name: &str) -> Group {
        Group { place: self.clone(), name: name.to_owned() }
    }

    /// Makes a group and sets its limits.
    ///
    /// # Errors
    /// When a folder cannot be made or a limit cannot be set; nothing is left then.
    pub fn make(&self, name: &str, limits: Limits) -> io::Result<Group> {
        let group = self.group(name);
        if let Err(error) = group.fill(limits) {
            let _ = group.remove();
            return Err(error);
        }
        Ok(group)
    }

    /// Names of the groups that begin with `prefix`, in any hierarchy.
    pub fn names(&self, prefix: &str) -> BTreeSet<String> {
        self.roots()
            .into_iter()
            .filter_map(|root| fs::read_dir(root).ok())
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name.starts_with(prefix))
            .collect()
    }
}

/// One sandbox's group: the same name in every hierarchy of version 1, one folder in version 2.
#[derive(Debug, Clone)]
pub struct Group {
    place: Place,
    name: String,
}

fn set(folder: &Path, file: &str, value: u64) -> io::Result<()> {
    let path = folder.join(file);
    fs::write(&path, value.to_string())
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

fn get(folder: &Path, file: &str) -> io::Result<u64> {
    let path = folder.join(file);
    let text = fs::read_to_string(&path)
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    number(&text).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {:?} is not a limit", path.display(), text.trim()),
        )
    })
}

/// A limit file's number; "max" is the largest.
fn number(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        digits => digits.parse().ok(),
    }
}

fn quota_micros(cpus_millis: u32) -> u64 {
    u64::from(cpus_millis) * PERIOD_MICROS / 1000
}

fn millis(quota: u64, period: u64) -> u32 {
    u32::try_from(quota.saturating_mul(1000).checked_div(period).unwrap_or(0)).unwrap_or(u32::MAX)
}

impl Group {
    /// The path an OCI runtime takes as `--cgroup-parent`.
    pub fn runtime_parent(&self) -> String {
        match &self.place {
            Place::V1 { .. } => format!("/{}", self.name),
            Place::V2 { mount, base } => {
                let inside = base.strip_prefix(mount).unwrap_or(base);
                Path::new("/").join(inside).join(&self.name).display().to_string()
            }
        }
    }

    /// This group's folders, the one that says who is in it first.
    fn folders(&self) -> Vec<PathBuf> {
        match &self.place {
            Place::V1 { memory, cpu, pids, others } => {
                [pids, memory, cpu].into_iter().chain(others).map(|root| root.join(&self.name)).collect()
            }
            Place::V2 { base, .. } => vec![base.join(&self.name)],
        }
    }

    fn fill(&self, limits: Limits) -> io::Result<()> {
        let make = |folder: &Path| {
            fs::create_dir(folder).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", folder.display())))
        };
        match &self.place {
            Place::V1 { memory, cpu, pids, .. } => {
                let memory = memory.join(&self.name);
                make(&memory)?;
                set(&memory, "memory.limit_in_bytes", limits.memory_bytes)?;
                if memory.join("memory.memsw.limit_in_bytes").exists() {
                    set(&memory, "memory.memsw.limit_in_bytes", limits.memory_bytes)?;
                } else {
                    set(&memory, "memory.swappiness", 0)?;
                }
                // Where several controllers share one hierarchy their folder is one.
                let cpu = cpu.join(&self.name);
                if !cpu.exists() {
                    make(&cpu)?;
                }
                set(&cpu, "cpu.cfs_period_us", PERIOD_MICROS)?;
                set(&cpu, "cpu.cfs_quota_us", quota_micros(limits.cpus_millis))?;
                let pids = pids.join(&self.name);
                if !pids.exists() {
                    make(&pids)?;
                }
                set(&pids, "pids.max", limits.pids_max.into())
            }
            Place::V2 { base, .. } => {
                let folder = base.join(&self.name);
                make(&folder)?;
                set(&folder, "memory.max", limits.memory_bytes)?;
                if folder.join("memory.swap.max").exists() {
                    set(&folder, "memory.swap.max", 0)?;
                }
                fs::write(
                    folder.join("cpu.max"),
                    format!("{} {PERIOD_MICROS}", quota_micros(limits.cpus_millis)),
                )?;
                set(&folder, "pids.max", limits.pids_max.into())
            }
        }
    }

    /// The limits the kernel keeps for this group.
    ///
    /// # Errors
    /// When a file cannot be read or holds no number.
    pub fn limits(&self) -> io::Result<Limits> {
        let (memory_bytes, quota, period, pids) = match &self.place {
            Place::V1 { memory, cpu, pids, .. } => {
                let cpu = cpu.join(&self.name);
                (
                    get(&memory.join(&self.name), "memory.limit_in_bytes")?,
                    get(&cpu, "cpu.cfs_quota_us")?,
                    get(&cpu, "cpu.cfs_period_us")?,
                    get(&pids.join(&self.name), "pids.max")?,
                )
            }
            Place::V2 { base, .. } => {
                let folder = base.join(&self.name);
                let cpu = fs::read_to_string(folder.join("cpu.max"))?;
                let (quota, period) = cpu.trim().split_once(' ').unwrap_or(("max", "100000"));
                (
                    get(&folder, "memory.max")?,
                    number(quota).unwrap_or(u64::MAX),
                    number(period).unwrap_or(PERIOD_MICROS),
                    get(&folder, "pids.max")?,
                )
            }
        };
        let pids_max = u32::try_from(pids).unwrap_or(u32::MAX);
        Ok(Limits { memory_bytes, cpus_millis: millis(quota, period), pids_max })
    }

    /// What the group uses now.
    ///
    /// # Errors
    /// When the group is gone.
    pub fn used(&self) -> io::Result<Use> {
        let (memory_bytes, memory_peak_bytes, pids, cpu_micros) = match &self.place {
            Place::V1 { memory, pids, others, .. } => {
                let memory = memory.join(&self.name);
                let accounts = others.iter().map(|root| root.join(&self.name));
                let cpu_nanos = accounts.filter_map(|f| get(&f, "cpuacct.usage").ok()).next().unwrap_or(0);
                (
                    get(&memory, "memory.usage_in_bytes")?,
                    get(&memory, "memory.max_usage_in_bytes").unwrap_or(0),
                    get(&pids.join(&self.name), "pids.current")?,
                    cpu_nanos / 1000,
                )
            }
            Place::V2 { base, .. } => {
                let folder = base.join(&self.name);
                let stat = fs::read_to_string(folder.join("cpu.stat")).unwrap_or_default();
                let micros = stat.lines().find_map(|l| l.strip_prefix("usage_usec ")?.parse().ok());
                (
                    get(&folder, "memory.current")?,
                    get(&folder, "memory.peak").unwrap_or(0),
                    get(&folder, "pids.current")?,
                    micros.unwrap_or(0),
                )
            }
        };
        let pids = u32::try_from(pids).unwrap_or(u32::MAX);
        Ok(Use { memory_bytes, memory_peak_bytes, pids, cpu_micros })
    }

    /// Moves a process with all its threads into the group.
    ///
    /// # Errors
    /// When it is gone or a limit would be exceeded.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        let folders = match &self.place {
            Place::V1 { memory, cpu, pids, others } => {
                // Times are counted in a hierarchy of their own on some hosts.
                let accounts = others.iter().filter(|root| root.join("cpuacct.usage").exists());
                [memory, cpu, pids].into_iter().chain(accounts).map(|r| r.join(&self.name)).collect()
            }
            Place::V2 { base, .. } => vec![base.join(&self.name)],
        };
        for folder in folders {
            if !folder.exists() {
                fs::create_dir(&folder)?;
            }
            set(&folder, "cgroup.procs", pid.into())?;
        }
        Ok(())
    }

    /// Every process in the group or below it, in any hierarchy.
    pub fn members(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for folder in self.folders() {
            walk(&folder, &mut |folder| {
                let procs = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
                found.extend(procs.lines().filter_map(|pid| pid.parse::<u32>().ok()));
            });
        }
        // 0 stands for a process of another process namespace; it cannot be addressed.
        found.remove(&0);
        found
    }

    /// Kills everything in the group and waits until it is empty.
    ///
    /// # Errors
    /// When something is still there after ten seconds.
    pub fn kill(&self) -> io::Result<()> {
        let until = Instant::now() + EMPTY_WITHIN;
        loop {
            let members = self.members();
            if members.is_empty() {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("processes {members:?} of {} do not end", self.name),
                ));
            }
            for folder in self.folders() {
                let _ = fs::write(folder.join("cgroup.kill"), "1");
            }
            for pid in members {
                // Gone already is as good.
                let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills what is left and removes the group's folders; nothing there is success.
    ///
    /// # Errors
    /// When processes do not end or a folder cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        self.kill()?;
        let until = Instant::now() + EMPTY_WITHIN;
        for folder in self.folders() {
            let mut all = Vec::new();
            walk(&folder, &mut |folder| all.push(folder.to_owned()));
            for folder in all {
                loop {
                    match fs::remove_dir(&folder) {
                        Ok(()) => break,
                        Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                        // The kernel lets go of the dead a moment after they are gone.
                        Err(error)
                            if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < until =>
                        {
                            std::thread::sleep(Duration::from_millis(10));
                        }
                        Err(error) => {
                            let text = format!("could not remove {}: {error}", folder.display());
                            return Err(io::Error::new(error.kind(), text));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether any of the group's folders exists.
    pub fn exists(&self) -> bool {
        self.folders().iter().any(|folder| folder.exists())
    }
}

/// Visits a folder tree, children before parents.
fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
    visit(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
33 30 0:28 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
34 30 0:29 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
35 30 0:30 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
36 30 0:31 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn a_hybrid_host_is_version_one() {
        let Ok(Place::V1 { memory, others, .. }) = place_in(HYBRID, "") else { panic!("not version 1") };
        assert_eq!(memory, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(others, [PathBuf::from("/sys/fs/cgroup/unified")]);
    }

    #[test]
    fn on_version_two_the_nearest_folder_that_delegates_is_taken() {
        let host = tempfile::tempdir().unwrap();
        let table = format!("36 30 0:31 / {} rw - cgroup2 cgroup2 rw\n", host.path().display());
        let own = host.path().join("user.slice/app.service");
        fs::create_dir_all(&own).unwrap();
        fs::write(host.path().join("user.slice/cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        fs::write(host.path().join("cgroup.subtree_control"), "cpu memory pids io\n").unwrap();
        assert!(place_in("", "0::/\n").is_err());
        let found = place_in(&table, "0::/user.slice/app.service\n").unwrap();
        assert_eq!(found, Place::V2 { mount: host.path().into(), base: host.path().join("user.slice") });
        // A plain folder stands in for the kernel's: what is written is what is read back.
        let limits = Limits { memory_bytes: 1 << 30, cpus_millis: 1500, pids_max: 100 };
        let group = found.make("gangline-x", limits).unwrap();
        assert_eq!(group.limits().unwrap(), limits);
        assert_eq!(group.runtime_parent(), "/user.slice/gangline-x");
        assert_eq!(found.names("gangline-"), BTreeSet::from(["gangline-x".to_owned()]));
    }

    #[test]
    fn no_limit_reads_as_the_largest_never_as_none() {
        assert_eq!(number("max\n"), Some(u64::MAX));
        assert_eq!(number("-1"), None);
        assert_eq!(millis(150_000, 100_000), 1500);
        assert_eq!(unescape(r"/a\040b"), Path::new("/a b"));
    }
}
