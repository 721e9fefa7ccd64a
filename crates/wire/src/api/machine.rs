//! What a machine says and is told.

use gangline_types::{
    ClusterId, GpuClaim, GpuId, Hash, Label, MicroCredits, Minute, Seconds, Standing, Text, UnixMillis,
    UnixSeconds,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cluster::Receipt;
use crate::{
    PublicKey,
    beat::{Alias, BeatKey, Epoch, Preimage},
};

/// GPUs one machine may have.
pub const GPUS_MAX: usize = 64;
/// Minutes one report of beats may carry: a day.
pub const BEATS_MAX: usize = 1440;

/// One disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Disk {
    /// Where it is mounted.
    pub mount: Text<128>,
    /// Size.
    pub total_bytes: u64,
    /// Free.
    pub free_bytes: u64,
}

/// What a machine is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostFacts {
    /// Host name; shown to its owner only.
    pub name: Label,
    /// Operating system and version.
    pub os: Text<96>,
    /// Kernel version.
    pub kernel: Text<96>,
    /// Processor as it names itself.
    pub cpu: Text<96>,
    /// Logical cores.
    pub cores: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Disks; at most 32.
    #[serde(deserialize_with = "crate::body::at_most::<32, _, _>")]
    #[schemars(length(max = 32))]
    pub disks: Vec<Disk>,
    /// NVIDIA driver version where one is.
    pub nvidia_driver: Option<Text<64>>,
}

/// The whole inventory of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inventory {
    /// The host.
    pub host: HostFacts,
    /// Its adapters; at most 64.
    #[serde(deserialize_with = "crate::body::at_most::<64, _, _>")]
    #[schemars(length(max = 64))]
    pub gpus: Vec<GpuClaim>,
    /// Version of the worker.
    pub worker_version: Text<32>,
    /// Isolation backends that work here; empty: takes no renter work.
    #[serde(deserialize_with = "crate::body::at_most::<8, _, _>")]
    #[schemars(length(max = 8))]
    pub isolation: Vec<Text<32>>,
}

/// One GPU as registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RegisteredGpu {
    /// The claim's slot.
    pub slot: Hash,
    /// Its public id.
    pub gpu: GpuId,
    /// How it stands.
    pub standing: Standing,
    /// Why.
    pub reason: Text<240>,
    /// Whether the network wants proofs of it now.
    pub prove: bool,
}

/// Answer to an inventory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Registered {
    /// Every claimed GPU, in the order claimed.
    pub gpus: Vec<RegisteredGpu>,
    /// The server's clock.
    pub server_time: UnixMillis,
}

/// A sign of life: these GPUs were alive in this minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MinuteBeat {
    /// Which minute.
    pub minute: Minute,
    /// Which of the machine's GPUs; at most 64.
    #[serde(deserialize_with = "crate::body::at_most::<64, _, _>")]
    #[schemars(length(max = 64))]
    pub gpus: Vec<GpuId>,
}

/// Beats, the newest and any that were kept while the server was away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BeatReport {
    /// At most 1,440.
    #[serde(deserialize_with = "crate::body::at_most::<1440, _, _>")]
    #[schemars(length(max = 1440))]
    pub beats: Vec<MinuteBeat>,
    /// Version of the worker.
    pub worker_version: Text<32>,
}

/// The hash-chain that a machine makes for one of its GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ChainStart {
    /// The GPU.
    pub gpu: GpuId,
    /// The chain's tip.
    pub tip: Preimage,
    /// The GPU's own uptime key.
    pub uptime_key: PublicKey,
    /// Its signature over GPU, first minute and tip: 64 bytes in hex.
    pub signature: Text<128>,
}

impl ChainStart {
    /// The signature; none if its text is no 128 hex digits.
    pub fn signature_bytes(&self) -> Option<[u8; 64]> {
        let (pairs, rest) = self.signature.as_str().as_bytes().as_chunks::<2>();
        let pairs: &[[u8; 2]; 64] = pairs.try_into().ok().filter(|_| rest.is_empty())?;
        let digit = |letter: u8| char::from(letter).to_digit(16);
        let mut out = [0; 64];
        for (byte, [high, low]) in out.iter_mut().zip(pairs) {
            *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
        }
        Some(out)
    }
}

/// Opens an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EpochRequest {
    /// The first minute that the chains stand for: the oldest that was not acknowledged yet.
    pub starts: Minute,
    /// One for each GPU that will beat; at most 64.
    #[serde(deserialize_with = "crate::body::at_most::<64, _, _>")]
    #[schemars(length(max = 64))]
    pub chains: Vec<ChainStart>,
}

/// Where frames are taken besides the server's own URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UdpAddress {
    /// Host name or address; none: the host that the server was asked at.
    pub host: Option<Text<256>>,
    /// Port.
    pub port: u16,
}

/// What a machine beats with during an epoch.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EpochGrant {
    /// The epoch.
    pub epoch: Epoch,
    /// What the machine is called in it.
    pub alias: Alias,
    /// The beat key: 32 bytes in hex.
    pub key: Hash,
    /// Its GPUs: bit n of a frame is the n-th here.
    pub gpus: Vec<GpuId>,
    /// Where frames may be sent by UDP.
    pub udp: Option<UdpAddress>,
    /// Where they may be posted besides the server's own URL.
    pub http: Option<Text<256>>,
    /// The server's clock.
    pub server_time: UnixMillis,
}

impl EpochGrant {
    /// The beat key.
    pub fn beat_key(&self) -> BeatKey {
        BeatKey::from_bytes(self.key.0)
    }
}

impl std::fmt::Debug for EpochGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EpochGrant")
            .field("epoch", &self.epoch)
            .field("alias", &self.alias)
            .field("key", &"[redacted]")
            .field("gpus", &self.gpus)
            .field("udp", &self.udp)
            .field("http", &self.http)
            .field("server_time", &self.server_time)
            .finish()
    }
}

/// A beat that was not credited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedBeat {
    /// Which minute.
    pub minute: Minute,
    /// Why.
    pub reason: String,
}

/// Answer to beats: what is not refused here is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BeatReceipt {
    /// Minutes of GPUs that are on disk now (counting repeats).
    pub credited: u32,
    /// Never to be sent again.
    pub refused: Vec<RefusedBeat>,
    /// The server's clock.
    pub server_time: UnixMillis,
}

/// What the machine's owner offers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Offer {
    /// The GPU.
    pub gpu: GpuId,
    /// Price of an hour.
    pub price_per_hour: MicroCredits,
    /// Longest hire.
    pub hours_max: u32,
    /// Memory a cluster may have.
    pub memory_bytes: u64,
    /// Processor time a cluster may have, in thousandths of a core.
    pub cpus_millis: u32,
}

/// A cluster as the machine sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ObservedCluster {
    /// Which.
    pub cluster: ClusterId,
    /// How it is.
    pub state: Observed,
    /// In words: progress, or why not.
    pub detail: Text<400>,
    /// Limits and confinement as read back from the kernel, once it runs.
    pub evidence: Option<Text<4000>>,
    /// The machine's signature over a receipt the server asked it to sign, base64.
    pub receipt_signature: Option<Text<128>>,
}

/// How a cluster is on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Observed {
    /// Being made.
    Starting,
    /// Ray answers.
    Running,
    /// The owner's policy does not allow it.
    RefusedByOwner,
    /// It did not start, or it fell over.
    Failed,
    /// Nothing of it is left.
    Gone,
}

/// What a machine reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncReport {
    /// The owner paused it: it beats, but takes no new work.
    pub paused: bool,
    /// What is offered for hire; empty: nothing.
    #[serde(deserialize_with = "crate::body::at_most::<64, _, _>")]
    #[schemars(length(max = 64))]
    pub offers: Vec<Offer>,
    /// Clusters as they are.
    #[serde(deserialize_with = "crate::body::at_most::<64, _, _>")]
    #[schemars(length(max = 64))]
    pub clusters: Vec<ObservedCluster>,
    /// How long the server may wait for news before it answers, at most 30 s.
    pub wait: Seconds,
}

/// What is wanted of one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// It should run.
    Run(Box<NodeOrder>),
    /// It should be gone.
    Gone,
    /// It is gone; sign this receipt.
    Sign(Box<Receipt>),
}

/// How a node should be made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeOrder {
    /// On which GPU.
    pub gpu: GpuId,
    /// The cluster's Ray token.
    pub token: String,
    /// Memory.
    pub memory_bytes: u64,
    /// Processor time in thousandths of a core.
    pub cpus_millis: u32,
    /// The hire ends then at the latest.
    pub until: UnixSeconds,
}

impl std::fmt::Debug for NodeOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeOrder")
            .field("gpu", &self.gpu)
            .field("token", &"[redacted]")
            .field("memory_bytes", &self.memory_bytes)
            .field("cpus_millis", &self.cpus_millis)
            .field("until", &self.until)
            .finish()
    }
}

/// One cluster's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    /// Which.
    pub cluster: ClusterId,
    /// What is wanted.
    pub want: Want,
}

/// What a machine is told. Level-triggered: it is the whole of what is wanted, every time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SyncOrders {
    /// Clusters this machine should know of.
    pub clusters: Vec<Order>,
    /// GPUs the network wants proofs of.
    pub prove: Vec<GpuId>,
    /// The bell of an epoch will ring within the minute.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "crate::body::if_understood"
    )]
    pub epoch: Option<super::epoch::EpochNotice>,
    /// The server's clock.
    pub server_time: UnixMillis,
}

/// A new name for a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelWrite {
    /// The name.
    pub label: Label,
}
