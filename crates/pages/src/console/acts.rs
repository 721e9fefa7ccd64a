//! The operator's search of permitted acts.

use askama::Template;
use gangline_types::UnixSeconds;

use crate::{
    chrome::{Chrome, draw},
    paths, ui,
};

/// What the page of permitted acts shows.
#[derive(Clone, Debug, Default)]
pub struct ActsView {
    /// Acts that were searched for, newest first.
    pub acts: Vec<ActRow>,
    /// The number before which older ones are, if there are more.
    pub older: Option<u64>,
    /// What is wrong with what was searched for.
    pub problem: Option<String>,
    /// What was searched for: a key or account.
    pub who: String,
    /// An action.
    pub action: String,
    /// What it was on.
    pub on: String,
    /// Since so many hours ago.
    pub hours: Option<u32>,
    /// And until so many hours ago.
    pub until: Option<u32>,
}

/// A permitted act. Texts may have been chosen by whoever did it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActRow {
    /// When it was permitted.
    pub at: UnixSeconds,
    /// Who.
    pub actor: String,
    /// The account behind it; may be empty.
    pub account: String,
    /// What.
    pub action: String,
    /// On what.
    pub resource: String,
    /// By which policy.
    pub reason: String,
    /// What was done.
    pub detail: String,
}

impl ActsView {
    /// Where the older ones of the same search are.
    fn older_href(&self) -> String {
        let mut href = format!("{}?before={}", paths::ACTS, self.older.unwrap_or_default());
        for (name, value) in [("who", &self.who), ("action", &self.action), ("on", &self.on)] {
            if !value.is_empty() {
                href.push_str(&format!("&{name}={}", paths::percent(value)));
            }
        }
        for (name, hours) in [("hours", self.hours), ("until", self.until)] {
            if let Some(hours) = hours {
                href.push_str(&format!("&{name}={hours}"));
            }
        }
        href
    }
    fn text(hours: &Option<u32>) -> String {
        hours.map(|hours| hours.to_string()).unwrap_or_default()
    }
}

#[derive(Template)]
#[template(path = "console/acts.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a ActsView,
}

/// Draws the page of permitted acts.
pub fn acts(chrome: &Chrome, view: &ActsView) -> String {
    draw(Page { c: chrome, v: view })
}
