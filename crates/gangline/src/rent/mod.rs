//! `gangline rent`: the renter's side. Every request is signed with a key that never leaves this
//! machine, and everything a server, a cluster or a job says is made inert before it is printed.
//!
//! Knows no decision: what may be hired, what it costs and who may use it is the network's to say.

mod connect;
mod hire;
mod job;
mod login;
mod offers;
mod package;
mod proxy;
mod ray;
mod receipt;
mod rotate;
mod show;
pub(crate) mod state;
mod statement;
mod stop;
mod submit;
mod tail;

use std::path::PathBuf;

use gangline_types::{ClusterId, MicroCredits};

use crate::problem::Problem;
use state::State;

/// What `rent` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with this machine's key and login [default: gangline/rent in the state folder].
    #[arg(long, global = true, value_name = "DIR", env = "GANGLINE_RENT_DATA")]
    data: Option<PathBuf>,
    /// Print JSON, one object a line, instead of text for people.
    #[arg(long, global = true)]
    json: bool,
    /// A key older than this many days gets a new one in its place by itself; 0: never.
    #[arg(
        long,
        global = true,
        value_name = "DAYS",
        env = "GANGLINE_RENT_ROTATE_AFTER_DAYS",
        default_value_t = 90
    )]
    rotate_after_days: u32,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Bind a key made on this machine to your account.
    Login(login::Args),
    /// Put a new key in the place of this machine's; nobody has to approve.
    Rotate(rotate::Args),
    /// Say which account this machine's key belongs to.
    Whoami,
    /// List the GPUs that can be hired now.
    Offers,
    /// Hire a cluster and wait until it runs.
    Hire(hire::Args),
    /// List your clusters, newest first.
    List,
    /// Show one cluster.
    Show {
        /// The cluster.
        cluster: ClusterId,
    },
    /// End a cluster.
    Release(show::ReleaseArgs),
    /// Print a cluster's receipt and check its signatures.
    Receipt {
        /// The cluster.
        cluster: ClusterId,
    },
    /// Print what your GPUs earned and check it against the published snapshots.
    Statement(statement::Args),
    /// Run a program on a cluster and print its output.
    Submit(submit::Args),
    /// List or stop the jobs of a cluster.
    Job(job::Args),
    /// Open a cluster's Ray to programs on this machine, and to nobody else.
    Connect(connect::Args),
}

/// Which cluster, where a command can find it by itself.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Which {
    /// The cluster; needed where more than one runs.
    #[arg(long, value_name = "ID")]
    cluster: Option<ClusterId>,
}

/// How a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// Text for people.
    Text,
    /// JSON, one object a line.
    Json,
}

impl Output {
    /// Prints `value` as one line of JSON, or the text of `people`.
    fn print<T: serde::Serialize>(self, value: &T, people: impl FnOnce() -> String) -> anyhow::Result<()> {
        let text = match self {
            Self::Json => serde_json::to_string(value)? + "\n",
            Self::Text => people(),
        };
        print_text(&text)
    }
}

/// Writes to stdout at once; a reader that went away is no failure of ours to panic about.
fn print_text(text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Runs a renter's command.
///
/// # Errors
/// When it did not do what it was for; the error says which thing it was at.
pub fn main(args: Args) -> anyhow::Result<()> {
    let state = State::open(args.data)?;
    let output = if args.json { Output::Json } else { Output::Text };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        if !matches!(args.command, Command::Login(_) | Command::Rotate(_)) {
            rotate::when_due(&state, args.rotate_after_days).await;
        }
        run(state, output, args.command).await
    })
}

async fn run(state: State, output: Output, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Login(args) => login::run(&state, output, args).await,
        Command::Rotate(args) => rotate::run(&state, output, args).await,
        Command::Whoami => login::whoami(&state.client()?, output).await,
        Command::Offers => offers::run(&state.client()?, output).await,
        Command::Hire(args) => hire::run(&state.client()?, output, &args).await,
        Command::List => show::list(&state.client()?, output).await,
        Command::Show { cluster } => show::one(&state.client()?, output, cluster).await,
        Command::Release(args) => show::release(&state.client()?, output, args).await,
        Command::Receipt { cluster } => receipt::run(&state, output, cluster).await,
        Command::Statement(args) => statement::run(&state.client()?, output, &args).await,
        Command::Submit(args) => submit::run(&state.client()?, output, args).await,
        Command::Job(args) => job::run(&state.client()?, output, args).await,
        Command::Connect(args) => connect::run(state.client()?, output, args).await,
    }
}

/// Reads credits as people write them: `2` or `1.5`, at most six decimals.
fn credits(text: &str) -> Result<MicroCredits, String> {
    let bad = || "expected credits, for example 2 or 1.5, with at most six decimals".to_owned();
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return Err(bad());
    }
    let whole: u64 = whole.parse().map_err(|_| bad())?;
    let part: u64 = format!("{part:0<6}").parse().map_err(|_| bad())?;
    whole.checked_mul(1_000_000).and_then(|n| n.checked_add(part)).map(MicroCredits).ok_or_else(bad)
}

/// A time as people read it, in UTC.
fn time(at: gangline_types::UnixSeconds) -> String {
    match i64::try_from(at.0).ok().and_then(|s| jiff::Timestamp::from_second(s).ok()) {
        Some(at) => at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        None => format!("second {at}"),
    }
}

/// A table: columns as wide as their widest cell, two spaces between.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned() + "\n"
    };
    let mut out = line(head.to_vec());
    for row in rows {
        out += &line(row.iter().map(String::as_str).collect());
    }
    out
}

/// A failure that names the next step, for a cluster that is not there to be used.
fn no_cluster() -> anyhow::Error {
    Problem::new("no cluster of yours runs")
        .hint("hire one with `gangline rent hire`; `gangline rent list` shows what you have")
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credits_are_read_as_people_write_them() {
        assert_eq!(credits("2"), Ok(MicroCredits(2_000_000)));
        assert_eq!(credits("1.5"), Ok(MicroCredits(1_500_000)));
        assert_eq!(credits("0.000001"), Ok(MicroCredits(1)));
        for bad in
            ["", ".", "1.", ".5", "-1", "+1", "1e3", "1.0000001", "99999999999999999999", "18446744073710"]
        {
            assert!(credits(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn a_table_lines_up() {
        let rows = [vec!["a".to_owned(), "1".to_owned()], vec!["long".to_owned(), "2".to_owned()]];
        assert_eq!(table(&["ID", "N"], &rows), "ID    N\na     1\nlong  2\n");
    }
}
