//! Messages to people outside about incidents: what they were told, what waits, what arrived, and dead letters. A
//! message is in the books before it is sent anywhere, so a restart loses none.

use gangline_guard::{
    Permit, act,
    notice::{Event, Outlet, tell::SentLately},
};
use gangline_types::{DeliveryId, IncidentId, UnixMillis, UnixSeconds};
use serde::{Deserialize, Serialize};

use crate::{IncidentRow, Store, StoreError, books::answered, sql::Columns};

/// Incidents that one look for what is unsaid takes up.
pub(crate) const UNSAID_MAX: i64 = 1_000;
/// How long messages that arrived are kept, in seconds: 30 days. Dead letters are kept as long as refusals.
pub(crate) const SENT_KEPT_SECONDS: u64 = 30 * 24 * 3_600;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It waits for its next try.
    Waiting,
    /// It arrived.
    Sent,
    /// It did not, and is not tried again by itself.
    Dead,
}

/// An incident of which an outlet was not told as it stands.
#[derive(Clone, Debug)]
pub struct UnsaidIncident {
    /// As it stands.
    pub incident: IncidentRow,
    /// How often it had come when it was told last; none if never.
    pub told_count: Option<u64>,
}

/// A message to be made.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// Its id, the same at every try.
    pub id: DeliveryId,
    /// By which way it goes.
    pub outlet: Outlet,
    /// What it is about.
    pub event: Event,
    /// What stands above it, in a line.
    pub subject: String,
    /// The message, the same at every try.
    pub body: String,
    /// Its incidents, with what is told of each and how often it has come.
    pub about: Vec<(IncidentId, Event, u64)>,
}

/// A message that is being tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Which.
    pub id: DeliveryId,
    /// When it was made.
    pub made_at: UnixSeconds,
    /// What stands above it.
    pub subject: String,
    /// The message.
    pub body: String,
    /// Which try this is, from 1.
    pub tries: u32,
    /// When it counts as broken off.
    pub until: UnixMillis,
}

/// How a try ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It arrived.
    Sent,
    /// It did not; again then.
    Again {
        /// When.
        due_at: UnixMillis,
        /// Why.
        error: String,
    },
    /// It did not, and is not tried again.
    Dead {
        /// Why.
        error: String,
    },
}

/// A message as the console shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Which.
    pub id: DeliveryId,
    /// By which way.
    pub outlet: Outlet,
    /// What it is about.
    pub event: Event,
    /// What stands above it.
    pub subject: String,
    /// When it was made.
    pub made_at: UnixSeconds,
    /// What became of it.
    pub state: DeliveryState,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next, if it waits.
    pub due_at: UnixMillis,
    /// When it arrived or was given up.
    pub settled_at: Option<UnixSeconds>,
    /// Why the last try failed; empty if none did.
    pub error: String,
}

answered! { Store,
    /// Incidents that an outlet was not told of as they stand, at most 1,000.
    async fn unsaid(&self, permit: &Permit<act::Watch>, outlet: Outlet) -> Result<Vec<UnsaidIncident>, StoreError>;

    /// What an outlet was sent since then.
    async fn sent_lately(
        &self,
        permit: &Permit<act::Watch>,
        outlet: Outlet,
        since: UnixSeconds,
    ) -> Result<SentLately, StoreError>;

    /// Makes messages, and notes what is told by them, in one.
    async fn make_deliveries(&self, permit: &Permit<act::Watch>, new: &[NewDelivery]) -> Result<(), StoreError>;

    /// Takes messages of an outlet that are due, at most `limit`: nobody else is given them before `until`, and
    /// whoever takes them has settled by then, or counts as broken off.
    async fn claim_deliveries(
        &self,
        permit: &Permit<act::Watch>,
        outlet: Outlet,
        now: UnixMillis,
        until: UnixMillis,
        limit: u32,
    ) -> Result<Vec<Claimed>, StoreError>;

    /// Says how a try ended; false if another try of the same message has begun since, which then decides.
    async fn settle_delivery(
        &self,
        permit: &Permit<act::Watch>,
        tried: &Claimed,
        settled: &Settled,
    ) -> Result<bool, StoreError>;

    /// Messages, dead letters first, then those that wait, then the newest that arrived; at most 100.
    async fn deliveries(&self, permit: &Permit<act::Operate>) -> Result<Vec<DeliveryRow>, StoreError>;

    /// Has a dead letter tried again, as if it were new.
    ///
    /// # Errors
    /// [`StoreError::Gone`] if it is no dead letter.
    async fn send_again(&self, permit: Permit<act::Contain>, id: DeliveryId) -> Result<(), StoreError>;
}

pub(crate) fn delivery_row(row: &impl Columns) -> Result<DeliveryRow, StoreError> {
    Ok(DeliveryRow {
        id: row.id("id")?,
        outlet: row.word("outlet")?,
        event: row.word("event")?,
        subject: row.text("subject")?,
        made_at: row.at("made_at")?,
        state: row.word("state")?,
        tries: row.int("tries")? as u32,
        due_at: UnixMillis(row.int("due_at")?),
        settled_at: row.at_or_none("settled_at")?,
        error: row.text("error")?,
    })
}

pub(crate) fn claimed(row: &impl Columns) -> Result<Claimed, StoreError> {
    Ok(Claimed {
        id: row.id("id")?,
        made_at: row.at("made_at")?,
        subject: row.text("subject")?,
        body: row.text("body")?,
        tries: row.int("tries")? as u32,
        until: UnixMillis(row.int("due_at")?),
    })
}

/// State, next try, error and end of a message whose try ended so.
pub(crate) fn settled_columns(
    permit: &Permit<act::Watch>,
    settled: &Settled,
) -> (DeliveryState, Option<i64>, String, Option<i64>) {
    let now = Some(permit.at().0 as i64);
    match settled {
        Settled::Sent => (DeliveryState::Sent, None, String::new(), now),
        Settled::Again { due_at, error } => {
            (DeliveryState::Waiting, Some(due_at.0 as i64), error.clone(), None)
        }
        Settled::Dead { error } => (DeliveryState::Dead, None, error.clone(), now),
    }
}
