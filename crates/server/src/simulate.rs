//! Made-up machines for tests of load: who they are follows from a seed and a number, so that whoever fills a data
//! folder with them and whoever drives them need to agree on the seed alone.
//!
//! They are marked in the books and wherever they show, and a server does not start on books that hold any unless
//! its operator allows it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use gangline_guard::{Actor, Job, act, beat::Line, permit::permit, policy::on};
use gangline_rules::{
    months::{DAY, Day, month_of},
    snapshot::{PeriodInput, period_span},
};
use gangline_store::{DatabaseUrl, Journal, SimulatedMachine, Store, TakenSnapshot};
use gangline_types::{
    AccountId, AdapterKind, Backend, GpuClaim, GpuId, Hash, Hour, MachineId, MicroCredits, Minute, Profile,
    Standing, Text, UnixSeconds, UptimeHour, public::PublicSeason,
};
use gangline_wire::{SigningKey, api::machine::Offer, beat::Epoch};

use crate::{
    edge,
    run::{self, ServeError},
};

/// Machines of one made-up supplier.
pub const MACHINES_PER_ACCOUNT: u32 = 1_000;
/// Machines that a folder can be filled with.
pub const MACHINES_MAX: u32 = 2_000_000;
/// The season of made-up snapshots goes on for so many minutes: 90 days.
const SEASON_MINUTES: u32 = 90 * 24 * 60;
/// So long nobody looks at what was written, while more is.
const PROJECT_PAUSE: Duration = Duration::from_millis(200);
/// Machines written down at once.
const AT_ONCE: usize = 20_000;

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
    /// The supplier of the n-th machine.
    pub fn account(&self, n: u32) -> AccountId {
        AccountId::from_bytes(self.half(b"account", n / MACHINES_PER_ACCOUNT))
    }
    /// What the n-th machine's GPU was up on some days: as a rule all day; on one day in eight it was away for some
    /// hours and came back within one.
    fn days(&self, n: u32, days: std::ops::Range<u32>) -> Vec<Day> {
        let mut dice =
            blake3::Hasher::new_keyed(&self.0).update(b"uptime").update(&n.to_le_bytes()).finalize_xof();
        let mut up = |day| {
            let mut three = [0; 3];
            dice.fill(&mut three);
            let mut bits = [UptimeHour::FULL; DAY];
            if three[0] < 32 {
                let from = usize::from(three[1]) % DAY;
                let back = (from + usize::from(three[2]) % 6).min(DAY - 1);
                bits[from..back].fill(UptimeHour(0));
                bits[back] = UptimeHour(UptimeHour::FULL.0 << (three[2] % 59 + 1) & UptimeHour::FULL.0);
            }
            Day { day, bits, ..Day::default() }
        };
        days.map(&mut up).collect()
    }
}

/// The days of a GPU, packed by month.
fn months(gpu: GpuId, days: &[Day]) -> Vec<(GpuId, u32, Vec<u8>)> {
    let mut months: Vec<(GpuId, u32, Vec<u8>)> = Vec::new();
    for day in days {
        let month = month_of(Hour(day.day * DAY as u32));
        match months.last_mut() {
            Some((_, of, packed)) if *of == month => packed.extend(day.pack()),
            _ => months.push((gpu, month, day.pack())),
        }
    }
    months
}

/// How grown a made-up network is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grown {
    /// Machines, each with one GPU.
    pub machines: u32,
    /// Whole days of uptime before today's.
    pub days: u32,
    /// Hours up to today's first whose snapshots are taken, of those days.
    pub snapshots: u32,
}

/// Some machines, and what they have behind them.
struct Made {
    machines: Vec<(AccountId, SimulatedMachine)>,
    months: Vec<(GpuId, u32, Vec<u8>)>,
    /// What each brings to a period, and its minutes in each of the last hours.
    inputs: Vec<PeriodInput>,
    minutes: Vec<Vec<u8>>,
}

impl Made {
    fn of(seed: &Seed, numbers: &[u32], days: std::ops::Range<u32>, hours: usize) -> Self {
        let mut made = Self {
            machines: Vec::with_capacity(numbers.len()),
            months: Vec::new(),
            inputs: Vec::new(),
            minutes: vec![Vec::new(); hours],
        };
        for n in numbers {
            let machine = seed.machine(*n);
            let days = seed.days(*n, days.clone());
            made.months.extend(months(machine.gpu, &days));
            if hours > 0 {
                made.inputs.push(PeriodInput {
                    gpu: machine.gpu,
                    standing: machine.standing,
                    matrix_mmacs: machine.profile.matrix_mmacs,
                    proof: None,
                    minutes: 0,
                });
            }
            let last = days.iter().flat_map(|day| day.bits).rev().take(hours);
            for (column, bits) in made.minutes.iter_mut().rev().zip(last) {
                column.push(bits.minutes() as u8);
            }
            made.machines.push((seed.account(*n), machine));
        }
        made
    }
}

/// Fills a data folder that no server uses with machines of a seed and with what they have behind them, and brings its
/// public projection up to date. Machines that are there already stay as they are; uptime before the snapshots is counted in
/// none and there to be looked at. `told` hears how far it has come.
///
/// # Errors
/// When the folder cannot be opened or written, or snapshots are wanted and it has a season already.
pub async fn fill(data: &Path, seed: &Seed, grown: Grown, told: impl FnMut(u32)) -> Result<(), ServeError> {
    let store = Store::open(data).await?;
    let now = edge::now();
    let project = permit::<act::Project>(&Actor::job(Job::Projector), on::Network, now)
        .map_err(crate::error::ApiError::from)?;
    let written = AtomicBool::new(false);
    let writing = async {
        write(&store, seed, grown, now, told).await?;
        written.store(true, Ordering::Relaxed);
        Ok(())
    };
    // What is in the books goes into the projection while more is written.
    let projecting = async {
        loop {
            let is_last = written.load(Ordering::Relaxed);
            while store.project(&project, now).await?.more {}
            if is_last {
                return Ok::<_, ServeError>(());
            }
            tokio::time::sleep(PROJECT_PAUSE).await;
        }
    };
    futures_util::future::try_join(writing, projecting).await?;
    store.close().await;
    Ok(())
}

/// Writes machines and what they have behind them into the books.
async fn write(
    store: &Store,
    seed: &Seed,
    grown: Grown,
    now: UnixSeconds,
    mut told: impl FnMut(u32),
) -> Result<(), ServeError> {
    let setup = permit::<act::Simulate>(&Actor::job(Job::Setup), on::Network, now)
        .map_err(crate::error::ApiError::from)?;
    let today = now.minute().hour().0 / DAY as u32;
    let days = today.saturating_sub(grown.days)..today;
    let hours = (grown.snapshots as usize).min(days.len() * DAY);
    let mut accounts = BTreeSet::new();
    // Neighbours in the books one after another: each page of the largest tables is written once.
    let mut numbers: Vec<u32> = (0..grown.machines).collect();
    numbers.sort_by_cached_key(|n| seed.half(b"gpu", *n));
    let mut inputs = Vec::new();
    let mut minutes = vec![Vec::new(); hours];
    let mut done = 0;
    // While some are written, the next are made up.
    let make = |some: &[u32]| {
        let (seed, some, days) = (seed.clone(), some.to_vec(), days.clone());
        tokio::task::spawn_blocking(move || Made::of(&seed, &some, days, hours))
    };
    let mut chunks = stream::iter(numbers.chunks(AT_ONCE).map(make)).buffered(2);
    while let Some(made) = chunks.next().await {
        let made =
            made.map_err(|error| ServeError::Config(format!("machines could not be made up: {error}")))?;
        for (account, _) in &made.machines {
            if accounts.insert(*account) {
                store.add_simulated_account(&setup, *account).await?;
            }
        }
        store.add_simulated(&setup, &made.machines).await?;
        if !made.months.is_empty() {
            store.add_simulated_uptime(&setup, &made.months).await?;
        }
        inputs.extend(made.inputs);
        minutes.iter_mut().zip(made.minutes).for_each(|(all, some)| all.extend(some));
        done += made.machines.len() as u32;
        told(done);
    }
    if hours > 0 {
        take_snapshots(store, Hour(days.end * DAY as u32), inputs, minutes).await?;
    }
    Ok(())
}

/// Takes snapshots of the last hours before `ends`, of which `minutes` has a column each. `inputs` has the GPUs in the order of
/// ids.
async fn take_snapshots(
    store: &Store,
    ends: Hour,
    mut inputs: Vec<PeriodInput>,
    minutes: Vec<Vec<u8>>,
) -> Result<(), ServeError> {
    let accountant = || {
        permit::<act::TakeSnapshot>(&Actor::job(Job::Accountant), on::Network, edge::now())
            .map_err(crate::error::ApiError::from)
    };
    let starts = Hour(ends.0 - minutes.len() as u32);
    let season = PublicSeason {
        number: 1,
        starts: starts.start(),
        ends: Minute(ends.start().0 + SEASON_MINUTES),
        period_minutes: 60,
        period_budget: MicroCredits(1_000_000_000),
    };
    store.open_season(&accountant()?, &season).await?;
    if store.season().await?.as_ref() != Some(&season) {
        return Err(ServeError::Config(
            "the folder has a season already: snapshots are made up in a new one".into(),
        ));
    }
    for (period, column) in (0..).zip(minutes) {
        for (input, minutes) in inputs.iter_mut().zip(column) {
            input.minutes = u32::from(minutes);
        }
        let (from, to) = period_span(&season, period);
        let up: Vec<PeriodInput> = inputs.iter().filter(|input| input.minutes > 0).copied().collect();
        let compute =
            |previous_root, _: Vec<_>| TakenSnapshot::of(&season, period, edge::now(), previous_root, &up);
        store.take_snapshot(accountant()?, season.number, from, to, compute).await?;
    }
    Ok(())
}

/// What the books hold of these hours, together with what intakes wrote down and nobody has folded in. Books in a folder are
/// those of a server that does not run; where they are in a `database`, servers may run, and the folder is that of one of them:
/// the network's key is in it, and a journal where it keeps its own.
///
/// # Errors
/// When the folder is in use or cannot be read, or the database cannot be reached.
pub async fn books(
    data: &Path,
    database: Option<&DatabaseUrl>,
    hours: &[Hour],
) -> Result<BTreeMap<Hour, HashMap<GpuId, UptimeHour>>, ServeError> {
    let store = match database {
        Some(url) => run::connect(url, &run::known_key(&data.join(run::NETWORK_KEY))?).await?,
        None => Store::open(data).await?,
    };
    let setup = permit::<act::Simulate>(&Actor::job(Job::Setup), on::Network, edge::now())
        .map_err(crate::error::ApiError::from)?;
    let mut all: BTreeMap<Hour, HashMap<GpuId, UptimeHour>> =
        hours.iter().map(|hour| (*hour, HashMap::new())).collect();
    let lanes = store.lanes(Epoch(0)).await?;
    let lanes: HashMap<_, _> = lanes.into_iter().map(|lane| (lane.grant.alias(), lane.gpus)).collect();
    let mut add = |gpu: GpuId, hour: Hour, bits: UptimeHour| {
        if let Some(known) = all.get_mut(&hour) {
            let held = known.entry(gpu).or_default();
            *held = held.merge(bits);
        }
    };
    let mut each = |line: &Line| match *line {
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
    };
    // Journals before the books: what is folded meanwhile is in one or the other.
    Journal::open(data)?.replay(&mut each).await?;
    store.journaled(&setup).await?.iter().for_each(each);
    for hour in hours {
        for (gpu, bits) in store.hour_of_all(&setup, *hour).await? {
            add(gpu, *hour, bits);
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

    #[test]
    fn made_up_days_are_up_nearly_always_and_as_the_seed_says() {
        let days = |n| Seed::of("a").days(n, 20_000..20_090);
        let minutes: u32 = days(1).iter().flat_map(|day| day.bits).map(|hour| hour.minutes()).sum();
        assert!((110_000..129_600).contains(&minutes), "{minutes}");
        assert_eq!(days(1), days(1));
        assert_ne!(days(1), days(2));
    }
}
