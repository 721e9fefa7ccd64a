//! The explorer's reads. This type holds one pool: read-only, on the file of the public projection. It
//! has no way to reach anything else.

use std::collections::HashMap;

use gangline_rules::{
    groups,
    snapshot::{Paths, Run},
};
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

    /// The entries of these GPUs (in the order of ids) in one snapshot, the first `limit` of them, each with its way to the
    /// root.
    async fn lines(
        &self,
        season: u32,
        period: u32,
        gpus: &[GpuId],
        limit: usize,
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

/// The first and the last id after `after` and within a range, both included; the last before the first where there is none.
/// One pair of bounds: of two lower ones a database may walk along the wrong one.
pub(crate) fn bounds(after: Option<GpuId>, within: Option<(GpuId, GpuId)>) -> (GpuId, GpuId) {
    let (least, greatest) = (GpuId::from_bytes([0; 16]), GpuId::from_bytes([255; 16]));
    let (first, last) = within.unwrap_or((least, greatest));
    match after.map(|after| u128::from_be_bytes(*after.as_bytes()).checked_add(1)) {
        None => (first, last),
        Some(Some(next)) => (first.max(GpuId::from_bytes(next.to_be_bytes())), last),
        Some(None) => (greatest, least),
    }
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
    let mut earned: HashMap<GpuId, (u64, u64)> = HashMap::new();
    for row in shares {
        earned.insert(row.id("gpu")?, (row.int("share")?, row.int("held")?));
    }
    for gpu in gpus {
        let (day, last) = minutes.get(&gpu.id).copied().unwrap_or_default();
        gpu.uptime_minutes_day = day;
        gpu.last_beat_at = gpu.last_beat_at.max(last);
        let (paid, held) = earned.get(&gpu.id).copied().unwrap_or_default();
        (gpu.season_share, gpu.season_held) = (MicroCredits(paid), MicroCredits(held));
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

/// Greater than every id.
pub(crate) const AFTER_ALL: [u8; 17] = [255; 17];

/// A snapshot's runs.
pub(crate) fn runs_of(bytes: &[u8]) -> Result<Vec<Run>, StoreError> {
    Run::unpack(bytes).ok_or_else(|| StoreError::Malformed("runs of a snapshot".into()))
}

/// These GPUs, in the order of ids, by the run that each would be in, if it is in any.
pub(crate) fn by_run<'a>(runs: &[Run], gpus: &'a [GpuId]) -> Vec<(usize, &'a [GpuId])> {
    let run_of = |gpu: &GpuId| runs.partition_point(|run| run.first <= *gpu);
    let chunks = gpus.chunk_by(|a, b| run_of(a) == run_of(b));
    chunks.filter_map(|some| Some((run_of(some.first()?).checked_sub(1)?, some))).collect()
}

/// Groups of entries as they are kept, each with its first id.
pub(crate) type Groups = (Vec<GpuId>, Vec<Vec<u8>>);

/// The groups of these rows.
pub(crate) fn groups_of(rows: &[impl Columns]) -> Result<Groups, StoreError> {
    let firsts: Result<_, StoreError> = rows.iter().map(|r| r.id("first")).collect();
    let records: Result<_, StoreError> = rows.iter().map(|r| r.bytes("records")).collect();
    Ok((firsts?, records?))
}

/// The groups that these entries stand in.
pub(crate) fn grouped(entries: &[PublicEntry]) -> Groups {
    entries.chunks(groups::GROUP).map(|some| (some[0].gpu, groups::pack(some))).unzip()
}

/// The entries of these GPUs in one run, of these groups, each with its way to the root.
pub(crate) fn lines_of_run(
    runs: &[Run],
    run: usize,
    (firsts, groups): &Groups,
    leaves: u32,
    gpus: &[GpuId],
) -> Result<Vec<(PublicEntry, InclusionProof)>, StoreError> {
    let paths = Paths::new(runs, run, groups, leaves)
        .ok_or_else(|| StoreError::Malformed("groups of a snapshot that are not those of its root".into()))?;
    let mut lines = Vec::new();
    let mut held: Option<(usize, Vec<PublicEntry>)> = None;
    for gpu in gpus {
        let Some(group) = firsts.partition_point(|first| first <= gpu).checked_sub(1) else { continue };
        if held.as_ref().is_none_or(|(at, _)| *at != group) {
            held = Some((group, unpacked(&groups[group])?));
        }
        let Some((_, entries)) = &held else { continue };
        let Some(offset) = entries.iter().position(|entry| entry.gpu == *gpu) else { continue };
        if let Some(inclusion) = paths.inclusion(group, offset) {
            lines.push((entries[offset].clone(), inclusion));
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_goes_on_within_its_range_and_after_the_one_before() {
        let id = |first: u8, last: u8| {
            let mut bytes = [0; 16];
            (bytes[0], bytes[15]) = (first, last);
            GpuId::from_bytes(bytes)
        };
        let (least, greatest) = (GpuId::from_bytes([0; 16]), GpuId::from_bytes([255; 16]));
        let range = Some((id(5, 0), id(6, 255)));
        assert_eq!(bounds(None, None), (least, greatest));
        assert_eq!(bounds(None, range), (id(5, 0), id(6, 255)));
        assert_eq!(bounds(Some(id(4, 9)), range), (id(5, 0), id(6, 255)), "before the range");
        assert_eq!(bounds(Some(id(5, 9)), range), (id(5, 10), id(6, 255)));
        let (first, last) = bounds(Some(id(7, 0)), range);
        assert!(first > last, "after the range there is none");
        let (first, last) = bounds(Some(greatest), None);
        assert!(first > last, "nor after the last of all");
    }
}
