//! Says each second that this server is up, where the others reach it, how far the books are behind its beats, and which
//! clusters' tunnels end here.

use std::{collections::BTreeSet, time::Duration};

use gangline_store::StoreError;
use gangline_types::ClusterId;

use crate::app::App;

/// How often it says so.
const EVERY: Duration = Duration::from_secs(1);

async fn announce(app: &App, known: &mut BTreeSet<ClusterId>) -> Result<(), StoreError> {
    let announced = app.store.announce(&app.reached_at, app.lanes.behind()).await?;
    app.lanes.others_are_behind(announced.behind);
    if announced.is_new {
        known.clear();
    }
    let held = app.tunnels.held();
    let opened: Vec<ClusterId> = held.difference(known).copied().collect();
    let closed: Vec<ClusterId> = known.difference(&held).copied().collect();
    if !opened.is_empty() || !closed.is_empty() {
        app.store.hold_tunnels(&opened, &closed).await?;
        *known = held;
    }
    Ok(())
}

/// Says so until the server stops.
pub async fn run(app: App) {
    let mut known = BTreeSet::new();
    let mut failing = false;
    while !app.stop.is_cancelled() {
        match announce(&app, &mut known).await {
            Ok(()) => failing = false,
            Err(error) => {
                // What was said may have been heard or not.
                known.clear();
                if !std::mem::replace(&mut failing, true) {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(
                        error,
                        "could not say that this server is up; others will take its jobs over"
                    );
                }
            }
        }
        tokio::select! {
            () = app.tunnels.changed() => {}
            () = tokio::time::sleep(EVERY) => {}
            () = app.stop.cancelled() => {}
        }
    }
}
