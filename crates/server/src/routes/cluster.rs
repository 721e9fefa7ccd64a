//! Hiring, using and releasing clusters.

use std::time::Duration;

use axum::{http::StatusCode, response::Response};
use gangline_guard::{Permit, act, policy::on};
use gangline_rules::{
    metering::{cost, usage_seconds},
    placement::{self, Wish},
};
use gangline_store::{Candidate, ClusterRow, NewCluster};
use gangline_types::{
    AdapterKind, ClusterId, Hash, Seconds, Standing, UnixSeconds, cluster::ClusterState,
    receipt::EndedBecause,
};
use gangline_wire::{Endpoint, api::cluster::ClusterView, endpoints as e};

use crate::{
    app::App,
    edge,
    error::ApiError,
    jobs,
    request::Ctx,
    router::Api,
    routes::account::own_account,
    tunnel::{LinkStream, TunnelError},
};

/// Longest hire, in hours.
const HOURS_MAX: u32 = 168;
/// A GPU whose last beat is older is not placed on, in seconds.
const FRESH_BEAT_SECONDS: u64 = 180;
/// Indexed offers that one hire asks the books about at most.
const LOOKS_MAX: usize = 16;
/// Up to so many registered GPUs a refusal looks at all of them, to say which wish failed on how many.
const SCAN_MAX: u64 = 5_000;
/// How long a question "has it changed?" waits, in seconds.
const CHANGE_SECONDS: u64 = 25;

pub(super) fn routes(api: Api) -> Api {
    api.json::<e::HireCluster, _, _>(hire)
        .json::<e::Clusters, _, _>(list)
        .json::<e::ClusterById, _, _>(show)
        .json::<e::ClusterRelease, _, _>(release)
        .raw::<e::RayProxy, _, _>(proxy)
}

/// A cluster as its renter sees it at `now`.
pub fn view(row: &ClusterRow, now: UnixSeconds) -> ClusterView {
    let end = row.ended_at.unwrap_or(now);
    let used = row.started_at.map_or(0, |started| usage_seconds(started, end));
    ClusterView {
        id: row.resource.cluster,
        gpu: row.gpu,
        model: row.model.clone(),
        state: row.state,
        detail: row.detail.clone(),
        price_per_hour: row.price_per_hour,
        created_at: row.created_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        until: row.until,
        used: Seconds(used),
        cost: cost(row.price_per_hour, used),
        receipt: row.receipt.clone(),
    }
}

async fn use_permit<E: Endpoint>(ctx: &Ctx<E>) -> Result<Permit<act::UseCluster>, ApiError> {
    let cluster: ClusterId = ctx.param("cluster")?;
    let resource = ctx.app.store.cluster_resource(cluster).await?.ok_or_else(ApiError::hidden)?;
    ctx.permit_also::<act::UseCluster>(resource)
}

async fn hire(ctx: Ctx<e::HireCluster>) -> Result<ClusterView, ApiError> {
    let permit = ctx.permit::<act::Hire>(on::Network)?;
    let wish = &ctx.body;
    let hours = wish.hours.unwrap_or(1);
    if !(1..=HOURS_MAX).contains(&hours) {
        return Err(ApiError::bad(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_hours",
            format!("a hire lasts 1 to {HOURS_MAX} hours, not {hours}"),
        ));
    }
    let kinds = if wish.software_ok {
        Vec::new()
    } else {
        vec![AdapterKind::Discrete, AdapterKind::Integrated, AdapterKind::Virtual, AdapterKind::Unknown]
    };
    let wanted = Wish {
        kinds,
        matrix_mmacs_min: wish.matrix_mmacs_min,
        memory_bytes_min: 0,
        price_per_hour_max: wish.price_per_hour_max,
        hours,
    };
    let candidate = choose(&ctx, &permit, &wanted).await?;
    let new = NewCluster {
        cluster: ClusterId::from_bytes(edge::random()),
        gpu: candidate.resource,
        offer: candidate.offer.clone(),
        token: Hash(edge::random()).to_string(),
        until: ctx.now.plus(hours as u64 * 3600),
    };
    ctx.app.store.hire(permit, &new).await?;
    ctx.app.changed();
    ctx.app.nudge(new.gpu.machine);
    let resource = ctx.app.store.cluster_resource(new.cluster).await?.ok_or_else(ApiError::hidden)?;
    let row = ctx.app.store.cluster(&ctx.permit_also::<act::UseCluster>(resource)?).await?;
    Ok(view(&row, ctx.now))
}

/// The best of the indexed offers that the books still know as they were; where none is, a look at every offer
/// says why, in a network of a size for that.
async fn choose(
    ctx: &Ctx<e::HireCluster>,
    permit: &Permit<act::Hire>,
    wanted: &Wish,
) -> Result<Candidate, ApiError> {
    let beats_until = ctx.app.lanes.beats_until(ctx.now);
    let fits = |candidate: &Candidate| placement::choose(&[offer_of(candidate, beats_until)], wanted).is_ok();
    if let Some(gpu) = ctx.body.gpu {
        let candidates: Vec<Candidate> = ctx.app.store.candidate(permit, gpu).await?.into_iter().collect();
        return choose_of(ctx, candidates, wanted);
    }
    for gpu in ctx.app.placement.best(wanted, LOOKS_MAX) {
        if let Some(candidate) = ctx.app.store.candidate(permit, gpu).await?
            && fits(&candidate)
        {
            return Ok(candidate);
        }
    }
    let registered = ctx.app.totals.borrow().registered;
    if registered > SCAN_MAX {
        return Err(refused(ctx, &ctx.app.placement.why(wanted, registered)));
    }
    choose_of(ctx, ctx.app.store.candidates(permit).await?, wanted)
}

fn offer_of(candidate: &Candidate, beats_until: UnixSeconds) -> placement::Offer {
    placement::Offer {
        gpu: candidate.resource.gpu,
        kind: candidate.kind,
        profile: candidate.profile,
        memory_bytes: candidate.offer.memory_bytes,
        price_per_hour: candidate.offer.price_per_hour,
        hours_max: candidate.offer.hours_max,
        rentable: candidate.standing == Standing::Proven
            && !candidate.hired
            && beats_until.since(candidate.beat_at) <= FRESH_BEAT_SECONDS,
    }
}

fn refused(ctx: &Ctx<e::HireCluster>, none: &placement::NoneFits) -> ApiError {
    let hint = (!ctx.body.software_ok && none.other_kind > 0)
        .then(|| "a software device would do? then say so: --software-ok".to_owned());
    ApiError::Bad { status: StatusCode::CONFLICT, code: "none_fits", message: none.to_string(), hint }
}

fn choose_of(
    ctx: &Ctx<e::HireCluster>,
    candidates: Vec<Candidate>,
    wanted: &Wish,
) -> Result<Candidate, ApiError> {
    let beats_until = ctx.app.lanes.beats_until(ctx.now);
    let offers: Vec<placement::Offer> = candidates.iter().map(|c| offer_of(c, beats_until)).collect();
    let chosen = placement::choose(&offers, wanted).map_err(|none| refused(ctx, &none))?;
    let gpu = chosen.gpu;
    candidates.into_iter().find(|c| c.resource.gpu == gpu).ok_or_else(ApiError::hidden)
}

async fn list(ctx: Ctx<e::Clusters>) -> Result<Vec<ClusterView>, ApiError> {
    let permit = own_account(&ctx)?;
    Ok(ctx.app.store.clusters_of(&permit).await?.iter().map(|row| view(row, ctx.now)).collect())
}

async fn show(ctx: Ctx<e::ClusterById>) -> Result<ClusterView, ApiError> {
    let permit = use_permit(&ctx).await?;
    let mut changes = ctx.app.clusters();
    let until = tokio::time::Instant::now() + Duration::from_secs(CHANGE_SECONDS);
    loop {
        let row = ctx.app.store.cluster(&permit).await?;
        let waits = ctx.query.unless == Some(row.state) && !ctx.app.is_draining();
        if !waits {
            return Ok(view(&row, edge::now()));
        }
        tokio::select! {
            () = tokio::time::sleep_until(until) => return Ok(view(&row, edge::now())),
            () = ctx.app.stop.cancelled() => return Ok(view(&row, edge::now())),
            _ = changes.changed() => {}
        }
    }
}

async fn release(ctx: Ctx<e::ClusterRelease>) -> Result<ClusterView, ApiError> {
    let cluster: ClusterId = ctx.param("cluster")?;
    let resource = ctx.app.store.cluster_resource(cluster).await?.ok_or_else(ApiError::hidden)?;
    let permit = ctx.permit_approved::<act::ReleaseCluster>(resource).await?;
    ctx.app.store.release_cluster(permit, EndedBecause::Released).await?;
    jobs::clusters::announce(&ctx.app, &resource);
    let row = ctx.app.store.released_cluster(cluster, &jobs::clusters::reconciler(ctx.now)?).await?;
    Ok(view(&row, ctx.now))
}

async fn proxy(ctx: Ctx<e::RayProxy>) -> Result<Response, ApiError> {
    let permit = use_permit(&ctx).await?;
    let row = ctx.app.store.cluster(&permit).await?;
    let token = match (row.state, row.token) {
        (ClusterState::Running, Some(token)) => token,
        (state, _) => {
            return Err(ApiError::bad_hint(
                StatusCode::CONFLICT,
                "not_running",
                format!("the cluster is {state}; only a running one answers"),
                if state.is_over() { "hire another" } else { "wait until it runs" },
            ));
        }
    };
    // The path as sent, after the prefix: decoding and encoding it again could change it.
    let prefix = e::RayProxy::path(&[&row.resource.cluster, &""]);
    let sent = ctx.head.uri.path_and_query().map_or("/", |p| p.as_str());
    let rest = sent.strip_prefix(prefix.trim_end_matches('/')).unwrap_or("/").to_owned();
    let tunnels = ctx.app.tunnels.clone();
    let there = elsewhere(&ctx.app, row.resource.cluster).await?;
    let (request, live) = ctx.into_raw();
    Ok(tunnels.forward(row.resource.cluster, &token, request, &rest, &live, there).await)
}

/// The way to a cluster whose tunnel ends at another server; none where it ends here, or nowhere.
async fn elsewhere(app: &App, cluster: ClusterId) -> Result<Option<LinkStream>, ApiError> {
    if app.tunnels.is_open(cluster) {
        return Ok(None);
    }
    let Some(address) = app.store.tunnel_at(cluster).await? else { return Ok(None) };
    match app.link.open(&address, cluster).await {
        Ok(stream) => Ok(Some(stream)),
        // It may have come here in between; if not, the renter hears that from the tunnels themselves.
        Err(TunnelError::NotOpen(_) | TunnelError::Closed(_)) => Ok(None),
        Err(error @ TunnelError::TooManyStreams { .. }) => Err(ApiError::bad_hint(
            StatusCode::SERVICE_UNAVAILABLE,
            "cluster_busy",
            error.to_string(),
            "close connections to the cluster, or wait",
        )),
        Err(error @ TunnelError::OpenTimeout(_)) => Err(ApiError::bad_hint(
            StatusCode::GATEWAY_TIMEOUT,
            "cluster_timeout",
            error.to_string(),
            "the node may be overloaded: try again",
        )),
    }
}
