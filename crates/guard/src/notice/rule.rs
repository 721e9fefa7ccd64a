//! What follows from an alarm: how bad it is, and what is frozen for it by itself.
//!
//! Only what was signed for, or done in a session, freezes somebody, and then only themselves: nobody can have
//! another frozen by sending things in their name. Chances and floods that honest people may cause alone (a
//! rollout that restarts a whole fleet, a page that is linked to) tell people and freeze nothing.

use serde::{Deserialize, Serialize};

use super::Subject;
use crate::{
    detect::What,
    freeze::{Freezable, Target},
};

/// A freeze of a key or account by rule ends by itself after so long: a day. Whoever goes on is frozen anew.
pub const FREEZE_SECONDS: u64 = 24 * 3_600;
/// And one of an action for everybody after an hour, for it costs the honest too.
pub const FREEZE_ACTION_SECONDS: u64 = 3_600;

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// To be looked at some time: stands in the console alone.
    Notice,
    /// To be looked at today.
    Warning,
    /// Somebody is at it now.
    Urgent,
}

impl Severity {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Urgent => "urgent",
        }
    }
}

/// How bad an alarm of this kind is.
pub const fn severity(what: What) -> Severity {
    match what {
        What::ForeignTouch | What::Breadth | What::WitnessRefused => Severity::Urgent,
        What::Surge
        | What::Refusals
        | What::Enumeration
        | What::EnrolmentFlood
        | What::ProofFailures
        | What::Coverage
        | What::WitnessLate
        | What::BrokenOff
        | What::ApprovalWanted => Severity::Warning,
        What::Unusual => Severity::Notice,
    }
}

/// What is frozen by itself, and for how many seconds.
pub fn freeze(what: What, subject: &Subject) -> Option<(Target, u64)> {
    match (what, subject) {
        (What::ForeignTouch | What::Breadth, Subject::Key(key)) => Some((Target::Key(*key), FREEZE_SECONDS)),
        (What::ForeignTouch | What::Breadth, Subject::Account(account)) => {
            Some((Target::Account(*account), FREEZE_SECONDS))
        }
        // Names that were really changed, far more than ever: what names cost the honest for an hour is little.
        (What::Surge, Subject::Landed(Freezable::LabelGpu)) => {
            Some((Target::Action(Freezable::LabelGpu), FREEZE_ACTION_SECONDS))
        }
        _ => None,
    }
}
