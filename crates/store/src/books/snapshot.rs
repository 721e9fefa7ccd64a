//! Seasons, snapshots and statements.

use gangline_guard::{Permit, act};
use gangline_rules::snapshot::PeriodInput;
use gangline_types::{
    Hash, Minute, Share,
    public::{PublicEntry, PublicSeason, PublicSnapshot},
};

use crate::{Store, StoreError, books::answered};

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
    /// counted minute in `from..to`. A period has one snapshot and keeps it.
    async fn take_snapshot(
        &self,
        permit: Permit<act::TakeSnapshot>,
        season: u32,
        from: Minute,
        to: Minute,
        compute: impl FnOnce(Hash, Vec<PeriodInput>) -> (PublicSnapshot, Vec<PublicEntry>) + Send,
    ) -> Result<PublicSnapshot, StoreError>;

    /// The account's sum over a season.
    async fn season_total(&self, permit: &Permit<act::ReadAccount>, season: u32) -> Result<Share, StoreError>;

    /// Which of the account's GPUs have an entry in a season's periods `from..=to`, oldest first.
    async fn account_entries(
        &self,
        permit: &Permit<act::ReadAccount>,
        season: u32,
        from: u32,
        to: u32,
    ) -> Result<Vec<(u32, PublicEntry)>, StoreError>;
}
