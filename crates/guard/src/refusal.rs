//! Why something was refused: a stable code, a sentence, a hint, and how much of it the asker may know.

use gangline_types::{FreezeId, KeyId, UnixSeconds};
use gangline_wire::api::operate::Approver;

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing was shown where something must be.
    #[error("this needs a signature by an enrolled key")]
    Unsigned,
    /// No session where one must be.
    #[error("this needs you to be signed in")]
    NotSignedIn,
    /// Signature headers that are not in our form, do not match or do not verify.
    #[error("{0}")]
    BadSignature(gangline_wire::sig::SigError),
    /// A key nobody enrolled.
    #[error("the key {0} is not enrolled here")]
    UnknownKey(KeyId),
    /// A key that was ended.
    #[error("the key {key} was revoked at {at}")]
    RevokedKey {
        /// Which.
        key: KeyId,
        /// When.
        at: UnixSeconds,
    },
    /// A key in whose place another is, or that was never used.
    #[error("the key {key} ended at {at}: another is in its place, or it was never used")]
    EndedKey {
        /// Which.
        key: KeyId,
        /// When.
        at: UnixSeconds,
    },
    /// Signed at a time that is not ours.
    #[error("the request says it was made {seconds} s {} this server's clock; at most {seconds_max} s are taken", if *.ahead { "ahead of" } else { "behind" })]
    SkewedClock {
        /// By how much.
        seconds: u64,
        /// In which direction.
        ahead: bool,
        /// What is taken.
        seconds_max: u64,
    },
    /// A sequence number that was used, or is too old to tell.
    #[error(
        "the request's sequence number {sequence} was used before: a copy of a request is not a request (newest seen: {newest})"
    )]
    Replayed {
        /// As sent.
        sequence: u64,
        /// The greatest accepted.
        newest: u64,
    },
    /// Addressed to another server.
    #[error("the request is addressed to {0}, which is not this server")]
    OtherAuthority(String),
    /// A form without its token, or from another site.
    #[error("the form's token is missing or not of this session")]
    Csrf,
    /// What came in a provider's name cannot be believed.
    #[error("what came in the identity provider's name cannot be believed: {0}")]
    NotVouched(String),
    /// An answer of the provider to a sign-in that this browser did not begin, or long ago.
    #[error("this answer belongs to no sign-in that this browser began in the last minutes")]
    OtherSignIn,
    /// A passkey's answer that is not right.
    #[error("the passkey's answer cannot be believed: {0}")]
    BadPasskey(String),
    /// A name or a password that is not right; which of them is not told.
    #[error("that is no name and password of this network")]
    BadPassword,
    /// The provider signed them in, but their claims hold no role of this network.
    #[error("the identity provider signed you in, but you have no role in this network")]
    NoRole,
    /// The provider signed them in, but for an organisation that is none of this network's.
    #[error("the identity provider signed you in, but not for an organisation of this network")]
    OtherOrganisation,
    /// May, but signed in too long ago for it.
    #[error("this takes a sign-in within the last {minutes} minutes")]
    StepUp {
        /// Within these.
        minutes: u64,
    },
    /// May, but signed in with one factor where two are asked for.
    #[error("this network asks for two factors, and you signed in with one")]
    OneFactor,
    /// May, but only once somebody has approved exactly this.
    #[error("{}", match approver {
        Approver::Oneself => "this takes your own confirmation in a browser",
        Approver::Another | Approver::Alone => "this takes the approval of another operator",
    })]
    Unapproved {
        /// Who has to; never [`Approver::Alone`], which the guard does not know of.
        approver: Approver,
    },
    /// May not, and may know that it exists.
    #[error("{0} may not do this")]
    Forbidden(&'static str),
    /// May not, and what it asked about is none of its business.
    #[error("there is no such thing here")]
    Hidden,
    /// Allowed, but stopped for now.
    #[error("{what} is frozen since {since} (UTC seconds) by {freeze}{}", until.map_or(String::new(), |until| format!(", at most until {until}")))]
    Frozen {
        /// By which freeze.
        freeze: FreezeId,
        /// What of the asker's or of everybody's, in words.
        what: &'static str,
        /// Since when.
        since: UnixSeconds,
        /// When it ends by itself, if it does.
        until: Option<UnixSeconds>,
    },
    /// Too often.
    #[error("too many requests of this kind; wait {seconds} s")]
    TooMany {
        /// Until then.
        seconds: u64,
    },
}

impl Refusal {
    /// Stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::NotSignedIn => "not_signed_in",
            Self::BadSignature(gangline_wire::sig::SigError::Digest) => "wrong_digest",
            Self::BadSignature(gangline_wire::sig::SigError::Malformed(_)) => "malformed_signature",
            Self::BadSignature(_) => "bad_signature",
            Self::UnknownKey(_) => "unknown_key",
            Self::RevokedKey { .. } => "revoked_key",
            Self::EndedKey { .. } => "ended_key",
            Self::SkewedClock { .. } => "skewed_clock",
            Self::Replayed { .. } => "replayed",
            Self::OtherAuthority(_) => "other_authority",
            Self::Csrf => "csrf",
            Self::NotVouched(_) => "not_vouched",
            Self::OtherSignIn => "other_sign_in",
            Self::BadPasskey(_) => "bad_passkey",
            Self::BadPassword => "bad_password",
            Self::NoRole => "no_role",
            Self::OtherOrganisation => "other_organisation",
            Self::StepUp { .. } => "sign_in_again",
            Self::OneFactor => "second_factor",
            Self::Unapproved { .. } => "approval_needed",
            Self::Forbidden(_) => "forbidden",
            Self::Hidden => "not_found",
            Self::Frozen { .. } => "frozen",
            Self::TooMany { .. } => "too_many",
        }
    }
    /// HTTP status: 401 who are you, 403 you may not, 404 none of your business, 429 not now.
    pub fn status(&self) -> u16 {
        match self {
            Self::Forbidden(_) | Self::Csrf | Self::Frozen { .. } => 403,
            Self::StepUp { .. } | Self::OneFactor | Self::Unapproved { .. } => 403,
            Self::BadPassword
            | Self::BadPasskey(_)
            | Self::OtherSignIn
            | Self::NoRole
            | Self::OtherOrganisation => 403,
            // What back-channel logout asks for.
            Self::NotVouched(_) => 400,
            Self::Hidden => 404,
            Self::TooMany { .. } => 429,
            Self::OtherAuthority(_) => 421,
            _ => 401,
        }
    }
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Unsigned => {
                "enrol a key: `gangline worker join URL` on a machine, `gangline rent login URL` at a command line"
            }
            Self::NotSignedIn => "sign in, or open a one-time link; an operator can make one for you",
            Self::NotVouched(_) => "start signing in again; if it stays so, tell the operator",
            Self::BadPasskey(_) => {
                "try again; if a device was copied or restored, remove its passkey and add a new one"
            }
            Self::BadPassword => {
                "try again, or ask the operator for a one-time link and set another password"
            }
            Self::OtherSignIn => "start signing in again, and finish within ten minutes in the same browser",
            Self::NoRole => {
                "ask whoever manages accounts at the provider for a role that the operator of this network has mapped"
            }
            Self::OtherOrganisation => "sign in at the provider with an account of the right organisation",
            Self::UnknownKey(_) => "join again: the key may have been made for another network",
            Self::RevokedKey { .. } => "join again to get a new key approved",
            Self::EndedKey { .. } => {
                "sign with the key that took its place; if there is none, join or log in again"
            }
            Self::SkewedClock { .. } => "set the clock, for example by NTP",
            Self::Replayed { .. } => "make and sign a new request with a greater number",
            Self::Frozen { .. } => {
                "heartbeats, proofs and running clusters go on and nothing earned is lost; ask the operator and name the freeze"
            }
            Self::StepUp { .. } => {
                "sign in again by a passkey, the provider or a one-time link, then do it once more"
            }
            Self::OneFactor => {
                "sign in with a passkey; if you have none, add one on the page of your account first"
            }
            Self::Unapproved { .. } => {
                "ask for it once more and have it approved under Approvals in the console"
            }
            Self::Csrf => "load the page again and send its form",
            _ => return None,
        })
    }
}
