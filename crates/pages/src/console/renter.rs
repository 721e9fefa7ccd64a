//! The renter's console: my clusters and what they cost, my receipts, how to connect.

use askama::Template;
use gangline_types::{Hash, MicroCredits, UnixSeconds, public::NetworkTotals, receipt::Receipt};

use super::{ClusterRow, KeyRow};
use crate::{
    chrome::{Chrome, draw},
    ui,
};

/// What the renter's console shows.
#[derive(Clone, Debug)]
pub struct RenterView {
    /// The time the page is drawn for.
    pub now: UnixSeconds,
    /// This network's address as others reach it, for the commands: `https://host`.
    pub origin: String,
    /// The network's totals.
    pub totals: NetworkTotals,
    /// The account's clusters, newest first.
    pub clusters: Vec<ClusterRow>,
    /// The account's receipts, newest first.
    pub receipts: Vec<ReceiptRow>,
    /// The account's keys, newest first.
    pub keys: Vec<KeyRow>,
}

/// One closed usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptRow {
    /// The receipt.
    pub receipt: Receipt,
    /// BLAKE3 of its signed bytes, to compare with what the command line shows.
    pub hash: Hash,
}

#[derive(Template)]
#[template(path = "console/renter.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a RenterView,
}

impl Page<'_> {
    /// Clusters that are not over yet.
    fn open(&self) -> u64 {
        self.v.clusters.iter().filter(|c| !c.state.is_over()).count() as u64
    }
    /// Cost of those, so far.
    fn open_cost(&self) -> MicroCredits {
        let open = self.v.clusters.iter().filter(|c| !c.state.is_over());
        MicroCredits(open.fold(0u64, |sum, c| sum.saturating_add(c.cost.0)))
    }
    /// The cluster that the commands are shown for.
    fn example(&self) -> String {
        self.v.clusters.iter().find(|c| c.may_release()).map_or("CLUSTER".into(), |c| c.id.to_string())
    }
}

/// Draws the renter's console.
pub fn renter(chrome: &Chrome, view: &RenterView) -> String {
    draw(Page { c: chrome, v: view })
}
