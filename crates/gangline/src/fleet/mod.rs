//! `gangline fleet`: made-up machines for tests of load. They have real keys and speak over real sockets; only the
//! machines themselves do not exist. They are marked as simulated wherever they show, and a network that was not
//! started with `--allow-simulated` does not take them.

pub mod audit;
pub mod book;
pub mod crew;
pub mod http;
mod run;
pub mod seed;
pub mod udp;
pub mod weather;

use std::time::Duration;

/// What `fleet` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Fill the data folder of a network for tests with simulated machines.
    Seed(seed::Args),
    /// Let them beat: steadily or all at once, over good lines or bad ones, honest or not.
    Run(Box<run::Args>),
    /// Look for every acknowledged beat in the books.
    Audit(Box<audit::Args>),
}

/// Runs what was asked.
///
/// # Errors
/// When it could not be done.
pub fn main(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Seed(args) => seed::main(&args),
        Command::Run(args) => run::main(&args),
        Command::Audit(args) => audit::main(*args),
    }
}

/// The time within which so many of a hundred were answered; nothing where there were none.
pub fn percentile(waits: &mut [Duration], percent: usize) -> Duration {
    if waits.is_empty() {
        return Duration::ZERO;
    }
    let at = (waits.len() * percent / 100).min(waits.len() - 1);
    *waits.select_nth_unstable(at).1
}
