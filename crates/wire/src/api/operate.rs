//! What an operator does by command line.

use gangline_types::{
    AccountId, DeliveryId, FreezeId, GpuId, IncidentId, KeyId, Label, Seconds, SessionId, Text, UnixMillis,
    UnixSeconds,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Somebody whose changes are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Doer {
    /// What was signed with this key.
    Key(KeyId),
    /// What this account did, by any of its keys or in a browser.
    Account(AccountId),
    /// What was done in this session of a browser.
    Session(SessionId),
}

impl std::fmt::Display for Doer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Account(account) => account.fmt(f),
            Self::Session(session) => session.fmt(f),
        }
    }
}

impl std::str::FromStr for Doer {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let key = text.parse().map(Self::Key);
        let account = key.or_else(|_| text.parse().map(Self::Account));
        account
            .or_else(|_| text.parse().map(Self::Session))
            .map_err(|_| "expected the id of a key (key_...), an account (acct_...) or a session (ses_...)")
    }
}

/// Who may approve a dangerous act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Approver {
    /// Whoever asked by a command line, in a browser.
    Oneself,
    /// An operator other than the one who asked.
    Another,
    /// Whoever asked, because there is no other operator; it is done only after a delay that everybody can see.
    Alone,
}

impl Approver {
    /// Every one.
    pub const ALL: &'static [Self] = &[Self::Oneself, Self::Another, Self::Alone];
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Oneself => "oneself",
            Self::Another => "another",
            Self::Alone => "alone",
        }
    }
}

/// Asks that what somebody called GPUs be undone.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RestoreRequest {
    /// Whose changes go.
    pub doer: Doer,
    /// From this second on.
    pub since: UnixSeconds,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// One GPU's name that goes back, or went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoredName {
    /// The GPU.
    pub gpu: GpuId,
    /// What it was called.
    pub before: Label,
    /// What it is called without what that key did.
    pub after: Label,
}

/// What was restored, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreReport {
    /// Every GPU whose name changes.
    pub restored: Vec<RestoredName>,
}

/// Which incidents.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct IncidentsQuery {
    /// Those that are closed too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<bool>,
}

/// Something that was noticed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentView {
    /// Which.
    pub incident: IncidentId,
    /// What: `foreign_touch`, `breadth`, `surge`, `refusals`, `enumeration`, `enrolment_flood`,
    /// `proof_failures`, `coverage`, `witness_refused`, `witness_late`, `broken_off`, `approval_wanted` or `unusual`.
    pub what: String,
    /// About whom or what.
    pub subject: String,
    /// `notice`, `warning` or `urgent`.
    pub severity: String,
    /// `open`, `acknowledged` or `closed`.
    pub state: String,
    /// When it was opened.
    pub opened_at: UnixSeconds,
    /// When it last came.
    pub last_at: UnixSeconds,
    /// How often it came.
    pub count: u64,
    /// The key that was verified, if one was.
    pub key: Option<KeyId>,
    /// The account behind it, if one is.
    pub account: Option<AccountId>,
    /// From which block of addresses; may be empty.
    pub block: String,
    /// What was done or tried; may be empty.
    pub action: String,
    /// On which; may be empty.
    pub resource: String,
    /// How much, in the unit of what was noticed.
    pub seen: f64,
    /// How much is usual or allowed.
    pub usual: f64,
    /// What somebody wrote of it.
    pub note: String,
}

/// What a webhook is sent, in the form of Standard Webhooks. docs/OUTLETS.md says how it is signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Told {
    /// `incident.opened`, `incident.grew`, `incident.closed`, or `incident.many`.
    #[serde(rename = "type")]
    pub event: String,
    /// When the message was made, as in RFC 3339.
    pub timestamp: String,
    /// What it is about.
    pub data: ToldData,
}

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToldData {
    /// Origin of the network.
    pub network: String,
    /// Where an operator sees and does more.
    pub console: String,
    /// Incidents, the worst first: one, unless the message is of `incident.many`.
    pub incidents: Vec<ToldIncident>,
    /// How many more there are that are not spelled out.
    pub more: u64,
}

/// What is told of an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ToldIncident {
    /// `incident.opened`, `incident.grew` or `incident.closed`.
    pub event: String,
    /// As it stood.
    #[serde(flatten)]
    pub incident: IncidentView,
}

/// A message to somebody outside about incidents.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeliveryView {
    /// Which.
    pub delivery: DeliveryId,
    /// `webhook` or `mail`.
    pub outlet: String,
    /// What stands above it.
    pub subject: String,
    /// When it was made.
    pub made_at: UnixSeconds,
    /// `waiting`, `sent` or `dead`.
    pub state: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next, if it waits.
    pub due_at: Option<UnixMillis>,
    /// When it arrived or was given up.
    pub settled_at: Option<UnixSeconds>,
    /// Why the last try failed; empty if none did.
    pub error: String,
}

/// Says what becomes of an incident.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct IncidentChange {
    /// `acknowledged` or `closed`.
    pub state: Text<16>,
    /// Why, in a sentence.
    #[serde(default)]
    pub note: Text<240>,
}

/// Asks for a freeze.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FreezeRequest {
    /// A key's id, an account's id, an action that changes something (such as `label_gpu`), or `fleet`.
    pub target: Text<64>,
    /// Why, in a sentence.
    #[serde(default)]
    pub reason: Text<240>,
    /// How long; until it is lifted unless given.
    #[serde(default)]
    pub seconds: Option<Seconds>,
    /// Only say what it would stop.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a freeze would have stopped in the last minutes, as this server saw them. Heartbeats are never among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FreezePreview {
    /// How many minutes were looked at.
    pub minutes: u64,
    /// Keys that changed something in them.
    pub keys: u64,
    /// Accounts.
    pub accounts: u64,
    /// Machines.
    pub machines: u64,
    /// Changes.
    pub requests: u64,
}

/// A freeze, or what it would be.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FreezeAnswer {
    /// The freeze; none if it was only asked what it would stop.
    pub freeze: Option<FreezeId>,
    /// What it would have stopped.
    pub preview: FreezePreview,
}

/// A freeze.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct FreezeView {
    /// Which.
    pub freeze: FreezeId,
    /// What it stops.
    pub target: String,
    /// Since when.
    pub since: UnixSeconds,
    /// When it ends by itself, if it does.
    pub until: Option<UnixSeconds>,
    /// Who made it.
    pub made_by: String,
    /// Why.
    pub reason: String,
    /// For which incident, if for one.
    pub incident: Option<IncidentId>,
    /// When it was lifted, if it was.
    pub lifted_at: Option<UnixSeconds>,
}

/// Which refusals or permitted acts, newest first. What is not given is not looked at.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct RecordsQuery {
    /// By this key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyId>,
    /// By this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<AccountId>,
    /// Of this action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Text<32>>,
    /// On this: an id, or `network`; for acts alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Text<96>>,
    /// Refused with this code; for refusals alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Text<32>>,
    /// From this second on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<UnixSeconds>,
    /// Before this second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<UnixSeconds>,
    /// Only what was written down before this number: the last one of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// At most this many, up to 500; 100 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A refused attempt, or several of one asker that are alike. Texts are the sender's, cut and made inert.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RefusalView {
    /// Its number, rising.
    pub number: u64,
    /// When, the first of them.
    pub at: UnixSeconds,
    /// Who, as far as was established.
    pub actor: String,
    /// The key that was verified, or one that was claimed.
    pub key: Option<KeyId>,
    /// The account, where it was established.
    pub account: Option<AccountId>,
    /// How many attempts this stands for.
    pub count: u64,
    /// What was asked for.
    pub action: String,
    /// Method and path.
    pub request: String,
    /// From where.
    pub address: String,
    /// Why not, as a code.
    pub code: String,
    /// And as a sentence.
    pub message: String,
}

/// A permitted act.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ActView {
    /// Its number, rising.
    pub number: u64,
    /// When it was permitted.
    pub at: UnixSeconds,
    /// Who.
    pub actor: String,
    /// The key that signed, if one did.
    pub key: Option<KeyId>,
    /// The account, if one is behind it.
    pub account: Option<AccountId>,
    /// What.
    pub action: String,
    /// On what.
    pub resource: String,
    /// By which policy.
    pub reason: String,
    /// What was done.
    pub detail: String,
}
