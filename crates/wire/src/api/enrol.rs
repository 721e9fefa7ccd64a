//! Binding a new key to an account: the device flow of RFC 8628, where what is granted is not a token
//! but the enrolment of a key that never leaves its machine.

use gangline_types::{EnrolmentId, Label, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::key::PublicKey;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyKind {
    /// A supplier's machine.
    Machine,
    /// A person's command line.
    CommandLine,
}

impl KeyKind {
    /// Words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::CommandLine => "command line",
        }
    }
}

/// Asks for an enrolment; signed by the key it names.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentRequest {
    /// The new key.
    pub public_key: PublicKey,
    /// What it is for.
    pub kind: KeyKind,
    /// What the approving person will see: the host's name.
    pub host: Label,
    /// And what it is, for example `Debian 12, 64 cores, 2 GPUs`.
    pub summary: Text<160>,
}

/// What to show the person.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EnrolmentTicket {
    /// To ask how it stands.
    pub enrolment: EnrolmentId,
    /// Short code to type or compare, `XXXX-XXXX`.
    pub user_code: String,
    /// Where to type it.
    pub verification_url: String,
    /// The same with the code filled in.
    pub verification_url_complete: String,
    /// The code ends after this many seconds.
    pub expires_in_seconds: u64,
    /// Ask no more often than this.
    pub interval_seconds: u64,
}

/// Asks how an enrolment stands; signed by the key that asked for it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolmentPoll {
    /// Which.
    pub enrolment: EnrolmentId,
    /// The same key.
    pub public_key: PublicKey,
}

/// How an enrolment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EnrolmentState {
    /// Nobody has decided.
    Pending,
    /// The key is bound; it may be used from now on.
    Approved,
    /// Somebody said no.
    Denied,
    /// The code ran out.
    Expired,
}
