//! A receipt: what a hire used and what it cost, in bytes that network and machine both sign.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ClusterId, GpuId, MicroCredits, Seconds, UnixSeconds};

/// Why a hire ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndedBecause {
    /// The renter released it.
    Released,
    /// Its hours ran out.
    HoursOver,
    /// It did not start, or it fell over.
    Failed,
    /// The machine's owner did not allow it.
    RefusedByOwner,
    /// The machine fell silent; nothing after its last sign of life is charged.
    MachineLost,
}

impl EndedBecause {
    /// Words for people.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Released => "released by the renter",
            Self::HoursOver => "its hours ran out",
            Self::Failed => "the node failed",
            Self::RefusedByOwner => "the machine's owner did not allow it",
            Self::MachineLost => "the machine fell silent; charged up to its last sign of life",
        }
    }
    const fn code(self) -> u8 {
        match self {
            Self::Released => 1,
            Self::HoursOver => 2,
            Self::Failed => 3,
            Self::RefusedByOwner => 4,
            Self::MachineLost => 5,
        }
    }
}

/// What a hire used and what it cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// The cluster.
    pub cluster: ClusterId,
    /// The GPU it ran on.
    pub gpu: GpuId,
    /// Ray answered; none: it never ran and costs nothing.
    pub started_at: Option<UnixSeconds>,
    /// Metering ended.
    pub ended_at: UnixSeconds,
    /// Seconds metered.
    pub used: Seconds,
    /// Price of an hour.
    pub price_per_hour: MicroCredits,
    /// `used` at that price.
    pub cost: MicroCredits,
    /// Why it ended.
    pub because: EndedBecause,
}

impl Receipt {
    /// The bytes that are signed: a fixed big-endian layout, after a context of its own.
    pub fn signing_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(b"gangline 2026 receipt\0");
        out.extend_from_slice(self.cluster.as_bytes());
        out.extend_from_slice(self.gpu.as_bytes());
        out.push(self.started_at.is_some() as u8);
        for n in [
            self.started_at.unwrap_or_default().0,
            self.ended_at.0,
            self.used.0,
            self.price_per_hour.0,
            self.cost.0,
        ] {
            out.extend_from_slice(&n.to_be_bytes());
        }
        out.push(self.because.code());
        out
    }
}
