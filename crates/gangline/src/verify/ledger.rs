//! Uptime, weights, shares, roots and their chain, computed again.
//!
//! Asks nobody: it compares what was fetched with what follows from it. GPUs come one after another, then snapshots; of a GPU it
//! keeps how many minutes it was up in each period, as lengths of runs, and what it has of the shares so far.

use std::collections::BTreeMap;

use gangline_rules::{
    shares::Purse,
    snapshot::{self, PeriodInput, period_span},
    uptime,
};
use gangline_types::{
    GpuId, Hash, Hour, MicroCredits, Standing, UptimeHour,
    public::{PublicEntry, PublicSeason, PublicUptime},
};
use gangline_wire::api::public::SnapshotWithEntries;

use super::{
    Counts, Difference,
    fetch::{Frame, Gpu, Sums},
    proofs::Proven,
};

/// What is to be compared.
pub struct Ledger<'a> {
    season: &'a PublicSeason,
    periods: u32,
    lines: BTreeMap<GpuId, Line>,
    /// How many snapshots were compared, and the last one's root.
    taken: u32,
    root: Hash,
}

/// One GPU.
#[derive(Default)]
struct Line {
    minutes: Runs,
    purse: Purse,
    /// Minutes in the period that is looked at, and whether it has an entry there.
    now: u32,
    is_listed: bool,
}

/// Numbers one after another, as each with how often it comes in a row: most GPUs are up for all of most periods. At most two
/// bytes for each number below 128.
#[derive(Default)]
struct Runs {
    bytes: Box<[u8]>,
    at: usize,
    number: u32,
    left: u32,
}

impl Runs {
    fn of(numbers: impl Iterator<Item = u32>) -> Self {
        let mut bytes = Vec::new();
        let mut put = |mut n: u32| {
            while n >= 128 {
                bytes.push(n as u8 | 128);
                n >>= 7;
            }
            bytes.push(n as u8);
        };
        let mut run: Option<(u32, u32)> = None;
        for number in numbers {
            match &mut run {
                Some((of, length)) if *of == number => *length += 1,
                _ => {
                    let before = run.replace((number, 1));
                    before.into_iter().flat_map(|(of, length)| [of, length]).for_each(&mut put);
                }
            }
        }
        run.into_iter().flat_map(|(of, length)| [of, length]).for_each(&mut put);
        Self { bytes: bytes.into(), ..Self::default() }
    }

    fn take(&mut self) -> u32 {
        let (mut n, mut shift) = (0, 0);
        while let Some(byte) = self.bytes.get(self.at) {
            self.at += 1;
            n |= u32::from(byte & 127) << shift;
            if byte & 128 == 0 {
                break;
            }
            shift += 7;
        }
        n
    }

    /// The next number; 0 after the last.
    fn next(&mut self) -> u32 {
        if self.left == 0 {
            (self.number, self.left) = (self.take(), self.take());
        }
        self.left = self.left.saturating_sub(1);
        self.number
    }
}

impl<'a> Ledger<'a> {
    /// Nothing yet, in this frame.
    pub fn new(frame: &'a Frame) -> Self {
        let periods = u32::try_from(frame.heads.len()).unwrap_or(u32::MAX);
        Self { season: &frame.season, periods, lines: BTreeMap::new(), taken: 0, root: Hash::default() }
    }

    /// Counts a GPU's minutes in all periods.
    pub fn add(&mut self, gpu: &Gpu, counts: &mut Counts) {
        let mut ordered: Vec<&PublicUptime> = gpu.hours.iter().collect();
        ordered.sort_by_key(|hour| hour.hour);
        let within = |period: u32, bits: fn(&PublicUptime) -> UptimeHour| {
            let (starts, ends) = period_span(self.season, period);
            let first = ordered.partition_point(|hour| hour.hour < starts.hour());
            let hours = ordered[first..].iter().take_while(|hour| hour.hour <= ends.hour());
            uptime::minutes_in(
                starts,
                ends,
                hours.map(|hour| -> (Hour, UptimeHour) { (hour.hour, bits(hour)) }),
            )
        };
        // A minute whose beat came after its snapshot was taken is uptime, and not of that snapshot.
        let minutes = Runs::of((0..self.periods).map(|period| {
            let minutes = within(period, PublicUptime::counted);
            counts.minutes += u64::from(minutes);
            counts.minutes_late += u64::from(within(period, |hour| hour.late));
            minutes
        }));
        self.lines.insert(gpu.public.id, Line { minutes, ..Line::default() });
    }

    /// Recomputes the next snapshot; all GPUs were added before.
    pub fn snapshot(
        &mut self,
        taken: &SnapshotWithEntries,
        proven: &Proven,
        counts: &mut Counts,
    ) -> Result<(), Difference> {
        let (head, period) = (&taken.snapshot, self.taken);
        if head.period != period {
            return Err(Difference::new(
                format!("snapshots of season {}, period", head.season),
                period,
                head.period,
            ));
        }
        // The first snapshot of all follows nothing; that of a later season follows what we do not see.
        let previous_root = match period {
            0 if head.season > 1 => head.previous_root,
            _ => self.root,
        };
        for line in self.lines.values_mut() {
            (line.now, line.is_listed) = (line.minutes.next(), false);
        }
        let mut wrong: Option<Difference> = None;
        let mut inputs: Vec<PeriodInput> = Vec::with_capacity(taken.entries.len());
        for entry in &taken.entries {
            let line = self.lines.get_mut(&entry.gpu);
            let minutes = line.as_ref().map_or(0, |line| line.now);
            if minutes != entry.minutes {
                let name = format!("snapshot {period} of season {}, {}, minutes", head.season, entry.gpu);
                wrong.get_or_insert_with(|| Difference::new(name, minutes, entry.minutes));
            }
            inputs.push(input(proven, entry, minutes));
            if let Some(line) = line {
                line.purse.take(entry.standing, entry.share);
                line.is_listed = true;
            }
        }
        // Every GPU that was up in the period must have an entry, whatever its standing.
        for (gpu, line) in self.lines.iter().filter(|(_, line)| line.now > 0 && !line.is_listed) {
            let name = format!("snapshot {period} of season {}, {gpu}, entry", head.season);
            wrong.get_or_insert_with(|| Difference::new(name, "one", "none"));
            let (standing, minutes) = (Standing::Unproven, line.now);
            inputs.push(PeriodInput { gpu: *gpu, standing, matrix_mmacs: 0, proof: None, minutes });
        }
        if let Err(found) = snapshot::recompute(self.season, head, &taken.entries, previous_root, inputs) {
            // A wrong minute changes everybody's share: name the cause, not what follows from it.
            return Err(wrong.filter(|_| found.gpu.is_some()).unwrap_or(found.into()));
        }
        counts.snapshots += 1;
        counts.entries += taken.entries.len();
        counts.shared = counts.shared.saturating_add(head.shared.0);
        (self.taken, self.root) = (period + 1, head.root);
        Ok(())
    }

    /// Compares the sums over all snapshots, and says what is to be noted.
    pub fn end(&self, frame: &Frame, counts: &Counts, notes: &mut Vec<String>) -> Result<(), Difference> {
        if counts.minutes_late > 0 {
            let minutes = counts.minutes_late;
            notes.push(format!(
                "{minutes} minutes came after the snapshot of their period; they are uptime and earn nothing"
            ));
        }
        if !frame.settled {
            notes.push(
                "snapshots were taken while this asked; the season's sums were not compared".to_owned(),
            );
            return Ok(());
        }
        for Sums { gpu, share, held } in &frame.sums {
            let purse = self.lines.get(gpu).map(|line| line.purse).unwrap_or_default();
            for (field, expected, found) in
                [("season_share", purse.paid, share), ("season_held", purse.held, held)]
            {
                if found.0 != expected {
                    return Err(Difference::new(format!("{gpu}, {field}"), MicroCredits(expected), found));
                }
            }
        }
        Ok(())
    }
}

/// What an entry follows from: minutes as counted here, and at most the rate that its proof shows where that was
/// verified: that less is what its epochs have shown is checked with the proof. An entry without weight is taken as published: it earns nothing.
fn input(proven: &Proven, entry: &PublicEntry, minutes: u32) -> PeriodInput {
    let checked = entry.proof.and_then(|proof| proven.checked.get(&proof));
    let matrix_mmacs = match checked.and_then(|checked| checked.profile) {
        Some(profile) if entry.standing == Standing::Proven || entry.weight > 0 => {
            profile.matrix_mmacs.min(entry.matrix_mmacs)
        }
        _ => entry.matrix_mmacs,
    };
    PeriodInput { gpu: entry.gpu, standing: entry.standing, matrix_mmacs, proof: entry.proof, minutes }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
