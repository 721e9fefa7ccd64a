//! `gangline guard`: what the network's guard can be asked without a network. For now `nab`, which runs
//! its detector over a folder of labelled series so that anybody can score it.
//!
//! Knows files and words; detecting and scoring are the guard's.

mod corpus;
mod nab;
mod results;

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
}

/// Runs what was asked.
pub fn main(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Nab(args) => nab::main(&args),
    }
}
