//! `snapshot`: a period ends, both GPUs are in it, and the shares sum to the budget, to the last millionth.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use gangline_types::{MicroCredits, Standing};
use gangline_wire::{
    api::public::SnapshotWithEntries,
    endpoints::{PublicSeasonNow, PublicSnapshotByPeriod},
};

use crate::demo::world::{World, until};

/// Whether every supplier's GPU earned in this one.
fn has_all(world: &World, snapshot: &SnapshotWithEntries) -> bool {
    world.their_gpus().iter().all(|id| {
        let entry = snapshot.entries.iter().find(|entry| entry.gpu == *id);
        entry
            .is_some_and(|entry| entry.standing == Standing::Proven && entry.minutes > 0 && entry.share.0 > 0)
    })
}

pub async fn run(world: &mut World) -> anyhow::Result<String> {
    let anyone = world.anyone()?;
    let none = Default::default();
    let season = anyone.call::<PublicSeasonNow>(&[], &none, &Default::default()).await?;
    ensure!(season.period_minutes == 1, "the period is {} minutes, not 1", season.period_minutes);
    world.narrator.say("A period is one minute here, so that nobody has to wait an hour. Meanwhile the renter hires a cluster.");
    world.narrator.waiting("waiting for the period's end, and a snapshot with both GPUs");
    let snapshot = until(Duration::from_secs(150), || async {
        for head in world.public_snapshots().await?.iter().rev().take(2) {
            let whole =
                anyone.call::<PublicSnapshotByPeriod>(&[&head.period], &Default::default(), &none).await?;
            if has_all(world, &whole) {
                return Ok(whole);
            }
        }
        bail!("no snapshot has every GPU in it yet")
    })
    .await?;
    let head = &snapshot.snapshot;
    let sum: u64 = snapshot.entries.iter().map(|entry| entry.share.0).sum();
    ensure!(
        sum == head.budget.0 && head.shared == head.budget,
        "the shares sum to {sum}, the budget is {}",
        head.budget.0
    );
    ensure!(head.budget == season.period_budget, "the snapshot's budget is not the season's");
    world.snapshots = world.public_snapshots().await?;
    let shares: Vec<String> = snapshot
        .entries
        .iter()
        .map(|entry| {
            format!("{} for {} min at {} million a second", entry.share, entry.minutes, entry.matrix_mmacs)
        })
        .collect();
    let root = head.root.to_string();
    Ok(format!(
        "period {} was taken with {} GPUs, root {}...: {}; sum {} is the budget exactly",
        head.period,
        head.gpus,
        root.get(..16).context("a root has 64 digits")?,
        shares.join(" and "),
        MicroCredits(sum)
    ))
}
