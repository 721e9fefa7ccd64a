//! Lists every adapter and every device of NVIDIA's management library, in a process of its own.

use std::{process::Stdio, time::Duration};

use gangline_types::{AdapterKind, Backend};
use serde::{Deserialize, Serialize};

use super::{ChildError, Executable, read_end};

/// Loading every driver takes up to a second; a cold disk and a busy machine a while more.
const PROBE_SECONDS_MAX: u64 = 60;

/// One adapter as its driver describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FoundAdapter {
    /// Its place in the list of adapters.
    pub index: usize,
    /// Model.
    pub name: String,
    /// Interface.
    pub backend: Backend,
    /// Kind of device.
    pub kind: AdapterKind,
    /// Driver and version.
    pub driver: String,
    /// PCI vendor id or 0.
    pub pci_vendor: u32,
    /// PCI device id or 0.
    pub pci_device: u32,
    /// PCI address or empty.
    pub pci_address: String,
}

/// One device of NVIDIA's management library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NvidiaDevice {
    /// Its place in that library, as in CDI names.
    pub index: u32,
    /// Model.
    pub name: String,
    /// The device's own id.
    pub uuid: String,
    /// The N of `/dev/nvidiaN`, where that exists.
    pub minor: Option<u32>,
    /// PCI address as the library spells it.
    pub pci_address: String,
    /// Memory in bytes.
    pub memory_bytes: u64,
}

/// What a probe found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Probe {
    /// Every adapter wgpu reaches.
    pub adapters: Vec<FoundAdapter>,
    /// Version of NVIDIA's driver where one is.
    pub nvidia_driver: Option<String>,
    /// Its devices.
    pub nvidia: Vec<NvidiaDevice>,
    /// Why its library could not be used, where it could not.
    pub nvidia_problem: Option<String>,
}

/// The hidden subcommand `adapter-probe`: prints one line of JSON. To be called before anything else of
/// the process writes to standard output.
///
/// # Errors
/// If standard output is closed.
pub fn probe_child() -> std::io::Result<()> {
    let adapters = gangline_proof::gpu::adapters().into_iter().map(|a| FoundAdapter {
        index: a.index,
        name: a.name,
        backend: a.backend,
        kind: a.kind,
        driver: a.driver,
        pci_vendor: a.pci_vendor,
        pci_device: a.pci_device,
        pci_address: a.pci_address,
    });
    let mut probe = Probe { adapters: adapters.collect(), ..Probe::default() };
    if let Err(e) = ask_nvidia(&mut probe) {
        probe.nvidia_problem = Some(e.to_string());
    }
    let line = serde_json::to_string(&probe).map_err(std::io::Error::other)?;
    std::io::Write::write_all(&mut std::io::stdout().lock(), format!("{line}\n").as_bytes())
}

fn ask_nvidia(probe: &mut Probe) -> Result<(), nvml_wrapper::error::NvmlError> {
    let nvml = nvml_wrapper::Nvml::init()?;
    probe.nvidia_driver = Some(nvml.sys_driver_version()?);
    for index in 0..nvml.device_count()? {
        let device = nvml.device_by_index(index)?;
        probe.nvidia.push(NvidiaDevice {
            index,
            name: device.name()?,
            uuid: device.uuid()?,
            #[cfg(target_os = "linux")]
            minor: device.minor_number().ok(),
            #[cfg(not(target_os = "linux"))]
            minor: None,
            pci_address: device.pci_info()?.bus_id,
            // Some devices share the host's memory and have none to tell.
            memory_bytes: device.memory_info().map_or(0, |m| m.total),
        });
    }
    Ok(())
}

/// Lists the adapters of this machine in a child process.
///
/// # Errors
/// If the child cannot be started, crashes or hangs.
pub(crate) async fn probe(executable: &Executable) -> Result<Probe, ChildError> {
    const SUBCOMMAND: &str = "adapter-probe";
    let start =
        |source| ChildError::Start { subcommand: SUBCOMMAND, program: executable.path().into(), source };
    let mut command = executable.command(SUBCOMMAND);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(start)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let run = async {
        let answer = async {
            let mut text = Vec::new();
            if let Some(stdout) = stdout {
                let _ = tokio::io::AsyncReadExt::read_to_end(
                    &mut tokio::io::AsyncReadExt::take(stdout, 1 << 20),
                    &mut text,
                )
                .await;
            }
            text
        };
        let words = async { if let Some(stderr) = stderr { read_end(stderr).await } else { String::new() } };
        let (answer, stderr) = tokio::join!(answer, words);
        let status = child.wait().await.ok();
        // The library of a driver may print lines of its own before ours.
        let line = answer.split(|b| *b == b'\n').rfind(|l| l.first() == Some(&b'{'));
        match line.and_then(|line| serde_json::from_slice(line).ok()) {
            Some(probe) => Ok(probe),
            None => Err(ChildError::Ended { subcommand: SUBCOMMAND, status, stderr }),
        }
    };
    tokio::time::timeout(Duration::from_secs(PROBE_SECONDS_MAX), run)
        .await
        .unwrap_or(Err(ChildError::Silent { subcommand: SUBCOMMAND, seconds: PROBE_SECONDS_MAX }))
}
