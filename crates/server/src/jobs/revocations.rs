//! Looks what has ended, here or on another server of the same books, and ends what is open under it. Several
//! servers commit in another order than they number, so a span is read again each time and what was seen before is
//! passed over.

use std::{collections::HashMap, time::Duration};

use gangline_types::UnixSeconds;

use crate::{app::App, edge, error::ApiError, panics::caught};

/// How often it looks when nobody says that something ended, in milliseconds.
const LOOK_EACH_MILLIS: u64 = 500;
/// How far back it reads each time, in seconds: longer than any write takes, and than servers' clocks are apart.
const BACK_SECONDS: u64 = 60;

/// What was seen already, with when.
#[derive(Default)]
struct Seen(HashMap<u64, UnixSeconds>);

impl Seen {
    /// Whether `number` is new; those that will not be read again are forgotten.
    fn is_new(&mut self, number: u64, now: UnixSeconds) -> bool {
        self.0.insert(number, now).is_none()
    }
    fn forget(&mut self, now: UnixSeconds) {
        self.0.retain(|_, seen| now.since(*seen) <= 3 * BACK_SECONDS);
    }
}

async fn look(app: &App, seen: &mut Seen) -> Result<(), ApiError> {
    let look = app.lives.look_begins();
    let now = edge::now();
    let since = UnixSeconds(now.0.saturating_sub(BACK_SECONDS));
    for revocation in app.store.revoked_since(since).await? {
        if seen.is_new(revocation.number, now) {
            let cut = app.lives.end(revocation.ended);
            if cut > 0 {
                tracing::info!(ended = ?revocation.ended, cut, "cut what was open under it");
            }
        } else {
            // Kept for as long as it is read.
            seen.0.insert(revocation.number, now);
        }
    }
    seen.forget(now);
    app.lives.look_done(look);
    Ok(())
}

/// Looks until the server stops.
pub async fn run(app: App) {
    let mut seen = Seen::default();
    let mut failing = false;
    while !app.stop.is_cancelled() {
        let looked = caught(look(&app, &mut seen)).await;
        match looked.unwrap_or_else(|broke_off| Err(ApiError::BrokeOff(broke_off))) {
            Ok(()) => failing = false,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "could not look what has ended; what is open stays open until that works"
                    );
                }
            }
        }
        tokio::select! {
            () = app.lives.told_to_look() => {}
            () = tokio::time::sleep(Duration::from_millis(LOOK_EACH_MILLIS)) => {}
            () = app.stop.cancelled() => {}
        }
    }
}
