//! The supplier's console: my machines and GPUs, my keys, my statement.

use askama::Template;
use gangline_types::{
    GpuId, MachineId, MicroCredits, Share, UnixSeconds,
    public::{InclusionProof, NetworkTotals, PublicGpu},
};

use super::KeyRow;
use crate::{
    chrome::{Chrome, draw},
    ui,
};

/// What the supplier's console shows.
#[derive(Clone, Debug)]
pub struct SupplierView {
    /// The time the page is drawn for.
    pub now: UnixSeconds,
    /// This network's address as others reach it, for `gangline worker join`: `https://host`.
    pub origin: String,
    /// The network's totals.
    pub totals: NetworkTotals,
    /// A page of the account's machines, newest first.
    pub machines: Vec<MachineRow>,
    /// How many it has in all.
    pub machines_in_all: u64,
    /// Whether there are machines before these.
    pub continued: bool,
    /// The machine after which the next page goes on; none on the last.
    pub next: Option<MachineId>,
    /// The account's keys, newest first.
    pub keys: Vec<KeyRow>,
    /// The account's statement of this season.
    pub statement: Statement,
}

/// What a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineState {
    /// Beats.
    Connected,
    /// Beats, and takes no renter's work by its owner's wish.
    Paused,
    /// Has not beaten for three minutes.
    Away,
    /// Has left the network.
    Left,
}

impl MachineState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Paused => "paused",
            Self::Away => "away",
            Self::Left => "left",
        }
    }
}

/// One machine of the account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineRow {
    /// Its id.
    pub id: MachineId,
    /// What it is called. Text from outside.
    pub name: String,
    /// What it does.
    pub state: MachineState,
    /// Version of its worker.
    pub worker_version: String,
    /// System, cores and memory in a line. Text from outside.
    pub facts: String,
    /// Last beat; 0 never.
    pub last_beat_at: UnixSeconds,
    /// Its GPUs.
    pub gpus: Vec<PublicGpu>,
}

/// What an account earned in a season.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statement {
    /// The season's number; 0 if there is none yet.
    pub season: u32,
    /// Sum of all shares of the season.
    pub total: MicroCredits,
    /// What is held for GPUs that are suspect.
    pub held: MicroCredits,
    /// The latest shares, newest period first.
    pub lines: Vec<StatementLine>,
    /// Whether older ones are left out.
    pub more: bool,
}

/// One GPU's share of one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementLine {
    /// Period of the snapshot.
    pub period: u32,
    /// The GPU.
    pub gpu: GpuId,
    /// Credited minutes in the period.
    pub minutes: u32,
    /// Its share.
    pub share: Share,
    /// The way from this line to the snapshot's root.
    pub inclusion: InclusionProof,
}

#[derive(Template)]
#[template(path = "console/supplier.html")]
struct Page<'a> {
    c: &'a Chrome,
    v: &'a SupplierView,
}

/// Draws the supplier's console.
pub fn supplier(chrome: &Chrome, view: &SupplierView) -> String {
    draw(Page { c: chrome, v: view })
}
