//! The explorer: the whole network, from the public projection alone.

use axum::response::Response;
use gangline_pages::{Chrome, Cosigned, ExplorerView, GpuFilter, ModelRow, Point, Series};
use gangline_types::{Minute, Seconds, UnixSeconds};
use gangline_wire::{api::public::GpusQuery, endpoints as e};

use super::{
    chrome::{chrome, first_visit},
    page,
};
use crate::{app::App, edge, error::ApiError, request::Ctx};

/// Snapshots listed beside the season.
const SNAPSHOTS: u32 = 6;
/// Longest text sought, in characters.
const QUERY_CHARS_MAX: usize = 128;
/// Up to this many minutes the curve shows each; beyond, every fifth.
const FINE_MINUTES: u32 = 300;
const COARSE_MINUTES: u32 = 5;

pub async fn show(ctx: Ctx<e::ExplorerPage>) -> Result<Response, ApiError> {
    let chrome = chrome(&ctx);
    let is_front = ctx.session.is_none() && ctx.head.uri.query().is_none() && chrome.done.is_none();
    let (app, now) = (ctx.app.clone(), ctx.now);
    if !is_front {
        return Ok(page(drawn(&app, now, &chrome, ctx.query).await?));
    }
    app.drawn.send(front(&chrome), now, &ctx.head.headers, draw_front(ctx.app, now, chrome)).await
}

/// What everybody sees who comes from outside: only the theme tells one visitor's page from another's.
fn front(chrome: &Chrome) -> String {
    format!("/ {:?}", chrome.theme)
}

async fn draw_front(app: App, now: UnixSeconds, chrome: Chrome) -> Result<String, ApiError> {
    drawn(&app, now, &chrome, GpusQuery::default()).await
}

/// Draws the page that most visitors see first before one of them asks for it. What goes wrong, whoever asks is told.
pub async fn draw_ahead(app: &App) {
    let (now, chrome) = (edge::now(), first_visit(app));
    let _ = app.drawn.keep(front(&chrome), now, draw_front(app.clone(), now, chrome)).await;
}

async fn drawn(app: &App, now: UnixSeconds, chrome: &Chrome, query: GpusQuery) -> Result<String, ApiError> {
    let public = app.store.public();
    let text: String = query.q.as_deref().unwrap_or("").trim().chars().take(QUERY_CHARS_MAX).collect();
    let (standing, after) = (query.standing, query.after);
    let found = public.gpus(&GpusQuery { q: Some(text.clone()), standing, after, limit: None }).await?;
    let season = public.season().await?;
    let snapshots = match &season {
        Some(season) => public.newest_snapshots(season.number, SNAPSHOTS).await?,
        None => Vec::new(),
    };
    let models = public.models().await?.into_iter().map(|m| ModelRow {
        model: m.model,
        kind: m.kind,
        connected: m.connected,
        proven: m.proven,
        rentable: m.rentable,
    });
    let view = ExplorerView {
        now,
        totals: public.totals().await?,
        models: models.collect(),
        connected_day: curve(&public.connected_curve().await?),
        gpus: found.gpus,
        filter: GpuFilter { query: text, standing, continued: after.is_some() },
        next: found.next.map(|gpu| gpu.to_string()),
        season,
        snapshots,
        cosigned: cosigned(app).await?,
    };
    Ok(gangline_pages::explorer(chrome, &view))
}

/// How far the log is cosigned, where witnesses are asked for it.
async fn cosigned(app: &App) -> Result<Option<Cosigned>, ApiError> {
    let asked = app.witnesses.count();
    if asked == 0 {
        return Ok(None);
    }
    let found = app.store.public().cosigned().await?;
    Ok(Some(match found {
        Some(found) => Cosigned {
            entries: found.size,
            witnesses: found.lines.len() as u64,
            asked,
            at: found.lines.iter().map(|(_, at)| *at).min(),
        },
        None => Cosigned { entries: 0, witnesses: 0, asked, at: None },
    }))
}

/// Measurements as a line of at most some three hundred points: of each step, the last measurement.
fn curve(minutes: &[(Minute, u64)]) -> Series {
    let span = match (minutes.first(), minutes.last()) {
        (Some((first, _)), Some((last, _))) => last.0.saturating_sub(first.0),
        _ => 0,
    };
    let step = if span <= FINE_MINUTES { 1 } else { COARSE_MINUTES };
    let mut points: Vec<Point> = Vec::new();
    let mut last_step = None;
    for (minute, value) in minutes {
        if last_step.replace(minute.0 / step) == Some(minute.0 / step) {
            points.pop();
        }
        points.push(Point { at: minute.start(), value: *value });
    }
    Series { points, step: Seconds(step as u64 * 60) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_few_hundred_points_and_an_hour_is_every_minute() {
        let minutes = |n: u32| (0..n).map(|m| (Minute(m), m as u64)).collect::<Vec<_>>();
        let hour = curve(&minutes(60));
        assert_eq!((hour.points.len(), hour.step), (60, Seconds(60)));
        let day = curve(&minutes(1440));
        assert_eq!((day.points.len(), day.step), (288, Seconds(300)));
        assert_eq!(day.points.last().map(|p| p.value), Some(1439));
        assert!(curve(&[]).points.is_empty());
    }
}
