//! Forms of the server-drawn pages.

use gangline_types::{AccountId, EnrolmentId, Label, MachineId, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::account::Role;

/// A form that says only "do it".
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct CsrfOnly {
    /// The session's form token.
    pub csrf: String,
}

/// What a browser's authenticator answered.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct PasskeyAnswer {
    /// The session's form token, where somebody is signed in.
    #[serde(default)]
    pub csrf: String,
    /// What its owner calls a new passkey.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Label>,
    /// The credential as JSON (Web Authentication Level 3).
    pub credential: String,
}

/// A name and a password.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct PasswordAnswer {
    /// The session's form token, where somebody is signed in.
    #[serde(default)]
    pub csrf: String,
    /// The name that was chosen with the password.
    #[serde(default)]
    pub login: String,
    /// The password, as it was typed.
    #[serde(default)]
    pub password: String,
}

/// A password to be set.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct PasswordChoice {
    /// The session's form token.
    pub csrf: String,
    /// The name to sign in with.
    #[serde(default)]
    pub login: String,
    /// The password there is, unless the session was begun by a one-time link.
    #[serde(default)]
    pub current: String,
    /// The new one.
    #[serde(default)]
    pub password: String,
}

/// A question to a browser that has no fields but the form token, if there is one.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct PasskeyAskForm {
    /// The session's form token, where somebody is signed in.
    #[serde(default)]
    pub csrf: String,
    /// What its owner will call a new passkey: the form that asks is sent as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Label>,
}

/// A colour theme.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ThemeChoice {
    /// `dark`, `light` or `auto`.
    pub theme: String,
    /// Path to return to.
    pub back: String,
}

/// Where to go once signed in.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct SignInQuery {
    /// A path of this site; the console unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<String>,
    /// `yes`: the provider is to ask anew, although somebody is signed in there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<String>,
}

/// The identity provider's answer: a code, or why there is none. It may send more, which is not read.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct SignInAnswer {
    /// The authorization code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// As this server sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Who answers (RFC 9207).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Why there is no code: a word of RFC 6749 or OpenID Connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Which page of a console.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ConsoleQuery {
    /// A supplier's: only machines after this one, newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<MachineId>,
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

/// Yes or no to a dangerous act.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ApprovalChoice {
    /// The session's form token.
    pub csrf: String,
    /// `approve` or `decline`.
    pub decision: Text<16>,
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

/// What the security page is searched for, as somebody typed it: what is no id or word is shown as such.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct SecurityQuery {
    /// A key's or an account's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<Text<64>>,
    /// An action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Text<32>>,
    /// A refusal's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Text<32>>,
    /// Only of the last so many hours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<u32>,
    /// Only what was written down before this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Show what a freeze of this would stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freeze: Option<Text<64>>,
    /// Closed incidents too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<bool>,
}

/// What permitted acts are searched for, as somebody typed it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ActsQuery {
    /// A key's or an account's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub who: Option<Text<64>>,
    /// An action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Text<32>>,
    /// What it was on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Text<96>>,
    /// Since so many hours ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<u32>,
    /// And until so many hours ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u32>,
    /// Only what was written down before this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
}

/// What becomes of an incident.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct IncidentChoice {
    /// The session's form token.
    pub csrf: String,
    /// `acknowledged` or `closed`.
    pub state: Text<16>,
    /// Why, in a sentence.
    #[serde(default)]
    pub note: Text<240>,
}

/// What to freeze.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FreezeChoice {
    /// The session's form token.
    pub csrf: String,
    /// A key's id, an account's id, an action, or `fleet`.
    pub target: Text<64>,
    /// Why, in a sentence.
    #[serde(default)]
    pub reason: Text<240>,
    /// For how many hours; until it is lifted unless given.
    #[serde(default)]
    pub hours: Option<u32>,
}
