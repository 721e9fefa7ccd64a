//! `gangline audit`: checks a network's log from outside. Every entry is hashed again, the tree must be the
//! one that the network signed, and it must go on from every checkpoint that was seen before: an edit, a
//! fork or a roll-back is found and named. And `gangline witness`, which lets others lean on such a check.
//!
//! Verifying has no key and no account: it sees what anybody sees. Restoring is an operator's act, signed
//! with the key of `gangline rent login`. Three answers are kept apart: the log holds
//! together (exit code 0), it does not and this is why (1), it could not be asked (2).

mod restore;
mod source;
mod state;
mod verify;
pub mod witness;

use std::path::PathBuf;

use gangline_guard::log::{Finding, Note, VerifierKey};

use crate::problem::{Problem, USAGE};
use source::Source;
pub use verify::Reader;

/// What `audit` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check a network's log, or a saved copy of one.
    Verify(Box<VerifyArgs>),
    /// Save a network's log to a folder, to be checked or kept elsewhere.
    Fetch(FetchArgs),
    /// Undo exactly what one key has called GPUs since a time; for operators.
    Restore(restore::Args),
}

/// What `audit verify` is asked.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// The server, for example `http://127.0.0.1:7700`, or a folder that `audit fetch` wrote.
    #[arg(value_name = "URL|DIR")]
    source: String,
    /// Keep the log's key and last checkpoint in this file, and check against what is in it.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// The log's key, from somebody you trust; without it, the one in --state, or the one the log shows.
    #[arg(long, value_name = "NAME+HASH+KEY")]
    key: Option<VerifierKey>,
    /// A checkpoint of this log that was seen elsewhere. May be given more than once.
    #[arg(long, value_name = "FILE")]
    seen: Vec<PathBuf>,
    /// A witness to ask for the newest checkpoint that it cosigned. May be given more than once.
    #[arg(long, value_name = "URL")]
    witness: Vec<String>,
    /// A witness whose cosignature must be there. May be given more than once.
    #[arg(long, value_name = "NAME+HASH+KEY")]
    witness_key: Vec<VerifierKey>,
    /// Print every entry.
    #[arg(long)]
    list: bool,
    /// Print the result as JSON instead of text.
    #[arg(long, conflicts_with = "list")]
    json: bool,
}

/// What `audit fetch` is asked.
#[derive(Debug, clap::Args)]
pub struct FetchArgs {
    /// The server, for example `http://127.0.0.1:7700`.
    #[arg(value_name = "URL")]
    url: String,
    /// Where to save it.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Why a check ended early.
#[derive(Debug)]
enum Stopped {
    /// The log is not what it must be.
    Found(Finding),
    /// Something could not be asked or read.
    CouldNotAsk(anyhow::Error),
}

impl From<Finding> for Stopped {
    fn from(finding: Finding) -> Self {
        Self::Found(finding)
    }
}

fn could_not_ask(why: anyhow::Error) -> anyhow::Error {
    let what = Problem::new("could not ask for everything, so nothing is said about the log");
    why.context(what.code(USAGE))
}

/// Whether a note is signed by a log, as a finding that says which note.
fn unsigned(whose: &str) -> impl Fn(gangline_guard::log::NoteError) -> Finding + '_ {
    move |why| Finding::Unsigned { whose: whose.to_owned(), why }
}

fn note_of(text: &str, whose: &str) -> Result<Note, Stopped> {
    text.parse().map_err(|why| unsigned(whose)(why).into())
}

/// Saves a network's log to a folder: how many entries.
///
/// # Errors
/// When it cannot be asked or written.
pub async fn fetch(url: &str, folder: &std::path::Path) -> anyhow::Result<u64> {
    Source::network(url)?.save(folder).await
}

/// What is found out about a saved log, given checkpoints of it that were seen elsewhere; none if it holds together.
///
/// # Errors
/// When it cannot be read at all.
pub async fn finding(folder: &std::path::Path, seen: &[PathBuf]) -> anyhow::Result<Option<String>> {
    let args = VerifyArgs {
        source: folder.display().to_string(),
        state: None,
        key: None,
        seen: seen.to_vec(),
        witness: vec![],
        witness_key: vec![],
        list: false,
        json: true,
    };
    match verify::check(&Source::of(&args.source)?, &args, None, &mut |_, _| {}).await {
        Ok(_) => Ok(None),
        Err(Stopped::Found(finding)) => Ok(Some(finding.to_string())),
        Err(Stopped::CouldNotAsk(why)) => Err(why),
    }
}

/// Checks or saves a log.
///
/// # Errors
/// When the log is not what it must be (exit code 1) or could not be asked (exit code 2).
pub fn main(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match args.command {
        Command::Verify(args) => runtime.block_on(verify::main(*args)),
        Command::Restore(args) => runtime.block_on(restore::main(args)),
        Command::Fetch(args) => runtime.block_on(async {
            let source = Source::network(&args.url)?;
            let saved = source.save(&args.folder).await.map_err(could_not_ask)?;
            println!("{saved} entries saved to {}", args.folder.display());
            println!("Check them with `gangline audit verify {}`.", args.folder.display());
            Ok(())
        }),
    }
}
