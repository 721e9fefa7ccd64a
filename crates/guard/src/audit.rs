//! What is written down of every permitted write and every refusal.

use gangline_types::UnixSeconds;
use gangline_wire::Action;

/// One permitted act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// When it was permitted.
    pub at: UnixSeconds,
    /// Who.
    pub actor: String,
    /// What.
    pub action: Action,
    /// On what.
    pub resource: String,
    /// By which rule.
    pub reason: &'static str,
}

/// One refused attempt. Text from outside is cut and made inert before it gets here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedAttempt {
    /// When.
    pub at: UnixSeconds,
    /// Who, as far as was established; otherwise who was claimed, said so.
    pub actor: String,
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
