//! Old uptime, packed.

use gangline_guard::{Permit, act};
use gangline_types::{GpuId, Hour};

use crate::{Store, StoreError, books::answered};

/// What one turn of packing did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The last GPU that was packed; none: there was nothing more to do.
    pub last: Option<GpuId>,
    /// Hours that moved.
    pub hours: u64,
}

answered! { Store,
    /// Packs days that ended before `before`, of some thousands of GPUs after `after`, in the books or in the public
    /// projection; and forgets their months before the one that `kept_from` is in. Doing so twice changes nothing.
    async fn pack_uptime(
        &self,
        permit: &Permit<act::Reconcile>,
        public: bool,
        before: Hour,
        kept_from: Hour,
        after: Option<GpuId>,
    ) -> Result<Packed, StoreError>;

    /// Packs values of chains for hours of days that ended before `before`, of some thousands of GPUs after `after`: the
    /// deepest of a day is kept and stands at the day's first hour. Forgets chains and their values from before
    /// `kept_from`.
    async fn pack_links(
        &self,
        permit: &Permit<act::Reconcile>,
        public: bool,
        before: Hour,
        kept_from: Hour,
        after: Option<GpuId>,
    ) -> Result<Packed, StoreError>;
}
