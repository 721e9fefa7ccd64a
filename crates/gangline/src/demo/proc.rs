//! What Linux's kernel says of processes and sockets, read from `/proc`: evidence that no process told.
//!
//! Judges nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::Context;

fn field(status: &str, name: &str) -> Option<String> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Resident memory in KiB.
///
/// # Errors
/// When there is no such process.
pub fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let file = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&file).with_context(|| format!("could not read {file}"))?;
    let text = field(&status, "VmRSS").context("the kernel told no VmRSS")?;
    text.trim_end_matches(" kB").trim().parse().context("VmRSS is no number")
}

/// Every process id.
pub fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold anything, but ends with the last parenthesis.
    let mut rest = stat.rsplit_once(')')?.1.split_whitespace();
    Some((rest.next()?.chars().next()?, rest.next()?.parse().ok()?))
}

/// Whether it runs; a zombie does not.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X'))
}

/// These processes and all that descend from them.
pub fn tree(roots: &[u32]) -> BTreeSet<u32> {
    let parents: BTreeMap<u32, u32> =
        pids().into_iter().filter_map(|pid| Some((pid, stat(pid)?.1))).collect();
    let mut found: BTreeSet<u32> = roots.iter().copied().collect();
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, up)| found.contains(up) && !found.contains(pid))
            .map(|p| *p.0)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// A process's command line, arguments separated by spaces; empty where it is gone.
pub fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// TCP sockets that listen as `table` shows them (`/proc/net/tcp` or a process's own): port and inode.
pub fn listening(tables: &str) -> BTreeSet<(u16, u64)> {
    let mut found = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("{tables}/{table}")).unwrap_or_default();
        for line in text.lines().skip(1) {
            let parts: Vec<&str> = line.split_whitespace().collect();
            let (Some(local), Some(&"0A"), Some(inode)) = (parts.get(1), parts.get(3), parts.get(9)) else {
                continue;
            };
            let port = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
            found.extend(port.zip(inode.parse().ok()));
        }
    }
    found
}

/// Inodes of the sockets a process holds.
pub fn sockets(pid: u32) -> BTreeSet<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let link = fs::read_link(entry.path()).ok()?;
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

/// Whether two processes share a namespace; an error where that cannot be seen.
///
/// # Errors
/// When one of them is gone or may not be looked at.
pub fn shares_namespace(pid: u32, kind: &str) -> anyhow::Result<bool> {
    let link = |who: &str| {
        let file = format!("/proc/{who}/ns/{kind}");
        fs::read_link(&file).with_context(|| format!("could not read {file}"))
    };
    Ok(link(&pid.to_string())? == link("self")?)
}

/// Processes in a control group whose name holds `name`.
pub fn members(name: &str) -> BTreeSet<u32> {
    let inside =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(name));
    pids().into_iter().filter(inside).filter(|pid| is_alive(*pid)).collect()
}

/// Confinement of one process: system call filter, no new rights, capabilities, user on the host.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// 2 is "by a filter".
    pub seccomp: String,
    /// `1`: it can never gain rights.
    pub no_new_privileges: String,
    /// Effective and bounding capabilities.
    pub capabilities: u64,
    /// Its user as the host sees it.
    pub user: u32,
}

/// Reads it.
///
/// # Errors
/// When the process is gone.
pub fn confinement(pid: u32) -> anyhow::Result<Confinement> {
    let file = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&file).with_context(|| format!("could not read {file}"))?;
    let text = |name: &str| field(&status, name).with_context(|| format!("{file} has no {name}"));
    let mask = |name: &str| anyhow::Ok(u64::from_str_radix(&text(name)?, 16)?);
    Ok(Confinement {
        seccomp: text("Seccomp")?,
        no_new_privileges: text("NoNewPrivs")?,
        capabilities: mask("CapEff")? | mask("CapBnd")? | mask("CapPrm")?,
        user: text("Uid")?.split_whitespace().next().context("no user")?.parse()?,
    })
}

/// Mount points whose path holds `part`.
pub fn mounts(part: &str) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|point| point.contains(part))
        .map(str::to_owned)
        .collect()
}

/// Control groups whose name begins with `prefix`, on every hierarchy.
pub fn control_groups(prefix: &str) -> Vec<String> {
    fn walk(folder: &Path, depth: u32, prefix: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.push(entry.path().display().to_string());
            } else if depth > 0 {
                walk(&entry.path(), depth - 1, prefix, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), 6, prefix, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_very_process() {
        let pid = std::process::id();
        assert!(is_alive(pid) && pids().contains(&pid) && tree(&[pid]).contains(&pid));
        assert!(resident_kib(pid).is_ok_and(|kib| kib > 100));
        assert!(!command_line(pid).is_empty());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (_, inode) = listening("/proc/net").into_iter().find(|(found, _)| *found == port).unwrap();
        assert!(sockets(pid).contains(&inode));
        assert!(shares_namespace(pid, "net").unwrap());
    }
}
