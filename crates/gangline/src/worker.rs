//! `gangline worker`: words of the command line for what the worker's agent does.
//!
//! Knows neither how a machine joins, proves and runs nodes, nor what it prints of that.

use std::path::PathBuf;

use gangline_types::GpuId;
use gangline_worker::agent::{
    self, AgentError, DataDir, Ended, Executable, JoinOptions, Reporter, RunOptions,
};

/// What `worker` is asked.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 this machine cannot join yet or bad usage, 3 the network ended \
                        this machine's key, 4 not joined, 5 another worker runs here, 6 denied or expired."
)]
pub struct Args {
    /// Folder with this machine's key, settings and kept beats [default: gangline/worker in the state folder].
    #[arg(long, global = true, value_name = "DIR", env = "GANGLINE_WORKER_DATA")]
    data: Option<PathBuf>,
    /// Print JSON, one object a line, instead of text for people.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Bind this machine to your account; you approve it in a browser.
    Join {
        /// The server, for example `http://127.0.0.1:7700`.
        url: String,
    },
    /// Keep this machine's beats, prove its GPUs, run clusters as you allow.
    Run,
    /// Show how this machine's worker is.
    Status {
        /// Go on showing it until Ctrl-C.
        #[arg(long, short)]
        watch: bool,
    },
    /// Take no new renter work; beats and proofs go on.
    Pause,
    /// Take renter work again.
    Resume,
    /// Put a new key in the place of this machine's; nobody has to approve, and the machine stays the same one.
    Rotate {
        /// End the old key as soon as the new one works, instead of some minutes later.
        #[arg(long)]
        now: bool,
    },
    /// Take this machine out of the network.
    Leave,
    /// Show what this machine would say of itself; asks nobody.
    Inventory,
    /// Call one of this machine's GPUs by a name.
    Label {
        /// The GPU.
        gpu: GpuId,
        /// The name, at most 64 characters; empty for none.
        label: String,
    },
}

/// Runs a supplier's command.
///
/// # Errors
/// When it did not do what it was for.
pub fn main(args: Args) -> anyhow::Result<()> {
    let reporter = Reporter::new(args.json);
    let data = DataDir::resolve(args.data.as_deref()).map_err(AgentError::from)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(args.command, data, &reporter))
}

async fn run(command: Command, data: DataDir, reporter: &Reporter) -> anyhow::Result<()> {
    let executable = || Executable::current().map_err(AgentError::from);
    match command {
        Command::Join { url } => {
            agent::join(&JoinOptions { url, data, executable: executable()? }, reporter).await?
        }
        Command::Run => match agent::run(RunOptions { data, executable: executable()? }, reporter).await? {
            Ended::Asked => tracing::info!("the worker ended as asked"),
            Ended::Left => tracing::info!("the worker ended: its machine left the network"),
        },
        Command::Status { watch } => agent::status(&data, watch, reporter).await?,
        Command::Pause => agent::pause(&data, reporter)?,
        Command::Resume => agent::resume(&data, reporter)?,
        Command::Rotate { now } => agent::rotate(&data, now, reporter).await?,
        Command::Leave => agent::leave(&data, reporter).await?,
        Command::Inventory => agent::inventory(&data, &executable()?, reporter).await?,
        Command::Label { gpu, label } => agent::label(&data, &gpu.to_string(), &label, reporter).await?,
    }
    Ok(())
}

/// The child that lists this machine's adapters: a driver that crashes takes only this process along.
///
/// # Errors
/// When the list cannot be written.
pub fn adapter_probe() -> anyhow::Result<()> {
    Ok(agent::probe_child()?)
}

/// The child that proves one adapter.
///
/// # Errors
/// When its pipes break.
pub fn adapter_prove() -> anyhow::Result<()> {
    Ok(agent::prove_child()?)
}
