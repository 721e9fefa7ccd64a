//! The consoles of the three roles. They show what the server hands them and post forms; what a role
//! may do is decided elsewhere, at each post.

mod acts;
mod approvals;
mod operator;
mod renter;
mod security;
mod sign_in;
mod supplier;

use gangline_types::{ClusterId, GpuId, KeyId, MicroCredits, Seconds, UnixSeconds, cluster::ClusterState};

pub use acts::{ActRow, ActsView, acts};
pub use approvals::{ApprovalRow, ApprovalState, ApprovalsView, approvals};
pub use operator::{AccountRow, FreshLink, MachineCounts, OperatorView, RefusalRow, operator};
pub use renter::{ReceiptRow, RenterView, renter};
pub use security::{DeliveryRow, FreezeRow, IncidentRow, SecurityView, StopPreview, WitnessRow, security};
pub use sign_in::{SignInView, sign_in, sign_out};
pub use supplier::{MachineRow, MachineState, Statement, StatementLine, SupplierView, supplier};

/// One enrolled key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// Its id.
    pub id: KeyId,
    /// What holds it, in words: `machine`, `command line`.
    pub kind: String,
    /// What it is called: the machine's or host's name. Text from outside.
    pub name: String,
    /// Fingerprint of the public key.
    pub fingerprint: String,
    /// Name of the account it is bound to; empty where it is the viewer's own.
    pub account: String,
    /// When it was approved.
    pub enrolled_at: UnixSeconds,
    /// When it last signed something accepted; 0 never.
    pub last_used_at: UnixSeconds,
    /// When it was revoked; `None` while it is valid.
    pub revoked_at: Option<UnixSeconds>,
    /// The key in whose place it is.
    pub follows: Option<KeyId>,
    /// When it ends, or ended, by itself: another is in its place, or it waits for its first use.
    pub ends_at: Option<UnixSeconds>,
}

impl KeyRow {
    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&self, now: &UnixSeconds) -> bool {
        self.ends_at.is_some_and(|at| at <= *now)
    }
}

/// One hired cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRow {
    /// Its id.
    pub id: ClusterId,
    /// What it does.
    pub state: ClusterState,
    /// Why, in words, where the state wants explaining; else empty.
    pub detail: String,
    /// The GPU it runs on.
    pub gpu: GpuId,
    /// The GPU's model as claimed.
    pub model: String,
    /// Name of the renter's account; empty where it is the viewer's own.
    pub account: String,
    /// When it was asked for.
    pub asked_at: UnixSeconds,
    /// When it ends by itself.
    pub until: UnixSeconds,
    /// When it was released; `None` while it is not.
    pub ended_at: Option<UnixSeconds>,
    /// Metered GPU-seconds so far.
    pub gpu_seconds: Seconds,
    /// Price of a GPU-hour.
    pub price_per_hour: MicroCredits,
    /// Cost so far.
    pub cost: MicroCredits,
}

impl ClusterRow {
    /// Whether releasing it still means anything.
    fn may_release(&self) -> bool {
        !self.state.is_over() && self.state != ClusterState::Releasing
    }
}
