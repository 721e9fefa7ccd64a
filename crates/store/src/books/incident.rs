//! What was noticed and what became of it.

pub use gangline_guard::notice::IncidentState;
use gangline_guard::{
    Permit, act,
    notice::{Raised, Severity},
};
use gangline_types::{AccountId, IncidentId, KeyId, UnixSeconds};

use crate::{Store, StoreError, books::answered, sql::Columns};

/// An alarm, with how often it came.
#[derive(Clone, Debug)]
pub struct NewIncident {
    /// The id it gets if it opens one.
    pub id: IncidentId,
    /// The newest of those that are alike.
    pub raised: Raised,
    /// How many there are.
    pub count: u64,
}

/// Where an alarm went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotedIncident {
    /// The incident.
    pub id: IncidentId,
    /// Whether this opened it.
    pub opened: bool,
    /// How often it came so far.
    pub count: u64,
}

/// An incident as it stands.
#[derive(Clone, Debug)]
pub struct IncidentRow {
    /// Which.
    pub id: IncidentId,
    /// What was noticed: a word of [`What`](gangline_guard::detect::What).
    pub what: String,
    /// About whom or what.
    pub subject: String,
    /// How bad.
    pub severity: Severity,
    /// What becomes of it.
    pub state: IncidentState,
    /// When it was opened.
    pub opened_at: UnixSeconds,
    /// When it last came.
    pub last_at: UnixSeconds,
    /// How often.
    pub count: u64,
    /// The key, where one was verified.
    pub key: Option<KeyId>,
    /// The account behind it.
    pub account: Option<AccountId>,
    /// From where; empty where that means nothing.
    pub block: String,
    /// What was done or tried.
    pub action: String,
    /// On which.
    pub resource: String,
    /// How much, in the unit of what was noticed.
    pub seen: f64,
    /// How much is usual or allowed.
    pub usual: f64,
    /// When somebody last said what becomes of it.
    pub changed_at: Option<UnixSeconds>,
    /// Who.
    pub changed_by: String,
    /// And their words.
    pub note: String,
}

answered! { Store,
    /// Opens an incident, or folds an alarm into the one on the same that is not closed.
    async fn note_incident(
        &self,
        permit: &Permit<act::Watch>,
        new: &NewIncident,
    ) -> Result<NotedIncident, StoreError>;

    /// Incidents, those that came last first, at most 200; without `closed` only those that are not closed.
    async fn incidents(&self, permit: &Permit<act::Operate>, closed: bool) -> Result<Vec<IncidentRow>, StoreError>;

    /// One incident.
    async fn incident(&self, permit: &Permit<act::Watch>, id: IncidentId) -> Result<Option<IncidentRow>, StoreError>;

    /// Says what becomes of an incident.
    async fn set_incident(
        &self,
        permit: Permit<act::Contain>,
        id: IncidentId,
        state: IncidentState,
        note: &str,
    ) -> Result<(), StoreError>;

    /// GPUs that are there: of the machine, and of the account.
    async fn gpus_owned(
        &self,
        permit: &Permit<act::Watch>,
        machine: Option<gangline_types::MachineId>,
        account: AccountId,
    ) -> Result<(u64, u64), StoreError>;

    /// Machines that have not left and were heard of after `known_since`, and how many of them beat after it and have not
    /// after `beat_since`.
    async fn missing_machines(
        &self,
        permit: &Permit<act::Watch>,
        known_since: UnixSeconds,
        beat_since: UnixSeconds,
    ) -> Result<(u64, u64), StoreError>;
}

pub(crate) fn incident_row(row: &impl Columns) -> Result<IncidentRow, StoreError> {
    Ok(IncidentRow {
        id: row.id("id")?,
        what: row.text("what")?,
        subject: row.text("subject")?,
        severity: row.word("severity")?,
        state: row.word("state")?,
        opened_at: row.at("opened_at")?,
        last_at: row.at("last_at")?,
        count: row.int("count")?,
        key: row.id_or_none("key")?,
        account: row.id_or_none("account")?,
        block: row.text("block")?,
        action: row.text("action")?,
        resource: row.text("resource")?,
        seen: row.real("seen")?,
        usual: row.real("usual")?,
        changed_at: row.at_or_none("changed_at")?,
        changed_by: row.text("changed_by")?,
        note: row.text("note")?,
    })
}
