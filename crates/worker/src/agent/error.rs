//! Why a command of the worker ended without doing what it was asked, and the exit code that says so.

use std::path::PathBuf;

use super::{child::ChildError, data::DataError, preflight::Problem};
use crate::client::ClientError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The data directory or a file in it.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A child process that opens adapters.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The server was asked and there was no usable answer.
    #[error("could not {doing}")]
    Client {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        #[source]
        source: ClientError,
    },
    /// Nothing can be done before joining.
    #[error(
        "{data} holds no machine that joined a network (hint: `gangline worker join URL`, or --data for another directory)"
    )]
    NotJoined {
        /// The data directory.
        data: PathBuf,
    },
    /// One data directory is one machine of one network.
    #[error(
        "this machine already belongs to {url} (hint: `gangline worker leave` first, or --data for a second worker)"
    )]
    OtherNetwork {
        /// The network it joined.
        url: String,
    },
    /// Problems that must be cured before joining.
    #[error("this machine cannot join yet: {} must be cured first", count(.0))]
    Preflight(Vec<Problem>),
    /// Somebody said no.
    #[error(
        "the request was denied in the browser; nothing was joined (hint: if that was a mistake, join again)"
    )]
    Denied,
    /// Nobody decided in time.
    #[error(
        "the code ran out before anybody approved it (hint: join again and open the link within {minutes} minutes)"
    )]
    Expired {
        /// How long a code lasts.
        minutes: u64,
    },
    /// The network ended this machine's key.
    #[error(
        "the network does not take this machine's key any more: {why} (hint: `gangline worker join` makes a new one and asks for approval)"
    )]
    KeyEnded {
        /// The server's words.
        why: String,
    },
    /// No new key took the place of this machine's, which works as before.
    #[error("this machine's key was not replaced; it works as before")]
    Rotate(#[source] crate::rotate::RotateError),
    /// Not one of this machine's GPUs.
    #[error("this machine has no GPU {asked} (hint: `gangline worker status` lists them)")]
    NoSuchGpu {
        /// As asked.
        asked: String,
    },
    /// A name that cannot be used.
    #[error("that name cannot be used")]
    BadLabel(#[source] gangline_types::text::TextError),
    /// The system refused something.
    #[error("could not {doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

impl AgentError {
    /// Exit code for the process: 2 cannot join yet, 3 the key was ended, 4 not joined, 5 another worker
    /// runs here, 6 denied or expired, otherwise 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Preflight(_) => 2,
            Self::KeyEnded { .. } => 3,
            Self::NotJoined { .. } => 4,
            Self::Data(DataError::Locked { .. }) => 5,
            Self::Denied | Self::Expired { .. } => 6,
            _ => 1,
        }
    }
}

fn count(problems: &[Problem]) -> String {
    match problems.iter().filter(|p| p.severity == super::Severity::Error).count() {
        1 => "one problem".to_owned(),
        n => format!("{n} problems"),
    }
}
