//! `gangline proof`: how well proofs tell GPUs apart, for anybody to compute again: `roc` the error rates,
//! `classify` the verdicts on measurements of one's own, `bench` what a device does.
//!
//! Knows files and words; what follows from a measurement is decided by the rules.

mod bench;
mod classify;
mod clpeak;
mod formats;
mod measure;
mod roc;
mod tables;

/// What `proof` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Compute how often proofs err (a simulation from real measurements), and measure on this machine what
    /// cheats and verification cost.
    Roc(roc::Args),
    /// Measure one device of this machine: its bits against the processor's, the rate of each part of an epoch over its
    /// whole memory, and what sharing or spilling would cost a cheat.
    Bench(bench::Args),
    /// Judge measurements of GPUs: Blender times, clpeak logs, or tables of figures; a file or a folder.
    Classify(classify::Args),
}

/// Runs what was asked.
pub fn main(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Roc(args) => roc::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Classify(args) => classify::main(&args),
    }
}
