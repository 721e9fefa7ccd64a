//! `gangline calibration`: the operator's tables of medians. `learn` writes down what the network would learn
//! from its own epochs, `submit` signs a table and hands it in as a canary that fails nobody, `list` shows
//! what each has seen, `promote` lets one set deadlines, `withdraw` ends that.

use std::path::PathBuf;

use anyhow::Context;
pub use gangline_server::routes::calibration::meant;
use gangline_types::{Hash, Text};
use gangline_wire::{
    Nothing,
    api::epoch::{CalibrationMove, CalibrationSubmit, CalibrationTable, PublicCalibration},
    endpoints::{CalibrationAdd, CalibrationLearned, CalibrationSet, PublicCalibrations},
};

use crate::{confirmed, inert::inert_line, problem::Problem, rent::state::State};

/// What `calibration` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    /// Folder with this machine's key and login [default: gangline/rent in the state folder].
    #[arg(long, global = true, value_name = "DIR", env = "GANGLINE_RENT_DATA")]
    data: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write down what the network would learn from the epochs of the last week, to look at and sign.
    Learn {
        /// The file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Sign a table with this operator's key and hand it in as a canary: it fails nobody.
    Submit {
        /// A table as `learn` writes it.
        #[arg(value_name = "FILE")]
        table: PathBuf,
    },
    /// Show every table, where it stands and what it has seen.
    List {
        /// Print them as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let a canary that was seen to be fair set deadlines, in the place of the table before.
    Promote {
        /// Its version.
        version: u32,
    },
    /// Let a table count no more.
    Withdraw {
        /// Its version.
        version: u32,
    },
}

fn line(one: &PublicCalibration) -> String {
    format!(
        "version {}: {}, {} medians, would have failed {} of {} proofs it was watched with; digest {}",
        one.table.version,
        inert_line(one.state.as_str()),
        one.table.entries.len(),
        one.failed,
        one.judged,
        one.digest
    )
}

/// Runs what was asked.
pub fn main(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(args))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let state = State::open(args.data)?;
    let (client, none) = (state.client()?, Nothing {});
    match args.command {
        Command::Learn { out } => {
            let table = client
                .call::<CalibrationLearned>(&[], &none, &none)
                .await
                .with_context(|| Problem::new("what the network would learn was not told"))?;
            std::fs::write(&out, format!("{}\n", serde_json::to_string_pretty(&table)?))
                .with_context(|| format!("could not write {}", out.display()))?;
            let (version, medians) = (table.version, table.entries.len());
            println!(
                "{medians} medians as version {version} in {}; look at them, then submit",
                out.display()
            );
        }
        Command::Submit { table } => {
            let text = std::fs::read_to_string(&table)
                .with_context(|| Problem::usage(format!("could not read {}", table.display())))?;
            let table: CalibrationTable = serde_json::from_str(&text)
                .with_context(|| Problem::usage(format!("{} is no table", table.display())))?;
            let meant = meant(&table)
                .check()
                .map_err(|why| Problem::usage(format!("the table is not sound: {why}")))?;
            let key = state.key()?;
            let signature: String =
                key.sign(&meant.digest().0).iter().map(|byte| format!("{byte:02x}")).collect();
            let signer = Hash(*key.public().as_bytes());
            let submit = CalibrationSubmit { table, signer, signature: Text::lossy(&signature) };
            let added = client
                .call::<CalibrationAdd>(&[], &none, &submit)
                .await
                .with_context(|| Problem::new("the table was not taken"))?;
            println!("{}", line(&added));
        }
        Command::List { json } => {
            let all = client
                .call::<PublicCalibrations>(&[], &none, &none)
                .await
                .with_context(|| Problem::new("the tables were not listed"))?;
            if json {
                println!("{}", serde_json::to_string_pretty(&all)?);
            } else if all.is_empty() {
                println!("no table of calibration was handed in: no epoch has a deadline");
            }
            for one in all.iter().filter(|_| !json) {
                println!("{}", line(one));
            }
        }
        Command::Promote { version } => moved(&client, version, true).await?,
        Command::Withdraw { version } => moved(&client, version, false).await?,
    }
    Ok(())
}

async fn moved(client: &gangline_worker::client::Client, version: u32, promote: bool) -> anyhow::Result<()> {
    let now =
        confirmed::call::<CalibrationSet>(client, &[&version], &Nothing {}, &CalibrationMove { promote })
            .await
            .with_context(|| Problem::new(format!("calibration {version} stays as it was")))?;
    println!("{}", line(&now));
    Ok(())
}
