//! What GPUs are called, as a history: who called them so, what before and what after. From it exactly what
//! one actor did can be undone, and nothing that others did.

use gangline_guard::{Permit, act};
use gangline_types::{AccountId, GpuId, KeyId, Label, SessionId, UnixSeconds};
pub use gangline_wire::api::operate::Doer;

use crate::{Store, StoreError, books::answered};

/// One change of a GPU's label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelChange {
    /// The GPU.
    pub gpu: GpuId,
    /// When.
    pub at: UnixSeconds,
    /// The key that signed for it; none for a browser's session.
    pub key: Option<KeyId>,
    /// The account behind it; none where that was not written down yet.
    pub account: Option<AccountId>,
    /// The browser's session, if it was one.
    pub session: Option<SessionId>,
    /// Who, in the words of the audit.
    pub actor: String,
    /// What it was called.
    pub before: Label,
    /// And from then on.
    pub after: Label,
}

/// A label that goes back, or went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredLabel {
    /// The GPU.
    pub gpu: GpuId,
    /// What it is called.
    pub before: Label,
    /// What it is called without what the actor did.
    pub after: Label,
}

answered! { Store,
    /// What a key, account or session has called GPUs since then, oldest first.
    async fn label_changes(
        &self,
        permit: &Permit<act::Operate>,
        doer: Doer,
        since: UnixSeconds,
    ) -> Result<Vec<LabelChange>, StoreError>;

    /// What [`restore_labels`](Self::restore_labels) would do now.
    async fn restorable_labels(
        &self,
        permit: &Permit<act::Operate>,
        doer: Doer,
        since: UnixSeconds,
    ) -> Result<Vec<RestoredLabel>, StoreError>;

    /// Undoes exactly what somebody has called GPUs since then: each is called as if they had not touched it.
    /// What others have set since stays. Twice is once.
    async fn restore_labels(
        &self,
        permit: Permit<act::Operate>,
        doer: Doer,
        since: UnixSeconds,
    ) -> Result<Vec<RestoredLabel>, StoreError>;
}
