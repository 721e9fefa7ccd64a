//! What a renter hires, sees and pays for.

use gangline_types::{ClusterId, GpuId, MicroCredits, Seconds, Text, UnixSeconds};
pub use gangline_types::{cluster::ClusterState, receipt::Receipt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::key::PublicKey;

/// What a renter asks for.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct HireRequest {
    /// This GPU and no other.
    #[serde(default)]
    pub gpu: Option<GpuId>,
    /// Least proven matrix rate, in millions of multiply-adds a second.
    #[serde(default)]
    pub matrix_mmacs_min: u64,
    /// Whether a software device will do.
    #[serde(default)]
    pub software_ok: bool,
    /// Most an hour may cost; none: any price.
    #[serde(default)]
    pub price_per_hour_max: Option<MicroCredits>,
    /// The hire ends by itself after this many hours, 1 to 168; 1 unless given.
    #[serde(default)]
    pub hours: Option<u32>,
}

/// How to look at a cluster.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct ClusterQuery {
    /// Answer only when the state is another than this, or after 25 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<ClusterState>,
}

/// A receipt with both signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SignedReceipt {
    /// What was used and what it cost.
    pub receipt: Receipt,
    /// The network's key.
    pub network_key: PublicKey,
    /// Its signature over the receipt's bytes, base64.
    pub network_signature: String,
    /// The machine's signature over the same bytes, base64; none where the machine was lost.
    pub machine_signature: Option<String>,
}

/// A cluster as its renter sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterView {
    /// Its id.
    pub id: ClusterId,
    /// The GPU it runs on.
    pub gpu: GpuId,
    /// Its model as claimed.
    pub model: Text<128>,
    /// How it is.
    pub state: ClusterState,
    /// In words.
    pub detail: Text<400>,
    /// Price of an hour.
    pub price_per_hour: MicroCredits,
    /// Asked for.
    pub created_at: UnixSeconds,
    /// Ray answered: metering began.
    pub started_at: Option<UnixSeconds>,
    /// Metering ended.
    pub ended_at: Option<UnixSeconds>,
    /// It ends by itself then.
    pub until: UnixSeconds,
    /// Metered until now.
    pub used: Seconds,
    /// What that costs.
    pub cost: MicroCredits,
    /// Once it has ended.
    pub receipt: Option<SignedReceipt>,
}
