//! Packs uptime that can no longer change, and forgets what is past keeping.

use gangline_rules::spans::span_of;
use gangline_types::{GpuId, Hour};

use super::clusters::reconciler;
use crate::{app::App, edge, error::ApiError};

/// Hours of a day that ended so long ago are packed: no late beat comes, and no page adds up the last day from them.
const SETTLED_HOURS: u32 = 36;
/// The same for values of chains.
const LINKS_SETTLED_HOURS: u32 = 96;

/// Spans of periods, the running one included, whose entries are not packed: of hours, two to three days.
const SPANS_KEPT: u32 = 3;

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
    pack_entries(app).await?;
    // A chain is beaten with for two days, and its newest value is looked for in hours when a server starts.
    let links_before = Hour(before.0.min(hour.0.saturating_sub(LINKS_SETTLED_HOURS)));
    for (public, links) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut after: Option<GpuId> = None;
        loop {
            let permit = reconciler(edge::now())?;
            let packed = if links {
                app.store.pack_links(&permit, public, links_before, kept_from, after).await?
            } else {
                app.store.pack_uptime(&permit, public, before, kept_from, after).await?
            };
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

/// Packs entries of snapshots that were taken long ago, a span of periods at a time, and leaves the newest as they are: pages and
/// statements ask for those.
async fn pack_entries(app: &App) -> Result<(), ApiError> {
    let Some(season) = app.store.season().await? else { return Ok(()) };
    let Some(last) = app.store.last_snapshot(season.number).await? else { return Ok(()) };
    for public in [true, false] {
        let mut span = app.store.packed_spans(&reconciler(edge::now())?, public, season.number).await?;
        while span_of(last.period).saturating_sub(span) >= SPANS_KEPT {
            let permit = reconciler(edge::now())?;
            tokio::select! {
                packed = app.store.pack_entries(&permit, public, &season, span) => packed?,
                () = app.stop.cancelled() => return Ok(()),
            }
            span += 1;
        }
    }
    Ok(())
}
