//! `rent statement`: what a supplier's GPUs earned. Every line is joined to the root of a snapshot that
//! is published to all, so that nobody is shown a ledger of his own.
//!
//! Knows no owner but the one who asks.

use std::collections::BTreeMap;

use anyhow::Context;
use gangline_rules::snapshot;
use gangline_types::{GpuId, MicroCredits, public::PublicSnapshot};
use gangline_wire::{
    api::{
        account::{Statement, StatementQuery},
        public::EntriesQuery,
    },
    endpoints::{AccountStatement, PublicSnapshotByPeriod},
};
use gangline_worker::client::Client;

use super::{Output, table, time};
use crate::problem::Problem;

/// What `rent statement` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only periods from this one on.
    #[arg(long, value_name = "PERIOD")]
    from: Option<u32>,
    /// At most this many periods, up to 200 [default: the newest 24].
    #[arg(long, value_name = "PERIODS", value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: Option<u32>,
    /// Of the period --from, only lines of GPUs after this one.
    #[arg(long, value_name = "GPU", requires = "from")]
    after: Option<GpuId>,
}

pub async fn run(client: &Client, output: Output, args: &Args) -> anyhow::Result<()> {
    let query = StatementQuery { from: args.from, limit: args.limit, after: args.after };
    let statement = client
        .call::<AccountStatement>(&[], &query, &Default::default())
        .await
        .context("could not ask for the statement")?;
    let head_alone = EntriesQuery { after: None, limit: Some(1) };
    let mut published: BTreeMap<u32, PublicSnapshot> = BTreeMap::new();
    for line in &statement.lines {
        let period = line.snapshot.period;
        if published.contains_key(&period) {
            continue;
        }
        let answer = client
            .call::<PublicSnapshotByPeriod>(&[&period], &head_alone, &Default::default())
            .await
            .with_context(|| format!("could not ask for the published snapshot {period}"))?;
        published.insert(period, answer.snapshot);
    }
    check(&statement, &published)
        .map_err(|why| Problem::new(format!("the statement does not hold: {why}")))?;
    output.print(&statement, || text(&statement, published.len()))
}

/// Why a statement does not hold, in words.
fn check(statement: &Statement, published: &BTreeMap<u32, PublicSnapshot>) -> Result<(), String> {
    let mut seen: Vec<(u32, GpuId)> = Vec::new();
    for line in &statement.lines {
        let (period, gpu) = (line.snapshot.period, line.entry.gpu);
        if published.get(&period) != Some(&line.snapshot) || line.snapshot.season != statement.season {
            return Err(format!("its snapshot {period} is not the published one"));
        }
        if !snapshot::check_inclusion(&line.snapshot, &line.entry, &line.inclusion) {
            return Err(format!("its line of {gpu} is not in the published snapshot {period}"));
        }
        seen.push((period, gpu));
    }
    seen.sort_unstable();
    match seen.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(twice) => Err(format!("it lists {} twice in snapshot {}", twice[0].1, twice[0].0)),
        None => Ok(()),
    }
}

fn text(statement: &Statement, periods: usize) -> String {
    let listed: u64 = statement.lines.iter().map(|line| line.entry.share.0).fold(0, u64::saturating_add);
    let row = |line: &gangline_wire::api::account::StatementLine| {
        vec![
            line.snapshot.period.to_string(),
            time(line.snapshot.starts.start()),
            line.entry.gpu.to_string(),
            line.entry.standing.to_string(),
            line.entry.minutes.to_string(),
            line.entry.share.to_string(),
        ]
    };
    let rows: Vec<_> = statement.lines.iter().map(row).collect();
    let mut out = table(&["PERIOD", "FROM", "GPU", "STANDING", "MINUTES", "SHARE"], &rows)
        + &format!(
            "Season {}: {} credits so far, and {} held for GPUs that are suspect until they are proven again. {} lines of {periods} snapshots, {} credits: each is in its published snapshot.\n",
            statement.season,
            statement.season_total,
            statement.season_held,
            statement.lines.len(),
            MicroCredits(listed),
        );
    if let Some(next) = statement.next {
        let after = next.after.map(|gpu| format!(" --after {gpu}")).unwrap_or_default();
        out += &format!("There are more lines: ask on with --from {}{after}\n", next.from);
    }
    out
}

#[cfg(test)]
mod tests {
    use gangline_rules::snapshot::PeriodInput;
    use gangline_types::{Hash, Minute, ProofId, Standing, UnixSeconds, public::PublicSeason};
    use gangline_wire::api::account::StatementLine;

    use super::*;

    fn statement() -> (Statement, BTreeMap<u32, PublicSnapshot>) {
        let season = PublicSeason {
            number: 1,
            starts: Minute(100),
            ends: Minute(200),
            period_minutes: 10,
            period_budget: MicroCredits(1000),
        };
        let input = |n: u8| PeriodInput {
            gpu: GpuId::from_bytes([n; 16]),
            standing: Standing::Proven,
            matrix_mmacs: 10,
            proof: Some(ProofId::from_bytes([n; 16])),
            minutes: 10,
        };
        let taken_at = UnixSeconds(120 * 60);
        let (head, entries) =
            snapshot::take(&season, 0, taken_at, Hash::default(), vec![input(1), input(2), input(3)]);
        let lines = entries[..2]
            .iter()
            .map(|entry| {
                let inclusion = snapshot::inclusion(&entries, entry.gpu).unwrap();
                StatementLine { snapshot: head.clone(), entry: entry.clone(), inclusion }
            })
            .collect();
        let statement = Statement {
            season: 1,
            season_total: MicroCredits(666),
            season_held: MicroCredits(0),
            lines,
            next: None,
        };
        (statement, BTreeMap::from([(0, head)]))
    }

    #[test]
    fn a_statement_holds_against_what_is_published_only() {
        let (good, published) = statement();
        assert_eq!(check(&good, &published), Ok(()));

        let mut more = good.clone();
        more.lines[0].entry.share.0 += 1;
        assert!(check(&more, &published).unwrap_err().contains("not in the published snapshot 0"));

        let mut own = published.clone();
        own.get_mut(&0).unwrap().root.0[0] ^= 1;
        assert!(check(&good, &own).unwrap_err().contains("not the published one"));

        let mut twice = good.clone();
        twice.lines.push(good.lines[0].clone());
        assert!(check(&twice, &published).unwrap_err().contains("twice"));
    }
}
