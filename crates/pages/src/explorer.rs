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

/// How far witnesses have cosigned the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosigned {
    /// Entries of the newest checkpoint that most of them have cosigned.
    pub entries: u64,
    /// How many have cosigned that.
    pub witnesses: u64,
    /// How many are asked.
    pub asked: u64,
    /// When the first of them did; none if none has.
    pub at: Option<UnixSeconds>,
}

/// What the explorer shows.
#[derive(Clone, Debug)]
pub struct ExplorerView {
    /// The time the page is drawn for.
    pub now: UnixSeconds,
    /// The network's totals.
    pub totals: NetworkTotals,
    /// Models, the most connected first.
    pub models: Vec<ModelRow>,
    /// Connected GPUs over the last 24 hours; what of them is drawn depends on how long ago they begin.
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
    /// How far the log is cosigned; none where no witness is asked.
    pub cosigned: Option<Cosigned>,
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

/// How far back the chart goes: as far as it has to, so that a young network's line is seen, too.
struct Reach {
    minutes: u64,
    words: &'static str,
    /// What stands under the chart at its beginning and its three inner quarters.
    marks: [&'static str; 4],
}

/// Every reach, the shortest first; all divide into quarters.
const REACHES: [Reach; 4] = [
    Reach { minutes: 12, words: "12 minutes", marks: ["12 min ago", "9 min", "6 min", "3 min"] },
    Reach { minutes: 60, words: "hour", marks: ["1 h ago", "45 min", "30 min", "15 min"] },
    Reach { minutes: 240, words: "4 hours", marks: ["4 h ago", "3 h", "2 h", "1 h"] },
    Reach { minutes: 1440, words: "24 hours", marks: ["24 h ago", "18 h", "12 h", "6 h"] },
];

/// The shortest reach that holds every measurement; the longest where none does.
fn reach(series: &Series, now: UnixSeconds) -> &'static Reach {
    let oldest = series.points.first().map_or(0, |p| now.since(p.at));
    REACHES.iter().find(|reach| oldest <= reach.minutes * 60).unwrap_or(&REACHES[REACHES.len() - 1])
}

#[derive(Template)]
#[template(path = "explorer.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a ExplorerView,
    chart: Option<Chart>,
    reach: &'static Reach,
    bars: Vec<Bars<'a>>,
}

/// Draws the explorer.
pub fn explorer(chrome: &Chrome, view: &ExplorerView) -> String {
    let reach = reach(&view.connected_day, view.now);
    draw(Page {
        c: chrome,
        v: view,
        chart: Chart::new(&view.connected_day, view.now, Seconds(reach.minutes * 60)),
        reach,
        bars: bars(&view.models),
    })
}

/// Every standing in the order of the filter.
const STANDINGS: [Standing; 5] =
    [Standing::Proven, Standing::Unproven, Standing::Suspect, Standing::Quarantined, Standing::Retired];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Point;

    #[test]
    fn a_chart_reaches_as_far_back_as_its_measurements() {
        let day = 86_400;
        for (oldest, minutes) in
            [(0, 12), (720, 12), (721, 60), (3_601, 240), (14_401, 1440), (2 * day, 1440)]
        {
            let point = Point { at: UnixSeconds(3 * day - oldest), value: 1 };
            let series = Series { points: vec![point], step: Seconds(60) };
            assert_eq!(reach(&series, UnixSeconds(3 * day)).minutes, minutes, "{oldest} seconds ago");
        }
        assert_eq!(reach(&Series::default(), UnixSeconds(0)).minutes, 12);
    }
}
