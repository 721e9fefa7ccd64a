//! `rent rotate`: a new key in the place of this machine's, signed by the old one. Also by itself, when the key
//! is old or a rotation was begun and not finished.
//!
//! Knows no account: it stays the same.

use std::time::SystemTime;

use anyhow::Context;
use gangline_worker::rotate;
use serde_json::json;

use super::{Output, print_text, state::State};
use crate::problem::Problem;

/// What `rent rotate` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// End the old key as soon as the new one works, instead of some minutes later.
    #[arg(long)]
    now: bool,
}

pub async fn run(state: &State, output: Output, args: Args) -> anyhow::Result<()> {
    let server = state.client()?.base().to_owned();
    let done = rotate::rotate(&server, &state.key_path(), args.now).await.context(
        Problem::new("this machine's key was not replaced; it is as before")
            .hint("see below why; if it was revoked, log in again with `gangline rent login URL`"),
    )?;
    let (fingerprint, old) = (done.public_key.fingerprint(), done.rotation.follows);
    if output == Output::Json {
        let line = json!({
            "event": "rotated",
            "key": done.rotation.key,
            "follows": old,
            "fingerprint": fingerprint,
            "overlap_seconds": done.rotation.overlap.0,
            "ended": done.ended,
            "used": done.used,
        });
        return print_text(&format!("{line}\n"));
    }
    let old = match done.ended {
        Some(_) => format!("The old key {old} has ended."),
        None => format!(
            "The old key {old} ends by itself {} s after the new one was first used.",
            done.rotation.overlap.0
        ),
    };
    print_text(&format!("This machine signs with a new key, {fingerprint}.\n{old}\n"))
}

/// Rotates a key that is older than `days`, or whose rotation was begun. What fails here stops nothing: the old
/// key works, and the next command tries again.
pub async fn when_due(state: &State, days: u32) {
    let path = state.key_path();
    if !rotate::is_due(&path, days, SystemTime::now()) {
        return;
    }
    let Ok(client) = state.client() else { return };
    match rotate::rotate(client.base(), &path, false).await {
        Ok(done) => tracing::info!(follows = %done.rotation.follows, "a new key is in place"),
        Err(error) => tracing::warn!(%error, "the key was not replaced; it works as before"),
    }
}
