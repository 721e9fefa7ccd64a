//! Fills the public projection and tells the explorer's watchers what changed.

use gangline_guard::{Actor, Job, act, permit::permit, policy::on};
use serde_json::json;

use crate::{app::App, edge, error::ApiError};

/// Brings the projection nearer to the books; whether there is more to do.
pub async fn project(app: &App) -> Result<bool, ApiError> {
    let permit = permit::<act::Project>(&Actor::job(Job::Projector), on::Network, edge::now())?;
    let projected = app.store.project(&permit).await?;
    for gpu in &projected.changed {
        let event = json!({"id": gpu.id, "standing": gpu.standing, "connected": gpu.connected, "rentable": gpu.rentable});
        let _ = app.events.send(("gpu", event.to_string()));
    }
    let data = serde_json::to_string(&projected.totals).unwrap_or_default();
    app.totals.send_replace(projected.totals);
    let _ = app.events.send(("totals", data));
    Ok(projected.more)
}
