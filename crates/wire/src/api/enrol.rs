//! Binding a new key to an account: the device flow of RFC 8628, where what is granted is not a token
//! but the enrolment of a key that never leaves its machine.

use gangline_types::{EnrolmentId, KeyId, Label, Seconds, Text, UnixSeconds};
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
pub struct EnrolmentPoll {
    /// Which.
    pub enrolment: EnrolmentId,
    /// The same key.
    pub public_key: PublicKey,
}

/// Asks that another key take the place of the one that signs this; proves that whoever asks holds both.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RotationRequest {
    /// The new key.
    pub public_key: PublicKey,
    /// 64 bytes of signature by the new key over [`rotation_bytes`], base64url.
    pub proof: Text<86>,
}

/// A key that was put in another's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rotation {
    /// The new key.
    pub key: KeyId,
    /// The one it takes the place of.
    pub follows: KeyId,
    /// How long the old one is still taken once the new one was first used.
    pub overlap: Seconds,
    /// The new one ends if it was not used by then.
    pub unused_until: UnixSeconds,
}

/// A key that was ended because another has taken its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Settled {
    /// Which.
    pub ended: KeyId,
}

/// What a new key signs to show that it is held by whoever puts it in the place of `old`, at the server that is
/// called `authority` (host and port as in the request).
pub fn rotation_bytes(authority: &str, old: KeyId, new: &PublicKey) -> Vec<u8> {
    format!("gangline key rotation 1\n{}\n{old}\n{new}\n", authority.to_ascii_lowercase()).into_bytes()
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
