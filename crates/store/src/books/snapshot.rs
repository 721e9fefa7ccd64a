//! Seasons, snapshots and statements.

use gangline_guard::{Permit, act};
use gangline_rules::{groups, snapshot::PeriodInput};
use gangline_types::{
    GpuId, Hash, Minute, Share,
    public::{PublicSeason, PublicSnapshot},
};

use crate::{Store, StoreError, books::answered};

/// A group of a snapshot's entries, as it is kept: see [`gangline_rules::groups`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryGroup {
    /// Id of its first entry.
    pub first: GpuId,
    /// Its leaf of the snapshot's tree.
    pub hash: Hash,
    /// Its records.
    pub records: Vec<u8>,
}

answered! { Store,
    /// The newest season.
    async fn season(&self) -> Result<Option<PublicSeason>, StoreError>;

    /// Opens a season; one that exists is left as it is.
    async fn open_season(
        &self,
        permit: &Permit<act::TakeSnapshot>,
        season: &PublicSeason,
    ) -> Result<(), StoreError>;

    /// The last snapshot of a season.
    async fn last_snapshot(&self, season: u32) -> Result<Option<PublicSnapshot>, StoreError>;

    /// Takes the snapshot of one period, in one transaction with the reading of its uptime, so that a beat
    /// is either counted in it or marked late. `compute` gets the previous root and every GPU with a
    /// counted minute in `from..to`, in the order of ids. A period has one snapshot and keeps it.
    async fn take_snapshot(
        &self,
        permit: Permit<act::TakeSnapshot>,
        season: u32,
        from: Minute,
        to: Minute,
        compute: impl FnOnce(Hash, Vec<PeriodInput>) -> (PublicSnapshot, Vec<EntryGroup>) + Send,
    ) -> Result<PublicSnapshot, StoreError>;

    /// The account's sum over a season.
    async fn season_total(&self, permit: &Permit<act::ReadAccount>, season: u32) -> Result<Share, StoreError>;

    /// The account's GPUs, the retired ones too, in the order of ids.
    async fn gpu_ids_of(&self, permit: &Permit<act::ReadAccount>) -> Result<Vec<GpuId>, StoreError>;
}

/// Who has earned something in a group of entries.
pub(crate) fn earned(records: &[u8]) -> Result<Vec<(GpuId, u64)>, StoreError> {
    let entries =
        groups::unpack(records).ok_or_else(|| StoreError::Malformed("a group of entries".into()))?;
    Ok(entries.iter().filter(|e| e.share.0 > 0).map(|e| (e.gpu, e.share.0)).collect())
}
