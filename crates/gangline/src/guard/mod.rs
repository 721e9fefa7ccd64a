//! `gangline guard`: what the network's guard can be asked without a network. `nab` runs its detector over a folder of
//! labelled series, and `score` shows all its detectors what a server has recorded, so that anybody can score them;
//! `cost` measures what guarding costs on this machine.
//!
//! Knows files and words; detecting and scoring are the guard's.

mod corpus;
mod cost;
mod nab;
mod results;
mod score;

/// What `guard` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Score the anomaly detector on a folder of labelled series by the Numenta benchmark's rule.
    Nab(nab::Args),
    /// Show a server's detectors what was recorded with `serve --record-shown`: how often they cry over load in which
    /// nothing is wrong, and how soon they notice a breach that is put into it.
    Score(score::Args),
    /// Measure what signed writes, beats' checks, the log and the audit trail cost here, and how soon a revocation is felt.
    Cost(cost::Args),
}

/// Runs what was asked.
pub fn main(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Nab(args) => nab::main(&args),
        Command::Score(args) => score::main(&args),
        Command::Cost(args) => cost::main(&args),
    }
}
