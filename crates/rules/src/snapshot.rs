//! A snapshot: who had earned what in one period of a season, as a list that sums to the period's budget,
//! a root that binds every figure of it, and the check that anyone can run.
//!
//! Knows only public nouns: no account, no machine, no key. Where the figures come from (proofs, uptime
//! hours) is the caller's; that they follow from those is what [`recompute`] says.

use gangline_types::public::{PublicEntry, PublicSeason, PublicSnapshot};
use gangline_types::{GpuId, Hash, MicroCredits, Minute, ProofId, Standing, UnixSeconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::merkle::InclusionProof;
use crate::merkle::{self, Tree};
use crate::shares;

/// What one GPU brings to a period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PeriodInput {
    /// The GPU.
    pub gpu: GpuId,
    /// Its standing when the snapshot is taken.
    pub standing: Standing,
    /// Its proven matrix rate, in millions of multiply-adds a second.
    pub matrix_mmacs: u64,
    /// The proof that rate and standing come from, if any.
    pub proof: Option<ProofId>,
    /// Credited minutes in the period.
    pub minutes: u32,
}

/// A GPU's weight: proven rate x credited minutes, so its unit is the million multiply-adds a second kept
/// up for a minute. 0 unless `proven`; 2^64 - 1 where the product is larger. What a device is called plays
/// no part: a software device that is proven as one earns by what it has shown.
pub fn weight(standing: Standing, matrix_mmacs: u64, minutes: u32) -> u64 {
    if standing == Standing::Proven { matrix_mmacs.saturating_mul(minutes as u64) } else { 0 }
}

/// Periods in a season; the last one may be shorter. 0 where the season has no minute.
pub fn periods(season: &PublicSeason) -> u32 {
    let minutes = season.ends.0.saturating_sub(season.starts.0);
    if season.period_minutes == 0 { 0 } else { minutes.div_ceil(season.period_minutes) }
}

/// The period that `minute` is in; `None` outside the season.
pub fn period_of(season: &PublicSeason, minute: Minute) -> Option<u32> {
    let since = minute.0.checked_sub(season.starts.0)?;
    if minute >= season.ends { None } else { since.checked_div(season.period_minutes) }
}

/// First minute of a period and first minute after it, both within the season; a period after the last is
/// empty.
pub fn period_span(season: &PublicSeason, period: u32) -> (Minute, Minute) {
    let at = |periods: u64| {
        let minute = season.starts.0 as u64 + periods * season.period_minutes as u64;
        Minute(minute.min(season.ends.0 as u64) as u32)
    };
    (at(period as u64), at(period as u64 + 1))
}

/// The period to take a snapshot of at `now`: the one after `last_taken` (the first, if none was), once it
/// ended `grace_seconds` ago. Periods are taken in order and none is ever skipped: after an outage of ours
/// this answers with one after another until all are taken.
pub fn due(
    season: &PublicSeason,
    now: UnixSeconds,
    grace_seconds: u64,
    last_taken: Option<u32>,
) -> Option<u32> {
    let next =
        last_taken.map_or(Some(0), |last| last.checked_add(1)).filter(|next| *next < periods(season))?;
    let (_, ends) = period_span(season, next);
    (now >= ends.start().plus(grace_seconds)).then_some(next)
}

/// Takes the snapshot of `period`: its head, and the entries in the order of their GPU ids, one for each of
/// `inputs`. The shares sum to the season's period budget exactly, or to 0 where nobody earned anything.
///
/// # Panics
/// If two inputs name the same GPU: it would earn twice. ([`recompute`] reports that instead.)
pub fn take(
    season: &PublicSeason,
    period: u32,
    taken_at: UnixSeconds,
    previous_root: Hash,
    mut inputs: Vec<PeriodInput>,
) -> (PublicSnapshot, Vec<PublicEntry>) {
    inputs.sort_by_key(|input| input.gpu);
    let twice = inputs.windows(2).find(|pair| pair[0].gpu == pair[1].gpu).map(|pair| pair[0].gpu);
    assert_eq!(twice, None, "taking snapshot {period} of season {}: a GPU comes twice", season.number);
    let weights: Vec<(GpuId, u64)> = inputs
        .iter()
        .map(|input| (input.gpu, weight(input.standing, input.matrix_mmacs, input.minutes)))
        .collect();
    let parts = shares::split(season.period_budget, &weights);
    let earned = weights.iter().any(|(_, weight)| *weight > 0);
    let entry = |(input, ((_, weight), share)): (PeriodInput, ((GpuId, u64), MicroCredits))| PublicEntry {
        gpu: input.gpu,
        standing: input.standing,
        matrix_mmacs: input.matrix_mmacs,
        proof: input.proof,
        minutes: input.minutes,
        weight,
        share,
    };
    let entries: Vec<PublicEntry> =
        inputs.into_iter().zip(weights.into_iter().zip(parts)).map(entry).collect();
    let (starts, ends) = period_span(season, period);
    let mut snapshot = PublicSnapshot {
        season: season.number,
        period,
        starts,
        ends,
        taken_at,
        budget: season.period_budget,
        shared: if earned { season.period_budget } else { MicroCredits(0) },
        gpus: u32::try_from(entries.len()).expect("fewer than 2^32 GPUs"),
        previous_root,
        root: Hash::default(),
    };
    snapshot.root = root(&snapshot, &entries);
    (snapshot, entries)
}

fn standing_code(standing: Standing) -> u8 {
    match standing {
        Standing::Unproven => 0,
        Standing::Proven => 1,
        Standing::Suspect => 2,
        Standing::Quarantined => 3,
        Standing::Retired => 4,
    }
}

/// Bytes of a leaf: every field of the entry at a fixed place, integers in little-endian order. 62 bytes:
/// id 16, standing 1, rate 8, whether there is a proof 1, its id or zeros 16, minutes 4, weight 8, share 8.
fn leaf_bytes(entry: &PublicEntry) -> [u8; 62] {
    let mut bytes = [0; 62];
    bytes[..16].copy_from_slice(entry.gpu.as_bytes());
    bytes[16] = standing_code(entry.standing);
    bytes[17..25].copy_from_slice(&entry.matrix_mmacs.to_le_bytes());
    if let Some(proof) = entry.proof {
        bytes[25] = 1;
        bytes[26..42].copy_from_slice(proof.as_bytes());
    }
    bytes[42..46].copy_from_slice(&entry.minutes.to_le_bytes());
    bytes[46..54].copy_from_slice(&entry.weight.to_le_bytes());
    bytes[54..].copy_from_slice(&entry.share.0.to_le_bytes());
    bytes
}

/// Binds the tree's root to the head: all its fields but `root` itself, the previous root, and the number
/// of leaves.
fn seal(head: &PublicSnapshot, leaves: u64, tree_root: Hash) -> Hash {
    let mut bytes = Vec::with_capacity(116);
    for field in [head.season, head.period, head.starts.0, head.ends.0, head.gpus] {
        bytes.extend(field.to_le_bytes());
    }
    for field in [head.taken_at.0, head.budget.0, head.shared.0, leaves] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(head.previous_root.0);
    bytes.extend(tree_root.0);
    merkle::head(&bytes)
}

fn leaves(tree: &Tree, entries: &[PublicEntry]) -> Vec<Hash> {
    entries.iter().map(|entry| tree.leaf(&leaf_bytes(entry))).collect()
}

/// The root of `entries`, in the order given, under `head` (whose own `root` is not read).
pub fn root(head: &PublicSnapshot, entries: &[PublicEntry]) -> Hash {
    let tree = Tree::new();
    seal(head, entries.len() as u64, tree.root(leaves(&tree, entries)))
}

/// What joins `gpu`'s entry to the root of a snapshot with these `entries` (in the snapshot's order);
/// `None` where it has none.
pub fn inclusion(entries: &[PublicEntry], gpu: GpuId) -> Option<InclusionProof> {
    let index = entries.iter().position(|entry| entry.gpu == gpu)?;
    let tree = Tree::new();
    let path = tree.path(leaves(&tree, entries), index)?;
    let number = |n: usize| u32::try_from(n).ok();
    Some(InclusionProof { index: number(index)?, leaves: number(entries.len())?, path })
}

/// Whether `entry`, with every field as it is, is in the snapshot that `head` is the head of.
pub fn check_inclusion(head: &PublicSnapshot, entry: &PublicEntry, proof: &InclusionProof) -> bool {
    let tree = Tree::new();
    let tree_root = tree.root_from(tree.leaf(&leaf_bytes(entry)), proof);
    proof.leaves == head.gpus
        && tree_root.is_some_and(|tree_root| seal(head, proof.leaves as u64, tree_root) == head.root)
}

/// The first place where a published snapshot is not what follows from its inputs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error(
    "snapshot {period} of season {season}, {}{field}: expected {expected}, found {found}",
    gpu.map(|gpu| format!("{gpu}, ")).unwrap_or_default()
)]
pub struct Difference {
    /// The snapshot's season.
    pub season: u32,
    /// Its period.
    pub period: u32,
    /// The GPU whose entry differs; `None` where the head does.
    pub gpu: Option<GpuId>,
    /// The field, by its public name, or `entry` for a whole entry.
    pub field: String,
    /// What follows from the inputs.
    pub expected: String,
    /// What was published.
    pub found: String,
}

/// Compares field by field and keeps the first difference.
struct Comparison {
    season: u32,
    period: u32,
}

impl Comparison {
    fn differ(
        &self,
        gpu: Option<GpuId>,
        field: &str,
        expected: String,
        found: String,
    ) -> Result<(), Difference> {
        let (season, period, field) = (self.season, self.period, field.to_owned());
        Err(Difference { season, period, gpu, field, expected, found })
    }
    fn same<T: PartialEq + std::fmt::Display>(
        &self,
        gpu: Option<GpuId>,
        field: &str,
        expected: T,
        found: T,
    ) -> Result<(), Difference> {
        if expected == found {
            return Ok(());
        }
        self.differ(gpu, field, expected.to_string(), found.to_string())
    }
}

/// Computes the snapshot again from `inputs` (any order) and compares it with what was published, `head`
/// and `entries`: the head's span and budget, the order and set of entries, every field of each, the sum,
/// the previous root and the root. The error names the first difference.
pub fn recompute(
    season: &PublicSeason,
    head: &PublicSnapshot,
    entries: &[PublicEntry],
    previous_root: Hash,
    mut inputs: Vec<PeriodInput>,
) -> Result<(), Difference> {
    let check = Comparison { season: head.season, period: head.period };
    check.same(None, "season", season.number, head.season)?;
    if head.period >= periods(season) {
        let last = format!("a period below {}", periods(season));
        return check.differ(None, "period", last, head.period.to_string());
    }
    let (starts, ends) = period_span(season, head.period);
    check.same(None, "starts", starts, head.starts)?;
    check.same(None, "ends", ends, head.ends)?;
    if head.taken_at < ends.start() {
        let after = format!("{} or later", ends.start());
        return check.differ(None, "taken_at", after, head.taken_at.to_string());
    }
    check.same(None, "budget", season.period_budget, head.budget)?;
    check.same(None, "previous_root", previous_root, head.previous_root)?;

    inputs.sort_by_key(|input| input.gpu);
    if let Some(pair) = inputs.windows(2).find(|pair| pair[0].gpu == pair[1].gpu) {
        return check.differ(Some(pair[0].gpu), "entry", "one input".into(), "two inputs".into());
    }
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].gpu >= pair[1].gpu) {
        let found = format!("it right after {}", pair[0].gpu);
        return check.differ(
            Some(pair[1].gpu),
            "entry",
            "entries in the order of their ids, each once".into(),
            found,
        );
    }
    let (ours, expected) = take(season, head.period, head.taken_at, previous_root, inputs);
    let mut found = entries.iter().peekable();
    for entry in &expected {
        if let Some(extra) = found.next_if(|other| other.gpu < entry.gpu) {
            return check.differ(Some(extra.gpu), "entry", "none".into(), "one".into());
        }
        let Some(other) = found.next_if(|other| other.gpu == entry.gpu) else {
            return check.differ(Some(entry.gpu), "entry", "one".into(), "none".into());
        };
        let gpu = Some(entry.gpu);
        let proof = |entry: &PublicEntry| entry.proof.map_or("none".to_owned(), |proof| proof.to_string());
        check.same(gpu, "standing", entry.standing, other.standing)?;
        check.same(gpu, "matrix_mmacs", entry.matrix_mmacs, other.matrix_mmacs)?;
        check.same(gpu, "proof", proof(entry), proof(other))?;
        check.same(gpu, "minutes", entry.minutes, other.minutes)?;
        check.same(gpu, "weight", entry.weight, other.weight)?;
        check.same(gpu, "share", entry.share, other.share)?;
    }
    if let Some(extra) = found.next() {
        return check.differ(Some(extra.gpu), "entry", "none".into(), "one".into());
    }
    check.same(None, "gpus", ours.gpus, head.gpus)?;
    check.same(None, "shared", ours.shared, head.shared)?;
    check.same(None, "root", ours.root, head.root)
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
