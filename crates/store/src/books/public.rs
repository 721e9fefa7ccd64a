//! The explorer's reads. This type holds one pool: read-only, on the file of the public projection. It
//! has no way to reach anything else.

use gangline_types::{
    AdapterKind, GpuId, Hour, Minute, ProofId, Text,
    public::{
        InclusionProof, NetworkTotals, PublicEntry, PublicGpu, PublicProof, PublicSeason, PublicSnapshot,
        PublicUptime,
    },
};
use gangline_wire::api::{
    proof::Transcript,
    public::{GpuPage, GpusQuery, SnapshotList},
};

use crate::{PublicStore, StoreError, books::answered};

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
