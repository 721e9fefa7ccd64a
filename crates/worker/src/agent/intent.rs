//! What the owner asks of a worker that may be running: pause and resume. Written to a file that the
//! worker looks at each second, so no socket and no permission of its own is needed.

use serde::{Deserialize, Serialize};

use super::{
    data::{DataDir, INTENT, Joined},
    error::AgentError,
    report::Reporter,
};

/// What the owner wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Intent {
    /// Take no new work.
    pub paused: bool,
}

impl Intent {
    /// What the owner wants; a file that cannot be read changes nothing and is told by the caller.
    pub(crate) fn load(data: &DataDir) -> Result<Self, super::data::DataError> {
        Ok(data.read_json(INTENT)?.unwrap_or_default())
    }
}

/// The machine goes on beating and proving, but takes no new work. Clusters that run go on.
///
/// # Errors
/// If the machine has not joined, or the file cannot be written.
pub fn pause(data: &DataDir, reporter: &Reporter) -> Result<(), AgentError> {
    set(data, true)?;
    reporter.event(serde_json::json!({"event": "paused"}));
    reporter.say("Paused: this machine goes on beating, proving and earning, but takes no new renter work.");
    reporter.say("Clusters that run now go on until they end. `gangline worker resume` ends the pause.");
    Ok(())
}

/// Takes new work again.
///
/// # Errors
/// If the machine has not joined, or the file cannot be written.
pub fn resume(data: &DataDir, reporter: &Reporter) -> Result<(), AgentError> {
    set(data, false)?;
    reporter.event(serde_json::json!({"event": "resumed"}));
    reporter.say("Resumed: this machine takes renter work again, as worker.toml allows.");
    Ok(())
}

fn set(data: &DataDir, paused: bool) -> Result<(), AgentError> {
    if Joined::load(data)?.is_none() {
        return Err(AgentError::NotJoined { data: data.path().into() });
    }
    data.write_json(INTENT, &Intent { paused }, true)?;
    Ok(())
}
