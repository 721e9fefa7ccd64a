//! Folds what the intake has on disk into the books, and tells the intake which keys have ended.

use std::time::Instant;

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
    let (fold, batch) = app.lanes.intake.take().await.map_err(away)?;
    let news = !fold.hours.is_empty();
    // Some at a time: whoever else wants to write gets a turn, and each part says when it was written.
    let Fold { mut hours, mut links, up } = fold;
    let mut part = Fold { up, ..Default::default() };
    loop {
        part.hours = hours.split_off(hours.len().saturating_sub(GPUS_AT_ONCE));
        part.links = links.split_off(links.len().saturating_sub(GPUS_AT_ONCE));
        if part.hours.is_empty() && part.links.is_empty() && part.up.is_empty() {
            break;
        }
        app.store.fold(&reconciler(edge::now())?, &part).await?;
        part = Fold::default();
    }
    app.lanes.intake.folded(batch).map_err(away)?;
    pace.folded(began.elapsed());
    if news {
        app.changed();
    }
    Ok(())
}

/// The same when something waits and the last fold did not take too much of the time.
pub async fn fold_waiting(app: &App) -> Result<(), ApiError> {
    let waiting = app.lanes.intake.counters().waiting.load(std::sync::atomic::Ordering::Relaxed);
    if waiting == 0 || !app.lanes.folding.lock().await.is_due() {
        return Ok(());
    }
    fold(app).await
}

/// Tells the intake which lanes were opened at other servers and which have ended. It goes on by itself whatever
/// happens to this.
pub async fn tell_lanes(app: &App) -> Result<(), ApiError> {
    let now = edge::now();
    let opened = app.store.lanes_opened(UnixSeconds(now.0.saturating_sub(OPENED_SECONDS))).await?;
    if !opened.is_empty() {
        app.lanes.intake.learn(opened).map_err(away)?;
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
