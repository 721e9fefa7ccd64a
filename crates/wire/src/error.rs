//! How a refusal or failure is told: a stable code, a sentence, and where one helps a hint.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Body of every response that is not a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message} ({code}){}", hint.as_deref().map(|h| format!("; {h}")).unwrap_or_default())]
pub struct ErrorBody {
    /// Stable word for programs, for example `skewed_clock`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
