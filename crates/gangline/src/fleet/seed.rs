//! `gangline fleet seed`: enrols simulated machines in bulk, in the data folder of a server that does not run.

use std::{path::PathBuf, time::Instant};

use anyhow::Context;
use gangline_server::simulate::{MACHINES_MAX, Seed, fill};

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
}

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
    fill_folder(&args.data, &Seed::of(&args.seed), args.machines)?;
    println!(
        "{} simulated machines are in {} ({:.1} s). Start it with: gangline serve --data {} --allow-simulated",
        args.machines,
        args.data.display(),
        began.elapsed().as_secs_f64(),
        args.data.display()
    );
    Ok(())
}

/// Fills a folder with machines `0..machines` of a seed.
///
/// # Errors
/// When a server uses it, or it cannot be written.
pub fn fill_folder(data: &std::path::Path, seed: &Seed, machines: u32) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    let filled = runtime.block_on(fill(data, seed, machines, |_| {}));
    filled.with_context(|| Problem::new(format!("{} could not be filled", data.display())))
}
