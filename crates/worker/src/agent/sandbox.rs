//! Where a renter's node runs: chooses the sandbox the owner allows and turns an order into what it
//! starts. The sandbox itself is made elsewhere.

use std::path::{Path, PathBuf};

use gangline_types::{AdapterKind, ClusterId};
use gangline_wire::api::machine::NodeOrder;

use super::{child::Executable, data::DataDir, inventory::LocalGpu, preflight::chain, settings::Isolation};
use crate::isolation::{
    BackendKind, ClusterToken, GpuPass, IsolationError, NodeProgram, NodeSpec, Sandbox, sweep,
};

/// Least memory of a Ray node, in bytes: Ray's own processes and something for the job.
pub(crate) const NODE_MEMORY_BYTES_MIN: u64 = 1 << 30;
/// Processes and threads of one node.
const PIDS_MAX: u32 = 2048;

/// The sandbox of this host that the owner allows.
///
/// # Errors
/// Why there is none, in words.
pub(crate) async fn choose(data: &DataDir, wanted: Isolation) -> Result<Sandbox, String> {
    let only = match wanted {
        Isolation::None => return Err("the owner's settings say so".to_owned()),
        Isolation::Auto => None,
        Isolation::Podman => Some(BackendKind::Podman),
        Isolation::Bubblewrap => Some(BackendKind::Bubblewrap),
    };
    let state = data.path().to_owned();
    match tokio::task::spawn_blocking(move || Sandbox::choose(&state, only)).await {
        Ok(chosen) => chosen.map_err(|e| in_words(&e)),
        Err(e) => Err(format!("looking for a sandbox failed: {e}")),
    }
}

/// Removes what an earlier worker of this data directory left; says what that was.
pub(crate) async fn sweep_leftovers(data: &DataDir) -> Result<Vec<String>, String> {
    let state = data.path().to_owned();
    match tokio::task::spawn_blocking(move || sweep(&state)).await {
        Ok(swept) => swept.map_err(|e| in_words(&e)),
        Err(e) => Err(e.to_string()),
    }
}

/// An isolation error with its causes and hint; a node's log comes last.
pub(crate) fn in_words(error: &IsolationError) -> String {
    let mut text = chain(error);
    if let Some(hint) = error.hint() {
        text.push_str("; ");
        text.push_str(hint);
    }
    if let IsolationError::Node { log, .. } = error
        && let Some(line) = log.lines().rev().find(|l| !l.trim().is_empty())
    {
        text.push_str("; its last words: ");
        text.push_str(line.trim());
    }
    text
}

/// What to start for an order.
///
/// # Errors
/// If the order's token is no token.
pub(crate) fn spec(
    cluster: ClusterId,
    order: &NodeOrder,
    gpu: &LocalGpu,
    backend: BackendKind,
    ray_home: PathBuf,
    executable: &Executable,
) -> Result<NodeSpec, IsolationError> {
    Ok(NodeSpec {
        cluster,
        program: NodeProgram::Ray { token: ClusterToken::new(order.token.clone())?, ray_home },
        cpus_millis: order.cpus_millis,
        memory_bytes: order.memory_bytes,
        pids_max: PIDS_MAX,
        // In memory, so part of the cluster's own limit.
        tmp_bytes: order.memory_bytes / 4,
        gpu: pass(gpu, backend, Path::new("/")),
        node: Some((executable.path().to_owned(), vec!["node".to_owned()])),
    })
}

/// How a GPU gets into the sandbox; a software device needs nothing.
fn pass(gpu: &LocalGpu, backend: BackendKind, root: &Path) -> Option<GpuPass> {
    if gpu.claim.kind == AdapterKind::Software {
        return None;
    }
    let mut pass = GpuPass { count: 1, ..GpuPass::default() };
    let described = ["etc/cdi", "var/run/cdi"]
        .iter()
        .any(|folder| std::fs::read_dir(root.join(folder)).is_ok_and(|mut files| files.next().is_some()));
    match &gpu.nvidia {
        Some(device) if backend == BackendKind::Podman && described => {
            pass.cdi.push(format!("nvidia.com/gpu={}", device.index));
        }
        Some(device) => {
            let own = device.minor.map(|minor| format!("nvidia{minor}"));
            let shared = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"].map(str::to_owned);
            pass.devices.extend(own.into_iter().chain(shared).map(|name| root.join("dev").join(name)));
        }
        None => {
            let by_path =
                root.join("dev/dri/by-path").join(format!("pci-{}-render", gpu.adapter.pci_address));
            pass.devices.extend(std::fs::canonicalize(by_path));
            // AMD's compute interface.
            if gpu.claim.pci_vendor == 0x1002 {
                pass.devices.push(root.join("dev/kfd"));
            }
        }
    }
    pass.devices.retain(|device| device.exists());
    Some(pass)
}

#[cfg(test)]
mod tests {
    use gangline_types::{Backend, GpuClaim, Hash, Text};

    use super::*;
    use crate::agent::child::{FoundAdapter, NvidiaDevice};

    fn gpu(kind: AdapterKind, nvidia: bool) -> LocalGpu {
        let adapter = FoundAdapter {
            index: 0,
            name: "card".into(),
            backend: Backend::Vulkan,
            kind,
            driver: String::new(),
            pci_vendor: 0x1002,
            pci_device: 1,
            pci_address: "0000:01:00.0".into(),
        };
        let claim = GpuClaim {
            slot: Hash::default(),
            model: Text::lossy("card"),
            kind,
            backend: Backend::Vulkan,
            driver: Text::default(),
            pci_vendor: 0x1002,
            pci_device: 1,
            memory_bytes: 0,
        };
        let device = NvidiaDevice {
            index: 2,
            name: "card".into(),
            uuid: "u".into(),
            minor: Some(5),
            pci_address: "0000:01:00.0".into(),
            memory_bytes: 0,
        };
        LocalGpu { claim, adapter, nvidia: nvidia.then_some(device) }
    }

    #[test]
    fn only_devices_that_exist_are_passed() {
        let root = tempfile::tempdir().unwrap();
        let dev = root.path().join("dev");
        std::fs::create_dir_all(dev.join("dri/by-path")).unwrap();
        for name in ["nvidia5", "nvidiactl", "kfd", "dri/renderD128"] {
            std::fs::write(dev.join(name), "").unwrap();
        }
        std::os::unix::fs::symlink("../renderD128", dev.join("dri/by-path/pci-0000:01:00.0-render")).unwrap();
        let real = |kind, nvidia, backend| pass(&gpu(kind, nvidia), backend, root.path());
        assert_eq!(real(AdapterKind::Software, false, BackendKind::Podman), None);
        let nvidia = real(AdapterKind::Discrete, true, BackendKind::Podman).unwrap();
        assert_eq!(nvidia.devices, [dev.join("nvidia5"), dev.join("nvidiactl")]);
        let amd = real(AdapterKind::Discrete, false, BackendKind::Bubblewrap).unwrap();
        let render = std::fs::canonicalize(dev.join("dri/renderD128")).unwrap();
        assert_eq!(amd.devices, [render, dev.join("kfd")]);

        std::fs::create_dir_all(root.path().join("etc/cdi")).unwrap();
        std::fs::write(root.path().join("etc/cdi/nvidia.yaml"), "").unwrap();
        assert_eq!(real(AdapterKind::Discrete, true, BackendKind::Podman).unwrap().cdi, ["nvidia.com/gpu=2"]);
        assert!(real(AdapterKind::Discrete, true, BackendKind::Bubblewrap).unwrap().cdi.is_empty());
    }
}
