//! One node's request judged before anything is made, and turned into the node's order.
//!
//! Looks at the host's files; starts nothing.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{IsolationError, NodeProgram, NodeSpec, podman};
use crate::node::protocol::Order;

const OBJECT_STORE_BYTES: u64 = 80_000_000;
/// Ray's own processes in a one-node cluster: 690 MB were measured.
const RAY_OWN_BYTES: u64 = 700 << 20;

/// Refuses what no host could start.
pub(super) fn check(spec: &NodeSpec) -> Result<(), IsolationError> {
    let refuse = |text: &str| Err(IsolationError::Spec(text.to_owned()));
    if spec.cpus_millis < 100 {
        return refuse("less than a tenth of a core is no node");
    }
    if spec.memory_bytes < 32 << 20 || spec.tmp_bytes < 1 << 20 || spec.pids_max < 16 {
        return refuse("less than 32 MiB of memory, 1 MiB of /tmp or 16 processes is no node");
    }
    if let NodeProgram::Ray { .. } = spec.program
        && (spec.memory_bytes < RAY_OWN_BYTES + (256 << 20) || spec.pids_max < 1024)
    {
        return refuse("Ray needs at least 956 MiB of memory and 1024 processes and threads");
    }
    for device in spec.gpu.iter().flat_map(|gpu| &gpu.devices) {
        use std::os::unix::fs::FileTypeExt;
        let file = std::fs::symlink_metadata(device);
        if !device.starts_with("/dev") || !file.is_ok_and(|meta| meta.file_type().is_char_device()) {
            return Err(IsolationError::Spec(format!("{} is not a device file", device.display())));
        }
    }
    if spec.gpu.as_ref().is_some_and(|gpu| !gpu.cdi.is_empty() && gpu.devices.is_empty()) {
        return refuse("a CDI name came without the device files it brings, so they could not be read back");
    }
    for name in spec.gpu.iter().flat_map(|gpu| &gpu.cdi) {
        if !podman::cdi_known(name) {
            return Err(IsolationError::Spec(format!(
                "no CDI description of {name} is in /etc/cdi or /var/run/cdi"
            )));
        }
    }
    Ok(())
}

/// The Ray environment's real folder, if its Python is the host's in `/usr`, which the sandbox has.
pub(super) fn usable_ray(home: &Path) -> Result<PathBuf, IsolationError> {
    let unusable = |why: String| {
        IsolationError::Spec(format!(
            "{} is not a usable Ray environment: {why}; make it with /usr/bin/python3 -m venv and pip install ray[default]",
            home.display()
        ))
    };
    let folder = std::fs::canonicalize(home).map_err(|e| unusable(e.to_string()))?;
    let python =
        std::fs::canonicalize(folder.join("bin/python")).map_err(|e| unusable(format!("bin/python: {e}")))?;
    if !python.starts_with("/usr") {
        return Err(unusable(format!("its Python is {}, which is not in /usr", python.display())));
    }
    let libraries = std::fs::read_dir(folder.join("lib")).map_err(|e| unusable(e.to_string()))?;
    let has_ray = libraries.flatten().any(|lib| lib.path().join("site-packages/ray/_version.py").is_file());
    if has_ray { Ok(folder) } else { Err(unusable("Ray is not installed in it".to_owned())) }
}

/// What the node is told to run.
pub(super) fn order(spec: &NodeSpec) -> Order {
    match &spec.program {
        NodeProgram::Ray { token, .. } => Order::Ray {
            token: token.expose().to_owned(),
            cpus: spec.cpus_millis.div_ceil(1000),
            gpus: spec.gpu.as_ref().map_or(0, |gpu| gpu.count),
            memory_bytes: spec.memory_bytes.saturating_sub(RAY_OWN_BYTES + OBJECT_STORE_BYTES).max(64 << 20),
            object_store_bytes: OBJECT_STORE_BYTES,
        },
        NodeProgram::Command(argv) => Order::Command { argv: argv.clone(), env: BTreeMap::new() },
    }
}
