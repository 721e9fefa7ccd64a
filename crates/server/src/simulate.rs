//! Made-up machines for tests of load: who they are follows from a seed and a number, so that whoever fills a data
//! folder with them and whoever drives them need to agree on the seed alone.
//!
//! They are marked in the books and wherever they show, and a server does not start on books that hold any unless
//! its operator allows it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
};

use gangline_guard::{Actor, Job, act, beat::Line, permit::permit, policy::on};
use gangline_store::{Journal, SimulatedMachine, Store};
use gangline_types::{
    AccountId, AdapterKind, Backend, GpuClaim, GpuId, Hash, Hour, MachineId, MicroCredits, Profile, Standing,
    Text, UptimeHour,
};
use gangline_wire::{SigningKey, api::machine::Offer, beat::Epoch};

use crate::{edge, run::ServeError};

/// Machines of one made-up supplier.
pub const MACHINES_PER_ACCOUNT: u32 = 1_000;
/// Machines that a folder can be filled with.
pub const MACHINES_MAX: u32 = 2_000_000;
/// Machines written down at once.
const AT_ONCE: usize = 2_000;

/// Models, each with its rate in millions of multiply-adds a second, its memory in GiB and its usual price an hour
/// in thousandths of a credit. The figures are made up as well.
const MODELS: [(&str, u64, u64, u64); 8] = [
    ("RTX 4090", 40_000, 24, 400),
    ("RTX 3090", 22_000, 24, 220),
    ("RTX 3060", 9_000, 12, 90),
    ("A100 80GB", 45_000, 80, 1_100),
    ("H100 80GB", 90_000, 80, 2_300),
    ("RTX A6000", 24_000, 48, 450),
    ("L40S", 42_000, 48, 800),
    ("M2 Ultra", 11_000, 128, 300),
];

/// What everything made up follows from.
#[derive(Clone, Debug)]
pub struct Seed([u8; 32]);

/// Who a made-up machine is.
pub struct Identity {
    /// Its id.
    pub machine: MachineId,
    /// Its key.
    pub key: SigningKey,
    /// Its one GPU.
    pub gpu: GpuId,
}

impl Seed {
    /// The seed of a text.
    pub fn of(text: &str) -> Self {
        Self(blake3::derive_key("gangline 2026 seed of simulated machines", text.as_bytes()))
    }
    fn bytes(&self, what: &[u8], n: u32) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(what).update(&n.to_le_bytes());
        *hasher.finalize().as_bytes()
    }
    fn half(&self, what: &[u8], n: u32) -> [u8; 16] {
        let whole = self.bytes(what, n);
        std::array::from_fn(|at| whole[at])
    }
    /// The n-th machine.
    pub fn identity(&self, n: u32) -> Identity {
        Identity {
            machine: MachineId::from_bytes(self.half(b"machine", n)),
            key: SigningKey::from_seed(&zeroize::Zeroizing::new(self.bytes(b"key", n))),
            gpu: GpuId::from_bytes(self.half(b"gpu", n)),
        }
    }
    /// 32 bytes of the n-th machine for a purpose of its own.
    pub fn secret(&self, n: u32, purpose: &str) -> [u8; 32] {
        self.bytes(purpose.as_bytes(), n)
    }
    /// The n-th machine as it is written down: of one of eight models, nine in ten proven, four in ten offered.
    fn machine(&self, n: u32) -> SimulatedMachine {
        let Identity { machine, key, gpu } = self.identity(n);
        let dice = self.bytes(b"dice", n);
        let (name, rate, memory_gib, price) = MODELS[usize::from(dice[0]) % MODELS.len()];
        let standing = match dice[1] {
            0..=12 => Standing::Unproven,
            13..=25 => Standing::Suspect,
            _ => Standing::Proven,
        };
        // Up to an eighth above or below.
        let vary = |of: u64, with: u8| of - of / 8 + of * u64::from(with) / 1024;
        let rate = if standing == Standing::Unproven { 0 } else { vary(rate, dice[2]) };
        let memory_bytes = memory_gib << 30;
        let offer = Offer {
            gpu,
            price_per_hour: MicroCredits(vary(price, dice[3]) * 1_000),
            memory_bytes: 16 << 30,
            cpus_millis: 4_000,
            hours_max: 24 + u32::from(dice[4]),
        };
        SimulatedMachine {
            machine,
            gpu,
            public_key: *key.public().as_bytes(),
            claim: GpuClaim {
                slot: Hash(self.bytes(b"slot", n)),
                model: Text::lossy(&format!("Simulated {name}")),
                kind: AdapterKind::Discrete,
                backend: Backend::Vulkan,
                driver: Text::lossy("none: this machine is made up"),
                pci_vendor: 0,
                pci_device: 0,
                memory_bytes,
            },
            standing,
            profile: Profile {
                matrix_mmacs: rate,
                memory_bytes: if rate > 0 { memory_bytes / 2 } else { 0 },
            },
            offer: (dice[5] < 102).then_some(offer),
        }
    }
    fn account(&self, n: u32) -> AccountId {
        AccountId::from_bytes(self.half(b"account", n))
    }
}

/// Fills a data folder that no server uses with machines `0..machines` of a seed, and brings its public projection
/// up to date. Machines that are there already stay as they are. `told` hears how far it has come.
///
/// # Errors
/// When the folder cannot be opened or written.
pub async fn fill(
    data: &Path,
    seed: &Seed,
    machines: u32,
    mut told: impl FnMut(u32),
) -> Result<(), ServeError> {
    let store = Store::open(data).await?;
    let now = edge::now();
    let setup = permit::<act::Simulate>(&Actor::job(Job::Setup), on::Network, now)
        .map_err(crate::error::ApiError::from)?;
    let mut accounts = BTreeSet::new();
    let numbers: Vec<u32> = (0..machines).collect();
    for some in numbers.chunks(AT_ONCE) {
        let made: Vec<_> =
            some.iter().map(|n| (seed.account(n / MACHINES_PER_ACCOUNT), seed.machine(*n))).collect();
        for (account, _) in &made {
            if accounts.insert(*account) {
                store.add_simulated_account(&setup, *account).await?;
            }
        }
        store.add_simulated(&setup, &made).await?;
        told(some.last().map_or(0, |last| last + 1));
    }
    let project = permit::<act::Project>(&Actor::job(Job::Projector), on::Network, now)
        .map_err(crate::error::ApiError::from)?;
    while store.project(&project).await?.more {}
    store.close().await;
    Ok(())
}

/// What the books of a server that does not run hold of these hours, together with what its intake had on disk and
/// had not folded in.
///
/// # Errors
/// When the folder is in use or cannot be read.
pub async fn books(
    data: &Path,
    hours: &[Hour],
) -> Result<BTreeMap<Hour, HashMap<GpuId, UptimeHour>>, ServeError> {
    let store = Store::open(data).await?;
    let setup = permit::<act::Simulate>(&Actor::job(Job::Setup), on::Network, edge::now())
        .map_err(crate::error::ApiError::from)?;
    let mut all: BTreeMap<Hour, HashMap<GpuId, UptimeHour>> = BTreeMap::new();
    for hour in hours {
        all.insert(*hour, store.hour_of_all(&setup, *hour).await?.into_iter().collect());
    }
    let lanes = store.lanes(Epoch(0)).await?;
    let lanes: HashMap<_, _> = lanes.into_iter().map(|lane| (lane.grant.alias(), lane.gpus)).collect();
    let mut add = |gpu: GpuId, hour: Hour, bits: UptimeHour| {
        if let Some(known) = all.get_mut(&hour) {
            let held = known.entry(gpu).or_default();
            *held = held.merge(bits);
        }
    };
    let (_, lines) = Journal::open(data).await?;
    for line in lines {
        match line {
            Line::Frame { alias, minute, gpus, .. } => {
                let lane = lanes.get(&alias).map(Vec::as_slice).unwrap_or_default();
                for (at, (gpu, _)) in lane.iter().enumerate() {
                    if gpus >> at & 1 == 1 {
                        add(*gpu, minute.hour(), UptimeHour::default().with(minute.of_hour()));
                    }
                }
            }
            Line::Report { gpu, hour, bits } => add(gpu, hour, bits),
            Line::Up(_) => {}
        }
    }
    store.close().await;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_a_machine_is_follows_from_the_seed_and_its_number() {
        let (a, b) = (Seed::of("a"), Seed::of("b"));
        let all: BTreeSet<_> = (0..50).flat_map(|n| [a.identity(n).machine, b.identity(n).machine]).collect();
        assert_eq!(all.len(), 100);
        let (once, again) = (a.machine(7), a.machine(7));
        assert_eq!(
            (once.public_key, once.claim.clone(), once.offer),
            (again.public_key, again.claim, again.offer)
        );
        assert_eq!(once.public_key, *a.identity(7).key.public().as_bytes());
        assert!(once.claim.model.as_str().starts_with("Simulated "));
    }
}
