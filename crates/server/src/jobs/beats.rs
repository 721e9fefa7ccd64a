//! Folds what the intake has on disk into the books, and tells the intake which keys have ended.

use std::{sync::atomic::Ordering, time::Instant};

use gangline_store::Fold;
use gangline_types::{MachineId, UnixSeconds};
use gangline_wire::beat::Epoch;

use super::clusters::reconciler;
use crate::{
    app::App,
    edge,
    error::ApiError,
    intake::{IntakeError, PARTS, Taken},
    lanes::Pace,
};

/// Keys that ended so long ago are told again, in seconds: a write that was slow to commit is seen all the same.
const OVERLAP_SECONDS: u64 = 30;

/// Lanes opened so long ago are told again, in seconds, for the same reason.
const OPENED_SECONDS: u64 = 5;
/// GPU-hours that one transaction folds: some tenths of a second of work.
const GPUS_AT_ONCE: usize = 2_000;

/// Books that are older than this are told of who turned, in seconds.
const LAGS_SECONDS: u64 = 15;

/// When the server ends, so many hours of GPUs are still folded: some seconds of work. More stay in the journal, which the
/// next start reads quicker.
pub const FOLDED_AT_END: usize = 20_000;

/// The intake could not be asked: for the caller that is as if the database could not.
pub fn away(error: IntakeError) -> ApiError {
    ApiError::bad_hint(
        axum::http::StatusCode::SERVICE_UNAVAILABLE,
        "intake_busy",
        error.to_string(),
        "what was not acknowledged can be sent again in some seconds",
    )
}

/// Folds the next parts, of some thousand hours of GPUs; of how many parts and hours. Which machines were heard of is
/// written down when a round is over: in the order of GPUs they are neighbours of nobody.
async fn fold_some(app: &App, pace: &mut Pace) -> Result<(usize, usize), ApiError> {
    let taken_at = edge::now();
    let (Taken { mut fold, parts, .. }, until) = app.lanes.intake.take(GPUS_AT_ONCE).await.map_err(away)?;
    fold.taken_at = taken_at;
    let hours = fold.hours.len();
    pace.beating.extend(fold_in_parts(app, fold).await?);
    if until.is_some() {
        app.store.note_beating(&reconciler(edge::now())?, &pace.beating).await?;
        pace.beating = Vec::with_capacity(pace.beating.len());
    }
    app.lanes.intake.folded(until).map_err(away)?;
    if hours > 0 {
        app.changed();
    }
    Ok((parts, hours))
}

/// Brings the books up to date with everything that was acknowledged by now.
pub async fn fold(app: &App) -> Result<(), ApiError> {
    let mut pace = app.lanes.folding.lock().await;
    fold_all(app, &mut pace).await
}

async fn fold_all(app: &App, pace: &mut Pace) -> Result<(), ApiError> {
    let began = Instant::now();
    let (mut parts, mut hours) = (0, 0);
    while parts < PARTS {
        let (some_parts, some_hours) = fold_some(app, pace).await?;
        (parts, hours) = (parts + some_parts, hours + some_hours);
    }
    pace.folded_all(began.elapsed(), hours);
    Ok(())
}

/// Writes it into the books some at a time: whoever else wants to write gets a turn, and each part says when it was
/// written. Which machines were heard of.
async fn fold_in_parts(app: &App, fold: Fold) -> Result<Vec<MachineId>, ApiError> {
    let Fold { mut hours, mut links, up, taken_at } = fold;
    // Neighbours in the books together: a part touches few pages of them.
    hours.sort_unstable_by_key(|row| (row.gpu, row.hour));
    hours.dedup_by_key(|row| (row.gpu, row.hour));
    links.sort_unstable_by_key(|link| (link.gpu, link.hour));
    let mut part = Fold { up, taken_at, ..Default::default() };
    let mut beating = Vec::new();
    loop {
        if app.stop.is_cancelled() && hours.len() > FOLDED_AT_END {
            return Err(away(IntakeError::Ended));
        }
        part.hours = hours.split_off(hours.len().saturating_sub(GPUS_AT_ONCE));
        part.links = links.split_off(links.len().saturating_sub(GPUS_AT_ONCE));
        if part.hours.is_empty() && part.links.is_empty() && part.up.is_empty() {
            return Ok(beating);
        }
        beating.extend(app.store.fold(&reconciler(edge::now())?, &part).await?);
        part = Fold { taken_at, ..Default::default() };
    }
}

/// Writes into the books what is folded beside the rounds, and which machines were heard of by it.
pub async fn fold_beside(app: &App, fold: Fold) -> Result<(), ApiError> {
    let beating = fold_in_parts(app, fold).await?;
    Ok(app.store.note_beating(&reconciler(edge::now())?, &beating).await?)
}

/// Folds some of what waits when the last fold did not take too much of the time: of a large network a part at a time, so that
/// its books cost the same in every minute.
pub async fn fold_waiting(app: &App) -> Result<(), ApiError> {
    app.metrics.beats_until.store(app.lanes.beats_until(edge::now()).0, Ordering::Relaxed);
    let waiting = app.lanes.intake.counters().waiting.load(Ordering::Relaxed);
    let mut pace = app.lanes.folding.lock().await;
    if waiting == 0 || !pace.is_due() {
        return Ok(());
    }
    let began = Instant::now();
    let (_, hours) = fold_some(app, &mut pace).await?;
    pace.folded(began.elapsed(), hours);
    Ok(())
}

/// Where the books lag behind the beats, tells them at once who came and who fell silent since: their minutes, some thousand
/// GPUs at a look, so that the explorer and hires know of it before their part is folded. When more came than that, everybody is folded.
pub async fn tell_turned(app: &App) -> Result<(), ApiError> {
    let now = edge::now();
    if app.lanes.behind() < LAGS_SECONDS {
        return Ok(());
    }
    let mut pace = app.lanes.folding.lock().await;
    let mut turned = app.lanes.intake.turned(GPUS_AT_ONCE).await.map_err(away)?;
    if app.store.is_shared() {
        // Whoever is silent here may beat at another server.
        turned.silent.clear();
    }
    if !turned.is_empty() {
        turned.fold.taken_at = now;
        fold_beside(app, turned.fold).await?;
        app.store.turned(&reconciler(now)?, &turned.came, &turned.silent, now).await?;
        app.changed();
    }
    if turned.many_came && pace.is_due_of_all() { fold_all(app, &mut pace).await } else { Ok(()) }
}

/// Tells the intake which lanes were opened at other servers and which have ended. It goes on by itself whatever
/// happens to this.
pub async fn tell_lanes(app: &App) -> Result<(), ApiError> {
    let now = edge::now();
    if app.store.is_shared() {
        let opened = app.store.lanes_opened(UnixSeconds(now.0.saturating_sub(OPENED_SECONDS))).await?;
        if !opened.is_empty() {
            app.lanes.intake.learn(opened).map_err(away)?;
        }
    }
    let since = UnixSeconds(now.0.saturating_sub(OVERLAP_SECONDS));
    let ended = app.store.ended_lanes(since).await?;
    if !ended.is_empty() {
        app.lanes.intake.end(ended).map_err(away)?;
    }
    Ok(())
}

/// Forgets lanes whose epoch is long over.
pub async fn forget_lanes(app: &App) -> Result<(), ApiError> {
    let before = Epoch::of(app.lanes.clock.now()).previous().previous().previous();
    Ok(app.store.forget_lanes(&reconciler(edge::now())?, before).await?)
}
