//! The explorer's reads. This type holds one pool: read-only, on the file of the public projection. It
//! has no way to reach anything else.

use std::collections::HashMap;

use gangline_rules::groups;
use gangline_types::{
    AdapterKind, GpuId, Hour, MicroCredits, Minute, ProofId, Text, UnixSeconds, UptimeHour,
    public::{
        InclusionProof, NetworkTotals, PublicEntry, PublicGpu, PublicProof, PublicSeason, PublicSnapshot,
        PublicUptime,
    },
};
use gangline_wire::api::{
    proof::Transcript,
    public::{GpuPage, GpusQuery, SnapshotList},
};

use crate::{PublicStore, StoreError, books::answered, sql::Columns};

/// GPUs of one model and kind that are not retired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRow {
    /// Model as claimed.
    pub model: Text<128>,
    /// Kind as claimed.
    pub kind: AdapterKind,
    /// Connected now.
    pub connected: u64,
    /// Of those, proven.
    pub proven: u64,
    /// Of those, rentable.
    pub rentable: u64,
}

answered! { PublicStore,
    /// Network totals as last drawn.
    async fn totals(&self) -> Result<NetworkTotals, StoreError>;

    /// GPUs that match, in the order of ids. A text that is part of more than 200 models' names finds those of
    /// the first 200.
    async fn gpus(&self, query: &GpusQuery) -> Result<GpuPage, StoreError>;

    /// One GPU.
    async fn gpu(&self, gpu: GpuId) -> Result<Option<PublicGpu>, StoreError>;

    /// Its uptime hours in `from..to`, at most 90 days of them.
    async fn uptime(&self, gpu: GpuId, from: Hour, to: Hour) -> Result<Vec<PublicUptime>, StoreError>;

    /// Its proofs, newest first, at most 100.
    async fn proofs(&self, gpu: GpuId) -> Result<Vec<PublicProof>, StoreError>;

    /// One proof's transcript; none if it was never opened.
    async fn transcript(&self, proof: ProofId) -> Result<Option<Transcript>, StoreError>;

    /// The newest season.
    async fn season(&self) -> Result<Option<PublicSeason>, StoreError>;

    /// Snapshots of a season from a period on.
    async fn snapshots(&self, season: u32, from: u32, limit: Option<u32>) -> Result<SnapshotList, StoreError>;

    /// The newest snapshots of a season, newest first.
    async fn newest_snapshots(&self, season: u32, limit: u32) -> Result<Vec<PublicSnapshot>, StoreError>;

    /// One snapshot's head.
    async fn snapshot(&self, season: u32, period: u32) -> Result<Option<PublicSnapshot>, StoreError>;

    /// GPUs whose row changed after the place `(seq, gpu)`, each with its own place, at most `limit`.
    async fn changed_after(&self, after: (i64, GpuId), limit: u32) -> Result<Vec<(i64, PublicGpu)>, StoreError>;

    /// One snapshot's entries after `after`, in the order of GPU ids, at most `limit`.
    async fn entries(
        &self,
        season: u32,
        period: u32,
        after: Option<GpuId>,
        limit: u32,
    ) -> Result<Vec<PublicEntry>, StoreError>;

    /// The entries of these GPUs (in the order of ids) in one snapshot, each with its way to the root.
    async fn lines(
        &self,
        season: u32,
        period: u32,
        gpus: &[GpuId],
    ) -> Result<Vec<(PublicEntry, InclusionProof)>, StoreError>;

    /// One GPU's newest entries with their periods, newest first.
    async fn gpu_entries(
        &self,
        season: u32,
        gpu: GpuId,
        limit: u32,
    ) -> Result<Vec<(u32, PublicEntry)>, StoreError>;

    /// Connected GPUs by minute over the last day.
    async fn connected_curve(&self) -> Result<Vec<(Minute, u64)>, StoreError>;

    /// Models by kind with their connected, proven and rentable GPUs, most connected first, at most 20.
    async fn models(&self) -> Result<Vec<ModelRow>, StoreError>;
}

/// `LIKE` with its own signs taken literally.
pub(crate) fn like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

/// Puts in what changes for every GPU all the time, and so is not kept in its row: last beat, the day's minutes
/// from its `hours`, the season's `shares`.
pub(crate) fn fill(
    gpus: &mut [PublicGpu],
    hours: &[impl Columns],
    shares: &[impl Columns],
    now: UnixSeconds,
) -> Result<(), StoreError> {
    let day_ago = day_before(now);
    let mut minutes: HashMap<GpuId, (u32, UnixSeconds)> = HashMap::new();
    for row in hours {
        let (hour, bits) = (Hour(row.int("hour")? as u32), UptimeHour(row.int("bits")?));
        let (day, last) = minutes.entry(row.id("gpu")?).or_default();
        *day += bits.minutes_within(hour, day_ago, Minute(now.minute().0 + 1));
        if bits.minutes() > 0 {
            let newest = Minute(hour.start().0 + 63 - (bits.0 & UptimeHour::FULL.0).leading_zeros());
            *last = (*last).max(newest.start().plus(59).min(now));
        }
    }
    let mut earned: HashMap<GpuId, u64> = HashMap::new();
    for row in shares {
        earned.insert(row.id("gpu")?, row.int("share")?);
    }
    for gpu in gpus {
        let (day, last) = minutes.get(&gpu.id).copied().unwrap_or_default();
        gpu.uptime_minutes_day = day;
        gpu.last_beat_at = gpu.last_beat_at.max(last);
        gpu.season_share = MicroCredits(earned.get(&gpu.id).copied().unwrap_or_default());
    }
    Ok(())
}

/// The first minute of the day that ends now.
pub(crate) fn day_before(now: UnixSeconds) -> Minute {
    Minute(now.minute().0.saturating_sub(24 * 60))
}

/// The entries of a group.
pub(crate) fn unpacked(records: &[u8]) -> Result<Vec<PublicEntry>, StoreError> {
    groups::unpack(records).ok_or_else(|| StoreError::Malformed("a group of entries".into()))
}
