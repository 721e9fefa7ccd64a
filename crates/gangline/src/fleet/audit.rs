//! `gangline fleet audit`: every acknowledged beat, looked for in the server's books.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use gangline_server::{
    DatabaseUrl,
    simulate::{Seed, books},
};
use gangline_types::{GpuId, Hour, UptimeHour};

use super::book;
use crate::{
    problem::Problem,
    serve::{settings::DatabaseArgs, told},
};

/// What `fleet audit` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The account that `fleet run` kept.
    #[arg(long, value_name = "FILE")]
    account: PathBuf,
    /// The data folder of the server, which has been stopped; or, with a database, of one of those on it, which may
    /// run.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    #[command(flatten)]
    database: DatabaseArgs,
    /// The seed of the run.
    #[arg(long, value_name = "TEXT", default_value = "gangline")]
    seed: String,
}

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Different machines and minutes that were acknowledged.
    pub acknowledged: u64,
    /// Of those, the ones that the books do not have: there must be none.
    pub lost: u64,
    /// Minutes of these machines in the books beyond the acknowledged: their answers were lost on the way, or came in another
    /// run of the same hours.
    pub unacknowledged: u64,
}

/// Compares and tells.
///
/// # Errors
/// When the books cannot be read, or a beat is lost.
pub fn main(args: Args) -> anyhow::Result<()> {
    let database = args.database.address()?;
    let found = compare(&args.account, &args.data, database.as_ref(), &Seed::of(&args.seed))?;
    println!(
        "{} acknowledged beats: {} lost. The books hold {} more of these machines in these hours, whose answers never \
         arrived or are in another account.",
        found.acknowledged, found.lost, found.unacknowledged
    );
    if found.lost > 0 {
        return Err(Problem::new(format!("{} acknowledged beats are not in the books", found.lost)).into());
    }
    Ok(())
}

/// Compares an account with the books, of a stopped server or in a database, and what intakes wrote down and nobody has
/// folded in.
///
/// # Errors
/// When one of them cannot be read.
pub fn compare(
    account: &Path,
    data: &Path,
    database: Option<&DatabaseUrl>,
    seed: &Seed,
) -> anyhow::Result<Found> {
    let mut acknowledged: BTreeMap<Hour, HashMap<u32, UptimeHour>> = BTreeMap::new();
    for (n, minute) in book::read(account)? {
        let bits = acknowledged.entry(minute.hour()).or_default().entry(n).or_default();
        *bits = bits.with(minute.of_hour());
    }
    let mut gpus: HashMap<u32, GpuId> = HashMap::new();
    let mut found = Found::default();
    let hours: Vec<Hour> = acknowledged.keys().copied().collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let books = runtime.block_on(books(data, database, &hours)).map_err(told)?;
    for (hour, machines) in acknowledged {
        let known = books.get(&hour);
        for (n, bits) in machines {
            let gpu = *gpus.entry(n).or_insert_with(|| seed.identity(n).gpu);
            let held = known.and_then(|known| known.get(&gpu)).copied().unwrap_or_default();
            found.acknowledged += u64::from(bits.minutes());
            found.lost += u64::from(UptimeHour(bits.0 & !held.0).minutes());
            found.unacknowledged += u64::from(UptimeHour(held.0 & !bits.0).minutes());
        }
    }
    Ok(found)
}
