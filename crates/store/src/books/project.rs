//! Filling the public projection: from the books into rows that hold no owner. This is the one place
//! where private and public rows meet, and it goes one way.

use gangline_guard::{Permit, act};
use gangline_types::public::{NetworkTotals, PublicGpu};

use crate::{Store, StoreError, books::answered};

/// What a projection changed.
#[derive(Clone, Debug, Default)]
pub struct Projected {
    /// The totals as they are now.
    pub totals: NetworkTotals,
    /// GPUs whose standing or connection changed.
    pub changed: Vec<PublicGpu>,
}

answered! { Store,
    /// Brings the public projection up to date.
    async fn project(&self, permit: &Permit<act::Project>) -> Result<Projected, StoreError>;
}
