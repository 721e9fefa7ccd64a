//! `gangline migrate`: moves the network of a data folder into an empty database of PostgreSQL, in one go and while
//! no server runs, and prints what was compared on both sides.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context;
use gangline_server::{Compared, DatabaseUrl, moving::move_books};

use crate::{
    problem::Problem,
    serve::{settings::DatabaseArgs, told},
};

/// What `migrate` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Data folder of the network, which no server may use meanwhile.
    #[arg(long, value_name = "DIR", env = "GANGLINE_DATA")]
    data: PathBuf,
    /// File with the network's key [default: network.key in the data folder].
    #[arg(long, value_name = "FILE", env = "GANGLINE_NETWORK_KEY")]
    network_key: Option<PathBuf>,
    #[command(flatten)]
    database: DatabaseArgs,
    /// Print what was compared as JSON.
    #[arg(long)]
    json: bool,
}

/// Moves the books.
///
/// # Errors
/// When they cannot be moved whole; then the database holds nothing, and the folder is as it was.
pub fn main(args: Args) -> anyhow::Result<()> {
    let Some(url) = args.database.address()? else {
        return Err(Problem::usage("no database is named to move to")
            .hint("give --database or --database-file")
            .into());
    };
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("could not start the runtime")?;
    let moved = runtime.block_on(move_books(&args.data, args.network_key.as_deref(), &url, |table, rows| {
        tracing::debug!(table, rows, "written");
    }));
    let compared = moved.map_err(told)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", report(&compared, &url))?;
    } else {
        for line in lines(&compared, &args.data, &url, began.elapsed().as_secs_f64()) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

fn report(compared: &[Compared], url: &DatabaseUrl) -> serde_json::Value {
    let rows: Vec<_> = compared
        .iter()
        .map(|one| {
            serde_json::json!({
                "what": one.what,
                "here": {"rows": one.here.rows, "sum": one.here.sum},
                "there": {"rows": one.there.rows, "sum": one.there.sum},
            })
        })
        .collect();
    serde_json::json!({"event": "moved", "to": url.to_string(), "compared": rows})
}

fn lines(compared: &[Compared], data: &Path, url: &DatabaseUrl, seconds: f64) -> Vec<String> {
    let mut lines = vec![format!("{:<32} {:>10} {:>10}  hash on both sides", "what", "folder", "database")];
    for one in compared.iter().filter(|one| one.here.rows > 0 || !one.what.contains('.')) {
        lines.push(format!(
            "{:<32} {:>10} {:>10}  {}",
            one.what, one.here.rows, one.there.rows, one.there.sum
        ));
    }
    let rows: u64 = compared.iter().filter(|one| one.what.contains('.')).map(|one| one.there.rows).sum();
    lines.push(format!(
        "{rows} rows are in {url} and read back as they were ({seconds:.1} s). The key and beats that are not in the \
         books yet stay in {}.",
        data.display()
    ));
    lines.push(format!(
        "Go on with: gangline serve --data {} --database-file FILE (or GANGLINE_DATABASE in its environment)",
        data.display()
    ));
    lines
}
