//! What is written down of every permitted write and every refusal.

use gangline_types::{AccountId, KeyId, SessionId, UnixSeconds};
use gangline_wire::Action;

/// One permitted act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it was permitted.
    pub at: UnixSeconds,
    /// Who.
    pub actor: String,
    /// The key it signed with, if it did.
    pub key: Option<KeyId>,
    /// The account behind it, if one is.
    pub account: Option<AccountId>,
    /// The browser's session, if it is one.
    pub session: Option<SessionId>,
    /// What.
    pub action: Action,
    /// On what.
    pub resource: String,
    /// By which rule.
    pub reason: &'static str,
}

/// One refused attempt, or several of the same asker that are alike. Text from outside is cut and made inert
/// before it gets here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedAttempt {
    /// When.
    pub at: UnixSeconds,
    /// Who, as far as was established; otherwise who was claimed, said so.
    pub actor: String,
    /// The key that was verified, or one that was claimed.
    pub key: Option<KeyId>,
    /// The account, where it was established.
    pub account: Option<AccountId>,
    /// How many attempts this stands for.
    pub count: u64,
    /// What was asked for.
    pub action: Action,
    /// Method and path.
    pub request: String,
    /// From where.
    pub address: String,
    /// The refusal's code.
    pub code: String,
    /// And its sentence.
    pub message: String,
}
