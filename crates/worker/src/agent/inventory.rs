//! What this machine says it has: adapters joined with what NVIDIA's library tells of them, each with
//! a slot that stays the same for it and cannot be linked to another machine's.
//!
//! Refuses to judge: a claim is what drivers say, and nothing is paid for it.

use std::collections::BTreeMap;

use gangline_types::{AdapterKind, GpuClaim, Hash, Text};
use gangline_wire::{
    SigningKey,
    api::machine::{GPUS_MAX, HostFacts, Inventory},
};
use zeroize::Zeroizing;

use super::{
    child::{self, Executable, FoundAdapter, NvidiaDevice, Probe},
    data::DataDir,
    error::AgentError,
    host,
    report::Reporter,
    settings::Settings,
};

/// One GPU: what is claimed of it, and how it is reached on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalGpu {
    /// The claim.
    pub claim: GpuClaim,
    /// The adapter.
    pub adapter: FoundAdapter,
    /// The device of NVIDIA's library, if it is one.
    pub nvidia: Option<NvidiaDevice>,
}

/// PCI addresses are spelled with four or eight digits of domain, in either case.
fn pci_key(address: &str) -> Option<String> {
    let (domain, rest) = address.trim().split_once(':')?;
    let domain = u32::from_str_radix(domain, 16).ok()?;
    Some(format!("{domain:04x}:{}", rest.to_ascii_lowercase()))
}

/// What slots are hashed with: only this machine can make it. It stays when the machine gets another key.
pub(crate) struct SlotKey(Zeroizing<[u8; 32]>);

impl SlotKey {
    /// Of the machine's first key.
    pub(crate) fn of(first: &SigningKey) -> Self {
        Self(Zeroizing::new(blake3::derive_key(
            "gangline 2026 slots of a machine's GPUs",
            first.seed().as_ref(),
        )))
    }
    /// As it was kept.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }
    /// To be kept where nobody else can read it.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

/// The GPUs of a machine, at most [`GPUS_MAX`]. A card that two drivers or interfaces show is one GPU:
/// the first is taken.
pub(crate) fn gpus(probe: &Probe, slot_key: &SlotKey) -> Vec<LocalGpu> {
    let nvidia: BTreeMap<String, &NvidiaDevice> =
        probe.nvidia.iter().filter_map(|d| Some((pci_key(&d.pci_address)?, d))).collect();
    let mut seen = BTreeMap::<String, usize>::new();
    let mut gpus = Vec::new();
    for adapter in &probe.adapters {
        let address = pci_key(&adapter.pci_address);
        let device = address.as_ref().and_then(|a| nvidia.get(a)).copied();
        // Not the UUID: NVIDIA's library may be missing today, and the card is still the same one.
        let place = match &address {
            Some(address) => format!("pci {address}"),
            // Equals are told apart by their order alone.
            None => format!("position {:?} {}", adapter.backend, adapter.name),
        };
        let before = seen.entry(place.clone()).or_default();
        *before += 1;
        if address.is_some() && *before > 1 {
            continue;
        }
        let place = if address.is_some() { place } else { format!("{place} {before}") };
        gpus.push(LocalGpu {
            claim: GpuClaim {
                slot: Hash(*blake3::keyed_hash(&slot_key.0, place.as_bytes()).as_bytes()),
                model: Text::lossy(&adapter.name),
                kind: adapter.kind,
                backend: adapter.backend,
                driver: Text::lossy(&adapter.driver),
                pci_vendor: adapter.pci_vendor,
                pci_device: adapter.pci_device,
                memory_bytes: device.map_or(0, |d| d.memory_bytes),
            },
            adapter: adapter.clone(),
            nvidia: device.cloned(),
        });
    }
    gpus.truncate(GPUS_MAX);
    gpus
}

/// What is sent to the server.
pub(crate) fn inventory(host: HostFacts, gpus: &[LocalGpu], isolation: Option<&str>) -> Inventory {
    Inventory {
        host,
        gpus: gpus.iter().map(|g| g.claim.clone()).collect(),
        worker_version: version(),
        isolation: isolation.map(Text::lossy).into_iter().collect(),
    }
}

/// Version of this worker.
pub(crate) fn version() -> Text<32> {
    Text::lossy(env!("CARGO_PKG_VERSION"))
}

/// Prints what this machine would say of itself; needs no network and makes no key.
///
/// # Errors
/// If the adapters cannot be listed, or the data directory cannot be used.
pub async fn show(data: &DataDir, executable: &Executable, reporter: &Reporter) -> Result<(), AgentError> {
    let settings = Settings::load(data)?;
    let probe = child::probe(executable).await?;
    // Without a machine key the slots mean nothing, so none are shown.
    let key = SlotKey(Zeroizing::new([0; 32]));
    let host = host::facts(&settings.name, probe.nvidia_driver.as_deref());
    let gpus = gpus(&probe, &key);
    if reporter.is_machine() {
        let mut value = serde_json::json!({"event": "inventory", "host": host});
        value["gpus"] = gpus
            .iter()
            .map(|g| {
                let mut claim = serde_json::to_value(&g.claim).unwrap_or_default();
                if let Some(claim) = claim.as_object_mut() {
                    claim.remove("slot");
                    claim.insert("pci_address".to_owned(), g.adapter.pci_address.clone().into());
                }
                claim
            })
            .collect();
        reporter.event(value);
        return Ok(());
    }
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / (1u64 << 30) as f64);
    reporter.say(&format!("{}: {}, kernel {}", host.name, host.os, host.kernel));
    reporter.say(&format!("  {}, {} cores, {}", host.cpu, host.cores, gib(host.memory_bytes)));
    for disk in &host.disks {
        reporter.say(&format!(
            "  {}: {} free of {}",
            disk.mount,
            gib(disk.free_bytes),
            gib(disk.total_bytes)
        ));
    }
    if let Some(driver) = &host.nvidia_driver {
        reporter.say(&format!("  NVIDIA driver {driver}"));
    }
    for (n, gpu) in gpus.iter().enumerate() {
        let c = &gpu.claim;
        reporter.say(&format!(
            "  GPU {}: {} ({}, {:?}, {})",
            n + 1,
            c.model,
            c.kind.words(),
            c.backend,
            c.driver
        ));
        if !gpu.adapter.pci_address.is_empty() {
            reporter.say(&format!(
                "    at {}, {:04x}:{:04x}",
                gpu.adapter.pci_address, c.pci_vendor, c.pci_device
            ));
        }
        if c.memory_bytes > 0 {
            reporter.say(&format!("    {}", gib(c.memory_bytes)));
        }
        if c.kind == AdapterKind::Software {
            reporter.say("    no GPU at all: a program on the processor; the network shows it as that");
        }
    }
    if gpus.is_empty() {
        reporter.say("  no graphics adapter was found");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gangline_types::Backend;

    use super::*;

    fn adapter(index: usize, name: &str, pci_address: &str) -> FoundAdapter {
        FoundAdapter {
            index,
            name: name.into(),
            backend: Backend::Vulkan,
            kind: AdapterKind::Discrete,
            driver: "d".into(),
            pci_vendor: 0x10de,
            pci_device: 1,
            pci_address: pci_address.into(),
        }
    }
    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([n; 32]))
    }
    fn slots(adapters: &[FoundAdapter], n: u8) -> Vec<Hash> {
        let probe = Probe { adapters: adapters.to_vec(), ..Probe::default() };
        gpus(&probe, &SlotKey::of(&key(n))).into_iter().map(|g| g.claim.slot).collect()
    }

    #[test]
    fn a_slot_stays_when_others_come_and_go_and_means_nothing_elsewhere() {
        let a = adapter(0, "A", "0000:01:00.0");
        let b = adapter(1, "B", "0000:02:00.0");
        let soft = |i| adapter(i, "llvmpipe", "");
        let all = slots(&[a.clone(), b.clone(), soft(2), soft(3)], 1);
        assert_eq!(all.len(), 4);
        assert!((1..4).all(|i| !all[..i].contains(&all[i])), "two GPUs share a slot");
        assert_eq!(slots(&[FoundAdapter { index: 0, ..b }], 1), [all[1]]);
        assert_eq!(
            slots(&[soft(0), FoundAdapter { index: 1, name: "A, renamed".into(), ..a.clone() }, soft(2)], 1),
            [all[2], all[0], all[3]]
        );
        assert_ne!(slots(&[a], 2)[0], all[0], "another machine's slot is the same");
    }

    #[test]
    fn one_card_under_two_drivers_is_one_gpu() {
        let found = [adapter(0, "A", "0000:01:00.0"), adapter(1, "A (other driver)", "0000:01:00.0")];
        assert_eq!(slots(&found, 1).len(), 1);
    }

    #[test]
    fn nvidia_devices_are_matched_by_pci_address_however_it_is_spelled() {
        let device = NvidiaDevice {
            index: 3,
            name: "A".into(),
            uuid: "GPU-1".into(),
            minor: Some(3),
            pci_address: "00000000:AF:00.0".into(),
            memory_bytes: 80 << 30,
        };
        let probe = Probe {
            adapters: vec![adapter(0, "A", "0000:af:00.0"), adapter(1, "B", "0000:b0:00.0")],
            nvidia: vec![device],
            ..Probe::default()
        };
        let found = gpus(&probe, &SlotKey::of(&key(1)));
        assert_eq!(found[0].nvidia.as_ref().map(|d| d.index), Some(3));
        assert_eq!(found[0].claim.memory_bytes, 80 << 30);
        assert_eq!((found[1].nvidia.as_ref(), found[1].claim.memory_bytes), (None, 0));
    }
}
