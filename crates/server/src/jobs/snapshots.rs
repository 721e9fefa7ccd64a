//! Takes snapshots of ended periods, in order, never skipping one.

use std::sync::atomic::Ordering;

use gangline_guard::{Actor, Job, Permit, act, permit::permit, policy::on};
use gangline_rules::{
    snapshot::{due, period_span},
    uptime,
};
use gangline_store::TakenSnapshot;
use gangline_types::{Hour, Minute, UnixSeconds, public::PublicSeason};

use crate::{Config, app::App, edge, error::ApiError, jobs::beats};

fn accountant() -> Result<Permit<act::TakeSnapshot>, ApiError> {
    Ok(permit::<act::TakeSnapshot>(&Actor::job(Job::Accountant), on::Network, edge::now())?)
}

/// The first season as configured: from the start of the running period on.
fn first_season(config: &Config, now: Minute) -> PublicSeason {
    let period_minutes = config.period_minutes.clamp(1, 60);
    let starts = Minute(now.0 - now.0 % period_minutes);
    let periods = config.season_days.max(1) * 24 * 60 / period_minutes;
    PublicSeason {
        number: 1,
        starts,
        ends: Minute(starts.0 + periods * period_minutes),
        period_minutes,
        period_budget: config.period_budget,
    }
}

/// Opens the first season where there is none. One that exists stays as it is, whatever is configured.
pub async fn ensure_season(app: &App) -> Result<(), ApiError> {
    if app.store.season().await?.is_none() {
        app.store.open_season(&accountant()?, &first_season(&app.config, edge::now().minute())).await?;
    }
    Ok(())
}

/// Whether our own intake was down in a period, or in its grace, and is back for less than the grace: machines
/// still hand in what they kept meanwhile.
async fn is_too_soon(app: &App, from: Minute, to: Minute, now: UnixSeconds) -> Result<bool, ApiError> {
    let grace = app.config.snapshot_grace_seconds;
    let ends = to.start().plus(grace).minute();
    // The last two minutes are not recorded yet.
    let until = Minute(now.minute().0.saturating_sub(2));
    let day_before = Hour(from.hour().0.saturating_sub(24));
    let up = app.store.intake_up(day_before, now.minute().hour()).await?;
    let back = uptime::back_since(&uptime::outages(up, until), from, ends);
    Ok(back.is_some_and(|back| now < back.start().plus(grace)))
}

/// Takes every snapshot that is due.
pub async fn take_due(app: &App) -> Result<(), ApiError> {
    let Some(season) = app.store.season().await? else { return Ok(()) };
    loop {
        let now = edge::now();
        let last = app.store.last_snapshot(season.number).await?.map(|s| s.period);
        let Some(period) = due(&season, now, app.config.snapshot_grace_seconds, last) else { return Ok(()) };
        let (from, to) = period_span(&season, period);
        if is_too_soon(app, from, to, now).await? {
            return Ok(());
        }
        // What is acknowledged by now is in the books before they are read.
        beats::fold(app).await?;
        let compute =
            |previous_root, inputs: Vec<_>| TakenSnapshot::of(&season, period, now, previous_root, &inputs);
        let head = app.store.take_snapshot(accountant()?, season.number, from, to, compute).await?;
        tracing::info!(season = head.season, period = head.period, gpus = head.gpus, shared_micro_credits = head.shared.0, root = %head.root, "snapshot taken");
        app.metrics.snapshots.fetch_add(1, Ordering::Relaxed);
        app.changed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_season_is_a_whole_number_of_periods_and_holds_the_running_one() {
        for period_minutes in [1, 5, 60] {
            let config = Config { period_minutes, season_days: 2, ..Config::default() };
            let season = first_season(&config, Minute(1_000_003));
            assert_eq!((season.ends.0 - season.starts.0) % period_minutes, 0);
            assert!(season.starts.0 <= 1_000_003 && 1_000_003 < season.starts.0 + period_minutes);
            assert_eq!(season.ends.0 - season.starts.0, 2 * 24 * 60);
        }
    }
}
