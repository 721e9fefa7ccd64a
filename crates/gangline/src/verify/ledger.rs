//! Uptime, weights, shares, roots and their chain, computed again.
//!
//! Asks nobody: it compares what was fetched with what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use gangline_rules::{
    snapshot::{self, PeriodInput},
    uptime,
};
use gangline_types::{
    GpuId, Hash, Hour, MicroCredits, Standing, UptimeHour,
    public::{PublicEntry, PublicSnapshot, PublicUptime},
};

use super::{Counts, Difference, fetch::Everything, proofs::Proven};

/// Recomputes every snapshot and the sums over them.
pub fn check(
    seen: &Everything,
    proven: &Proven,
    counts: &mut Counts,
    notes: &mut Vec<String>,
) -> Result<(), Difference> {
    let mut sums: BTreeMap<GpuId, u64> = BTreeMap::new();
    let mut previous: Option<&PublicSnapshot> = None;
    for (period, taken) in (0u32..).zip(&seen.snapshots) {
        let head = &taken.snapshot;
        if head.period != period {
            return Err(Difference::new(
                format!("snapshots of season {}, period", head.season),
                period,
                head.period,
            ));
        }
        // The first snapshot of all follows nothing; that of a later season follows what we do not see.
        let previous_root = match previous {
            Some(previous) => previous.root,
            None if head.season <= 1 => Hash::default(),
            None => head.previous_root,
        };
        let ups = minutes_of_all(seen, head, counts);
        let mut wrong: Option<Difference> = None;
        let mut inputs: Vec<PeriodInput> = Vec::with_capacity(taken.entries.len());
        for entry in &taken.entries {
            let minutes = ups.get(&entry.gpu).copied().unwrap_or_default();
            if minutes != entry.minutes {
                let name = format!("snapshot {period} of season {}, {}, minutes", head.season, entry.gpu);
                wrong.get_or_insert_with(|| Difference::new(name, minutes, entry.minutes));
            }
            inputs.push(input(proven, entry, minutes));
            let sum = sums.entry(entry.gpu).or_default();
            *sum = sum.saturating_add(entry.share.0);
        }
        for left_out in left_out(&ups, &taken.entries) {
            let name = format!("snapshot {period} of season {}, {}, entry", head.season, left_out.gpu);
            wrong.get_or_insert_with(|| Difference::new(name, "one", "none"));
            inputs.push(left_out);
        }
        if let Err(found) = snapshot::recompute(&seen.season, head, &taken.entries, previous_root, inputs) {
            // A wrong minute changes everybody's share: name the cause, not what follows from it.
            return Err(wrong.filter(|_| found.gpu.is_some()).unwrap_or(found.into()));
        }
        counts.snapshots += 1;
        counts.entries += taken.entries.len();
        counts.shared = counts.shared.saturating_add(head.shared.0);
        previous = Some(head);
    }
    if counts.minutes_late > 0 {
        let minutes = counts.minutes_late;
        notes.push(format!(
            "{minutes} minutes came after the snapshot of their period; they are uptime and earn nothing"
        ));
    }
    season_sums(seen, &sums, notes)
}

/// What an entry follows from: minutes as counted here, and the rate that its proof shows where that was
/// verified. A standing other than `proven` is taken as published: it earns nothing.
fn input(proven: &Proven, entry: &PublicEntry, minutes: u32) -> PeriodInput {
    let checked = entry.proof.and_then(|proof| proven.checked.get(&proof));
    let matrix_mmacs = match checked.and_then(|checked| checked.profile) {
        Some(profile) if entry.standing == Standing::Proven => profile.matrix_mmacs,
        _ => entry.matrix_mmacs,
    };
    PeriodInput { gpu: entry.gpu, standing: entry.standing, matrix_mmacs, proof: entry.proof, minutes }
}

/// Credited minutes of every GPU that has any in a snapshot's period.
fn minutes_of_all(seen: &Everything, head: &PublicSnapshot, counts: &mut Counts) -> BTreeMap<GpuId, u32> {
    let within = |hours: &[PublicUptime], bits: fn(&PublicUptime) -> UptimeHour| {
        let hours = hours.iter().map(|hour| -> (Hour, UptimeHour) { (hour.hour, bits(hour)) });
        uptime::minutes_in(head.starts, head.ends, hours)
    };
    let mut all = BTreeMap::new();
    for gpu in &seen.gpus {
        // A minute whose beat came after its snapshot was taken is uptime, and not of that snapshot.
        let minutes = within(&gpu.hours, PublicUptime::counted);
        counts.minutes_late += u64::from(within(&gpu.hours, |hour| hour.late));
        counts.minutes += u64::from(minutes);
        if minutes > 0 {
            all.insert(gpu.public.id, minutes);
        }
    }
    all
}

/// GPUs that were up in the period and have no entry: every one must have one, whatever its standing.
fn left_out(ups: &BTreeMap<GpuId, u32>, entries: &[PublicEntry]) -> Vec<PeriodInput> {
    let listed: BTreeSet<GpuId> = entries.iter().map(|entry| entry.gpu).collect();
    let missing = ups.iter().filter(|(gpu, _)| !listed.contains(gpu));
    missing
        .map(|(gpu, minutes)| PeriodInput {
            gpu: *gpu,
            standing: Standing::Unproven,
            matrix_mmacs: 0,
            proof: None,
            minutes: *minutes,
        })
        .collect()
}

/// Whether every GPU's sum over the season is the sum of its shares.
fn season_sums(
    seen: &Everything,
    sums: &BTreeMap<GpuId, u64>,
    notes: &mut Vec<String>,
) -> Result<(), Difference> {
    if !seen.settled {
        notes.push("snapshots were taken while this asked; the season's sums were not compared".to_owned());
        return Ok(());
    }
    for gpu in &seen.gpus {
        let expected = MicroCredits(sums.get(&gpu.public.id).copied().unwrap_or_default());
        if gpu.public.season_share != expected {
            let name = format!("{}, season_share", gpu.public.id);
            return Err(Difference::new(name, expected, gpu.public.season_share));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
