//! Folds what the intake has on disk into the books, and tells the intake which keys have ended.

use std::{sync::atomic::Ordering, time::Instant};

use gangline_store::Fold;
use gangline_types::UnixSeconds;
use gangline_wire::beat::Epoch;

use super::clusters::reconciler;
use crate::{app::App, edge, error::ApiError, intake::IntakeError};

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

/// Brings the books up to date with everything that was acknowledged by now.
pub async fn fold(app: &App) -> Result<(), ApiError> {
    let mut pace = app.lanes.folding.lock().await;
    let began = Instant::now();
    let taken_at = edge::now();
    let (mut fold, batch) = app.lanes.intake.take().await.map_err(away)?;
    fold.taken_at = taken_at;
    let folded = fold.hours.len();
    fold_in_parts(app, fold).await?;
    app.lanes.intake.folded(batch).map_err(away)?;
    app.lanes.folded(taken_at);
    pace.folded(began.elapsed(), folded);
    if folded > 0 {
        app.changed();
    }
    Ok(())
}

/// Writes it into the books some at a time: whoever else wants to write gets a turn, and each part says when it was
/// written.
pub async fn fold_in_parts(app: &App, fold: Fold) -> Result<(), ApiError> {
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
            return Ok(app.store.note_beating(&reconciler(edge::now())?, &beating).await?);
        }
        beating.extend(app.store.fold(&reconciler(edge::now())?, &part).await?);
        part = Fold { taken_at, ..Default::default() };
    }
}

/// The same when something waits and the last fold did not take too much of the time.
pub async fn fold_waiting(app: &App) -> Result<(), ApiError> {
    let now = edge::now();
    let waiting = app.lanes.intake.counters().waiting.load(Ordering::Relaxed);
    if waiting == 0 {
        // The books have all of it, also when the last fold was long ago.
        app.lanes.folded(now);
    }
    app.metrics.beats_until.store(app.lanes.beats_until(now).0, Ordering::Relaxed);
    if waiting == 0 || !app.lanes.folding.lock().await.is_due() {
        return Ok(());
    }
    fold(app).await
}

/// Where the books lag behind the beats, tells them at once who came and who fell silent since: their minutes, some thousand
/// GPUs at a look, so that the explorer and hires know of it without a fold of everybody.
pub async fn tell_turned(app: &App) -> Result<(), ApiError> {
    let now = edge::now();
    if app.lanes.behind(now) < LAGS_SECONDS {
        return Ok(());
    }
    // While a fold of everybody runs the books are being told.
    let Ok(_folding) = app.lanes.folding.try_lock() else { return Ok(()) };
    let mut turned = app.lanes.intake.turned(GPUS_AT_ONCE).await.map_err(away)?;
    if app.store.is_shared() {
        // Whoever is silent here may beat at another server.
        turned.silent.clear();
    }
    if turned.is_empty() {
        return Ok(());
    }
    turned.fold.taken_at = now;
    fold_in_parts(app, turned.fold).await?;
    app.store.turned(&reconciler(now)?, &turned.came, &turned.silent, now).await?;
    app.changed();
    Ok(())
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
