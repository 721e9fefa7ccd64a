//! Old entries of snapshots, packed.

use gangline_guard::{Permit, act};
use gangline_rules::spans::{SPAN, Sums, unpack};
use gangline_types::public::{PublicEntry, PublicSeason};

use crate::{Store, StoreError, books::answered};

answered! { Store,
    /// Packs the entries of a span of 24 periods whose snapshots are all taken, in the books or in the public projection. They
    /// are given as before, to the byte. A try that broke off is begun anew.
    async fn pack_entries(
        &self,
        permit: &Permit<act::Reconcile>,
        public: bool,
        season: &PublicSeason,
        span: u32,
    ) -> Result<(), StoreError>;

    /// How many spans of a season are packed: they are packed in order.
    async fn packed_spans(
        &self,
        permit: &Permit<act::Reconcile>,
        public: bool,
        season: u32,
    ) -> Result<u32, StoreError>;
}

/// What shares follow from.
pub(crate) fn sums_of(bytes: &[u8]) -> Result<Sums, StoreError> {
    Sums::unpack(bytes).ok_or_else(|| StoreError::Malformed("sums of packed entries".into()))
}

/// One period's entries of packed GPUs.
pub(crate) fn of_period(bytes: &[u8], sums: &Sums, period: u32) -> Result<Vec<PublicEntry>, StoreError> {
    let held = unpack(bytes, sums).ok_or_else(|| StoreError::Malformed("packed entries".into()))?;
    let n = period as usize % SPAN;
    Ok(held.into_iter().filter_map(|mut held| held.entries[n].take()).collect())
}
