//! `gangline bench`: ours and its peers side by side in one run. Each contender's server is a process of its own on
//! this machine; what counts is its processor time, which a busy neighbour changes less than any rate. Rounds of
//! different contenders take turns, and a row is a ratio of medians.
//!
//! A peer that is not installed leaves its row without a value: nothing is made up.

mod beats;
mod big;
mod kill9;
mod local;
mod pages;
mod peers;
pub mod procs;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use clap::ValueEnum;
use gangline_server::simulate::MACHINES_MAX;
use serde_json::json;

use crate::problem::Problem;

pub use peers::echo;

/// What `bench` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Two minutes instead of fifteen: fewer machines and rounds, and the report says so.
    #[arg(long)]
    quick: bool,
    /// Write the rows as JSON to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Work in this folder, which must be empty or new, and leave it [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    /// Only these parts, with commas between them; `pages` is the end of `fleet` alone.
    #[arg(long, value_name = "PARTS", value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Machines of the large fleet [default: 600000; 20000 with --quick].
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1000..=i64::from(MACHINES_MAX)))]
    machines: Option<u32>,
}

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Machines of the large fleet.
    pub machines: u32,
    /// Machines of the small one, for costs of single beats.
    pub small: u32,
    /// Rounds of each contender.
    pub rounds: usize,
    /// Seconds of a round.
    pub round_seconds: f64,
    /// Minutes that the large fleet beats steadily, everybody once in each.
    pub minutes: u32,
    /// Instead of whole minutes, turns of so many seconds: in one that is measured as large a part of the fleet beats.
    pub turn: Option<u32>,
    /// SIGKILLs.
    pub kills: u32,
    /// Requests of the explorer's page in a round, without beats and with them.
    pub pages: usize,
    /// Looks at each kind of page of a grown network.
    pub looks: u32,
    /// GPUs of the snapshot.
    pub snapshot: u32,
}

impl Size {
    const FULL: Self = Self {
        machines: 600_000,
        small: 20_000,
        rounds: 5,
        round_seconds: 2.0,
        minutes: 2,
        turn: None,
        kills: 100,
        pages: 1_000,
        looks: 100,
        snapshot: 600_000,
    };
    const QUICK: Self = Self {
        machines: 20_000,
        small: 4_000,
        rounds: 3,
        round_seconds: 1.0,
        minutes: 1,
        turn: Some(25),
        kills: 4,
        pages: 200,
        looks: 30,
        snapshot: 600_000,
    };
}

/// A part of the run, in order. What is looked at in `Pages`, `Fleet` looks at too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Snapshot,
    Placement,
    Beats,
    Kill9,
    Fleet,
    Pages,
}

impl Part {
    /// Works in a folder, as much as is wanted, and tells what it finds.
    fn measure(self, work: &Path, size: Size, found: &mut Found) -> anyhow::Result<()> {
        match self {
            Self::Snapshot => local::snapshot(work, size, found),
            Self::Placement => local::placement(work, size, found),
            Self::Beats => beats::measure(work, size, found),
            Self::Kill9 => kill9::measure(work, size, found),
            Self::Fleet => big::measure(work, size, found),
            Self::Pages => pages::measure(work, size, found),
        }
    }
}

/// One row of the table of goals.
#[derive(Clone, Debug)]
pub struct Row {
    name: &'static str,
    unit: &'static str,
    goal: f64,
    value: Option<f64>,
    note: String,
}

/// The rows, in the order of the table: name, unit, and the value that is at most wanted.
const ROWS: [(&str, &str, f64); 14] = [
    ("beat_udp_vs_redis", "ratio", 0.5),
    ("beat_udp_vs_echo", "ratio", 1.5),
    ("beat_http_vs_redis", "ratio", 1.0),
    ("beat_vs_etcd", "ratio", 1.0 / 12.0),
    ("fleet_600k_core_percent", "percent of a core", 20.0),
    ("fleet_600k_rss_mib", "MiB", 512.0),
    ("fleet_600k_ack_p99_ms", "ms", 250.0),
    ("storm_cpu_seconds", "s", 45.0),
    ("kill9_lost", "beats", 0.0),
    ("disk_bytes_per_beat", "bytes", 65.0),
    ("snapshot_vs_memory", "ratio", 4.0),
    ("snapshot_vs_duckdb", "ratio", 0.1),
    ("placement_p99_us", "us", 100.0),
    ("explorer_p99_ratio", "ratio", 1.5),
];

/// What a run has found so far.
#[derive(Default)]
pub struct Found {
    rows: Vec<(&'static str, Option<f64>, String)>,
    more: Vec<(String, f64, &'static str)>,
}

impl Found {
    /// A row's value, or none and why; the last word counts.
    pub fn row(&mut self, name: &'static str, value: Option<f64>, note: impl Into<String>) {
        self.rows.push((name, value, note.into()));
    }
    /// A figure beside the rows.
    pub fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let name = name.into();
        println!("  {name}: {} {unit}", short(value));
        self.more.push((name, value, unit));
    }

    fn table(&self) -> Vec<Row> {
        let row = |(name, unit, goal)| {
            let found = self.rows.iter().rev().find(|(of, ..)| *of == name);
            let (value, note) =
                found.map_or((None, "not measured in this run".to_owned()), |(_, v, n)| (*v, n.clone()));
            Row { name, unit, goal, value: value.filter(|value| value.is_finite()), note }
        };
        ROWS.map(row).to_vec()
    }
}

impl Row {
    /// Whether the goal is reached; a row without a value never is.
    fn ok(&self) -> bool {
        self.value.is_some_and(|value| value <= self.goal)
    }
}

/// A number with as many digits as say something.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 || v == 0.0 => format!("{value:.0}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

/// The middle one; of an even number, the upper of the two. None of none.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The machine, in a line.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split(':').nth(1));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} with {cores} cores, Linux {}", model.unwrap_or("unknown processor").trim(), kernel.trim())
}

/// Runs everything that was asked for and tells how it went.
///
/// # Errors
/// When our own part cannot run; a peer that cannot is only left out.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut size = if args.quick { Size::QUICK } else { Size::FULL };
    size.machines = args.machines.unwrap_or(size.machines);
    let temporary =
        args.work.is_none().then(tempfile::tempdir).transpose().context("could not make a folder")?;
    let work = args.work.clone().or(temporary.as_ref().map(|t| t.path().to_owned())).context("no folder")?;
    std::fs::create_dir_all(&work).with_context(|| format!("could not make {}", work.display()))?;
    if std::fs::read_dir(&work).is_ok_and(|mut files| files.next().is_some()) {
        let taken = Problem::usage(format!("{} is not empty", work.display()));
        return Err(taken.hint("name a new folder, or leave --work out").into());
    }
    println!("{}", machine());
    if cfg!(debug_assertions) {
        println!("an unoptimised build: its figures are bounds from above");
    }
    if args.quick {
        println!(
            "quick: {} machines instead of 600000, fewer rounds; figures of a full run are steadier",
            size.machines
        );
    }
    let mut found = Found::default();
    let is_wanted = |part: &Part| match args.only.as_slice() {
        [] => *part != Part::Pages,
        only => only.contains(part),
    };
    for part in Part::value_variants().iter().filter(|part| is_wanted(part)) {
        let name = part.to_possible_value().context("a part without a name")?;
        println!("{}:", name.get_name());
        let broke_off = || format!("the part `{}` broke off", name.get_name());
        part.measure(&work, size, &mut found).with_context(broke_off)?;
    }
    tell(args, size, &found, began.elapsed().as_secs_f64())
}

fn tell(args: &Args, size: Size, found: &Found, seconds: f64) -> anyhow::Result<()> {
    let table = found.table();
    println!("\n{:<26} {:>12} {:>12}  {:<18} note", "row", "value", "goal", "unit");
    for row in &table {
        let value = row.value.map_or("-".to_owned(), short);
        let mark = match row.value {
            Some(_) if row.ok() => ' ',
            Some(_) => '!',
            None => '?',
        };
        println!("{mark}{:<25} {value:>12} {:>12}  {:<18} {}", row.name, short(row.goal), row.unit, row.note);
    }
    println!(
        "{} of {} rows reach their goal, {} were not measured; {seconds:.0} s in all",
        table.iter().filter(|r| r.ok()).count(),
        table.len(),
        table.iter().filter(|r| r.value.is_none()).count()
    );
    let Some(path) = &args.report else { return Ok(()) };
    let rows: Vec<_> = table
        .iter()
        .map(|row| {
            json!({"name": row.name, "value": row.value, "unit": row.unit, "goal": row.goal, "ok": row.ok(), "note": row.note})
        })
        .collect();
    let figures: Vec<_> = found
        .more
        .iter()
        .map(|(name, value, unit)| json!({"name": name, "value": value, "unit": unit}))
        .collect();
    let report = json!({
        "rows": rows, "figures": figures, "machine": machine(), "quick": args.quick, "machines": size.machines,
        "seconds": seconds, "version": env!("CARGO_PKG_VERSION"),
    });
    let text = serde_json::to_string_pretty(&report)?;
    std::fs::write(path, text).with_context(|| format!("could not write the report {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_a_value_is_there_and_does_not_pass() {
        let mut found = Found::default();
        found.row("beat_vs_etcd", None, "peer not found");
        found.row("kill9_lost", Some(0.0), "");
        found.row("storm_cpu_seconds", Some(f64::NAN), "");
        let table = found.table();
        assert_eq!(table.len(), ROWS.len());
        let row = |name: &str| table.iter().find(|row| row.name == name).unwrap();
        assert!(!row("beat_vs_etcd").ok() && row("beat_vs_etcd").note == "peer not found");
        assert!(row("kill9_lost").ok());
        assert_eq!((row("storm_cpu_seconds").value, row("storm_cpu_seconds").ok()), (None, false));
        assert!(!row("placement_p99_us").ok());
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![]), None);
    }
}
