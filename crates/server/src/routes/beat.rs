//! Beats: the epoch's opening, frames that come over the main port, and signed reports as older workers send
//! them. All of them end in the intake's journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::Response,
};
use gangline_guard::{
    Actor, Permit, act,
    beat::{Batch, Gate},
    notice::Trail,
};
use gangline_rules::uptime;
use gangline_store::{ChainRow, LaneRow, Opening, onward};
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
    let asking =
        Asking { asker: ctx.asker(), actor: &ctx.actor, asked: &ctx.body, at: ctx.now, trail: &ctx.trail };
    let (lane, key) = open_each(&ctx.app, vec![asking]).await.remove(0)?;
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

/// A question for an epoch, of a machine whose key signed it, however it came.
pub(crate) struct Asking<'a> {
    /// Whom it counts for.
    pub(crate) asker: Asker,
    /// The machine.
    pub(crate) actor: &'a Actor,
    /// What it asks.
    pub(crate) asked: &'a EpochRequest,
    /// When it came.
    pub(crate) at: UnixSeconds,
    /// What the guard was asked for it.
    pub(crate) trail: &'a Trail,
}

/// One that is permitted; its chains are still to be verified.
struct Permitted<'a> {
    asked: &'a EpochRequest,
    permit: Permit<act::Beat>,
}

/// Opens an epoch for each of these machines and writes it down, with few questions to the books for all of them; the intake
/// is told by whoever asks.
pub(crate) async fn open_each(
    app: &App,
    asking: Vec<Asking<'_>>,
) -> Vec<Result<(LaneRow, BeatKey), ApiError>> {
    let now = app.lanes.clock.now();
    let permitted = asking.into_iter().map(|asking| permitted(app, asking, now)).collect();
    let chained = onward(permitted, |all| chained(app, all)).await;
    let granted = {
        let mut gate = app.lanes.gate.lock().unwrap_or_else(|e| e.into_inner());
        let granted = chained.into_iter().map(|chained| granted(&mut gate, chained?, Epoch::of(now)));
        granted.collect()
    };
    onward(granted, async |all: Vec<(Opening, BeatKey)>| {
        let answers: Vec<_> = all.iter().map(|((_, lane, _), key)| (lane.clone(), key.clone())).collect();
        let written = app.store.open_each_lane(all.into_iter().map(|(opening, _)| opening).collect()).await;
        answers.into_iter().zip(written).map(|(answer, written)| Ok(written.map(|()| answer)?)).collect()
    })
    .await
}

fn permitted<'a>(app: &App, asking: Asking<'a>, now: UnixSeconds) -> Result<Permitted<'a>, ApiError> {
    let Asking { asker, actor, asked, at, trail } = asking;
    app.count(Counted::Epochs, asker)?;
    let permit = ask::<act::Beat>(actor, machine_of(actor)?, at, trail)?;
    uptime::credit(now, asked.starts).map_err(|refusal| unfit("bad_start", refusal.to_string()))?;
    Ok(Permitted { asked, permit })
}

/// Verifies the chains' signatures, all together, and that each is of a GPU of the machine that asks.
async fn chained(
    app: &App,
    permitted: Vec<Permitted<'_>>,
) -> Vec<Result<(Permit<act::Beat>, BTreeMap<GpuId, ChainRow>), ApiError>> {
    let wishes =
        permitted.iter().flat_map(|one| one.asked.chains.iter().map(|wish| (one.asked.starts, wish)));
    let (mut signatures, mut signed) = (Vec::new(), Vec::new());
    for (starts, wish) in wishes {
        let signature = wish.signature_bytes();
        // What cannot be a signature is not asked about.
        signed.extend(signature.map(|signature| {
            let message = chain::signed_bytes(wish.gpu, starts, wish.tip);
            Signed { key: wish.uptime_key, message, signature }
        }));
        signatures.push(signature);
    }
    let permits: Vec<_> = permitted.iter().map(|one| &one.permit).collect();
    let (present, verified) = tokio::join!(app.store.each_own_gpus(&permits), app.verify_each(signed));
    let mut verified = verified.into_iter();
    let mut good =
        signatures.into_iter().map(|signature| signature.filter(|_| verified.next().flatten().is_some()));
    let each = permitted.into_iter().zip(present).map(|(Permitted { asked, permit }, present)| {
        // Each takes its own answers, also where it is refused.
        let good: Vec<_> = good.by_ref().take(asked.chains.len()).collect();
        let present: BTreeSet<GpuId> = present?.into_iter().collect();
        let mut chains = BTreeMap::new();
        for (wish, good) in asked.chains.iter().zip(good) {
            if !present.contains(&wish.gpu) {
                return Err(unfit("not_here", format!("{} is no GPU of this machine", wish.gpu)));
            }
            let signature = good.ok_or_else(|| {
                unfit("bad_chain", format!("the chain of {} is not signed with its uptime key", wish.gpu))
            })?;
            let public_key = *wish.uptime_key.as_bytes();
            let row = ChainRow { gpu: wish.gpu, starts: asked.starts, tip: wish.tip, public_key, signature };
            if chains.insert(wish.gpu, row).is_some() {
                return Err(unfit("chain_twice", format!("two chains of {} in one request", wish.gpu)));
            }
        }
        Ok((permit, chains))
    });
    each.collect()
}

fn granted(
    gate: &mut Gate,
    (permit, chains): (Permit<act::Beat>, BTreeMap<GpuId, ChainRow>),
    epoch: Epoch,
) -> Result<(Opening, BeatKey), ApiError> {
    let Some(first) = chains.values().next() else {
        return Err(unfit("no_gpus", "an epoch is opened for at least one GPU".into()));
    };
    let (grant, key) = gate.open(&permit, epoch, first.tip).ok_or_else(ApiError::hidden)?;
    let lane = LaneRow { grant, gpus: chains.values().map(|c| (c.gpu, c.tip)).collect() };
    Ok(((permit, lane, chains.into_values().collect()), key))
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
