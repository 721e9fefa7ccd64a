//! The operator's security page: what was noticed, what is frozen, and a search of refusals.

use askama::Template;
use gangline_types::{DeliveryId, FreezeId, IncidentId, UnixSeconds};

use super::RefusalRow;
use crate::{
    chrome::{Chrome, draw},
    paths, ui,
};

/// What the security page shows.
#[derive(Clone, Debug, Default)]
pub struct SecurityView {
    /// The time the page is drawn for.
    pub now: UnixSeconds,
    /// Incidents, those that came last first.
    pub incidents: Vec<IncidentRow>,
    /// Whether closed ones are among them.
    pub closed: bool,
    /// Freezes, newest first; those that are over too.
    pub freezes: Vec<FreezeRow>,
    /// Witnesses of the log, and how each last answered.
    pub witnesses: Vec<WitnessRow>,
    /// Who outside is told, and where that leads.
    pub outlets: Vec<(String, String)>,
    /// Messages to them: dead letters first, then those that wait, then those that arrived.
    pub deliveries: Vec<DeliveryRow>,
    /// What a freeze would stop, if that was asked.
    pub stop: Option<StopPreview>,
    /// Refusals that were searched for, newest first.
    pub refusals: Vec<RefusalRow>,
    /// The number before which older ones are, if there are more.
    pub older: Option<u64>,
    /// What is wrong with what was searched for.
    pub problem: Option<String>,
    /// What was searched for: a key or account.
    pub who: String,
    /// An action.
    pub action: String,
    /// A code.
    pub code: String,
    /// How far back.
    pub hours: Option<u32>,
}

/// Something that was noticed. Texts may have been chosen by an attacker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IncidentRow {
    /// Its id.
    pub id: IncidentId,
    /// What was noticed, in words.
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
    /// How often.
    pub count: u64,
    /// The account behind it; may be empty.
    pub account: String,
    /// From where; may be empty.
    pub from: String,
    /// What was done or tried; may be empty.
    pub action: String,
    /// On which; may be empty.
    pub resource: String,
    /// What somebody wrote of it.
    pub note: String,
}

/// A witness of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessRow {
    /// Its name.
    pub name: String,
    /// Where it is asked.
    pub at: String,
    /// How it last answered, in a word.
    pub state: String,
    /// Entries that it has cosigned last.
    pub size: u64,
    /// When, if it has.
    pub cosigned_at: Option<UnixSeconds>,
    /// Why it did not cosign; empty if it did. Its words, or ours.
    pub error: String,
}

/// A message to somebody outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Its id.
    pub id: DeliveryId,
    /// `webhook` or `mail`.
    pub outlet: String,
    /// What stands above it; an attacker may have chosen some of it.
    pub subject: String,
    /// When it was made.
    pub made_at: UnixSeconds,
    /// `waiting`, `sent` or `dead`.
    pub state: String,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried next, if it waits.
    pub due_at: UnixSeconds,
    /// When it arrived or was given up.
    pub settled_at: Option<UnixSeconds>,
    /// Why the last try failed: the other side's words.
    pub error: String,
}

/// A freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreezeRow {
    /// Its id.
    pub id: FreezeId,
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
    /// When it was over, if it is.
    pub over: Option<UnixSeconds>,
}

/// What a freeze would have stopped in the last minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopPreview {
    /// Of what.
    pub target: String,
    /// How many minutes.
    pub minutes: u64,
    /// Keys.
    pub keys: u64,
    /// Accounts.
    pub accounts: u64,
    /// Machines; they all go on beating.
    pub machines: u64,
    /// Changes.
    pub requests: u64,
}

impl SecurityView {
    /// Where the older refusals of the same search are.
    fn older_href(&self) -> String {
        let mut href = format!("{}?before={}", paths::SECURITY, self.older.unwrap_or_default());
        for (name, value) in [("who", &self.who), ("action", &self.action), ("code", &self.code)] {
            if !value.is_empty() {
                href.push_str(&format!("&{name}={}", paths::percent(value)));
            }
        }
        if let Some(hours) = self.hours {
            href.push_str(&format!("&hours={hours}"));
        }
        href
    }
    fn hours_text(&self) -> String {
        self.hours.map(|hours| hours.to_string()).unwrap_or_default()
    }
}

#[derive(Template)]
#[template(path = "console/security.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a SecurityView,
}

/// Draws the security page.
pub fn security(chrome: &Chrome, view: &SecurityView) -> String {
    draw(Page { c: chrome, v: view })
}
