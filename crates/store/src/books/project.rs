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
    /// GPUs whose standing or connection changed, at most [`TOLD_MAX`] of them.
    pub changed: Vec<PublicGpu>,
    /// There was more to do than one look takes on.
    pub more: bool,
}

/// Changed GPUs that one look tells of: watchers could not follow more.
pub const TOLD_MAX: usize = 200;

answered! { Store,
    /// Brings the public projection nearer to the books: what changed since the last look, at most some thousands
    /// of GPUs at once, so that nobody waits for it long.
    async fn project(&self, permit: &Permit<act::Project>) -> Result<Projected, StoreError>;
}
