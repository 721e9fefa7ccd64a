//! What an operator does by command line.

use gangline_types::{GpuId, KeyId, Label, UnixSeconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Asks that what one key called GPUs be undone.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RestoreRequest {
    /// The key whose changes go.
    pub key: KeyId,
    /// From this second on.
    pub since: UnixSeconds,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// One GPU's name that goes back, or went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoredName {
    /// The GPU.
    pub gpu: GpuId,
    /// What it was called.
    pub before: Label,
    /// What it is called without what that key did.
    pub after: Label,
}

/// What was restored, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RestoreReport {
    /// Every GPU whose name changes.
    pub restored: Vec<RestoredName>,
}
