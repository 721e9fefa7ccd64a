//! The one binary: the network (`serve`), a supplier's machine (`worker`), a renter's shell (`rent`),
//! anyone's check (`verify`) and a whole network on one machine (`demo`).
//!
//! Knows which word starts what, how failures are told and which exit code follows; nothing else.

mod appeal;
mod audit;
mod bench;
mod calibration;
mod confirmed;
mod demo;
mod drill;
mod fleet;
mod guard;
mod inert;
mod logging;
mod migrate;
mod probe;
mod problem;
mod proof;
mod rent;
mod serve;
mod stage;
mod verify;
mod worker;

use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

/// A server of 600,000 machines holds a quarter less with it than with the system's allocator, which keeps what a rush has
/// freed (decision 76).
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// One network of many owners' GPUs: join a machine, hire a cluster, check the rewards.
#[derive(Debug, Parser)]
#[command(name = "gangline", version, max_term_width = 100, disable_help_subcommand = true)]
#[command(
    after_help = "Start with `gangline demo`: a whole network on this machine.\nExit codes: 0 done, 1 failed, 2 bad usage or could not ask."
)]
struct Cli {
    /// Write log lines as JSON (or set GANGLINE_LOG_FORMAT=json).
    #[arg(long, global = true, help_heading = "Logging")]
    log_json: bool,
    /// How log lines are written.
    #[arg(long, hide = true, env = "GANGLINE_LOG_FORMAT", default_value = "text", value_enum)]
    log_format: logging::Format,
    /// Certificate authorities to believe beside the system's, in PEM: for networks with a certificate of an
    /// authority of their own.
    #[arg(long, global = true, value_name = "FILE", env = "GANGLINE_CA_FILE", help_heading = "TLS")]
    ca_file: Option<std::path::PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a network: API, explorer, consoles.
    Serve(Box<serve::Args>),
    /// Move a network from its data folder into a database of PostgreSQL.
    Migrate(migrate::Args),
    /// Bring this machine and its GPUs into a network.
    Worker(worker::Args),
    /// Hire clusters and run jobs on them.
    Rent(Box<rent::Args>),
    /// Check a network's proofs, uptime and rewards from public data alone.
    Verify(verify::Args),
    /// Ask a network's intake of beats from outside, and keep a signed record of what came.
    Probe(probe::Args),
    /// Check a network's log: nothing in it was edited, forked or rolled back.
    Audit(audit::Args),
    /// Watch networks' logs and cosign what only grows, for anyone to lean on.
    Witness(audit::witness::Args),
    /// Score the network's anomaly detector on labelled series.
    Guard(guard::Args),
    /// See how well proofs tell GPUs apart, and judge measurements of your own.
    Proof(proof::Args),
    /// Simulated machines for tests of load.
    Fleet(Box<fleet::Args>),
    /// What beats, snapshots, placement and pages cost, beside peers that are installed.
    Bench(bench::Args),
    /// Sends datagrams back; the bench starts it.
    #[command(hide = true)]
    BenchEcho,
    /// Replay the breach of April 2024 against a network, safely, and see what stops each of its links.
    Drill(drill::Args),
    /// Learn, sign, watch and promote the medians that set epochs' deadlines.
    Calibration(calibration::Args),
    /// Appeal against a GPU's standing, or judge the re-runs of appeals as a verifier.
    Appeal(appeal::Args),
    /// Watch a whole network on this machine: join, prove, earn, rent, and attacks that fail.
    Demo(Box<demo::Args>),
    /// The main process inside a sandbox; the worker starts it.
    #[command(hide = true)]
    Node,
    /// Look at the adapters of this machine; the worker starts it.
    #[command(hide = true)]
    AdapterProbe,
    /// Prove one adapter of this machine; the worker starts it.
    #[command(hide = true)]
    AdapterProve,
}

impl Command {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Serve(args) => serve::main(*args),
            Self::Migrate(args) => migrate::main(args),
            Self::Worker(args) => worker::main(args),
            Self::Rent(args) => rent::main(*args),
            Self::Verify(args) => verify::main(args),
            Self::Probe(args) => probe::main(&args),
            Self::Audit(args) => audit::main(args),
            Self::Witness(args) => audit::witness::main(args),
            Self::Guard(args) => guard::main(args),
            Self::Proof(args) => proof::main(args),
            Self::Fleet(args) => fleet::main(*args),
            Self::Bench(args) => bench::main(&args),
            Self::BenchEcho => bench::echo(),
            Self::Drill(args) => drill::main(args),
            Self::Calibration(args) => calibration::main(args),
            Self::Appeal(args) => appeal::main(args),
            Self::Demo(args) => demo::main(*args),
            Self::Node => gangline_worker::node::run(gangline_worker::node::NodeArgs {}),
            Self::AdapterProbe => worker::adapter_probe(),
            Self::AdapterProve => worker::adapter_prove(),
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    end_with_the_reader();
    let format = if cli.log_json { logging::Format::Json } else { cli.log_format };
    let filter = std::env::var("GANGLINE_LOG").ok().filter(|filter| !filter.is_empty());
    let done = logging::start(format, filter.as_deref())
        .and_then(|()| believe(cli.ca_file.as_deref()))
        .and_then(|()| cli.command.run());
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough: nothing failed.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            for line in problem::lines(&error) {
                eprintln!("{line}");
            }
            ExitCode::from(problem::exit_code(&error))
        }
    }
}

/// From now on every client of this process believes these authorities too.
fn believe(file: Option<&std::path::Path>) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let told = || {
        problem::Problem::usage(format!(
            "the file of certificate authorities {} cannot be used",
            file.display()
        ))
        .hint("it holds one or more certificates in PEM")
    };
    let pem = std::fs::read(file).with_context(told)?;
    gangline_worker::client::believe(&pem).with_context(told)
}

/// From now on, printing to whoever has closed the other end ends the program without a word. What was being done was
/// not finished, and its exit code says so.
fn end_with_the_reader() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let said = info.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to std") && said.contains("Broken pipe") {
            std::process::exit(1);
        }
        before(info);
    }));
}

/// Whether writing to stdout failed because its reader is gone.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn every_command_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
