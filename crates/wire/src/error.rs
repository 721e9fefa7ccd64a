//! How a refusal or failure is told: a stable code, a sentence, and where one helps a hint.

use gangline_types::{ApprovalId, UnixSeconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Body of every response that is not a success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message} ({code}){}", hint.as_deref().map(|h| format!("; {h}")).unwrap_or_default())]
pub struct ErrorBody {
    /// Stable word for programs, for example `skewed_clock`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What was asked for instead, where the act takes an approval. Once it is approved, the same request does it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Box<AskedFor>>,
    /// With `unknown_fields`: the fields of the body that the server does not know, such as `gpus[].colour`.
    #[serde(default, skip_serializing_if = "<[String]>::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub fields: Box<[String]>,
}

/// An act that was asked for and waits for an approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AskedFor {
    /// Which.
    pub approval: ApprovalId,
    /// Where it is approved, in a browser.
    pub address: String,
    /// Until when it waits.
    pub until: UnixSeconds,
}
