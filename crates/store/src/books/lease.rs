//! Leases: which of several servers does a background job. With one server it is always that one.

use std::future::Future;

use crate::{Store, StoreError, books::answered};

/// How long a lease holds without being renewed, in seconds. Whoever stops is followed by another after this and
/// the time between two questions; that has to stay below ten.
pub const HELD_SECONDS: u32 = 4;

/// The right to do one background job for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The job.
    pub name: &'static str,
    /// Grows by one with every change of holder. Writes of an older one are refused.
    pub generation: u64,
}

tokio::task_local! {
    static HELD: Lease;
}

/// The lease under which the running task writes.
pub(crate) fn current() -> Option<Lease> {
    HELD.try_with(|lease| *lease).ok()
}

impl Lease {
    /// Does `work` under this lease: every transaction in it is refused with [`StoreError::LeaseLost`] once
    /// another server holds the lease.
    pub async fn holding<F: Future>(self, work: F) -> F::Output {
        HELD.scope(self, work).await
    }
}

answered! { Store,
    /// Takes or renews a lease; none while another server holds it.
    async fn lease(&self, name: &'static str) -> Result<Option<Lease>, StoreError>;

    /// Gives every lease of this server back, so that another follows at once.
    async fn give_leases_back(&self) -> Result<(), StoreError>;
}
