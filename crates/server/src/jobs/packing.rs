//! Packs uptime that can no longer change, and forgets what is past keeping.

use gangline_types::{GpuId, Hour};

use super::clusters::reconciler;
use crate::{app::App, edge, error::ApiError};

/// Hours of a day that ended so long ago are packed: no late beat comes, and no page adds up the last day from them.
const SETTLED_HOURS: u32 = 36;

/// Packs what is due, in the books and in the public projection, some thousands of GPUs at a time.
pub async fn pack(app: &App) -> Result<(), ApiError> {
    let hour = edge::now().minute().hour();
    let mut before = Hour(hour.0.saturating_sub(SETTLED_HOURS));
    // A minute that is in no snapshot yet stays where snapshots look.
    if let Some(season) = app.store.season().await? {
        let taken = app.store.last_snapshot(season.number).await?;
        before = before.min(taken.map_or(season.starts, |head| head.ends).hour());
    }
    let kept_from = Hour(hour.0.saturating_sub(app.config.uptime_days.saturating_mul(24)));
    for public in [false, true] {
        let mut after: Option<GpuId> = None;
        loop {
            let permit = reconciler(edge::now())?;
            let packed = app.store.pack_uptime(&permit, public, before, kept_from, after).await?;
            after = packed.last;
            if after.is_none() || app.stop.is_cancelled() {
                break;
            }
            // Whoever else wants to write gets a turn.
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}
