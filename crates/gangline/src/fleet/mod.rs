//! `gangline fleet`: made-up machines for tests of load. They have real keys and speak over real sockets; only the
//! machines themselves do not exist. They are marked as simulated wherever they show, and a network that was not
//! started with `--allow-simulated` does not take them.

pub mod seed;

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
}

/// Runs what was asked.
///
/// # Errors
/// When it could not be done.
pub fn main(args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Seed(args) => seed::main(&args),
    }
}
