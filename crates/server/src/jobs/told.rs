//! Hears what other servers on the same books have just written, so that whoever waits here need not wait for the
//! next look.

use std::time::Duration;

use gangline_store::{StoreError, Told};

use crate::app::App;

/// How long after a failure it listens again.
const AGAIN: Duration = Duration::from_secs(1);

fn pass_on(app: &App, told: Told) {
    match told {
        Told::Ended => app.lives.look(),
        Told::Cluster(machine) => {
            app.nudge(machine);
            app.cluster_changed();
            app.changed();
        }
        Told::Something => {
            app.lives.look();
            app.cluster_changed();
            app.changed();
        }
    }
}

async fn listen(app: &App) -> Result<(), StoreError> {
    let Some(mut hearing) = app.store.hear().await? else {
        app.stop.cancelled().await;
        return Ok(());
    };
    pass_on(app, Told::Something);
    loop {
        tokio::select! {
            told = hearing.next() => pass_on(app, told?),
            () = app.stop.cancelled() => return Ok(()),
        }
    }
}

/// Listens until the server stops.
pub async fn run(app: App) {
    while !app.stop.is_cancelled() {
        if let Err(error) = listen(&app).await {
            // Nothing rests on it.
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "other servers are not heard at the moment"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = app.stop.cancelled() => {}
        }
    }
}
