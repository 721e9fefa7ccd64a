//! Seasons, snapshots and statements.

use gangline_guard::{Permit, act};
use gangline_rules::{
    groups,
    snapshot::{PeriodInput, Run, take_in_groups},
};
use gangline_types::{
    GpuId, Hash, Minute, Share, Standing, UnixSeconds,
    public::{PublicSeason, PublicSnapshot},
};

use crate::{Store, StoreError, books::answered};

/// A snapshot that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenSnapshot {
    /// Its head.
    pub head: PublicSnapshot,
    /// Its runs of groups, in order.
    pub runs: Vec<Run>,
    /// Its groups of entries, in order.
    pub groups: Vec<EntryGroup>,
}

impl TakenSnapshot {
    /// Takes a period's snapshot from inputs in the order of their GPU ids.
    ///
    /// # Panics
    /// If the inputs are out of order or name a GPU twice.
    pub fn of(
        season: &PublicSeason,
        period: u32,
        taken_at: UnixSeconds,
        previous_root: Hash,
        inputs: &[PeriodInput],
    ) -> Self {
        let mut groups = Vec::with_capacity(inputs.len().div_ceil(groups::GROUP));
        let (head, runs) = take_in_groups(season, period, taken_at, previous_root, inputs, |group| {
            groups.push(EntryGroup { first: group.first, records: group.records.to_vec() });
        });
        Self { head, runs, groups }
    }
}

/// A group of a snapshot's entries, as it is kept: see [`gangline_rules::groups`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryGroup {
    /// Id of its first entry.
    pub first: GpuId,
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
        compute: impl FnOnce(Hash, Vec<PeriodInput>) -> TakenSnapshot + Send,
    ) -> Result<PublicSnapshot, StoreError>;

    /// The account's sums over a season.
    async fn season_sums(&self, permit: &Permit<act::ReadAccount>, season: u32) -> Result<Sums, StoreError>;

    /// The account's GPUs, the retired ones too, in the order of ids.
    async fn gpu_ids_of(&self, permit: &Permit<act::ReadAccount>) -> Result<Vec<GpuId>, StoreError>;
}

/// Sums over a season, of an account or a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Paid.
    pub paid: Share,
    /// Held, for GPUs that are suspect.
    pub held: Share,
}

/// What a group of entries does to its GPUs' purses ([`gangline_rules::shares::Purse`]), in the terms of tables.
#[derive(Default)]
pub(crate) struct Moves {
    /// Paid at once: whose, and how much.
    pub paid: Vec<(GpuId, u64)>,
    /// Held: whose, and how much.
    pub held: Vec<(GpuId, u64)>,
    /// Whatever is held for these is paid.
    pub cleared: Vec<GpuId>,
    /// Whatever is held for these is lost.
    pub lost: Vec<GpuId>,
}

/// What a group of entries does to its GPUs' purses.
pub(crate) fn moves(records: &[u8]) -> Result<Moves, StoreError> {
    let entries =
        groups::unpack(records).ok_or_else(|| StoreError::Malformed("a group of entries".into()))?;
    let mut moves = Moves::default();
    for entry in entries {
        let share = (entry.share.0 > 0).then_some((entry.gpu, entry.share.0));
        match entry.standing {
            Standing::Proven => {
                moves.paid.extend(share);
                moves.cleared.push(entry.gpu);
            }
            Standing::Quarantined => moves.lost.push(entry.gpu),
            Standing::Suspect | Standing::Unproven | Standing::Retired => moves.held.extend(share),
        }
    }
    Ok(moves)
}
