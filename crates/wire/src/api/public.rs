//! Public lists, a page at a time by key.

use gangline_types::{
    GpuId, Hour, Standing, UptimeHour,
    public::{PublicEntry, PublicGpu, PublicSnapshot, PublicUptime},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// GPUs in one page at most.
pub const PAGE_MAX: u32 = 200;
/// Hours in one answer at most: 90 days.
pub const HOURS_MAX: u32 = 90 * 24;

/// Lines of a snapshot in one answer at most.
pub const ENTRIES_MAX: u32 = 5_000;

/// Which GPUs.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct GpusQuery {
    /// A GPU id, the beginning of one, or part of a model's name; at most 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<String>,
    /// Only with this standing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// Only GPUs after this one, in the order of ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<GpuId>,
    /// At most this many, up to 200; 50 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A page of GPUs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct GpuPage {
    /// In the order of ids.
    pub gpus: Vec<PublicGpu>,
    /// Ask with `after` set to this for more.
    pub next: Option<GpuId>,
}

/// Which hours.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct UptimeQuery {
    /// First hour; 90 days ago unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Hour>,
    /// Hour after the last; now unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Hour>,
}

/// Uptime hours in order; an hour without a beat is left out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct UptimePage {
    /// The hours.
    pub hours: Vec<PublicUptime>,
}

/// Sixty minutes of the network's own intake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AvailabilityHour {
    /// Hours since 1970-01-01 UTC.
    pub hour: Hour,
    /// Bit m says that beats were taken throughout minute m.
    pub bits: UptimeHour,
}

/// Hours in order; an hour in which no whole minute was up is left out.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct AvailabilityPage {
    /// The hours.
    pub hours: Vec<AvailabilityHour>,
}

/// Which snapshots.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotsQuery {
    /// Only periods from this one on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u32>,
    /// At most this many, up to 200; 50 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// Snapshots in order.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotList {
    /// The heads.
    pub snapshots: Vec<PublicSnapshot>,
    /// Ask with `from` set to this for more.
    pub next: Option<u32>,
}

/// Which lines of a snapshot.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct EntriesQuery {
    /// Only lines of GPUs after this one, in the order of ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<GpuId>,
    /// At most this many, up to 5,000, which is also what comes unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A snapshot and its lines.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SnapshotWithEntries {
    /// The head.
    pub snapshot: PublicSnapshot,
    /// Lines in the order of GPU ids.
    pub entries: Vec<PublicEntry>,
    /// Ask with `after` set to this for more.
    #[serde(default)]
    pub next: Option<GpuId>,
}
