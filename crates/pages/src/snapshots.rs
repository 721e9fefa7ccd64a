//! Snapshots: who earned what in each period, with the roots that chain them, and how to check it all.

use askama::Template;
use gangline_types::{
    UnixSeconds,
    public::{PublicEntry, PublicSeason, PublicSnapshot},
};

use crate::{
    chrome::{Chrome, draw},
    paths, ui,
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
    /// Cursor of the next page, as the query value `after`; `None` on the last page.
    pub next: Option<String>,
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
    /// One page of its entries in the order of their GPU ids.
    pub entries: Vec<PublicEntry>,
    /// Cursor of the next page of entries, as the query value `after`; `None` on the last page.
    pub next: Option<String>,
    /// Whether there is a later snapshot in this season.
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

/// Draws the list of snapshots.
pub fn snapshots(chrome: &Chrome, view: &SnapshotsView) -> String {
    draw(List { c: chrome, v: view })
}

/// Draws one snapshot.
pub fn snapshot(chrome: &Chrome, view: &SnapshotView) -> String {
    draw(One { c: chrome, v: view, s: &view.snapshot })
}
