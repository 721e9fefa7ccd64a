//! What needs no server: a day's snapshot over columns, and placement, each beside what else could do it.

use std::{path::Path, process::Command, time::Duration};

use anyhow::Context;
use gangline_rules::{
    placement::{Offer, Wish, index::Index},
    snapshot::{Inputs, PeriodInput, take_in_groups},
    uptime::minutes_of_all,
};
use gangline_types::{
    AdapterKind, GpuId, Hash, MicroCredits, Minute, Profile, ProofId, Standing, UnixSeconds, UptimeHour,
    public::PublicSeason,
};
use nix::time::{ClockId, clock_gettime};

use super::{Found, Size, median, procs::find};

/// Hours of the snapshot: a day.
const HOURS: usize = 24;
/// Rounds of everything here.
const ROUNDS: usize = 7;
/// Best offers that a placement asks for.
const BEST: usize = 50;
/// Placements that are measured.
const PLACEMENTS: usize = 20_000;

/// Processor time of this thread, in microseconds.
fn cpu_micros() -> f64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(f64::NAN, |t| t.tv_sec() as f64 * 1e6 + t.tv_nsec() as f64 / 1e3)
}

fn cost<T>(work: impl FnOnce() -> T) -> (f64, T) {
    let before = cpu_micros();
    let done = work();
    (cpu_micros() - before, done)
}

/// Numbers that are the same in every run (xorshift64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A day of so many machines: hours as columns, and what each machine has shown.
struct Day {
    hours: Vec<Vec<u64>>,
    rates: Vec<u64>,
    gpus: Vec<GpuId>,
}

impl Day {
    fn new(machines: usize) -> Self {
        let mut dice = Dice(0x2545_f491_4f6c_dd1d);
        let mut ids: Vec<[u8; 16]> = (0..machines)
            .map(|_| ((dice.next() as u128) << 64 | dice.next() as u128).to_be_bytes())
            .collect();
        ids.sort_unstable();
        // Most hours are whole, some have gaps, some are missing.
        let hour = |dice: &mut Dice| match dice.next() % 16 {
            0 => 0,
            1..=3 => dice.next() & UptimeHour::FULL.0,
            _ => UptimeHour::FULL.0,
        };
        Self {
            hours: (0..HOURS).map(|_| (0..machines).map(|_| hour(&mut dice)).collect()).collect(),
            rates: (0..machines).map(|_| 1_000 + dice.next() % 90_000).collect(),
            gpus: ids.into_iter().map(GpuId::from_bytes).collect(),
        }
    }

    /// One pass over all of it: what nothing that reads it can be quicker than.
    fn pass(&self) -> u64 {
        self.hours.iter().flatten().fold(0, |sum, bits| sum ^ bits)
    }

    /// Weights, exact shares and the root.
    fn snapshot(&self) -> Hash {
        let season = PublicSeason {
            number: 1,
            starts: Minute(0),
            ends: Minute(HOURS as u32 * 60),
            period_minutes: HOURS as u32 * 60,
            period_budget: MicroCredits(1_000_000_000_000),
        };
        let columns = Columns { day: self, minutes: minutes_of_all(&self.hours) };
        take_in_groups(&season, 0, UnixSeconds(90_000), Hash::default(), &columns, |_| ()).0.root
    }
}

/// What everybody brings, as it stands in columns.
struct Columns<'a> {
    day: &'a Day,
    minutes: Vec<u32>,
}

impl Inputs for Columns<'_> {
    fn count(&self) -> usize {
        self.minutes.len()
    }
    fn input(&self, at: usize) -> PeriodInput {
        let gpu = self.day.gpus[at];
        PeriodInput {
            gpu,
            standing: Standing::Proven,
            matrix_mmacs: self.day.rates[at],
            proof: Some(ProofId::from_bytes(*gpu.as_bytes())),
            minutes: self.minutes[at],
        }
    }
}

/// Measures the rows of the snapshot.
///
/// # Errors
/// Never on its own account.
pub fn snapshot(_: &Path, size: Size, found: &mut Found) -> anyhow::Result<()> {
    let day = Day::new(size.snapshot as usize);
    let (mut passes, mut snapshots, mut roots) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (pass, sum) = cost(|| day.pass());
        let (taken, root) = cost(|| day.snapshot());
        // What is not used need not be computed.
        anyhow::ensure!(sum != 1, "a sum of nothing");
        passes.push(pass);
        snapshots.push(taken);
        roots.push(root);
    }
    anyhow::ensure!(roots.windows(2).all(|pair| pair[0] == pair[1]), "two snapshots of one day differ");
    let (pass, taken) = (median(passes), median(snapshots));
    found.figure("one pass over a day of memory", pass.unwrap_or(f64::NAN) / 1000.0, "ms");
    found.figure("a day's snapshot with exact shares and root", taken.unwrap_or(f64::NAN) / 1000.0, "ms");
    let note = format!("{} GPUs x {HOURS} hours", size.snapshot);
    found.row("snapshot_vs_memory", taken.zip(pass).map(|(taken, pass)| taken / pass), note.clone());
    match python(DUCKDB, &[size.snapshot.to_string()])? {
        Some(micros) => {
            found.figure("DuckDB, weights and exact shares without a root", micros / 1000.0, "ms");
            found.row(
                "snapshot_vs_duckdb",
                taken.map(|taken| taken / micros),
                format!("{note}; DuckDB makes no root"),
            );
        }
        None => found.row(
            "snapshot_vs_duckdb",
            None,
            "peer not found: a Python that has the package duckdb (GANGLINE_BENCH_PYTHON names another)",
        ),
    }
    Ok(())
}

/// What placement takes, in microseconds of processor time.
pub struct Placed {
    p50: f64,
    p99: f64,
    /// Offers that were for hire.
    offers: usize,
}

/// Asks for the best fifty over and over.
pub fn placed() -> Placed {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut index = Index::default();
    for n in 0..600_000u32 {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&dice.next().to_be_bytes());
        id[12..].copy_from_slice(&n.to_be_bytes());
        let offer = Offer {
            gpu: GpuId::from_bytes(id),
            kind: AdapterKind::Discrete,
            profile: Profile { matrix_mmacs: 1_000 + dice.next() % 90_000, memory_bytes: 0 },
            memory_bytes: 16 << 30,
            price_per_hour: MicroCredits(50_000 + dice.next() % 2_000_000),
            hours_max: 24 + (dice.next() % 144) as u32,
            // Two in five are for hire: 240,000 of 600,000.
            rentable: dice.next() % 5 < 2,
        };
        index.set(&offer);
    }
    let mut waits: Vec<Duration> = Vec::with_capacity(PLACEMENTS);
    for _ in 0..PLACEMENTS {
        let wish = Wish {
            kinds: vec![AdapterKind::Discrete],
            matrix_mmacs_min: dice.next() % 90_000,
            price_per_hour_max: Some(MicroCredits(100_000 + dice.next() % 2_000_000)),
            hours: (dice.next() % 100) as u32,
            ..Wish::default()
        };
        let (micros, best) = cost(|| index.best(&wish, BEST));
        assert!(best.len() <= BEST, "more than was asked for");
        waits.push(Duration::from_nanos((micros * 1000.0) as u64));
    }
    let mut micros = |percent| crate::fleet::percentile(&mut waits, percent).as_secs_f64() * 1e6;
    Placed { p50: micros(50), p99: micros(99), offers: index.len() }
}

/// Measures the row of placement, with no fleet beside it.
///
/// # Errors
/// When Python cannot be run.
pub fn placement(_: &Path, _: Size, found: &mut Found) -> anyhow::Result<()> {
    tell_placed(&placed(), "no fleet beside it", found)
}

/// Tells what placement took, and what SQLite takes for the same.
///
/// # Errors
/// When Python cannot be run.
pub fn tell_placed(placed: &Placed, beside: &str, found: &mut Found) -> anyhow::Result<()> {
    found.figure(format!("placement, {beside}: half within"), placed.p50, "us");
    found.figure(format!("placement, {beside}: 99 of 100 within"), placed.p99, "us");
    let against = match python(SQLITE, &["600000".into()])? {
        Some(peer) => {
            found.figure("placement by SQLite's covering index, 99 of 100 within", peer, "us");
            format!("SQLite's covering index takes {:.1} times that (goal 15)", peer / placed.p99)
        }
        None => "SQLite not found".to_owned(),
    };
    found.row(
        "placement_p99_us",
        Some(placed.p99),
        format!("best {BEST} of {}, {beside}; {against}", placed.offers),
    );
    Ok(())
}

/// Runs a script that prints one number, with the Python that has what it needs; none where there is none.
fn python(script: &str, args: &[String]) -> anyhow::Result<Option<f64>> {
    let named = std::env::var_os("GANGLINE_BENCH_PYTHON").map(Into::into);
    let Some(program) = named.or_else(|| find("python3")) else { return Ok(None) };
    let ran =
        Command::new(program).arg("-c").arg(script).args(args).output().context("could not run Python")?;
    let said = String::from_utf8_lossy(&ran.stdout).trim().parse::<f64>();
    Ok(said.ok().filter(|_| ran.status.success()))
}

/// The same day in DuckDB's best layout, a column an hour; processor time in microseconds, the median of five.
const DUCKDB: &str = r#"
import sys, time, statistics
import duckdb
n = int(sys.argv[1])
c = duckdb.connect()
c.execute("set threads = 1")
# On a busy machine it would be drawn between the figures.
c.execute("set enable_progress_bar = false")
hours = ", ".join(f"(case when hash(i * 31 + {h}) % 16 = 0 then 0 when hash(i * 31 + {h}) % 16 < 4 then (hash(i * 17 + {h}) % 1152921504606846976) else 1152921504606846975 end)::bigint as h{h}" for h in range(24))
c.execute(f"create table day as select i as gpu, (1000 + hash(i) % 90000)::bigint as rate, {hours} from range({n}) t(i)")
minutes = " + ".join(f"bit_count(h{h})::integer" for h in range(24))
query = f"""
with weights as (select gpu, ({minutes})::hugeint * rate as weight from day),
total as (select sum(weight)::hugeint as total from weights),
parts as (select gpu, weight * 1000000000000::hugeint // total as share, weight * 1000000000000::hugeint % total as rest from weights, total),
missing as (select (1000000000000::hugeint - sum(share))::bigint as missing from parts),
ranked as (select gpu, share, row_number() over (order by rest desc, gpu) as place from parts)
select sum(share + case when place <= missing then 1 else 0 end) from ranked, missing
"""
took = []
for _ in range(5):
    before = time.process_time()
    (total,) = c.execute(query).fetchone()
    took.append((time.process_time() - before) * 1e6)
    assert int(total) == 1000000000000, total
print(statistics.median(took))
"#;

/// The same offers in SQLite with an index that has every column of the answer; the 99th percentile of processor
/// time in microseconds.
const SQLITE: &str = r#"
import random, sqlite3, sys, time
n = int(sys.argv[1])
random.seed(1)
c = sqlite3.connect(":memory:")
c.execute("create table offer (gpu integer primary key, kind integer, model integer, rate integer, price integer, hours integer)")
rows = ((i, 1, random.randrange(40), 1000 + random.randrange(90000), 50000 + random.randrange(2000000), 24 + random.randrange(144)) for i in range(n) if random.random() < 0.4)
c.executemany("insert into offer values (?, ?, ?, ?, ?, ?)", rows)
c.execute("create index best on offer (kind, price, rate desc, gpu, hours)")
took = []
for q in range(3000):
    rate = random.randrange(90000)
    price = 100000 + random.randrange(2000000)
    hours = random.randrange(100)
    before = time.thread_time()
    c.execute("select gpu from offer where kind = 1 and price <= ? and rate >= ? and hours >= ? order by price, rate desc, gpu limit 50", (price, rate, hours)).fetchall()
    took.append((time.thread_time() - before) * 1e6)
took.sort()
print(took[len(took) * 99 // 100])
"#;
