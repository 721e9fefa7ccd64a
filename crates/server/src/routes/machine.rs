//! What a machine says of itself: inventory, beats, offers, clusters as they are. The machine is always
//! the signing key's own.

use std::time::Duration;

use axum::{http::StatusCode, response::Response};
use gangline_guard::{Act, Actor, Permit, Refusal, act, policy::on};
use gangline_types::{ClusterId, GpuId, Label, MachineId, Standing};
use gangline_wire::{
    Endpoint, Nothing,
    api::machine::{Observed, Registered, SyncOrders, SyncReport, Want},
    endpoints as e,
};

use crate::{
    app::App,
    edge,
    error::ApiError,
    jobs::{self, epochs, proofs},
    request::Ctx,
    router::Api,
};

/// Longest a sync waits for news, in seconds.
const SYNC_SECONDS_MAX: u64 = 30;
/// A sync that has nothing new but wanted proofs to tell waits at least this long, in seconds.
const PROOF_NEWS_SECONDS: u64 = 3;

pub(super) fn routes(api: Api) -> Api {
    api.json::<e::DescribeInventory, _, _>(describe)
        .json::<e::Sync, _, _>(sync)
        .raw::<e::Tunnel, _, _>(tunnel)
        .json::<e::MachineLeave, _, _>(leave)
        .json::<e::GpuLabel, _, _>(label)
}

/// The signing key's own machine, as a permit.
pub(super) fn own<A: Act<On = on::Machine>, E: Endpoint>(ctx: &Ctx<E>) -> Result<Permit<A>, ApiError> {
    ctx.permit::<A>(machine_of(&ctx.actor)?)
}

/// The machine whose key signed.
pub(super) fn machine_of(actor: &Actor) -> Result<on::Machine, ApiError> {
    let principal = actor.principal();
    match (principal.machine(), principal.account()) {
        (Some(machine), Some(account)) => Ok(on::Machine { machine, account }),
        _ => Err(Refusal::Forbidden("a key that is no machine's").into()),
    }
}

async fn describe(ctx: Ctx<e::DescribeInventory>) -> Result<Registered, ApiError> {
    let permit = own::<act::DescribeMachine, _>(&ctx)?;
    let mut slots: Vec<_> = ctx.body.gpus.iter().map(|g| g.slot).collect();
    slots.sort_unstable();
    slots.dedup();
    if slots.len() != ctx.body.gpus.len() {
        return Err(ApiError::bad(
            StatusCode::UNPROCESSABLE_ENTITY,
            "slot_twice",
            "two GPUs of this inventory have the same slot",
        ));
    }
    let machine = permit.on().machine;
    let ids: Vec<GpuId> = ctx.body.gpus.iter().map(|_| GpuId::from_bytes(edge::random())).collect();
    let mut gpus = ctx.app.store.describe(permit, &ctx.body, &ids).await?;
    for gpu in &mut gpus {
        gpu.prove = proofs::is_wanted(&ctx.app, gpu.gpu, ctx.now).await?;
    }
    ctx.app.changed();
    ctx.app.nudge(machine);
    Ok(Registered { gpus, server_time: edge::now_millis() })
}

async fn sync(ctx: Ctx<e::Sync>) -> Result<SyncOrders, ApiError> {
    let permit = own::<act::Supply, _>(&ctx)?;
    let app = ctx.app.clone();
    let machine = permit.on().machine;
    let prover = ctx.permit_also::<act::ProveGpu>(*permit.on())?;
    let mut nudges = app.nudges();
    if app.store.heard_of(&permit, ctx.body.paused, &ctx.body.offers).await? {
        app.changed();
    }
    for observed in &ctx.body.clusters {
        jobs::clusters::observed(&app, &permit, observed, ctx.now).await?;
    }
    let wait = Duration::from_secs(ctx.body.wait.0.min(SYNC_SECONDS_MAX));
    let until = tokio::time::Instant::now() + wait;
    let patience = tokio::time::Instant::now() + wait.min(Duration::from_secs(PROOF_NEWS_SECONDS));
    loop {
        let orders = jobs::clusters::orders(&app, &permit).await?;
        let prove = wanted_proofs(&app, &permit).await?;
        let epoch = epochs::notice(&app, &prover).await?;
        let wanted = !prove.is_empty() || epoch.is_some();
        let now = tokio::time::Instant::now();
        let done =
            is_news(&ctx.body, &orders) || now >= until || app.is_draining() || (wanted && now >= patience);
        if done {
            return Ok(SyncOrders { clusters: orders, prove, epoch, server_time: edge::now_millis() });
        }
        let bell = epochs::next_notice(&app.rota, edge::now_millis()).0;
        let bell = now + Duration::from_millis(bell.saturating_sub(edge::now_millis().0) + 1);
        let next = if wanted { patience } else { until.min(bell) };
        tokio::select! {
            () = tokio::time::sleep_until(next) => {}
            () = app.stop.cancelled() => {}
            () = wait_for(&mut nudges, machine) => {}
        }
        if app.stop.is_cancelled() {
            return Ok(SyncOrders { clusters: orders, prove, epoch, server_time: edge::now_millis() });
        }
    }
}

async fn wait_for(nudges: &mut tokio::sync::broadcast::Receiver<MachineId>, machine: MachineId) {
    loop {
        match nudges.recv().await {
            Ok(nudged) if nudged != machine => continue,
            // Lagging means that we may have missed our own: look.
            _ => return,
        }
    }
}

/// Whether an order says something that the machine has not done yet.
fn is_news(report: &SyncReport, orders: &[gangline_wire::api::machine::Order]) -> bool {
    let observed = |cluster: ClusterId| report.clusters.iter().find(|c| c.cluster == cluster);
    orders.iter().any(|order| match (&order.want, observed(order.cluster)) {
        (Want::Run(_), seen) => seen.is_none(),
        (Want::Gone, seen) => seen.is_some_and(|c| c.state != Observed::Gone),
        (Want::Sign(_), seen) => seen.is_none_or(|c| c.receipt_signature.is_none()),
    }) || report
        .clusters
        .iter()
        .any(|c| c.state != Observed::Gone && !orders.iter().any(|o| o.cluster == c.cluster))
}

async fn wanted_proofs(app: &App, permit: &Permit<act::Supply>) -> Result<Vec<GpuId>, ApiError> {
    let mut wanted = Vec::new();
    for gpu in app.store.gpus_on(permit).await? {
        if gpu.standing != Standing::Proven && proofs::is_wanted(app, gpu.resource.gpu, edge::now()).await? {
            wanted.push(gpu.resource.gpu);
        }
    }
    Ok(wanted)
}

async fn tunnel(ctx: Ctx<e::Tunnel>) -> Result<Response, ApiError> {
    let permit = own::<act::Supply, _>(&ctx)?;
    let cluster: ClusterId = ctx.param("cluster")?;
    let resource = ctx.app.store.cluster_resource(cluster).await?.ok_or_else(ApiError::hidden)?;
    if resource.machine != permit.on().machine {
        return Err(ApiError::hidden());
    }
    let tunnels = ctx.app.tunnels.clone();
    let (mut request, live) = ctx.into_raw();
    Ok(tunnels.accept(cluster, &mut request, live))
}

async fn leave(ctx: Ctx<e::MachineLeave>) -> Result<Nothing, ApiError> {
    let permit = own::<act::RetireMachine, _>(&ctx)?;
    ctx.app.store.retire_machine(permit).await?;
    ctx.app.changed();
    Ok(Nothing {})
}

async fn label(ctx: Ctx<e::GpuLabel>) -> Result<Nothing, ApiError> {
    let gpu = ctx.app.store.gpu(ctx.param("gpu")?).await?.ok_or_else(ApiError::hidden)?;
    let permit = ctx.permit::<act::LabelGpu>(gpu.resource)?;
    let label: &Label = &ctx.body.label;
    ctx.app.store.label_gpu(permit, label).await?;
    ctx.app.changed();
    Ok(Nothing {})
}
