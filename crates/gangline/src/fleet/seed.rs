//! `gangline fleet seed`: enrols simulated machines in bulk, in the data folder of a server that does not run.

use std::{path::PathBuf, time::Instant};

use anyhow::Context;
use gangline_server::simulate::{Grown, MACHINES_MAX, Seed, fill};

use crate::problem::Problem;

/// What `fleet seed` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server's data folder; made if it is new.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// How many machines, each with one GPU.
    #[arg(long, value_name = "COUNT")]
    machines: u32,
    /// What the machines' ids and keys follow from; `fleet run` with the same text drives them.
    #[arg(long, value_name = "TEXT", default_value = "gangline")]
    seed: String,
    /// Whole days of uptime before today's that they are given, to see what a grown network is like.
    #[arg(long, value_name = "DAYS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=DAYS_MAX))]
    days: u32,
    /// How many of the last hours of those days have a snapshot, with shares and a root, in a season of their own.
    #[arg(long, value_name = "HOURS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=SNAPSHOTS_MAX))]
    snapshots: u32,
}

/// Days of uptime that a folder can be filled with.
const DAYS_MAX: i64 = 400;
/// Hours that snapshots are made up of.
const SNAPSHOTS_MAX: i64 = 24 * DAYS_MAX;

/// Fills the folder.
///
/// # Errors
/// When a server uses it, or it cannot be written.
pub fn main(args: &Args) -> anyhow::Result<()> {
    if !(1..=MACHINES_MAX).contains(&args.machines) {
        return Err(Problem::usage(format!("{} machines cannot be made up", args.machines))
            .hint(format!("choose 1 to {MACHINES_MAX}"))
            .into());
    }
    let began = Instant::now();
    let grown =
        Grown { machines: args.machines, days: args.days, snapshots: args.snapshots.min(24 * args.days) };
    fill_folder(&args.data, &Seed::of(&args.seed), grown)?;
    println!(
        "{} simulated machines are in {} ({:.1} s). Start it with: gangline serve --data {} --allow-simulated",
        args.machines,
        args.data.display(),
        began.elapsed().as_secs_f64(),
        args.data.display()
    );
    Ok(())
}

/// Fills a folder with machines of a seed and what they have behind them.
///
/// # Errors
/// When a server uses it, or it cannot be written.
pub fn fill_folder(data: &std::path::Path, seed: &Seed, grown: Grown) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    let filled = runtime.block_on(fill(data, seed, grown, |_| {}));
    filled.with_context(|| Problem::new(format!("{} could not be filled", data.display())))
}
