//! A new machine key in the place of the old one, by command or by age. The machine stays the same one, and so
//! do its GPUs: what their slots are hashed with is kept before the key changes.

use std::time::{Duration, SystemTime};

use super::{
    data::{DataDir, Joined, KEY},
    error::AgentError,
    preflight::chain,
    report::Reporter,
    shared::Shared,
};
use crate::rotate::{self, Rotated};

/// How often the age is looked at.
const LOOK_EACH: Duration = Duration::from_secs(3600);

/// Puts a new key in the place of this machine's; with `at_once` the old one ends immediately. A worker that
/// runs goes on with the new one.
///
/// # Errors
/// If the machine has not joined, or the server could not be asked or refused; the old key works then as before.
pub async fn rotate(data: &DataDir, at_once: bool, reporter: &Reporter) -> Result<(), AgentError> {
    let done = replace(data, at_once).await?;
    let (fingerprint, old) = (done.public_key.fingerprint(), done.rotation.follows);
    reporter.event(serde_json::json!({
        "event": "rotated",
        "key": done.rotation.key,
        "follows": old,
        "fingerprint": fingerprint,
        "overlap_seconds": done.rotation.overlap.0,
        "ended": done.ended,
        "used": done.used,
    }));
    reporter.say(&format!("This machine signs with a new key, {fingerprint}; the machine is the same one."));
    reporter.say(&match (done.ended, done.used) {
        (Some(_), _) => format!("The old key {old} has ended."),
        (None, true) => {
            format!("The old key {old} ends by itself in {} s.", done.rotation.overlap.0)
        }
        (None, false) => format!("The old key {old} ends after the new one was first used."),
    });
    Ok(())
}

async fn replace(data: &DataDir, at_once: bool) -> Result<Rotated, AgentError> {
    let not_joined = || AgentError::NotJoined { data: data.path().into() };
    let joined = Joined::load(data)?.ok_or_else(not_joined)?;
    let key = data.key()?.ok_or_else(not_joined)?;
    data.keep_slot_key(&key)?;
    let done =
        rotate::rotate(&joined.url, &data.file(KEY), at_once).await.map_err(|error| match error.code() {
            Some("revoked_key" | "ended_key" | "unknown_key") => AgentError::KeyEnded { why: chain(&error) },
            _ => AgentError::Rotate(error),
        })?;
    Joined { fingerprint: done.public_key.fingerprint(), ..joined }.store(data)?;
    Ok(done)
}

/// Rotates when the key is too old, and at the start if a rotation was begun and not finished.
pub(super) async fn when_due(shared: &Shared) {
    let days = shared.settings.key.rotate_after_days;
    loop {
        if rotate::is_due(&shared.data.file(KEY), days, SystemTime::now()) {
            match replace(&shared.data, false).await {
                Ok(done) => {
                    let fingerprint = done.public_key.fingerprint();
                    tracing::info!(fingerprint, follows = %done.rotation.follows, "a new key is in place");
                    shared.update(|s| s.fingerprint = fingerprint.clone());
                }
                // The old key works; it is tried again.
                Err(error) => tracing::warn!(error = chain(&error), "the key was not replaced"),
            }
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EACH) => {}
        }
    }
}
