//! Snapshots, from the public projection alone.

use axum::response::Response;
use gangline_pages::{SnapshotView, SnapshotsView};
use gangline_wire::{Endpoint, endpoints as e};

use super::{chrome, page};
use crate::{error::ApiError, request::Ctx};

/// Snapshots on a page of the list.
const PAGE: u32 = 50;
/// Entries on a snapshot's page; the rest are in its JSON.
const ENTRIES_MAX: u32 = 200;

pub async fn list(ctx: Ctx<e::SnapshotsPage>) -> Result<Response, ApiError> {
    let public = ctx.app.store.public();
    let season = public.season().await?;
    let snapshots = match (&season, ctx.query.from) {
        (None, _) => Vec::new(),
        (Some(season), None) => public.newest_snapshots(season.number, PAGE).await?,
        (Some(season), Some(from)) => {
            let mut oldest_first = public.snapshots(season.number, from, Some(PAGE)).await?.snapshots;
            oldest_first.reverse();
            oldest_first
        }
    };
    let oldest = snapshots.last().map_or(0, |s| s.period);
    let view = SnapshotsView {
        now: ctx.now,
        season,
        snapshots,
        older_from: (oldest > 0).then(|| oldest.saturating_sub(PAGE)),
        origin: ctx.app.origin.clone(),
    };
    Ok(page(gangline_pages::snapshots(&chrome(&ctx), &view)))
}

pub async fn show(ctx: Ctx<e::SnapshotPage>) -> Result<Response, ApiError> {
    let period: u32 = ctx.param("period")?;
    let public = ctx.app.store.public();
    let season = public.season().await?.ok_or_else(ApiError::hidden)?;
    let snapshot = public.snapshot(season.number, period).await?.ok_or_else(ApiError::hidden)?;
    let entries = public.entries(season.number, period, None, ENTRIES_MAX).await?;
    let newest = public.newest_snapshots(season.number, 1).await?;
    let view = SnapshotView {
        now: ctx.now,
        snapshot,
        entries,
        has_later: newest.first().is_some_and(|s| s.period > period),
        data_href: e::PublicSnapshotByPeriod::path(&[&period]),
        origin: ctx.app.origin.clone(),
    };
    Ok(page(gangline_pages::snapshot(&chrome(&ctx), &view)))
}
