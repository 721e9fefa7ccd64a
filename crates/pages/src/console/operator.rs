//! The operator's console: accounts and invitations, counts, refusals, keys and clusters.

use askama::Template;
use gangline_types::{AccountId, UnixSeconds, public::NetworkTotals};

use super::{ClusterRow, KeyRow};
use crate::{
    chrome::{Chrome, Role, draw},
    ui,
};

/// What the operator's console shows.
#[derive(Clone, Debug)]
pub struct OperatorView {
    /// The time the page is drawn for.
    pub now: UnixSeconds,
    /// A link that was made by the last form; it is shown this once.
    pub fresh_link: Option<FreshLink>,
    /// The network's totals.
    pub totals: NetworkTotals,
    /// Machines.
    pub machines: MachineCounts,
    /// Accounts, newest first.
    pub accounts: Vec<AccountRow>,
    /// Refused requests, newest first.
    pub refusals: Vec<RefusalRow>,
    /// Incidents that are not closed.
    pub incidents: u64,
    /// Freezes in force.
    pub freezes: u64,
    /// Dangerous acts that wait for a decision.
    pub approvals: u64,
    /// How many requests were refused in the last 24 hours.
    pub refusals_day: u64,
    /// Keys, newest first.
    pub keys: Vec<KeyRow>,
    /// Clusters, newest first.
    pub clusters: Vec<ClusterRow>,
}

/// How many machines there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineCounts {
    /// Joined and not left.
    pub registered: u64,
    /// Heard of within the last three minutes.
    pub connected: u64,
}

/// A one-time link that was just made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreshLink {
    /// Role of the account it opens.
    pub role: Role,
    /// Name of the account it opens; may be empty.
    pub name: String,
    /// The whole link.
    pub url: String,
    /// When it stops working.
    pub expires_at: UnixSeconds,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    /// Its id.
    pub id: AccountId,
    /// What it is called. Text from outside.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Machines it has.
    pub machines: u64,
    /// Clusters it has hired that are not released.
    pub clusters: u64,
    /// When it was made.
    pub created_at: UnixSeconds,
    /// When it was last signed in; 0 never.
    pub last_seen_at: UnixSeconds,
}

/// One refused request. Every text of it may have been chosen by an attacker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalRow {
    /// When.
    pub at: UnixSeconds,
    /// Why: a stable code.
    pub reason: String,
    /// What was tried.
    pub action: String,
    /// Who tried, as far as it was known: a key id, a session, or nobody.
    pub key: String,
    /// What it was tried on.
    pub resource: String,
    /// The network address it came from, or its block.
    pub address: String,
    /// How many attempts this stands for.
    pub count: u64,
}

#[derive(Template)]
#[template(path = "console/operator.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a OperatorView,
}

/// Draws the operator's console.
pub fn operator(chrome: &Chrome, view: &OperatorView) -> String {
    draw(Page { c: chrome, v: view })
}
