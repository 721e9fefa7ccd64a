//! Fills the public projection and tells the explorer's watchers what changed.

use gangline_guard::{Actor, Job, act, permit::permit, policy::on};
use gangline_store::TOLD_MAX;
use gangline_types::public::{NetworkTotals, PublicGpu};
use serde_json::json;

use crate::{app::App, edge, error::ApiError};

/// A server that filled the projection within so many seconds has told its watchers itself.
const OWN_SECONDS: u64 = 2 * super::PROJECT_EVERY_SECONDS;

/// Brings the projection nearer to the books; whether there is more to do.
pub async fn project(app: &App) -> Result<bool, ApiError> {
    let now = edge::now();
    let permit = permit::<act::Project>(&Actor::job(Job::Projector), on::Network, now)?;
    let projected = app.store.project(&permit, app.lanes.beats_until(now)).await?;
    app.projected(now);
    projected.changed.iter().for_each(|gpu| tell(app, gpu));
    tell_totals(app, projected.totals);
    Ok(projected.more)
}

/// Tells watchers here what another server has filled into the projection. `changed` is what has changed since the last
/// time.
pub async fn follow(app: &App, changed: &[PublicGpu]) -> Result<(), ApiError> {
    if edge::now().since(app.projected_at()) <= OWN_SECONDS {
        return Ok(());
    }
    changed.iter().take(TOLD_MAX).for_each(|gpu| tell(app, gpu));
    let totals = app.store.public().totals().await?;
    if totals.as_of != app.totals.borrow().as_of {
        tell_totals(app, totals);
    }
    Ok(())
}

fn tell(app: &App, gpu: &PublicGpu) {
    let event =
        json!({"id": gpu.id, "standing": gpu.standing, "connected": gpu.connected, "rentable": gpu.rentable});
    let _ = app.events.send(("gpu", event.to_string()));
}

fn tell_totals(app: &App, totals: NetworkTotals) {
    let data = serde_json::to_string(&totals).unwrap_or_default();
    app.totals.send_replace(totals);
    let _ = app.events.send(("totals", data));
}
