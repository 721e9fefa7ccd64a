//! Refused attempts, and what is kept for how long.

use gangline_guard::{Permit, act, audit::RefusedAttempt};
use gangline_types::UnixSeconds;

use crate::{Store, StoreError, books::answered};

/// A refused attempt for the operator's console.
#[derive(Clone, Debug)]
pub struct RefusalRow {
    /// When.
    pub at: UnixSeconds,
    /// Who, as far as was established.
    pub actor: String,
    /// What was asked for.
    pub action: String,
    /// Method and path.
    pub request: String,
    /// From where.
    pub address: String,
    /// Code.
    pub code: String,
    /// Sentence.
    pub message: String,
}

answered! { Store,
    /// Writes refused attempts down. They are the guard's own record and need no permit.
    async fn refused(&self, attempts: &[RefusedAttempt]) -> Result<(), StoreError>;

    /// The newest refusals, at most 100.
    async fn refusals(&self, permit: &Permit<act::Operate>) -> Result<Vec<RefusalRow>, StoreError>;

    /// How many were refused since then.
    async fn refusals_since(
        &self,
        permit: &Permit<act::Operate>,
        since: UnixSeconds,
    ) -> Result<u64, StoreError>;

    /// Forgets what is past keeping: old refusals, ended sessions, used links, decided requests.
    async fn sweep(&self, permit: &Permit<act::Reconcile>) -> Result<(), StoreError>;
}
