//! Refused attempts, and what is kept for how long.

use gangline_guard::{Permit, act, audit::RefusedAttempt};
use gangline_types::{AccountId, KeyId, UnixSeconds};

use crate::{Store, StoreError, books::answered, sql::Columns};

/// How many refusals are kept at most.
pub(crate) const REFUSALS_MAX: i64 = 200_000;

/// Which refused attempts or permitted acts. What is not given is not looked at.
#[derive(Clone, Debug, Default)]
pub struct RecordQuery {
    /// By this key.
    pub key: Option<KeyId>,
    /// By this account.
    pub account: Option<AccountId>,
    /// Of this action.
    pub action: Option<String>,
    /// On this; means nothing for refusals.
    pub resource: Option<String>,
    /// Refused with this code; means nothing for acts.
    pub code: Option<String>,
    /// From then on.
    pub from: Option<UnixSeconds>,
    /// Before then.
    pub to: Option<UnixSeconds>,
    /// Only what was written down before the one with this number.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: u32,
}

/// The same for acts.
pub type AuditQuery = RecordQuery;

/// How far servers' clocks may be apart where rows are looked for by number instead of by time, in seconds.
pub(crate) const CLOCKS_APART_SECONDS: u64 = 300;

/// What leads a search of acts: the one of its parts that an index knows and that fits the fewest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// One key's are the fewest.
    Key,
    /// What happened to one thing.
    Resource,
    /// One account's.
    Account,
    /// Of one action.
    Action,
    /// Nothing: the newest of all.
    Newest,
}

impl RecordQuery {
    /// What leads a search of acts.
    pub(crate) fn lead(&self) -> Lead {
        match self {
            Self { key: Some(_), .. } => Lead::Key,
            Self { resource: Some(_), .. } => Lead::Resource,
            Self { account: Some(_), .. } => Lead::Account,
            Self { action: Some(_), .. } => Lead::Action,
            _ => Lead::Newest,
        }
    }
}

/// A permitted act.
#[derive(Clone, Debug)]
pub struct AuditRow {
    /// Its number, rising.
    pub id: u64,
    /// When it was permitted.
    pub at: UnixSeconds,
    /// Who, in words.
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

/// A refused attempt for the operator's console, or several that are alike.
#[derive(Clone, Debug)]
pub struct RefusalRow {
    /// Its number, rising.
    pub id: u64,
    /// The key that was verified or claimed.
    pub key: Option<KeyId>,
    /// The account, where it was established.
    pub account: Option<AccountId>,
    /// How many attempts this stands for.
    pub count: u64,
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

pub(crate) fn audit_row(r: &impl Columns) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        id: r.int("id")?,
        at: r.at("at")?,
        actor: r.text("actor")?,
        key: r.id_or_none("key")?,
        account: r.id_or_none("account")?,
        action: r.text("action")?,
        resource: r.text("resource")?,
        reason: r.text("reason")?,
        detail: r.text("detail")?,
    })
}

answered! { Store,
    /// Writes refused attempts down. They are the guard's own record and need no permit.
    async fn refused(&self, attempts: &[RefusedAttempt]) -> Result<(), StoreError>;

    /// Refusals, newest first.
    async fn refusals(
        &self,
        permit: &Permit<act::Operate>,
        query: &RecordQuery,
    ) -> Result<Vec<RefusalRow>, StoreError>;

    /// Permitted acts, newest first. Each search walks along an index, so that it is as quick among many as among few.
    async fn acts(
        &self,
        permit: &Permit<act::Operate>,
        query: &AuditQuery,
    ) -> Result<Vec<AuditRow>, StoreError>;

    /// How many attempts were refused since then.
    async fn refusals_since(
        &self,
        permit: &Permit<act::Operate>,
        since: UnixSeconds,
    ) -> Result<u64, StoreError>;

    /// Forgets what is past keeping: refusals, messages and closed incidents older than `kept_seconds`, ended sessions,
    /// used links, decided requests; and of refusals older than `addresses_seconds` all of the address but its block.
    async fn sweep(
        &self,
        permit: &Permit<act::Reconcile>,
        kept_seconds: u64,
        addresses_seconds: u64,
    ) -> Result<(), StoreError>;
}
