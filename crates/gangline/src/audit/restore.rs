//! `gangline audit restore`: undoes exactly what a key, an account or a session has called GPUs since a time. What others have set
//! since stays, and what is undone is itself in the log.

use std::path::PathBuf;

use anyhow::Context;
use gangline_types::UnixSeconds;
use gangline_wire::{
    Nothing,
    api::operate::{Doer, RestoreRequest},
    endpoints::RestoreLabels,
};

use crate::{confirmed, inert::inert_line, problem::Problem, rent::state::State};

/// What `audit restore` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose changes go: the id of a key, of an account, or of a browser's session, as the operator's console and
    /// the audit show it.
    #[arg(long, value_name = "KEY|ACCOUNT|SESSION")]
    actor: Doer,
    /// From this time on, for example 2026-11-22T13:05:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: UnixSeconds,
    /// Only print what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    /// Folder with this machine's key and login [default: gangline/rent in the state folder].
    #[arg(long, value_name = "DIR", env = "GANGLINE_RENT_DATA")]
    data: Option<PathBuf>,
}

fn time(text: &str) -> Result<UnixSeconds, String> {
    let time: jiff::Timestamp =
        text.parse().map_err(|why| format!("{why}; expected for example 2026-11-22T13:05:00Z"))?;
    u64::try_from(time.as_second()).map(UnixSeconds).map_err(|_| "that is before 1970".to_owned())
}

/// Restores.
///
/// # Errors
/// When this machine is not logged in as an operator, or the server could not do it.
pub async fn main(args: Args) -> anyhow::Result<()> {
    let client = State::open(args.data)?.client()?;
    let request = RestoreRequest { doer: args.actor, since: args.since, dry_run: args.dry_run };
    let report = confirmed::call::<RestoreLabels>(&client, &[], &Nothing {}, &request)
        .await
        .with_context(|| Problem::new(format!("what {} did was not undone", args.actor)))?;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    for name in &report.restored {
        println!(
            "{}: {:?} -> {:?}",
            name.gpu,
            inert_line(name.before.as_str()),
            inert_line(name.after.as_str())
        );
    }
    let did = if args.dry_run { "would be restored; nothing was changed" } else { "restored" };
    println!("{} names {did}", report.restored.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(super::time("1970-01-01T00:01:00Z").map(|t| t.0), Ok(60));
        assert_eq!(super::time("1970-01-01T01:01:00+01:00").map(|t| t.0), Ok(60));
        for bad in ["", "yesterday", "1969-12-31T23:59:59Z", "2026-11-22"] {
            assert!(super::time(bad).is_err(), "{bad} was taken");
        }
    }
}
