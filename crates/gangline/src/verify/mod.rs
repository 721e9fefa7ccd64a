//! `gangline verify`: asks a network for what it publishes and computes it again: every proof, every epoch, the
//! minutes of every GPU, the weights, shares and roots of every snapshot, and the chain they form.
//!
//! GPUs come one by one and snapshots one by one. Kept are: of each GPU its minutes in each period as lengths of runs and its sums; of each
//! proof, epoch and entry of the log what others are compared with. The largest of the rest is one snapshot.
//!
//! Has no key and no account: it sees what anybody sees. Three answers are kept apart: it agrees (exit
//! code 0), it differs and this is the first place (1), it could not be asked (2).

mod epochs;
mod fetch;
mod ledger;
mod logged;
mod one;
mod proofs;
mod saved;
mod uptime;
mod verdicts;

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use serde::Serialize;

use crate::{inert::inert_line, problem::Problem};
use fetch::Public;

/// What is public is drawn anew every second or so.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What `verify` is asked.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    /// The server, for example `http://127.0.0.1:7700`.
    #[arg(value_name = "URL", required = true)]
    url: Option<String>,
    /// Which proofs to verify: every one, the newest of each GPU, or none.
    #[arg(long, value_enum, default_value_t = Which::All)]
    proofs: Which,
    /// Write the result as JSON to this file as well.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the result as JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// One part of what can be checked, more closely.
#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Judge one proof from its transcript: a file, offline, or a proof's id with --from URL.
    Proof(one::Args),
    /// Follow the hash-chains behind GPUs' uptime: no minute was credited that nobody beat for.
    Uptime(uptime::Args),
}

/// Which proofs to verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// Every one that is published.
    All,
    /// The newest of each GPU.
    Newest,
    /// None: uptime and snapshots only.
    None,
}

/// The first place where what is published is not what follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where, and in which field.
    pub name: String,
    /// What follows from the public data.
    pub expected: String,
    /// What is published.
    pub found: String,
}

impl Difference {
    fn new(name: impl Into<String>, expected: impl ToString, found: impl ToString) -> Self {
        Self { name: name.into(), expected: expected.to_string(), found: found.to_string() }
    }
}

impl From<gangline_rules::snapshot::Difference> for Difference {
    fn from(found: gangline_rules::snapshot::Difference) -> Self {
        let gpu = found.gpu.map(|gpu| format!("{gpu}, ")).unwrap_or_default();
        let name = format!("snapshot {} of season {}, {gpu}{}", found.period, found.season, found.field);
        Self { name, expected: found.expected, found: found.found }
    }
}

/// Why checking ended early.
pub enum Stopped {
    /// Something differs.
    Differs(Difference),
    /// Something could not be asked.
    CouldNotAsk(anyhow::Error),
}

impl From<Difference> for Stopped {
    fn from(difference: Difference) -> Self {
        Self::Differs(difference)
    }
}

/// What was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// GPUs seen.
    pub gpus: usize,
    /// Snapshots recomputed.
    pub snapshots: usize,
    /// Their entries.
    pub entries: usize,
    /// Transcripts verified.
    pub proofs: usize,
    /// Of them those that carry a signature, which was verified too.
    pub proofs_signed: usize,
    /// Proofs that were not answered, so that there is nothing to verify.
    pub proofs_unanswered: usize,
    /// Epochs' transcripts verified.
    pub epochs: usize,
    /// Of them those at a moment of the machine's own, whose beacon no log entry carries.
    pub epochs_own_bell: usize,
    /// Epochs that were not answered.
    pub epochs_missed: usize,
    /// Bells in the log, each made again.
    pub bells: usize,
    /// Minutes of uptime counted again.
    pub minutes: u64,
    /// Minutes whose beats came after the snapshot of their period; they are uptime and earn nothing.
    pub minutes_late: u64,
    /// Sum of the shares, in millionths of a credit.
    pub shared: u64,
}

/// The result as a file.
#[derive(Serialize)]
struct Report<'a> {
    url: &'a str,
    agrees: bool,
    proofs: Which,
    difference: Option<&'a Difference>,
    checked: &'a Counts,
    notes: &'a [String],
}

/// Checks a network.
///
/// # Errors
/// When it differs (exit code 1) or could not be asked (exit code 2).
pub fn main(args: Args) -> anyhow::Result<()> {
    match &args.part {
        Some(Part::Proof(part)) => return one::main(part),
        Some(Part::Uptime(part)) => return uptime::main(part),
        None => {}
    }
    let public = Public::new(args.url.as_deref().unwrap_or_default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut counts = Counts::default();
    let mut notes = Vec::new();
    let difference = match runtime.block_on(check(&public, args.proofs, &mut counts, &mut notes)) {
        Ok(()) => None,
        Err(Stopped::Differs(difference)) => Some(difference),
        Err(Stopped::CouldNotAsk(why)) => {
            let what = Problem::new("could not ask for everything, so nothing is said about the network");
            return Err(why.context(what.code(crate::problem::USAGE)));
        }
    };
    let agrees = difference.is_none();
    let report = Report {
        url: public.base(),
        agrees,
        proofs: args.proofs,
        difference: difference.as_ref(),
        checked: &counts,
        notes: &notes,
    };
    let json = serde_json::to_string_pretty(&report)? + "\n";
    if let Some(path) = &args.report {
        std::fs::write(path, &json).with_context(|| format!("could not write {}", path.display()))?;
    }
    print!("{}", if args.json { json } else { text(&report) });
    match difference {
        None => Ok(()),
        Some(found) => Err(Problem::new(format!(
            "{} does not agree with its own public data: {}: expected {}, found {}",
            public.base(),
            inert_line(&found.name),
            inert_line(&found.expected),
            inert_line(&found.found)
        ))
        .into()),
    }
}

fn text(report: &Report<'_>) -> String {
    let counts = report.checked;
    let mut out = format!(
        "{} proofs verified ({} of them signed), {} not answered\n{} minutes of {} GPUs counted\n{} snapshots with {} entries recomputed, {} credits shared\n",
        counts.proofs,
        counts.proofs_signed,
        counts.proofs_unanswered,
        counts.minutes,
        counts.gpus,
        counts.snapshots,
        counts.entries,
        gangline_types::MicroCredits(counts.shared),
    );
    if counts.epochs + counts.epochs_missed > 0 {
        out += &format!(
            "{} epochs verified ({} of them at a machine's own bell), {} not answered; {} bells of the log made again\n",
            counts.epochs, counts.epochs_own_bell, counts.epochs_missed, counts.bells
        );
    }
    for note in report.notes {
        out += &format!("note: {}\n", inert_line(note));
    }
    if report.agrees {
        out += &format!("{} agrees with its own public data.\n", report.url);
    }
    out
}

/// Checks everything. What differs is asked for once more: pages of one moment and of the next may not
/// fit together, and that is no difference of the network's.
async fn check(
    public: &Public,
    which: Which,
    counts: &mut Counts,
    notes: &mut Vec<String>,
) -> Result<(), Stopped> {
    match check_once(public, which, counts, notes).await {
        Err(Stopped::Differs(first)) => {
            tracing::debug!(name = %inert_line(&first.name), "something differs; asking once more");
            tokio::time::sleep(AGAIN_AFTER).await;
            (*counts, *notes) = Default::default();
            check_once(public, which, counts, notes).await
        }
        other => other,
    }
}

async fn check_once(
    public: &Public,
    which: Which,
    counts: &mut Counts,
    notes: &mut Vec<String>,
) -> Result<(), Stopped> {
    let frame = public.frame().await?;
    let mut ledger = ledger::Ledger::new(&frame);
    let mut proven = proofs::Proven::default();
    let mut verdicts = verdicts::Verdicts::new(public, which);
    let mut after = None;
    loop {
        let page = public.gpus(after).await?;
        for gpu in page.gpus {
            let gpu = public.gpu(gpu, &frame).await?;
            counts.gpus += 1;
            ledger.add(&gpu, counts);
            verdicts.take(gpu, &mut proven, counts).await?;
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    verdicts.end(&mut proven, counts).await?;
    for head in &frame.heads {
        let taken = public.snapshot(head.period).await?;
        for entry in &taken.entries {
            verdicts.entry(&taken.snapshot, entry, &mut proven, counts).await?;
        }
        ledger.snapshot(&taken, &proven, counts)?;
    }
    ledger.end(&frame, counts, notes)?;
    Ok(())
}
