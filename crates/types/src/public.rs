//! The public projection: everything the explorer and anyone's checks may see. No type here has a
//! field that could hold an account, a machine, a key or an address; that absence is the design.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    AdapterKind, Backend, GpuId, Hash, Hour, Label, MicroCredits, Minute, Profile, ProofId, Share, Standing,
    Text, UnixSeconds, UptimeHour,
};

/// Network totals. The three counts are separate on purpose: connected is not proven is not rentable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkTotals {
    /// GPUs that beat within the last three minutes, whatever their standing.
    pub connected: u64,
    /// Connected GPUs whose standing is `proven`.
    pub proven: u64,
    /// Proven GPUs whose owner offers them for hire now and that are not hired.
    pub rentable: u64,
    /// GPUs that run a renter's cluster now.
    pub hired: u64,
    /// Every GPU ever registered and not retired.
    pub registered: u64,
    /// Of the connected, how many are software devices (no GPU at all).
    pub software_devices: u64,
    /// Of the registered, how many a load generator made up.
    #[serde(default)]
    pub simulated: u64,
    /// When these totals were drawn.
    pub as_of: UnixSeconds,
}

/// One GPU as the public sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicGpu {
    /// Its public id.
    pub id: GpuId,
    /// What its owner calls it; may be empty.
    pub label: Label,
    /// Model as claimed, or a name that its proofs support once they did not carry the claim.
    pub model: Text<128>,
    /// Kind as claimed, or as its proofs support; a software device is no GPU.
    pub kind: AdapterKind,
    /// What its machine claims that it is, where `model` is something else; empty where it is not.
    #[serde(default)]
    pub claimed_model: Text<128>,
    /// Graphics interface.
    pub backend: Backend,
    /// Claimed memory in bytes; 0 unknown.
    pub memory_bytes: u64,
    /// What the network thinks of it.
    pub standing: Standing,
    /// Why, in words.
    pub standing_reason: Text<240>,
    /// What it has proven.
    pub profile: Profile,
    /// Beat within the last three minutes.
    pub connected: bool,
    /// Offered for hire, proven, connected and free.
    pub rentable: bool,
    /// Runs a renter's cluster now.
    pub hired: bool,
    /// Made up by a load generator: there is no machine behind it.
    #[serde(default)]
    pub simulated: bool,
    /// First registered.
    pub registered_at: UnixSeconds,
    /// Last beat; 0 never.
    pub last_beat_at: UnixSeconds,
    /// Last accepted or refused proof; 0 never.
    pub last_proof_at: UnixSeconds,
    /// Credited minutes of the last 24 hours.
    pub uptime_minutes_day: u32,
    /// Sum of its shares in this season, in millionths of a credit.
    pub season_share: Share,
    /// What is held for it because it is suspect: paid once it is proven again, lost by fraud alone.
    #[serde(default)]
    pub season_held: Share,
}

/// Sixty minutes of one GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicUptime {
    /// Hours since 1970-01-01 UTC.
    pub hour: Hour,
    /// Bit m is minute m of the hour.
    pub bits: UptimeHour,
    /// Of those, the minutes whose beats came only after their period's snapshot was taken: uptime, but
    /// not counted in that snapshot.
    #[serde(default)]
    pub late: UptimeHour,
    /// Of those, the minutes that stand on a report which the machine signed as a whole, and on no chain.
    #[serde(default)]
    pub unchained: UptimeHour,
}

/// A hash-chain behind one GPU's uptime: signed before its first beat, and one value further with each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicChain {
    /// The first minute it can stand for.
    pub starts: Minute,
    /// Its tip: 16 bytes in hex.
    pub tip: String,
    /// The GPU's uptime key (Ed25519): it stays the same as long as the GPU stays in its machine.
    pub public_key: Hash,
    /// That key's signature over GPU, first minute and tip: 64 bytes in hex.
    pub signature: String,
    /// The deepest value shown for each hour, oldest first.
    pub links: Vec<PublicLink>,
}

/// The deepest value of a chain that beats for an hour's minutes have shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicLink {
    /// The hour.
    pub hour: Hour,
    /// Beats made since the chain began: so often hashed, the value is the tip.
    pub count: u16,
    /// The value: 16 bytes in hex.
    pub preimage: String,
}

impl PublicUptime {
    /// The minutes that snapshots count.
    pub fn counted(&self) -> UptimeHour {
        UptimeHour(self.bits.0 & !self.late.0)
    }
}

/// One proof's outcome; its whole transcript can be downloaded by its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicProof {
    /// Its id.
    pub id: ProofId,
    /// The GPU that was asked.
    pub gpu: GpuId,
    /// When it was judged.
    pub judged_at: UnixSeconds,
    /// Whether the bits were right and the claim was carried.
    pub accepted: bool,
    /// What was found, in words.
    pub finding: Text<240>,
    /// What was asked, as `n x steps`.
    pub asked: Text<64>,
    /// From challenge to last root, by the verifier's clock, in milliseconds.
    pub elapsed_millis: u64,
    /// What it shows.
    pub profile: Profile,
}

/// A season: a rewards budget over a span of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicSeason {
    /// 1, 2, 3...
    pub number: u32,
    /// First minute.
    pub starts: Minute,
    /// First minute after its end.
    pub ends: Minute,
    /// Minutes in a snapshot period; 60 unless the operator of a demonstration chose less.
    pub period_minutes: u32,
    /// Shares of one period sum to this exactly (if any GPU earned anything in it).
    pub period_budget: MicroCredits,
}

/// A snapshot's head: who earned what in one period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicSnapshot {
    /// Its season.
    pub season: u32,
    /// 0, 1, 2... within the season.
    pub period: u32,
    /// First minute of the period.
    pub starts: Minute,
    /// First minute after it.
    pub ends: Minute,
    /// When it was taken.
    pub taken_at: UnixSeconds,
    /// What was to be shared.
    pub budget: MicroCredits,
    /// What was shared: the budget, or 0 where nobody earned anything.
    pub shared: MicroCredits,
    /// GPUs with an entry.
    pub gpus: u32,
    /// Root of the snapshot before (zeros for the first): the chain of snapshots.
    pub previous_root: Hash,
    /// Merkle root over the entries in the order of their GPU ids, bound to all fields above.
    pub root: Hash,
}

/// One GPU's line of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublicEntry {
    /// The GPU.
    pub gpu: GpuId,
    /// Its standing when the snapshot was taken.
    pub standing: Standing,
    /// Its proven matrix rate then, in millions of multiply-adds a second.
    pub matrix_mmacs: u64,
    /// The proof that the rate and standing come from, if any.
    pub proof: Option<ProofId>,
    /// Credited minutes in the period.
    pub minutes: u32,
    /// Weight: profile x uptime.
    pub weight: u64,
    /// Its part of the budget.
    pub share: Share,
}

/// The way from one line of a snapshot to its root. Lines stand in groups of 64, and a group is a leaf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InclusionProof {
    /// Place of the line, counted from 0.
    pub index: u32,
    /// Lines in the snapshot.
    pub leaves: u32,
    /// The group that the line is in, itself included: records of 62 bytes, base64.
    pub group: String,
    /// Hashes of the neighbours of the group, from the leaf up.
    pub path: Vec<Hash>,
}
