//! Leaving: the network is told, then key and membership are removed here. Works beside a running
//! worker, which notices and ends.

use gangline_wire::endpoints::{Beats, MachineLeave};

use super::{
    beats::Buffer,
    data::{
        BEATS, CLUSTERS, DataDir, INTENT, JOINED, Joined, KEY, KEY_NEXT, LANE, REGISTERED, SLOTS, STATUS,
    },
    error::AgentError,
    inventory::version,
    report::Reporter,
};
use crate::client::Client;

/// Takes this machine out of its network. Beats that are still kept are handed in first. The owner's
/// settings stay.
///
/// # Errors
/// If the machine has not joined, or the server cannot be told: then nothing is removed.
pub async fn leave(data: &DataDir, reporter: &Reporter) -> Result<(), AgentError> {
    let not_joined = || AgentError::NotJoined { data: data.path().into() };
    let joined = Joined::load(data)?.ok_or_else(not_joined)?;
    let key = data.key()?.ok_or_else(not_joined)?;
    let failed = |source| AgentError::Client { doing: "tell the server that this machine leaves", source };
    let client = Client::new(&joined.url, Some(key)).map_err(failed)?;
    let running = data.in_use();
    if !running {
        hand_in(&client, &Buffer::load(data)?).await;
    }
    match client.call::<MachineLeave>(&[], &Default::default(), &Default::default()).await {
        Ok(_) => reporter
            .say(&format!("{} was told: its GPUs are retired, its key is of no use any more.", joined.url)),
        Err(e) if matches!(e.code(), Some("revoked_key" | "ended_key" | "unknown_key")) => {
            reporter.say(&format!("{} had already ended this machine's key.", joined.url));
        }
        Err(e) => return Err(failed(e)),
    }
    // First what a running worker looks at.
    for file in [JOINED, KEY, KEY_NEXT, SLOTS, REGISTERED, BEATS, LANE, CLUSTERS, INTENT, STATUS] {
        data.remove(file)?;
    }
    reporter.event(serde_json::json!({"event": "left", "url": joined.url}));
    reporter.say("The machine key and everything about the membership were removed; worker.toml stays.");
    if running {
        reporter.say("The running worker ends what it runs and stops by itself.");
    }
    Ok(())
}

/// Best effort: what is lost here is lost to the owner alone, and the log says so.
async fn hand_in(client: &Client, buffer: &Buffer) {
    let mut buffer = buffer.clone();
    while buffer.len() > 0 {
        let beats = buffer.batch();
        let report =
            gangline_wire::api::machine::BeatReport { beats: beats.clone(), worker_version: version() };
        if let Err(error) = client.call::<Beats>(&[], &Default::default(), &report).await {
            tracing::warn!(
                minutes = buffer.len(),
                error = super::preflight::chain(&error),
                "kept beats could not be handed in"
            );
            return;
        }
        buffer.acknowledged(&beats);
    }
}
