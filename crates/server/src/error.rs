//! Why a request was not answered as asked, and how that is told: JSON to programs, a page to browsers.

use axum::http::StatusCode;
use gangline_guard::Refusal;
use gangline_store::{SequenceError, StoreError};
use gangline_wire::{ErrorBody, body::UNKNOWN_FIELDS};

use crate::{panics::BrokeOff, people::PeopleError};

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
    /// It takes an approval, which was asked for.
    #[error("{0}")]
    Waiting(Box<ErrorBody>),
    /// Its body has fields that this network does not know.
    #[error("the body has fields that this network does not know: {}", .0.join(", "))]
    UnknownFields(Vec<String>),
    /// There is no room for its body now.
    #[error(
        "bodies on their way to clusters take all the room that this server, or its share for one account, has for them ({bytes_max} bytes in all)"
    )]
    NoRoom {
        /// All the room there is.
        bytes_max: u64,
    },
    /// Too many proofs wait to be verified.
    #[error("{waiting} proofs wait to be verified, as many as may")]
    Busy {
        /// How many wait.
        waiting: usize,
    },
    /// A mistake of ours broke it off.
    #[error("the server made a mistake")]
    BrokeOff(#[from] BrokeOff),
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
    /// A body that is larger than its endpoint takes.
    pub fn too_large(bytes_max: usize) -> Self {
        Self::bad_hint(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            "the body is larger than this endpoint takes",
            format!("send at most {bytes_max} bytes"),
        )
    }
    /// A body that did not come in time.
    pub fn too_slow(wait: std::time::Duration) -> Self {
        let message = format!("the body took longer than {} s", wait.as_secs());
        Self::bad(StatusCode::REQUEST_TIMEOUT, "body_too_slow", message)
    }
    /// A body that ended before its end.
    pub fn broken_off() -> Self {
        Self::bad(StatusCode::BAD_REQUEST, "body_incomplete", "the body broke off")
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
            Self::Waiting(_) => StatusCode::FORBIDDEN,
            Self::UnknownFields(_) => StatusCode::BAD_REQUEST,
            Self::BrokeOff(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Store(StoreError::Full) => StatusCode::INSUFFICIENT_STORAGE,
            Self::Store(_) | Self::Away(_) | Self::NoRoom { .. } | Self::Busy { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
    /// What the asker is told.
    pub fn body(&self) -> ErrorBody {
        let told = |code: &str, message: String, hint: Option<&str>| ErrorBody {
            code: code.into(),
            message,
            hint: hint.map(Into::into),
            ..ErrorBody::default()
        };
        match self {
            Self::Refused(r) => told(r.code(), r.to_string(), r.hint()),
            Self::Waiting(body) => body.as_ref().clone(),
            Self::Bad { code, message, hint, .. } => told(code, message.clone(), hint.as_deref()),
            Self::UnknownFields(fields) => ErrorBody {
                fields: fields.clone().into(),
                ..told(
                    UNKNOWN_FIELDS,
                    self.to_string(),
                    Some("leave them out, or ask a newer server; /openapi.json has the fields there are"),
                )
            },
            Self::BrokeOff(_) => told("internal", self.to_string(), Some("tell the operator when this was")),
            Self::NoRoom { .. } => told(
                "no_room",
                self.to_string(),
                Some("send it again in a moment; the operator sets the room with --ray-spool-mib"),
            ),
            Self::Store(StoreError::Full) => told(
                "disk_full",
                "the server has no space left to write this down, so it was not done".into(),
                Some("try again later; nothing that was acknowledged is lost"),
            ),
            Self::Away(e) => told(
                "provider_away",
                format!("{e}; that is not a no"),
                Some("try again in a minute; one-time sign-in links of this network work meanwhile"),
            ),
            Self::Busy { .. } => told(
                "verifier_busy",
                self.to_string(),
                Some("hand the opening in again; its clock stopped with the roots, and it is waited for"),
            ),
            Self::Store(_) => told(
                "unavailable",
                "the server could not look this up or write it down; that is not a no".into(),
                Some("try again later"),
            ),
        }
    }
    /// Seconds until it makes sense to ask again, where that is known.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::Refused(Refusal::TooMany { seconds }) => Some(*seconds),
            Self::Store(_) | Self::NoRoom { .. } | Self::Busy { .. } => Some(5),
            Self::Away(_) => Some(60),
            _ => None,
        }
    }
}
