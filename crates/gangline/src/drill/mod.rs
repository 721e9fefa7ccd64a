//! `gangline drill`: replays the chain of April 2024, link by link and with real requests, against a running
//! network or one that it starts itself, and says what stopped each link, how fast it was noticed, and how many
//! rows changed.
//!
//! Safe on a production network: it works in a tenant of its own, made by an operator for the occasion: accounts,
//! machines and GPUs that are called drill. It touches nothing else, takes back what it froze, closes the
//! incidents it caused with a note, and takes its machines out of the network again.

mod links;
mod local;
mod log;
mod report;
mod surge;
pub mod tenant;

use std::{
    io::{IsTerminal, Read},
    path::PathBuf,
    time::Duration,
};

use anyhow::Context;

use crate::problem::Problem;
use report::{Report, Row};
use tenant::Tenant;

/// How many forged writes the surge sends.
const WRITES: u32 = 10_000;

/// What `drill` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The network, for example `https://gangline.example`; with --ca-file where its certificate is of an authority
    /// of its own.
    #[arg(value_name = "URL", required_unless_present = "local", conflicts_with = "local")]
    url: Option<String>,
    /// Start a network on this machine, drill it, and end it.
    #[arg(long)]
    local: bool,
    /// File with a one-time link of an operator of the network, `-` for standard input: the operator's console
    /// makes one, as does `gangline serve --operator-link` [default: ask].
    #[arg(long, value_name = "FILE", conflicts_with = "local")]
    link_file: Option<PathBuf>,
    /// How many forged writes to send.
    #[arg(long, value_name = "N", default_value_t = WRITES, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    writes: u32,
    /// Write the result as JSON to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Drills.
///
/// # Errors
/// When a link did not hold (exit code 1), or the drill could not be carried out (2).
pub fn main(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let outcome = runtime.block_on(run(args));
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome
}

fn could_not(why: anyhow::Error) -> anyhow::Error {
    why.context(Problem::usage("the drill could not be carried out, so nothing is said about the network"))
}

async fn run(args: Args) -> anyhow::Result<()> {
    let local = if args.local { Some(local::Local::start().await.map_err(could_not)?) } else { None };
    let (origin, link) = match (&local, &args.url) {
        (Some(local), _) => (local.origin.clone(), local.link.clone()),
        (None, Some(url)) => {
            (url.trim_end_matches('/').to_owned(), link(args.link_file.as_deref()).map_err(could_not)?)
        }
        (None, None) => return Err(could_not(anyhow::anyhow!("there is no network to drill"))),
    };
    println!("Drilling {origin}: accounts, machines and GPUs called drill, and nothing else.");
    let outcome = drill(&origin, &link, args.writes, args.local).await;
    if let Some(local) = local {
        local.end().await;
    }
    let report = outcome.map_err(could_not)?;
    report.print();
    if let Some(file) = &args.report {
        report.write(file)?;
    }
    match report.failed() {
        failed if failed.is_empty() => Ok(()),
        failed => Err(Problem::new(format!("these links did not hold: {}", failed.join(", ")))
            .hint("each line above says what was found")
            .into()),
    }
}

/// The operator's one-time link: never an argument, for arguments can be read by other processes.
fn link(file: Option<&std::path::Path>) -> anyhow::Result<String> {
    let mut text = String::new();
    match file {
        Some(file) if file.as_os_str() != "-" => {
            text = std::fs::read_to_string(file)
                .with_context(|| format!("could not read {}", file.display()))?;
        }
        None if std::io::stdin().is_terminal() => {
            eprint!("One-time link of an operator: ");
            std::io::stdin().read_line(&mut text).context("could not read the link")?;
        }
        _ => {
            std::io::stdin().read_to_string(&mut text).context("could not read the link")?;
        }
    }
    let link = text.split_whitespace().find(|word| word.contains("/enter/"));
    link.map(str::to_owned).context(
        Problem::usage("that holds no one-time link (.../enter/...)")
            .hint("make one in the operator's console"),
    )
}

/// Plays every link; what was made is taken back, whatever happens.
async fn drill(origin: &str, link: &str, writes: u32, local: bool) -> anyhow::Result<Report> {
    let mut tenant = Tenant::make(origin, link).await.context("the drill's tenant could not be made")?;
    let rows = play(&mut tenant, writes, local).await;
    let cleaned = tenant.clean().await;
    let mut rows = rows?;
    if let Err(why) = cleaned {
        println!("note: not everything of the drill could be taken back: {why:#}");
        rows.iter_mut().take(1).for_each(|row| row.detail.push_str("; the drill left something behind"));
    }
    Ok(Report::new(rows))
}

async fn play(t: &mut Tenant, writes: u32, local: bool) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut add = |row: Row| {
        row.say();
        rows.push(row);
    };
    // In this order: what freezes comes after what needs to write.
    add(links::explorer_leak(t).await.context("explorer_leak")?);
    add(links::shared_token(t).await.context("shared_token")?);
    add(links::stolen_request(t).await.context("stolen_request")?);
    add(links::injection(t).await.context("injection")?);
    add(links::metadata_status(t).await.context("metadata_status")?);
    let (header_owner, containment) = links::header_owner_and_containment(t).await.context("header_owner")?;
    add(header_owner);
    add(containment);
    add(links::heartbeats_during_freeze(t, local).await.context("heartbeats_during_freeze")?);
    add(links::breadth(t).await.context("breadth")?);
    add(surge::run(t, writes).await.context("surge")?);
    add(links::enumeration(t).await.context("enumeration")?);
    add(links::restore(t).await.context("restore")?);
    add(links::revocation(t).await.context("revocation")?);
    add(log::run(t).await.context("log_tamper")?);
    Ok(rows)
}
