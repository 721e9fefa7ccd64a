//! Clusters from request to receipt.

use gangline_guard::{Permit, act, policy::on};
use gangline_types::{
    AdapterKind, ClusterId, GpuId, MicroCredits, Profile, Standing, Text, UnixSeconds, cluster::ClusterState,
    receipt::EndedBecause,
};
use gangline_wire::api::{cluster::SignedReceipt, machine::Offer};

use crate::{
    Store, StoreError,
    books::answered,
    books::machine::gpu_row,
    sql::{Columns, unword},
};

/// A GPU that is offered, for placement.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// For the guard and for the cluster's row.
    pub resource: on::Gpu,
    /// At what.
    pub offer: Offer,
    /// Its standing.
    pub standing: Standing,
    /// Kind as claimed.
    pub kind: AdapterKind,
    /// What it has shown.
    pub profile: Profile,
    /// Last beat.
    pub beat_at: UnixSeconds,
    /// Whether it runs a cluster.
    pub hired: bool,
}

/// A cluster to be written down.
#[derive(Clone, Debug)]
pub struct NewCluster {
    /// Its id.
    pub cluster: ClusterId,
    /// Where.
    pub gpu: on::Gpu,
    /// At what.
    pub offer: Offer,
    /// Its Ray token.
    pub token: String,
    /// It ends by itself then.
    pub until: UnixSeconds,
}

/// A cluster as it is.
#[derive(Clone)]
pub struct ClusterRow {
    /// For the guard.
    pub resource: on::Cluster,
    /// The GPU it runs on.
    pub gpu: GpuId,
    /// Its model as claimed.
    pub model: Text<128>,
    /// How it is.
    pub state: ClusterState,
    /// In words.
    pub detail: Text<400>,
    /// Confinement as read back by the machine.
    pub evidence: Option<String>,
    /// Its Ray token, while it has one.
    pub token: Option<String>,
    /// Price of an hour.
    pub price_per_hour: MicroCredits,
    /// Memory it may have.
    pub memory_bytes: u64,
    /// Processor time it may have.
    pub cpus_millis: u32,
    /// Asked for.
    pub created_at: UnixSeconds,
    /// Ray answered.
    pub started_at: Option<UnixSeconds>,
    /// Metering ended.
    pub ended_at: Option<UnixSeconds>,
    /// It ends by itself then.
    pub until: UnixSeconds,
    /// The machine last spoke of it.
    pub seen_at: UnixSeconds,
    /// The machine last spoke at all.
    pub machine_seen_at: UnixSeconds,
    /// Why it ended.
    pub because: Option<EndedBecause>,
    /// Once closed.
    pub receipt: Option<SignedReceipt>,
}

/// What a closed cluster leaves.
#[derive(Clone, Debug)]
pub struct ClosedCluster {
    /// Which.
    pub cluster: ClusterId,
    /// How it ended.
    pub state: ClusterState,
    /// Why.
    pub because: EndedBecause,
    /// When metering ended.
    pub ended_at: UnixSeconds,
    /// In words.
    pub detail: Text<400>,
    /// The network's half of the receipt.
    pub receipt: SignedReceipt,
}

answered! { Store,
    /// Every offered GPU of machines that are here and not paused.
    async fn candidates(&self, permit: &Permit<act::Hire>) -> Result<Vec<Candidate>, StoreError>;

    /// One of them, as it is now; none if it is not offered.
    async fn candidate(&self, permit: &Permit<act::Hire>, gpu: GpuId) -> Result<Option<Candidate>, StoreError>;

    /// What these GPUs are offered at; those that are not offered are left out.
    async fn offers_of(&self, permit: &Permit<act::Project>, gpus: &[GpuId]) -> Result<Vec<Offer>, StoreError>;

    /// Writes a hire down; [`StoreError::Gone`] if somebody else was quicker.
    async fn hire(&self, permit: Permit<act::Hire>, new: &NewCluster) -> Result<(), StoreError>;

    /// A cluster as a resource.
    async fn cluster_resource(&self, cluster: ClusterId) -> Result<Option<on::Cluster>, StoreError>;

    /// The permit's cluster.
    async fn cluster(&self, permit: &Permit<act::UseCluster>) -> Result<ClusterRow, StoreError>;

    /// The permit's cluster, for whoever ended it.
    async fn released_cluster(
        &self,
        cluster: ClusterId,
        permit: &Permit<act::Reconcile>,
    ) -> Result<ClusterRow, StoreError>;

    /// The account's clusters, newest first, at most 100.
    async fn clusters_of(&self, permit: &Permit<act::ReadAccount>) -> Result<Vec<ClusterRow>, StoreError>;

    /// Every cluster, newest first, at most 100.
    async fn all_clusters(&self, permit: &Permit<act::Operate>) -> Result<Vec<ClusterRow>, StoreError>;

    /// Clusters on the permit's machine that are not over, or wait for its signature on their receipt.
    async fn clusters_on(&self, permit: &Permit<act::Supply>) -> Result<Vec<ClusterRow>, StoreError>;

    /// Every cluster that is not over.
    async fn live_clusters(&self, permit: &Permit<act::Reconcile>) -> Result<Vec<ClusterRow>, StoreError>;

    /// Writes down how a cluster of the permit's machine is: from `before` to `after`, or not at all if
    /// it is no longer as it was.
    #[allow(clippy::too_many_arguments)]
    async fn observe_cluster(
        &self,
        permit: &Permit<act::Supply>,
        cluster: ClusterId,
        before: ClusterState,
        after: ClusterState,
        because: Option<EndedBecause>,
        detail: &Text<400>,
        evidence: Option<&str>,
    ) -> Result<bool, StoreError>;

    /// Asks for the end of the permit's cluster: metering stops now.
    async fn release_cluster(
        &self,
        permit: Permit<act::ReleaseCluster>,
        because: EndedBecause,
    ) -> Result<(), StoreError>;

    /// The same, when its hours are over.
    async fn expire_cluster(
        &self,
        permit: &Permit<act::Reconcile>,
        cluster: ClusterId,
    ) -> Result<(), StoreError>;

    /// Closes a cluster with the network's half of its receipt; its token ends.
    async fn close_cluster(
        &self,
        permit: &Permit<act::Reconcile>,
        closed: &ClosedCluster,
    ) -> Result<bool, StoreError>;

    /// Adds the machine's half of a receipt.
    async fn countersign(
        &self,
        permit: &Permit<act::Supply>,
        cluster: ClusterId,
        receipt: &SignedReceipt,
    ) -> Result<(), StoreError>;
}

pub(crate) fn cluster_row(row: &impl Columns) -> Result<ClusterRow, StoreError> {
    let claim: gangline_types::GpuClaim = row.json("claim")?;
    let shown: Option<gangline_types::ShownAs> = row.json_or_none("shown_as")?;
    Ok(ClusterRow {
        resource: on::Cluster {
            cluster: row.id("id")?,
            renter: row.id("account")?,
            machine: row.id("machine")?,
        },
        gpu: row.id("gpu")?,
        model: shown.map_or(claim.model, |shown| shown.model),
        state: row.word("state")?,
        detail: Text::lossy(&row.text("detail")?),
        evidence: row.text_or_none("evidence")?,
        token: row.text_or_none("token")?,
        price_per_hour: row.money("price_per_hour")?,
        memory_bytes: row.int("memory_bytes")?,
        cpus_millis: row.int("cpus_millis")? as u32,
        created_at: row.at("created_at")?,
        started_at: row.at_or_none("started_at")?,
        ended_at: row.at_or_none("ended_at")?,
        until: row.at("until")?,
        seen_at: row.at("seen_at")?,
        machine_seen_at: row.at("machine_seen_at")?,
        because: row.text_or_none("because")?.and_then(|w| unword(&w)),
        receipt: row.json_or_none("receipt")?,
    })
}

pub(crate) fn candidate_row(row: &impl Columns) -> Result<Candidate, StoreError> {
    let gpu = gpu_row(row)?;
    Ok(Candidate {
        resource: gpu.resource,
        offer: row.json("offer")?,
        standing: gpu.standing,
        kind: gpu.shown().kind,
        profile: gpu.profile,
        beat_at: gpu.beat_at,
        hired: row.flag("hired")?,
    })
}
