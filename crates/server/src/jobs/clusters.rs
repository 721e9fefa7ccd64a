//! Clusters: what a machine observed becomes a state, a state becomes an order, and what is over becomes
//! a receipt.

use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_guard::{Actor, Job, Permit, act, permit::permit, policy::on};
use gangline_rules::{
    lifecycle::{ClusterEvent, next},
    metering::close,
};
use gangline_store::{ClosedCluster, ClusterRow};
use gangline_types::{Text, UnixSeconds, cluster::ClusterState, receipt::EndedBecause};
use gangline_wire::api::{
    cluster::SignedReceipt,
    machine::{NodeOrder, Observed, ObservedCluster, Order, Want},
};

use crate::{app::App, edge, error::ApiError};

/// The reconciler's own permit.
pub fn reconciler(now: UnixSeconds) -> Result<Permit<act::Reconcile>, ApiError> {
    Ok(permit::<act::Reconcile>(&Actor::job(Job::Reconciler), on::Network, now)?)
}

/// Tells everyone who waits that a cluster changed.
pub fn announce(app: &App, cluster: &on::Cluster) {
    app.cluster_changed();
    app.changed();
    app.nudge(cluster.machine);
}

/// Takes in how a machine says one of its clusters is.
pub async fn observed(
    app: &App,
    supply: &Permit<act::Supply>,
    seen: &ObservedCluster,
    now: UnixSeconds,
) -> Result<(), ApiError> {
    // Somebody else's, or none: the orders say what to do about it.
    let resource = match app.store.cluster_resource(seen.cluster).await? {
        Some(resource) if resource.machine == supply.on().machine => resource,
        _ => return Ok(()),
    };
    let reconcile = reconciler(now)?;
    let row = app.store.released_cluster(seen.cluster, &reconcile).await?;
    if let (Some(signed), Some(signature)) = (&row.receipt, &seen.receipt_signature) {
        return countersign(app, supply, &row, signed, signature.as_str()).await;
    }
    let (event, because) = match (seen.state, row.state) {
        (Observed::Starting, _) => (ClusterEvent::Accepted, None),
        (Observed::Running, _) => (ClusterEvent::Ready, None),
        (Observed::RefusedByOwner, _) => (ClusterEvent::RefusedByOwner, Some(EndedBecause::RefusedByOwner)),
        (Observed::Failed, ClusterState::Running) => (ClusterEvent::Gone, Some(EndedBecause::Failed)),
        (Observed::Failed, _) => (ClusterEvent::StartFailed, Some(EndedBecause::Failed)),
        (Observed::Gone, ClusterState::Releasing | ClusterState::Lost) => (ClusterEvent::Gone, None),
        (Observed::Gone, _) => (ClusterEvent::Gone, Some(EndedBecause::Failed)),
    };
    if row.state.is_over() {
        return Ok(());
    }
    // A machine may take a cluster and have it running between two reports.
    let mut state = row.state;
    if state == ClusterState::Requested && event == ClusterEvent::Ready {
        state = next(state, ClusterEvent::Accepted).unwrap_or(state);
    }
    let Ok(after) = next(state, event) else { return Ok(()) };
    let evidence = seen.evidence.as_ref().map(|e| e.as_str());
    if app
        .store
        .observe_cluster(supply, seen.cluster, row.state, after, because, &seen.detail, evidence)
        .await?
        && after != row.state
    {
        if after.is_over() {
            settle(app, seen.cluster, after, now).await?;
        }
        announce(app, &resource);
    }
    Ok(())
}

async fn countersign(
    app: &App,
    supply: &Permit<act::Supply>,
    row: &ClusterRow,
    signed: &SignedReceipt,
    signature: &str,
) -> Result<(), ApiError> {
    if signed.machine_signature.is_some() {
        return Ok(());
    }
    let keys = app.store.machine_public_keys(supply.on().machine).await?;
    let bytes = STANDARD.decode(signature).unwrap_or_default();
    let told = signed.receipt.signing_bytes();
    if keys.iter().any(|key| key.verifies(&told, &bytes)) {
        let both = SignedReceipt { machine_signature: Some(signature.to_owned()), ..signed.clone() };
        app.store.countersign(supply, row.resource.cluster, &both).await?;
        announce(app, &row.resource);
    } else {
        tracing::warn!(cluster = %row.resource.cluster, "the machine's signature on a receipt does not verify");
    }
    Ok(())
}

/// Closes a cluster that is over: metering ended, the network signs its receipt.
async fn settle(
    app: &App,
    cluster: gangline_types::ClusterId,
    state: ClusterState,
    now: UnixSeconds,
) -> Result<(), ApiError> {
    let permit = reconciler(now)?;
    let row = app.store.released_cluster(cluster, &permit).await?;
    if row.receipt.is_some() {
        return Ok(());
    }
    let (because, ended_at) = match state {
        // Nothing after its last sign of life is charged.
        ClusterState::Lost => (EndedBecause::MachineLost, row.ended_at.unwrap_or(row.seen_at)),
        ClusterState::Released => {
            (row.because.unwrap_or(EndedBecause::Released), row.ended_at.unwrap_or(now))
        }
        _ => (row.because.unwrap_or(EndedBecause::Failed), row.ended_at.unwrap_or(now)),
    };
    let receipt = close(cluster, row.gpu, row.started_at, ended_at, row.price_per_hour, because);
    let receipt = SignedReceipt {
        receipt,
        network_key: app.key.public(),
        network_signature: STANDARD.encode(app.key.sign(&receipt.signing_bytes())),
        machine_signature: None,
    };
    let detail = if row.detail.as_str().is_empty() || state != ClusterState::Failed {
        Text::lossy(because.words())
    } else {
        row.detail
    };
    app.store
        .close_cluster(&permit, &ClosedCluster { cluster, state, because, ended_at, detail, receipt })
        .await?;
    app.tunnels.close(cluster);
    Ok(())
}

/// What the permit's machine should do.
pub async fn orders(app: &App, supply: &Permit<act::Supply>) -> Result<Vec<Order>, ApiError> {
    let rows = app.store.clusters_on(supply).await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            let want = match (row.state, row.token, row.receipt) {
                (
                    ClusterState::Requested | ClusterState::Starting | ClusterState::Running,
                    Some(token),
                    _,
                ) => Want::Run(Box::new(NodeOrder {
                    gpu: row.gpu,
                    token,
                    memory_bytes: row.memory_bytes,
                    cpus_millis: row.cpus_millis,
                    until: row.until,
                })),
                (_, _, Some(signed)) => Want::Sign(Box::new(signed.receipt)),
                _ => Want::Gone,
            };
            Order { cluster: row.resource.cluster, want }
        })
        .collect())
}

/// Ends hires whose hours are over, and gives up clusters whose machine fell silent.
pub async fn reconcile(app: &App) -> Result<(), ApiError> {
    let now = edge::now();
    let permit = reconciler(now)?;
    for row in app.store.live_clusters(&permit).await? {
        let cluster = row.resource.cluster;
        if row.state != ClusterState::Releasing && now >= row.until {
            app.store.expire_cluster(&permit, cluster).await?;
            announce(app, &row.resource);
        } else if now.since(row.machine_seen_at.max(row.created_at)) > app.config.silent_seconds
            && let Ok(after) = next(row.state, ClusterEvent::MachineSilent)
        {
            settle(app, cluster, after, now).await?;
            announce(app, &row.resource);
        }
    }
    Ok(())
}
