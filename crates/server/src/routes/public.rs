//! What anyone may see and check. These handlers reach the public projection and nothing else.

use std::{convert::Infallible, time::Duration};

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures_util::StreamExt;
use gangline_types::{
    GpuId, Hour, ProofId,
    public::{NetworkTotals, PublicChain, PublicGpu, PublicProof, PublicSeason},
};
use gangline_wire::{
    api::{
        proof::Transcript,
        public::{
            AvailabilityHour, AvailabilityPage, ENTRIES_MAX, GpuPage, HOURS_MAX, SnapshotList,
            SnapshotWithEntries, UptimePage,
        },
    },
    endpoints as e,
};
use tokio_stream::wrappers::BroadcastStream;

use crate::{error::ApiError, request::Ctx, router::Api};

/// Browsers that watch at once.
const WATCHERS_MAX: usize = 1000;

pub(super) fn routes(api: Api) -> Api {
    api.json::<e::PublicNetwork, _, _>(network)
        .json::<e::PublicGpus, _, _>(gpus)
        .json::<e::PublicGpuById, _, _>(gpu)
        .json::<e::PublicGpuUptime, _, _>(uptime)
        .json::<e::PublicGpuChains, _, _>(chains)
        .json::<e::PublicAvailability, _, _>(availability)
        .json::<e::PublicGpuProofs, _, _>(proofs)
        .json::<e::PublicTranscript, _, _>(transcript)
        .json::<e::PublicSeasonNow, _, _>(season)
        .json::<e::PublicSnapshots, _, _>(snapshots)
        .json::<e::PublicSnapshotByPeriod, _, _>(snapshot)
        .raw::<e::PublicEvents, _, _>(events)
}

async fn network(ctx: Ctx<e::PublicNetwork>) -> Result<NetworkTotals, ApiError> {
    Ok(ctx.app.store.public().totals().await?)
}

async fn gpus(ctx: Ctx<e::PublicGpus>) -> Result<GpuPage, ApiError> {
    Ok(ctx.app.store.public().gpus(&ctx.query).await?)
}

async fn gpu(ctx: Ctx<e::PublicGpuById>) -> Result<PublicGpu, ApiError> {
    ctx.app.store.public().gpu(ctx.param("gpu")?).await?.ok_or_else(ApiError::hidden)
}

async fn uptime(ctx: Ctx<e::PublicGpuUptime>) -> Result<UptimePage, ApiError> {
    let gpu: GpuId = ctx.param("gpu")?;
    let public = ctx.app.store.public();
    public.gpu(gpu).await?.ok_or_else(ApiError::hidden)?;
    let to = ctx.query.to.unwrap_or(Hour(ctx.now.minute().hour().0 + 1));
    let from = ctx.query.from.unwrap_or(Hour(to.0.saturating_sub(HOURS_MAX)));
    Ok(UptimePage { hours: public.uptime(gpu, from, to).await? })
}

async fn chains(ctx: Ctx<e::PublicGpuChains>) -> Result<Vec<PublicChain>, ApiError> {
    let gpu: GpuId = ctx.param("gpu")?;
    let public = ctx.app.store.public();
    public.gpu(gpu).await?.ok_or_else(ApiError::hidden)?;
    let to = ctx.query.to.unwrap_or(Hour(ctx.now.minute().hour().0 + 1));
    let from = ctx.query.from.unwrap_or(Hour(to.0.saturating_sub(HOURS_MAX)));
    Ok(public.chains(gpu, from, to).await?)
}

async fn availability(ctx: Ctx<e::PublicAvailability>) -> Result<AvailabilityPage, ApiError> {
    let to = ctx.query.to.unwrap_or(Hour(ctx.now.minute().hour().0 + 1));
    let from = ctx.query.from.unwrap_or(Hour(to.0.saturating_sub(HOURS_MAX)));
    let hours = ctx.app.store.public().intake_up(from, to).await?;
    Ok(AvailabilityPage {
        hours: hours.into_iter().map(|(hour, bits)| AvailabilityHour { hour, bits }).collect(),
    })
}

async fn proofs(ctx: Ctx<e::PublicGpuProofs>) -> Result<Vec<PublicProof>, ApiError> {
    let gpu: GpuId = ctx.param("gpu")?;
    let public = ctx.app.store.public();
    public.gpu(gpu).await?.ok_or_else(ApiError::hidden)?;
    Ok(public.proofs(gpu).await?)
}

async fn transcript(ctx: Ctx<e::PublicTranscript>) -> Result<Transcript, ApiError> {
    let proof: ProofId = ctx.param("proof")?;
    ctx.app.store.public().transcript(proof).await?.ok_or_else(ApiError::hidden)
}

async fn the_season<E: gangline_wire::Endpoint>(ctx: &Ctx<E>) -> Result<PublicSeason, ApiError> {
    ctx.app.store.public().season().await?.ok_or_else(ApiError::hidden)
}

async fn season(ctx: Ctx<e::PublicSeasonNow>) -> Result<PublicSeason, ApiError> {
    the_season(&ctx).await
}

async fn snapshots(ctx: Ctx<e::PublicSnapshots>) -> Result<SnapshotList, ApiError> {
    let season = the_season(&ctx).await?;
    Ok(ctx.app.store.public().snapshots(season.number, ctx.query.from.unwrap_or(0), ctx.query.limit).await?)
}

async fn snapshot(ctx: Ctx<e::PublicSnapshotByPeriod>) -> Result<SnapshotWithEntries, ApiError> {
    let season = the_season(&ctx).await?;
    let period: u32 = ctx.param("period")?;
    let public = ctx.app.store.public();
    let snapshot = public.snapshot(season.number, period).await?.ok_or_else(ApiError::hidden)?;
    let limit = ctx.query.limit.unwrap_or(ENTRIES_MAX).clamp(1, ENTRIES_MAX);
    let mut entries = public.entries(season.number, period, ctx.query.after, limit + 1).await?;
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let next = entries.last().filter(|_| more).map(|entry| entry.gpu);
    Ok(SnapshotWithEntries { snapshot, entries, next })
}

async fn events(ctx: Ctx<e::PublicEvents>) -> Result<Response, ApiError> {
    if ctx.app.events.receiver_count() >= WATCHERS_MAX {
        return Err(gangline_guard::Refusal::TooMany { seconds: 60 }.into());
    }
    let totals = serde_json::to_string(&*ctx.app.totals.borrow()).unwrap_or_default();
    let first =
        futures_util::stream::iter([Ok::<_, Infallible>(Event::default().event("totals").data(totals))]);
    // A watcher that lags loses what it missed; the next totals put it right.
    let rest = BroadcastStream::new(ctx.app.events.subscribe()).filter_map(|event| async {
        event.ok().map(|(name, data)| Ok(Event::default().event(name).data(data)))
    });
    let stop = ctx.app.stop.clone();
    let stream = first.chain(rest).take_until(stop.cancelled_owned());
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response())
}
