//! Why a request was not answered as asked, and how that is told: JSON to programs, a page to browsers.

use axum::http::StatusCode;
use gangline_guard::Refusal;
use gangline_store::{SequenceError, StoreError};
use gangline_wire::ErrorBody;

use crate::people::PeopleError;

/// Why a request was not answered as asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The guard refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be read.
    #[error("{message}")]
    Bad {
        /// Status, 400 to 499.
        status: StatusCode,
        /// Stable code.
        code: &'static str,
        /// A sentence.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The identity provider could not be asked.
    #[error(transparent)]
    Away(PeopleError),
    /// The store could not do it.
    #[error("the network's books could not be used")]
    Store(#[source] StoreError),
}

impl From<StoreError> for ApiError {
    fn from(e: StoreError) -> Self {
        match e {
            // What is no longer as it was is the asker's matter, not a failure of ours.
            StoreError::Gone(message) => Self::bad(StatusCode::CONFLICT, "conflict", message),
            other => Self::Store(other),
        }
    }
}

impl From<PeopleError> for ApiError {
    fn from(e: PeopleError) -> Self {
        match e {
            PeopleError::Refused(refusal) => Self::Refused(refusal),
            away => Self::Away(away),
        }
    }
}

impl From<SequenceError> for ApiError {
    fn from(e: SequenceError) -> Self {
        match e {
            SequenceError::Replayed(refusal) => Self::Refused(refusal),
            SequenceError::Store(e) => e.into(),
        }
    }
}

impl ApiError {
    /// A request that cannot be taken as it is.
    pub fn bad(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::Bad { status, code, message: message.into(), hint: None }
    }
    /// The same with a hint.
    pub fn bad_hint(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self::Bad { status, code, message: message.into(), hint: Some(hint.into()) }
    }
    /// There is no such thing, or it is none of the asker's business: told alike.
    pub fn hidden() -> Self {
        Self::Refused(Refusal::Hidden)
    }
    /// HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Refused(r) => StatusCode::from_u16(r.status()).unwrap_or(StatusCode::FORBIDDEN),
            Self::Bad { status, .. } => *status,
            Self::Store(StoreError::Full) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Store(_) | Self::Away(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
    /// What the asker is told.
    pub fn body(&self) -> ErrorBody {
        match self {
            Self::Refused(r) => {
                ErrorBody { code: r.code().into(), message: r.to_string(), hint: r.hint().map(Into::into) }
            }
            Self::Bad { code, message, hint, .. } => {
                ErrorBody { code: (*code).into(), message: message.clone(), hint: hint.clone() }
            }
            Self::Store(StoreError::Full) => ErrorBody {
                code: "disk_full".into(),
                message: "the server has no space left to write this down, so it was not done".into(),
                hint: Some("try again later; nothing that was acknowledged is lost".into()),
            },
            Self::Away(e) => ErrorBody {
                code: "provider_away".into(),
                message: format!("{e}; that is not a no"),
                hint: Some(
                    "try again in a minute; one-time sign-in links of this network work meanwhile".into(),
                ),
            },
            Self::Store(_) => ErrorBody {
                code: "unavailable".into(),
                message: "the server could not look this up or write it down; that is not a no".into(),
                hint: Some("try again later".into()),
            },
        }
    }
    /// Seconds until it makes sense to ask again, where that is known.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Refused(Refusal::TooMany { seconds }) => Some(*seconds),
            Self::Store(_) => Some(5),
            Self::Away(_) => Some(60),
            _ => None,
        }
    }
}
