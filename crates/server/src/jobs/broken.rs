//! Acts of several steps that were begun and that nobody goes on with: their server died, or the books failed in the
//! middle. They are written down as never completed, and an incident says so. And acts that were asked for and that
//! nobody decided on in time: the incident that told of them is closed.

use gangline_guard::{
    Actor, Job, act,
    detect::{Alarm, What},
    notice::{Raised, Subject},
    permit::permit,
    policy::on,
};
use gangline_store::NewIncident;
use gangline_types::{IncidentId, UnixSeconds};

use crate::{app::App, edge, error::ApiError, jobs::clusters::reconciler};

/// How long nothing may happen before an act counts as broken off, in seconds. A step takes milliseconds.
const IDLE_SECONDS: u64 = 120;

/// Looks for them. The incident comes first: whoever dies in between opens it twice, which is folded into one.
pub async fn sweep(app: &App, now: UnixSeconds) -> Result<(), ApiError> {
    let reconcile = reconciler(now)?;
    app.store.settle_lapsed(&reconcile).await?;
    let idle_since = UnixSeconds(now.0.saturating_sub(IDLE_SECONDS));
    for broken in app.store.broken_off(&reconcile, idle_since).await? {
        let raised = Raised {
            alarm: Alarm { what: What::BrokenOff, at: now, seen: 1.0, usual: 0.0 },
            subject: Subject::Act(broken.act.number()),
            key: broken.key,
            account: broken.account,
            block: None,
            action: None,
            resource: Some(format!("{} on {}, by {}", broken.action, broken.resource, broken.actor)),
        };
        let watch = permit::<act::Watch>(&Actor::job(Job::Watcher), on::Network, now)?;
        let new = NewIncident { id: IncidentId::from_bytes(edge::random()), raised, count: 1 };
        app.store.note_incident(&watch, &new).await?;
        if app.store.give_up(&reconcile, broken.act).await? {
            tracing::warn!(row = broken.act.number(), action = broken.action, "an act broke off");
        }
    }
    Ok(())
}
