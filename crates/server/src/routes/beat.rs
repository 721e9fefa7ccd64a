//! Beats: the epoch's opening, frames that come over the main port, and signed reports as older workers send
//! them. All of them end in the intake's journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::Response,
};
use futures_util::future::join_all;
use gangline_guard::{Actor, act, beat::Batch, notice::Trail};
use gangline_rules::uptime;
use gangline_store::{ChainRow, LaneRow};
use gangline_types::{GpuId, Hash, UnixSeconds};
use gangline_wire::{
    Signed,
    api::machine::{BeatReceipt, EpochGrant, EpochRequest, RefusedBeat},
    beat::{BEAT_BYTES, BeatKey, Epoch, chain},
    endpoints as e,
};

use super::machine::{machine_of, own};
use crate::{
    app::{App, Counted},
    edge,
    error::ApiError,
    intake::gather,
    jobs::beats::away,
    request::{Asker, Ctx, ask},
    router::Api,
};

pub(super) fn routes(api: Api) -> Api {
    api.json::<e::BeatEpoch, _, _>(epoch).raw::<e::BeatFrames, _, _>(frames).json::<e::Beats, _, _>(report)
}

fn unfit(code: &'static str, what: String) -> ApiError {
    ApiError::bad(StatusCode::UNPROCESSABLE_ENTITY, code, what)
}

async fn epoch(ctx: Ctx<e::BeatEpoch>) -> Result<EpochGrant, ApiError> {
    let (lane, key) = open(&ctx.app, ctx.asker(), &ctx.actor, &ctx.body, ctx.now, &ctx.trail).await?;
    let gpus = lane.gpus.iter().map(|(gpu, _)| *gpu).collect();
    let grant = lane.grant;
    ctx.app.lanes.intake.open(lane).await.map_err(away)?;
    Ok(EpochGrant {
        epoch: grant.epoch(),
        alias: grant.alias(),
        key: Hash(*key.as_bytes()),
        gpus,
        udp: ctx.app.lanes.udp.clone(),
        http: ctx.app.lanes.http.clone(),
        server_time: edge::now_millis(),
    })
}

/// Opens an epoch for the machine whose key signed, however its question came, and writes it down; the intake is told by
/// whoever asked.
pub(crate) async fn open(
    app: &App,
    asker: Asker,
    actor: &Actor,
    asked: &EpochRequest,
    at: UnixSeconds,
    trail: &Trail,
) -> Result<(LaneRow, BeatKey), ApiError> {
    app.count(Counted::Epochs, asker)?;
    let permit = ask::<act::Beat>(actor, machine_of(actor)?, at, trail)?;
    let now = app.lanes.clock.now();
    let starts = asked.starts;
    uptime::credit(now, starts).map_err(|refusal| unfit("bad_start", refusal.to_string()))?;
    // Verified together with those of other machines, while the books are asked.
    let verified = asked.chains.iter().map(|wish| async move {
        let message = chain::signed_bytes(wish.gpu, starts, wish.tip);
        let signature = wish.signature_bytes()?;
        app.verify(Signed { key: wish.uptime_key, message, signature }).await.map(|_| signature)
    });
    let (present, verified) = tokio::join!(app.store.own_gpus(&permit), join_all(verified));
    let present: BTreeSet<GpuId> = present?.into_iter().collect();
    let mut chains = BTreeMap::new();
    for (wish, verified) in asked.chains.iter().zip(verified) {
        if !present.contains(&wish.gpu) {
            return Err(unfit("not_here", format!("{} is no GPU of this machine", wish.gpu)));
        }
        let signature = verified.ok_or_else(|| {
            unfit("bad_chain", format!("the chain of {} is not signed with its uptime key", wish.gpu))
        })?;
        let public_key = *wish.uptime_key.as_bytes();
        let row = ChainRow { gpu: wish.gpu, starts, tip: wish.tip, public_key, signature };
        if chains.insert(wish.gpu, row).is_some() {
            return Err(unfit("chain_twice", format!("two chains of {} in one request", wish.gpu)));
        }
    }
    let Some(first) = chains.values().next() else {
        return Err(unfit("no_gpus", "an epoch is opened for at least one GPU".into()));
    };
    let opened = {
        let mut gate = app.lanes.gate.lock().unwrap_or_else(|e| e.into_inner());
        gate.open(&permit, Epoch::of(now), first.tip)
    };
    let (grant, key) = opened.ok_or_else(ApiError::hidden)?;
    let lane = LaneRow { grant, gpus: chains.values().map(|c| (c.gpu, c.tip)).collect() };
    let rows: Vec<ChainRow> = chains.into_values().collect();
    app.store.open_lane(permit, &lane, &rows).await?;
    Ok((lane, key))
}

async fn frames(ctx: Ctx<e::BeatFrames>) -> Result<Response, ApiError> {
    let answers = if ctx.bytes.is_empty() || !ctx.bytes.len().is_multiple_of(BEAT_BYTES) {
        Vec::new()
    } else {
        ctx.app.lanes.intake.frames(ctx.bytes.to_vec()).await.map_err(away)?
    };
    let mut response = Response::new(Body::empty());
    if answers.is_empty() {
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        return Ok(response);
    }
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/octet-stream"));
    *response.body_mut() = Body::from(answers);
    Ok(response)
}

async fn report(ctx: Ctx<e::Beats>) -> Result<BeatReceipt, ApiError> {
    let permit = own::<act::Beat, _>(&ctx)?;
    let present: BTreeSet<GpuId> = ctx.app.store.own_gpus(&permit).await?.into_iter().collect();
    let now = ctx.app.lanes.clock.now();
    let (mut credited, mut refused, mut hours) = (0, Vec::new(), BTreeMap::new());
    for beat in &ctx.body.beats {
        let minute = match uptime::credit(now, beat.minute) {
            Ok(minute) => minute,
            Err(refusal) => {
                refused.push(RefusedBeat { minute: beat.minute, reason: refusal.to_string() });
                continue;
            }
        };
        for gpu in &beat.gpus {
            if present.contains(gpu) {
                credited += 1;
                gather(&mut hours, *gpu, minute);
            } else {
                refused.push(RefusedBeat { minute, reason: format!("{gpu} is no GPU of this machine") });
            }
        }
    }
    let mut batch = Batch::default();
    for ((gpu, hour), bits) in hours {
        batch.report(&permit, gpu, hour, bits);
    }
    if !batch.lines().is_empty() {
        ctx.app.lanes.intake.report(batch).await.map_err(away)?;
    }
    ctx.app.metrics.beats_credited.fetch_add(u64::from(credited), Ordering::Relaxed);
    ctx.app.metrics.beats_refused.fetch_add(refused.len() as u64, Ordering::Relaxed);
    Ok(BeatReceipt { credited, refused, server_time: edge::now_millis() })
}
