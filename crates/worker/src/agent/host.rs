//! What the host is made of: system, processor, memory, disks, and which makers' graphics cards the
//! PCI bus shows even where no driver does.
//!
//! Knows no adapter and no network.

use std::{collections::BTreeMap, fs, path::Path};

use gangline_types::{Label, Text};
use gangline_wire::api::machine::{Disk, HostFacts};
use sysinfo::{CpuRefreshKind, Disks, System};

/// Disks reported at most.
const DISKS_MAX: usize = 32;

/// The host as it is now; `name` replaces the host name unless it is empty.
pub(crate) fn facts(name: &Label, nvidia_driver: Option<&str>) -> HostFacts {
    // Where the system does not tell, what is left are zeros and the architecture.
    let system = System::new().ok().map(|mut system| {
        system.refresh_memory();
        system.refresh_cpu_list(CpuRefreshKind::nothing());
        system
    });
    let cpus = system.as_ref().map_or(&[][..], |s| s.cpus());
    let cpu = cpus.first().map(|c| c.brand().trim().to_owned()).filter(|b| !b.is_empty());
    HostFacts {
        name: if name.as_str().is_empty() {
            Label::lossy(&System::host_name().unwrap_or_default())
        } else {
            name.clone()
        },
        os: Text::lossy(&System::long_os_version().unwrap_or_else(|_| std::env::consts::OS.to_owned())),
        kernel: Text::lossy(&System::kernel_long_version().unwrap_or_default()),
        cpu: Text::lossy(&cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned())),
        cores: cpus.len().max(1) as u32,
        memory_bytes: system.as_ref().map_or(0, System::total_memory),
        disks: disks(),
        nvidia_driver: nvidia_driver.map(Text::lossy),
    }
}

/// Memory this process may give away, in bytes: the machine's, or less where a control group says so.
pub(crate) fn memory_bytes_usable() -> u64 {
    let Ok(mut system) = System::new() else { return 0 };
    system.refresh_memory();
    match system.cgroup_limits() {
        Some(limits) if limits.total_memory > 0 => system.total_memory().min(limits.total_memory),
        _ => system.total_memory(),
    }
}

/// One entry a device, at its shortest mount.
fn disks() -> Vec<Disk> {
    let mut by_device = BTreeMap::new();
    for disk in Disks::new_with_refreshed_list().iter().flatten() {
        let mount = disk.mount_point().display().to_string();
        let entry = by_device.entry((disk.name().to_owned(), disk.total_space()));
        let entry = entry.or_insert_with(|| (mount.clone(), disk.available_space()));
        if mount.len() < entry.0.len() {
            entry.0 = mount;
        }
    }
    let disk = |((_, total_bytes), (mount, free_bytes)): ((_, u64), (String, u64))| Disk {
        mount: Text::lossy(&mount),
        total_bytes,
        free_bytes,
    };
    let mut disks: Vec<Disk> = by_device.into_iter().filter(|((_, total), _)| *total > 0).map(disk).collect();
    disks.sort_by(|a, b| a.mount.cmp(&b.mount));
    disks.truncate(DISKS_MAX);
    disks
}

/// PCI vendors of the display controllers of this machine, whether a driver knows them or not.
pub(crate) fn display_vendors(devices: &Path) -> Vec<u32> {
    let number = |path: &Path| {
        u32::from_str_radix(fs::read_to_string(path).ok()?.trim().trim_start_matches("0x"), 16).ok()
    };
    let mut vendors: Vec<u32> = fs::read_dir(devices)
        .into_iter()
        .flatten()
        .flatten()
        // Class 03xxxx is display, 12xxxx is processing accelerators.
        .filter(|d| number(&d.path().join("class")).is_some_and(|class| matches!(class >> 16, 0x03 | 0x12)))
        .filter_map(|d| number(&d.path().join("vendor")))
        .collect();
    vendors.sort_unstable();
    vendors.dedup();
    vendors
}

/// Whether this is a system with apt, so that cures can name packages.
pub(crate) fn has_apt() -> bool {
    Path::new("/etc/debian_version").exists()
}

/// Summary for the person who approves, for example `Debian GNU/Linux 12, 64 cores, 2 GPUs`.
pub(crate) fn summary(host: &HostFacts, gpus: usize) -> Text<160> {
    let s = |n: usize| if n == 1 { "" } else { "s" };
    let memory = host.memory_bytes >> 30;
    let cores = host.cores;
    Text::lossy(&format!(
        "{}, {cores} core{}, {memory} GiB, {gpus} GPU{}",
        host.os,
        s(cores as usize),
        s(gpus)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_a_processor_and_memory() {
        let host = facts(&Label::default(), Some("555.42"));
        assert!(host.cores > 0 && host.memory_bytes > 0 && !host.cpu.as_str().is_empty(), "{host:?}");
        assert!(host.disks.len() <= DISKS_MAX);
        assert!(memory_bytes_usable() > 0);
        let named = facts(&Label::new("attic").unwrap(), None);
        assert_eq!(named.name.as_str(), "attic");
    }

    #[test]
    fn cards_without_a_driver_are_seen_on_the_bus() {
        let bus = tempfile::tempdir().unwrap();
        for (address, class, vendor) in [
            ("0000:01:00.0", "0x030000\n", "0x10de\n"),
            ("0000:01:00.1", "0x040300\n", "0x10de\n"),
            ("0000:02:00.0", "0x120000", "0x1002"),
        ] {
            let device = bus.path().join(address);
            fs::create_dir(&device).unwrap();
            fs::write(device.join("class"), class).unwrap();
            fs::write(device.join("vendor"), vendor).unwrap();
        }
        assert_eq!(display_vendors(bus.path()), [0x1002, 0x10de]);
        assert!(display_vendors(Path::new("/nowhere")).is_empty());
    }
}
