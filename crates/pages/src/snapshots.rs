//! Snapshots: who earned what in each period, with the roots that chain them, and how to check it all.

use askama::Template;
use gangline_types::{
    UnixSeconds,
    public::{PublicEntry, PublicSeason, PublicSnapshot},
};

use crate::{
    chrome::{Chrome, draw},
    ui,
};

/// What the list of snapshots shows.
#[derive(Clone, Debug)]
pub struct SnapshotsView {
    /// The time the page is drawn for.
    pub now: UnixSeconds,
    /// Season that runs now, if any.
    pub season: Option<PublicSeason>,
    /// One page of snapshots, newest first.
    pub snapshots: Vec<PublicSnapshot>,
    /// First period of the page of older snapshots, as the query value `from`; `None` on the last page.
    pub older_from: Option<u32>,
    /// This network's address as others reach it, for `gangline verify`: `https://host`.
    pub origin: String,
}

/// What one snapshot's page shows.
#[derive(Clone, Debug)]
pub struct SnapshotView {
    /// The time the page is drawn for.
    pub now: UnixSeconds,
    /// The snapshot.
    pub snapshot: PublicSnapshot,
    /// Its entries in the order of their GPU ids; the first some hundred of them are enough, the page
    /// says how many more there are.
    pub entries: Vec<PublicEntry>,
    /// Whether there is a later snapshot.
    pub has_later: bool,
    /// Path of the whole snapshot as JSON in the API.
    pub data_href: String,
    /// This network's address as others reach it, for `gangline verify`: `https://host`.
    pub origin: String,
}

#[derive(Template)]
#[template(path = "snapshots.html")]
struct List<'a> {
    c: &'a Chrome,
    v: &'a SnapshotsView,
}

#[derive(Template)]
#[template(path = "snapshot.html")]
struct One<'a> {
    c: &'a Chrome,
    v: &'a SnapshotView,
    s: &'a PublicSnapshot,
}

impl One<'_> {
    /// Entries that are not on the page.
    fn hidden(&self) -> u64 {
        u64::from(self.s.gpus).saturating_sub(self.v.entries.len() as u64)
    }
}

/// Draws the list of snapshots.
pub fn snapshots(chrome: &Chrome, view: &SnapshotsView) -> String {
    draw(List { c: chrome, v: view })
}

/// Draws one snapshot.
pub fn snapshot(chrome: &Chrome, view: &SnapshotView) -> String {
    draw(One { c: chrome, v: view, s: &view.snapshot })
}
