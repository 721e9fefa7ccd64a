//! `gangline guard cost`: what security costs, and how fast it acts, measured on this machine: by itself, in a server of
//! its own, and between two servers that share a database. What it notices and how soon is the drill's to say.
//!
//! Nothing is made up: a figure that cannot be taken here is left without a value, with the reason.

mod pure;
mod replicas;
mod served;

use std::path::PathBuf;

use anyhow::Context;
use serde_json::json;

use crate::problem::Problem;

/// What `guard cost` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// File with the address of an empty database of PostgreSQL, which only this user may read: two servers share it
    /// while a revocation is timed. Without it that figure is not taken.
    #[arg(long, value_name = "FILE")]
    database_file: Option<PathBuf>,
    /// Entries of the log that is measured.
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    entries: u64,
    /// Permitted writes sent to a server, and as many refused ones.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(500..=100_000))]
    writes: u32,
    /// Keys that are revoked, one after the other.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    trials: u32,
    /// Write the rows as JSON to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// One figure.
#[derive(Clone, Debug)]
struct Row {
    name: &'static str,
    value: Option<f64>,
    unit: &'static str,
    /// At most this; none where nothing was set.
    goal: Option<f64>,
    note: String,
}

/// What was found so far.
#[derive(Default)]
struct Found(Vec<Row>);

impl Found {
    fn add(
        &mut self,
        name: &'static str,
        value: impl Into<Option<f64>>,
        unit: &'static str,
        goal: impl Into<Option<f64>>,
        note: impl Into<String>,
    ) {
        let row = Row { name, value: value.into(), unit, goal: goal.into(), note: note.into() };
        let value = row.value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        let goal = row.goal.map_or(String::new(), |goal| format!(" (at most {goal})"));
        let mark = if row.holds() { ' ' } else { '!' };
        println!("{mark} {name:<34} {value:>12} {unit}{goal}  {}", row.note);
        self.0.push(row);
    }
}

impl Row {
    /// Whether its goal is reached; without a value it never is.
    fn holds(&self) -> bool {
        match (self.value, self.goal) {
            (Some(value), Some(goal)) => value <= goal,
            (value, None) => value.is_some(),
            (None, Some(_)) => false,
        }
    }
}

/// Measures.
///
/// # Errors
/// When a server does not come up or answers something else than it should; not when a goal is missed.
pub fn main(args: &Args) -> anyhow::Result<()> {
    println!("{}", crate::bench::machine());
    if cfg!(debug_assertions) {
        println!("This build is not optimised: figures are bounds from above.");
    }
    let mut found = Found::default();
    pure::write(&mut found);
    pure::log(&mut found, args.entries);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        served::measure(&mut found, args.writes).await.context("a server of its own")?;
        match &args.database_file {
            Some(file) => replicas::measure(&mut found, file, args.trials).await.context("two servers"),
            None => {
                found.add("revocation_p99_ms", None, "ms", 2_000.0, "no --database-file was given");
                Ok(())
            }
        }
    })?;
    let Some(file) = &args.report else { return Ok(()) };
    let rows: Vec<_> = found
        .0
        .iter()
        .map(|row| {
            json!({"name": row.name, "value": row.value, "unit": row.unit, "goal": row.goal, "ok": row.holds(), "note": row.note})
        })
        .collect();
    let report = json!({
        "rows": rows, "machine": crate::bench::machine(), "optimised": !cfg!(debug_assertions), "version": env!("CARGO_PKG_VERSION"),
    });
    std::fs::write(file, serde_json::to_string_pretty(&report)? + "\n")
        .with_context(|| Problem::new(format!("the report {} could not be written", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_measured_does_not_hold() {
        let mut found = Found::default();
        found.add("a", 79.9, "us", 80.0, "");
        found.add("b", 80.1, "us", 80.0, "");
        found.add("c", None, "ms", 2_000.0, "not here");
        found.add("d", 5.0, "bytes", None, "");
        let held: Vec<bool> = found.0.iter().map(Row::holds).collect();
        assert_eq!(held, [true, false, false, true]);
    }
}
