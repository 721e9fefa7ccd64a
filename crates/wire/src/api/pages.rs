//! Forms of the server-drawn pages.

use gangline_types::{AccountId, EnrolmentId, Label};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::account::Role;

/// A form that says only "do it".
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct CsrfOnly {
    /// The session's form token.
    pub csrf: String,
}

/// A colour theme.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ThemeChoice {
    /// `dark`, `light` or `auto`.
    pub theme: String,
    /// Path to return to.
    pub back: String,
}

/// Which code.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ApproveQuery {
    /// As shown by the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
}

/// Yes or no.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ApproveDecision {
    /// The session's form token.
    pub csrf: String,
    /// Which request: what was on the page, so that nothing else can be approved by it.
    pub enrolment: EnrolmentId,
    /// `approve` or `deny`.
    pub decision: String,
}

/// Whom to invite.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct InviteChoice {
    /// The session's form token.
    pub csrf: String,
    /// Role of a new account.
    #[serde(default)]
    pub role: Option<Role>,
    /// Name of a new account.
    #[serde(default)]
    pub name: Option<Label>,
    /// Or: a further sign-in link for this account.
    #[serde(default)]
    pub account: Option<AccountId>,
}

/// What to call a GPU.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct LabelChoice {
    /// The session's form token.
    pub csrf: String,
    /// The name; empty takes it away.
    #[serde(default)]
    pub label: Label,
}
