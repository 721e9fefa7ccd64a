//! The explorer: the whole network on one page, from public rows only.

use std::borrow::Borrow;

use askama::Template;
use gangline_types::{
    AdapterKind, Seconds, Standing, Text, UnixSeconds,
    public::{NetworkTotals, PublicGpu, PublicSeason, PublicSnapshot},
};

use crate::{
    chart::{Chart, Series},
    chrome::{Chrome, draw},
    paths, ui,
};

/// What the explorer shows.
#[derive(Clone, Debug)]
pub struct ExplorerView {
    /// The time the page is drawn for.
    pub now: UnixSeconds,
    /// The network's totals.
    pub totals: NetworkTotals,
    /// Models, the most connected first.
    pub models: Vec<ModelRow>,
    /// Connected GPUs over the last 24 hours.
    pub connected_day: Series,
    /// One page of GPUs in the order of the listing.
    pub gpus: Vec<PublicGpu>,
    /// What the listing was asked for.
    pub filter: GpuFilter,
    /// Cursor of the next page, as the query value `after`; `None` on the last page.
    pub next: Option<String>,
    /// Season that runs now, if any.
    pub season: Option<PublicSeason>,
    /// Latest snapshots, newest first.
    pub snapshots: Vec<PublicSnapshot>,
}

/// GPUs of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelRow {
    /// Model as claimed.
    pub model: Text<128>,
    /// Kind as claimed.
    pub kind: AdapterKind,
    /// Connected now.
    pub connected: u64,
    /// Of those, proven.
    pub proven: u64,
    /// Of those, rentable.
    pub rentable: u64,
}

/// What a listing of GPUs was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuFilter {
    /// Text sought in ids and models, as typed; empty for all.
    pub query: String,
    /// Only this standing.
    pub standing: Option<Standing>,
    /// Whether this is a later page, reached by a cursor.
    pub continued: bool,
}

impl GpuFilter {
    fn is_narrowed(&self) -> bool {
        !self.query.is_empty() || self.standing.is_some()
    }

    /// The address of a listing with the same text sought, this standing, from this cursor.
    fn href(&self, standing: impl Borrow<Option<Standing>>, after: Option<&str>) -> String {
        let mut query = Vec::new();
        if !self.query.is_empty() {
            query.push(format!("q={}", paths::percent(&self.query)));
        }
        if let Some(standing) = standing.borrow() {
            query.push(format!("standing={standing}"));
        }
        if let Some(after) = after {
            query.push(format!("after={}", paths::percent(after)));
        }
        if query.is_empty() { "/#gpus".into() } else { format!("/?{}#gpus", query.join("&")) }
    }
}

/// Where a GPU is in its day, in one word.
pub(crate) fn state_word(gpu: &PublicGpu) -> &'static str {
    match gpu {
        PublicGpu { connected: false, .. } => "away",
        PublicGpu { hired: true, .. } => "hired",
        PublicGpu { rentable: true, .. } => "rentable",
        _ => "connected",
    }
}

/// One model's bars in a drawing 1000 wide, in which the largest model fills the width.
struct Bars<'a> {
    row: &'a ModelRow,
    connected: u64,
    proven: u64,
    rentable: u64,
}

fn bars(models: &[ModelRow]) -> Vec<Bars<'_>> {
    let largest = models.iter().map(|m| m.connected).max().unwrap_or_default().max(1);
    // A model that is there at all shows at least a sliver.
    let width = |count: u64| {
        if count == 0 { 0 } else { (count as u128 * 1000 / largest as u128).clamp(4, 1000) as u64 }
    };
    models
        .iter()
        .map(|row| Bars {
            row,
            connected: width(row.connected),
            proven: width(row.proven),
            rentable: width(row.rentable),
        })
        .collect()
}

#[derive(Template)]
#[template(path = "explorer.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a ExplorerView,
    chart: Option<Chart>,
    bars: Vec<Bars<'a>>,
}

/// Draws the explorer.
pub fn explorer(chrome: &Chrome, view: &ExplorerView) -> String {
    draw(Page {
        c: chrome,
        v: view,
        chart: Chart::new(&view.connected_day, view.now, Seconds(86_400)),
        bars: bars(&view.models),
    })
}

/// Every standing in the order of the filter.
const STANDINGS: [Standing; 5] =
    [Standing::Proven, Standing::Unproven, Standing::Suspect, Standing::Quarantined, Standing::Retired];
