//! Old entries of snapshots, packed: what one GPU has in the snapshots of some periods in a row, in some forty bytes instead
//! of 62 for each. Nothing is lost: the entries come back to the byte, so that their roots verify and their lines can be shown.
//!
//! A GPU's id stands once, its standing, rate and proof only where they change, and weights and shares follow from rates,
//! minutes and the sum of all weights but for the units that largest remainders get. Knows entries and periods only.

use gangline_types::{GpuId, MicroCredits, ProofId, public::PublicEntry};

use crate::{
    groups::{standing_code, standing_of},
    snapshot::weight,
};

/// Periods that are packed together.
pub const SPAN: usize = 24;
/// Minutes that most entries have.
const WHOLE: u32 = 60;
/// In a standing's byte: a proof's id follows.
const HAS_PROOF: u8 = 0x80;

/// The span that a period is in.
pub fn span_of(period: u32) -> u32 {
    period / SPAN as u32
}

/// What shares of a span's periods follow from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Sum of all weights of each period.
    pub weights: [u128; SPAN],
    /// Budget of each period.
    pub budgets: [u64; SPAN],
}

impl Sums {
    /// Takes an entry of the n-th period of the span in.
    pub fn add(&mut self, n: usize, entry: &PublicEntry) {
        self.weights[n] += u128::from(entry.weight);
    }
    /// Its bytes.
    pub fn pack(&self) -> Vec<u8> {
        let weights = self.weights.iter().flat_map(|sum| sum.to_le_bytes());
        weights.chain(self.budgets.iter().flat_map(|budget| budget.to_le_bytes())).collect()
    }
    /// What [`pack`](Self::pack) made; `None` where it made no such thing.
    pub fn unpack(bytes: &[u8]) -> Option<Self> {
        let (weights, budgets) = bytes.split_at_checked(16 * SPAN)?;
        let mut sums = Self::default();
        for (sum, bytes) in sums.weights.iter_mut().zip(weights.chunks(16)) {
            *sum = u128::from_le_bytes(bytes.try_into().ok()?);
        }
        if budgets.len() != 8 * SPAN {
            return None;
        }
        for (budget, bytes) in sums.budgets.iter_mut().zip(budgets.chunks(8)) {
            *budget = u64::from_le_bytes(bytes.try_into().ok()?);
        }
        Some(sums)
    }
    /// The whole units of a weight's share of the n-th period.
    fn whole(&self, n: usize, weight: u64) -> Option<u64> {
        match self.weights[n] {
            0 => Some(0),
            sum => u64::try_from(u128::from(self.budgets[n]) * u128::from(weight) / sum).ok(),
        }
    }
}

/// One GPU's entries of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The GPU.
    pub gpu: GpuId,
    /// Its entry of each period that it has one in.
    pub entries: [Option<PublicEntry>; SPAN],
}

impl Held {
    /// A GPU without an entry.
    pub fn new(gpu: GpuId) -> Self {
        Self { gpu, entries: [const { None }; SPAN] }
    }

    /// Its bytes, to stand after those of others; `None` where an entry is not what follows from its own figures, which a
    /// snapshot never holds.
    pub fn pack(&self, sums: &Sums) -> Option<Vec<u8>> {
        let (mut present, mut changed, mut partial, mut more) = (0u32, 0u32, 0u32, 0u32);
        let (mut facts, mut minutes) = (Vec::new(), Vec::new());
        let mut before = None;
        for (n, entry) in self.entries.iter().enumerate().filter_map(|(n, entry)| Some((n, entry.as_ref()?)))
        {
            present |= 1 << n;
            let now = (entry.standing, entry.matrix_mmacs, entry.proof);
            if before.replace(now) != Some(now) {
                changed |= 1 << n;
                let proof = entry.proof.map(|proof| *proof.as_bytes());
                facts.push(standing_code(entry.standing) | if proof.is_some() { HAS_PROOF } else { 0 });
                facts.extend(entry.matrix_mmacs.to_le_bytes());
                facts.extend(proof.unwrap_or_default().iter().take(if proof.is_some() { 16 } else { 0 }));
            }
            if entry.minutes != WHOLE {
                partial |= 1 << n;
                minutes.push(u8::try_from(entry.minutes).ok()?);
            }
            let whole = sums.whole(n, entry.weight)?;
            let left = entry.share.0.checked_sub(whole).filter(|left| *left <= 1)?;
            more |= (left as u32) << n;
            if entry.weight != weight(entry.standing, entry.matrix_mmacs, entry.minutes)
                || entry.gpu != self.gpu
            {
                return None;
            }
        }
        let mut bytes = self.gpu.as_bytes().to_vec();
        for mask in [present, changed, partial, more] {
            bytes.extend_from_slice(&mask.to_le_bytes()[..3]);
        }
        bytes.extend(facts);
        bytes.extend(minutes);
        Some(bytes)
    }

    /// The first GPU of some bytes, which are left behind it; `None` where they are not what [`pack`](Self::pack) makes.
    fn take(bytes: &mut &[u8], sums: &Sums) -> Option<Self> {
        let gpu = GpuId::from_bytes(bytes_of(bytes)?);
        let mut mask = || bytes_of::<3>(bytes).map(|[a, b, c]| u32::from_le_bytes([a, b, c, 0]));
        let (present, changed, partial, more) = (mask()?, mask()?, mask()?, mask()?);
        if (changed | partial | more) & !present != 0 {
            return None;
        }
        let is = |mask: u32, n: usize| mask >> n & 1 == 1;
        let mut facts = Vec::with_capacity(SPAN);
        let mut now = None;
        for n in (0..SPAN).filter(|n| is(present, *n)) {
            if is(changed, n) {
                let [code] = bytes_of(bytes)?;
                let rate = u64::from_le_bytes(bytes_of(bytes)?);
                let proof =
                    if code & HAS_PROOF != 0 { Some(ProofId::from_bytes(bytes_of(bytes)?)) } else { None };
                now = Some((standing_of(code & !HAS_PROOF)?, rate, proof));
            }
            facts.push((n, now?));
        }
        let mut held = Self::new(gpu);
        for (n, (standing, matrix_mmacs, proof)) in facts {
            let minutes = if is(partial, n) { u32::from(bytes_of::<1>(bytes)?[0]) } else { WHOLE };
            let weight = weight(standing, matrix_mmacs, minutes);
            let share = sums.whole(n, weight)?.checked_add(u64::from(is(more, n)))?;
            let share = MicroCredits(share);
            held.entries[n] =
                Some(PublicEntry { gpu, standing, matrix_mmacs, proof, minutes, weight, share });
        }
        Some(held)
    }
}

/// All GPUs of some bytes, in order; `None` where they are not what [`Held::pack`] makes.
pub fn unpack(mut bytes: &[u8], sums: &Sums) -> Option<Vec<Held>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        all.push(Held::take(&mut bytes, sums)?);
    }
    Some(all)
}

fn bytes_of<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use gangline_types::{Hash, Minute, Standing, UnixSeconds, public::PublicSeason};
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::{PeriodInput, take};

    fn any_standing() -> impl Strategy<Value = Standing> {
        use Standing::*;
        prop::sample::select(vec![Unproven, Proven, Proven, Proven, Suspect, Quarantined, Retired])
    }

    /// What of each period's inputs is packed and comes back.
    fn packed(budget: u64, periods: &[Vec<PeriodInput>]) -> (Vec<Vec<PublicEntry>>, Sums, Vec<u8>) {
        let season = PublicSeason {
            number: 1,
            starts: Minute(0),
            ends: Minute(60 * SPAN as u32),
            period_minutes: 60,
            period_budget: MicroCredits(budget),
        };
        let mut sums = Sums { budgets: [budget; SPAN], ..Sums::default() };
        let mut held: std::collections::BTreeMap<GpuId, Held> = Default::default();
        let mut all = Vec::new();
        for (n, inputs) in periods.iter().enumerate() {
            let (_, entries) = take(&season, n as u32, UnixSeconds(1 << 20), Hash::default(), inputs.clone());
            for entry in &entries {
                sums.add(n, entry);
                held.entry(entry.gpu).or_insert_with(|| Held::new(entry.gpu)).entries[n] =
                    Some(entry.clone());
            }
            all.push(entries);
        }
        let bytes = held.values().flat_map(|held| held.pack(&sums).unwrap()).collect();
        (all, sums, bytes)
    }

    #[test]
    fn a_day_of_a_steady_gpu_takes_forty_bytes() {
        let input = |n: u8| PeriodInput {
            gpu: GpuId::from_bytes([n; 16]),
            standing: Standing::Proven,
            matrix_mmacs: 1_000 + u64::from(n),
            proof: None,
            minutes: 60,
        };
        let (_, _, bytes) = packed(1_000_000, &vec![(0..10).map(input).collect(); SPAN]);
        assert_eq!(bytes.len(), 10 * (16 + 12 + 9));
    }

    #[test]
    fn what_does_not_follow_is_not_packed_and_other_bytes_are_not_taken() {
        let input = PeriodInput {
            gpu: GpuId::from_bytes([1; 16]),
            standing: Standing::Proven,
            matrix_mmacs: 7,
            proof: Some(ProofId::from_bytes([2; 16])),
            minutes: 59,
        };
        let (all, sums, bytes) = packed(1_000, &[vec![input]]);
        assert_eq!(Sums::unpack(&sums.pack()), Some(sums.clone()));
        assert_eq!(Sums::unpack(&sums.pack()[1..]), None);
        let held = |change: fn(&mut PublicEntry)| {
            let mut entry = all[0][0].clone();
            change(&mut entry);
            let mut held = Held::new(GpuId::from_bytes([1; 16]));
            held.entries[0] = Some(entry);
            held.pack(&sums)
        };
        assert_eq!(held(|_| ()).as_deref(), Some(bytes.as_slice()));
        assert_eq!(held(|entry| entry.weight += 1), None);
        assert_eq!(held(|entry| entry.share.0 += 2), None);
        assert_eq!(held(|entry| entry.minutes = 256), None);
        assert_eq!(held(|entry| entry.gpu = GpuId::from_bytes([9; 16])), None);
        assert_eq!(unpack(&bytes[..bytes.len() - 1], &sums), None, "cut off");
        let mut more = bytes.clone();
        more[19] = 2;
        assert_eq!(unpack(&more, &sums), None, "a change of what is not there");
    }

    proptest! {
        #[test]
        fn entries_come_back_to_the_byte(
            budget in prop_oneof![0..50u64, 0..1_000_000_000u64],
            periods in prop::collection::vec(
                prop::collection::btree_map(0..12u8, (any_standing(), 0..1u64 << 40, any::<bool>(), 0..=60u32), 0..10),
                1..=SPAN,
            ),
        ) {
            let inputs: Vec<Vec<PeriodInput>> = periods.into_iter().map(|gpus| {
                gpus.into_iter().map(|(n, (standing, matrix_mmacs, proof, minutes))| PeriodInput {
                    gpu: GpuId::from_bytes([n; 16]),
                    standing,
                    matrix_mmacs,
                    proof: proof.then(|| ProofId::from_bytes([n; 16])),
                    minutes,
                }).collect()
            }).collect();
            let (all, sums, bytes) = packed(budget, &inputs);
            let back = unpack(&bytes, &sums).unwrap();
            for (n, entries) in all.iter().enumerate() {
                let found: Vec<PublicEntry> = back.iter().filter_map(|held| held.entries[n].clone()).collect();
                prop_assert_eq!(&found, entries);
            }
        }
    }
}
