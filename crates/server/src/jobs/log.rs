//! Brings the network's log up to date: what was written is hashed, signed and published within a second.

use gangline_guard::{
    Actor, Job, act,
    log::{
        checkpoint::{Checkpoint, origin_of},
        entry::published_hash,
    },
    permit::permit,
    policy::{self, on},
};

use crate::{app::App, edge, error::ApiError};

/// Notes the policy that this server decides by, if it is another than the one noted last.
pub async fn note_policy(app: &App) -> Result<(), ApiError> {
    let permit = permit::<act::Project>(&Actor::job(Job::Projector), on::Network, edge::now())?;
    app.store.note_policy(&permit, published_hash(policy::matrix().as_bytes())).await?;
    Ok(())
}

/// Hashes, signs and publishes what is new.
pub async fn integrate(app: &App) -> Result<(), ApiError> {
    let permit = permit::<act::Project>(&Actor::job(Job::Projector), on::Network, edge::now())?;
    let origin = origin_of(&app.key.public());
    let sign = |size, root| Checkpoint { origin: origin.clone(), size, root }.sign(&app.key).to_string();
    app.store.integrate(&permit, sign).await?;
    Ok(())
}
