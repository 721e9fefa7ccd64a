//! A snapshot: who had earned what in one period of a season, as a list that sums to the period's budget,
//! a root that binds every figure of it, and the check that anyone can run.
//!
//! Knows only public nouns: no account, no machine, no key. Where the figures come from (proofs, uptime
//! hours) is the caller's; that they follow from those is what [`recompute`] says.

use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_types::public::{PublicEntry, PublicSeason, PublicSnapshot};
use gangline_types::{GpuId, Hash, MicroCredits, Minute, ProofId, Standing, UnixSeconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::groups::{self, GROUP, Group, RECORD_BYTES};
pub use crate::merkle::RUN;
use crate::merkle::{self, RunPaths, Runs, Tree};
use crate::shares::Split;
pub use gangline_types::public::InclusionProof;

/// What one GPU brings to a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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

/// What all GPUs bring to a period, in the order of their ids, however it is kept.
pub trait Inputs {
    /// How many there are.
    fn count(&self) -> usize;
    /// What the one at this place brings, counted from 0.
    fn input(&self, at: usize) -> PeriodInput;
}

impl Inputs for [PeriodInput] {
    fn count(&self) -> usize {
        self.len()
    }
    fn input(&self, at: usize) -> PeriodInput {
        self[at]
    }
}

/// 64 groups of entries that follow each other, as far as their way to the root goes: what is kept beside the entries, so that
/// whoever shows one looks at these and not at everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Id of its first entry.
    pub first: GpuId,
    /// Its node of the tree.
    pub node: Hash,
}

impl Run {
    /// Bytes of a run as it is kept.
    pub const BYTES: usize = 48;

    /// Runs one after another, 48 bytes each.
    pub fn pack(runs: &[Self]) -> Vec<u8> {
        runs.iter().flat_map(|run| [run.first.as_bytes().as_slice(), &run.node.0].concat()).collect()
    }
    /// What [`pack`](Self::pack) made; `None` where it made no such thing.
    pub fn unpack(bytes: &[u8]) -> Option<Vec<Self>> {
        let run = |bytes: &[u8]| {
            let (first, node) = bytes.split_at_checked(16)?;
            Some(Self { first: GpuId::from_bytes(first.try_into().ok()?), node: Hash(node.try_into().ok()?) })
        };
        bytes.chunks(Self::BYTES).map(run).collect()
    }
}

/// A GPU's weight: proven rate x credited minutes, so its unit is the million multiply-adds a second kept
/// up for a minute. 2^64 - 1 where the product is larger. 0 unless `proven`, or `suspect` with a rate that it proved
/// before: that one's share is held for it ([`crate::shares::Purse`]). What a device is called plays no part: a software
/// device that is proven as one earns by what it has shown.
pub fn weight(standing: Standing, matrix_mmacs: u64, minutes: u32) -> u64 {
    match standing {
        Standing::Proven | Standing::Suspect => matrix_mmacs.saturating_mul(minutes as u64),
        Standing::Unproven | Standing::Quarantined | Standing::Retired => 0,
    }
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
    let mut entries = Vec::with_capacity(inputs.len());
    let (snapshot, _) = take_in_groups(season, period, taken_at, previous_root, inputs.as_slice(), |group| {
        entries.extend(groups::unpack(group.records).expect("what was just packed"));
    });
    (snapshot, entries)
}

/// The same from inputs in the order of their GPU ids, which are asked for three times, and without a list of entries, weights
/// or shares: `sink` gets each group of them as it is published and kept, in order. Beside the head come the runs of groups.
///
/// # Panics
/// If the inputs are out of order or name a GPU twice.
pub fn take_in_groups(
    season: &PublicSeason,
    period: u32,
    taken_at: UnixSeconds,
    previous_root: Hash,
    inputs: &(impl Inputs + ?Sized),
    mut sink: impl FnMut(Group<'_>),
) -> (PublicSnapshot, Vec<Run>) {
    let count = inputs.count();
    let weight_of = |input: &PeriodInput| weight(input.standing, input.matrix_mmacs, input.minutes);
    let mut split = Split::new(season.period_budget, count, |at| weight_of(&inputs.input(at)));
    let earned = !split.is_of_nothing();
    let tree = Tree::new();
    let mut runs = Runs::new(&tree);
    let mut firsts = Vec::with_capacity(count.div_ceil(GROUP * RUN));
    // Ids as numbers: compared in registers.
    let number = |gpu: GpuId| u128::from_be_bytes(*gpu.as_bytes());
    let mut before: Option<u128> = None;
    for at in (0..count).step_by(GROUP) {
        let first = inputs.input(at).gpu;
        if at % (GROUP * RUN) == 0 {
            firsts.push(first);
        }
        let records = runs.push(GROUP.min(count - at) * RECORD_BYTES, |bytes| {
            let (records, _) = bytes.as_chunks_mut::<RECORD_BYTES>();
            for (offset, record) in records.iter_mut().enumerate() {
                let input = inputs.input(at + offset);
                assert!(
                    before.is_none_or(|before| before < number(input.gpu)),
                    "taking snapshot {period} of season {}: a GPU comes twice, or out of order",
                    season.number
                );
                before = Some(number(input.gpu));
                let weight = weight_of(&input);
                *record = groups::record(&PublicEntry {
                    gpu: input.gpu,
                    standing: input.standing,
                    matrix_mmacs: input.matrix_mmacs,
                    proof: input.proof,
                    minutes: input.minutes,
                    weight,
                    share: split.part(weight),
                });
            }
        });
        sink(Group { first, records });
    }
    let (tree_root, nodes) = runs.finish();
    let (starts, ends) = period_span(season, period);
    let mut snapshot = PublicSnapshot {
        season: season.number,
        period,
        starts,
        ends,
        taken_at,
        budget: season.period_budget,
        shared: if earned { season.period_budget } else { MicroCredits(0) },
        gpus: u32::try_from(count).expect("fewer than 2^32 GPUs"),
        previous_root,
        root: Hash::default(),
    };
    snapshot.root = seal(&snapshot, count as u64, tree_root);
    let runs = firsts.into_iter().zip(nodes).map(|(first, node)| Run { first, node }).collect();
    (snapshot, runs)
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

/// The runs of a list of entries and the root of their tree.
fn runs_of(entries: &[PublicEntry]) -> (Hash, Vec<Run>) {
    let tree = Tree::new();
    let mut runs = Runs::new(&tree);
    for group in entries.chunks(GROUP) {
        let records = groups::pack(group);
        runs.push(records.len(), |bytes| bytes.copy_from_slice(&records));
    }
    let (root, nodes) = runs.finish();
    let firsts = entries.iter().step_by(GROUP * RUN).map(|entry| entry.gpu);
    (root, firsts.zip(nodes).map(|(first, node)| Run { first, node }).collect())
}

/// The root of `entries`, in the order given, under `head` (whose own `root` is not read).
pub fn root(head: &PublicSnapshot, entries: &[PublicEntry]) -> Hash {
    seal(head, entries.len() as u64, runs_of(entries).0)
}

/// The ways of one run's groups to a snapshot's root, worked out once for any number of their entries.
pub struct Paths<'a> {
    paths: RunPaths,
    groups: &'a [Vec<u8>],
    run: usize,
    leaves: u32,
}

impl<'a> Paths<'a> {
    /// From the runs of a snapshot of so many entries and the records of the groups of run `run`, in order; `None` where these
    /// do not belong together.
    pub fn new(runs: &[Run], run: usize, groups: &'a [Vec<u8>], leaves: u32) -> Option<Self> {
        let nodes: Vec<Hash> = runs.iter().map(|run| run.node).collect();
        let paths = RunPaths::new(&Tree::new(), run, groups.iter().map(Vec::as_slice), &nodes)?;
        Some(Self { paths, groups, run, leaves })
    }
    /// What joins the entry at place `offset` of the run's n-th group; `None` where there is no such group.
    pub fn inclusion(&self, n: usize, offset: usize) -> Option<InclusionProof> {
        let path = self.paths.path(n)?;
        let index = u32::try_from((self.run * RUN + n) * GROUP + offset).ok()?;
        Some(InclusionProof { index, leaves: self.leaves, group: STANDARD.encode(self.groups.get(n)?), path })
    }
}

/// What joins `gpu`'s entry to the root of a snapshot with these `entries` (in the snapshot's order);
/// `None` where it has none.
pub fn inclusion(entries: &[PublicEntry], gpu: GpuId) -> Option<InclusionProof> {
    let at = entries.iter().position(|entry| entry.gpu == gpu)?;
    let (group, offset) = (at / GROUP, at % GROUP);
    let run = group / RUN;
    let groups: Vec<Vec<u8>> = entries.chunks(GROUP).skip(run * RUN).take(RUN).map(groups::pack).collect();
    let paths = Paths::new(&runs_of(entries).1, run, &groups, u32::try_from(entries.len()).ok()?)?;
    paths.inclusion(group % RUN, offset)
}

/// Whether `entry`, with every field as it is, is in the snapshot that `head` is the head of.
pub fn check_inclusion(head: &PublicSnapshot, entry: &PublicEntry, proof: &InclusionProof) -> bool {
    let (group, offset) = (proof.index as usize / GROUP, proof.index as usize % GROUP);
    let Ok(records) = STANDARD.decode(&proof.group) else { return false };
    let in_group = (proof.leaves as usize).saturating_sub(group * GROUP).min(GROUP);
    let is_there = records.len() == in_group * RECORD_BYTES
        && records.chunks(RECORD_BYTES).nth(offset).is_some_and(|found| found == groups::record(entry));
    let width = (proof.leaves as usize).div_ceil(GROUP);
    let tree_root = Tree::new().root_from(&records, group, width, &proof.path);
    is_there
        && proof.leaves == head.gpus
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
