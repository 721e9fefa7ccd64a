//! What a detector says, and how it avoids saying it over and over.
//!
//! Knows nothing of incidents, freezes or people.

use gangline_types::UnixSeconds;

/// What was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// A refused write to another's resource. Seen and usual are attempts.
    ForeignTouch,
    /// A key or account touched more GPUs than it has. Both are distinct GPUs.
    Breadth,
    /// More requests of a kind than at other times. Both are requests a bucket.
    Surge,
    /// A greater share of requests is refused. Both are parts of 1.
    Refusals,
    /// Somebody walks through the explorer. Both are distinct ids.
    Enumeration,
    /// More enrolments than at other times. Both are enrolments a bucket.
    EnrolmentFlood,
    /// GPUs that claim the same fail more proofs. Both are parts of 1.
    ProofFailures,
    /// A greater share of the fleet does not beat. Both are parts of 1.
    Coverage,
    /// A witness holds another tree against this network's log. Seen and usual mean nothing.
    WitnessRefused,
    /// A witness has not cosigned for too long. Seen and usual mean nothing.
    WitnessLate,
    /// An act of several steps broke off. Seen and usual are acts.
    BrokenOff,
    /// A dangerous act waits for another operator, or for the delay of the only one. Seen and usual are acts.
    ApprovalWanted,
    /// A series does not look like itself. Seen is decades, usual is the line.
    Unusual,
}

impl What {
    /// Stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::ForeignTouch => "foreign_touch",
            Self::Breadth => "breadth",
            Self::Surge => "surge",
            Self::Refusals => "refusals",
            Self::Enumeration => "enumeration",
            Self::EnrolmentFlood => "enrolment_flood",
            Self::ProofFailures => "proof_failures",
            Self::Coverage => "coverage",
            Self::WitnessRefused => "witness_refused",
            Self::WitnessLate => "witness_late",
            Self::BrokenOff => "broken_off",
            Self::ApprovalWanted => "approval_wanted",
            Self::Unusual => "unusual",
        }
    }
}

/// Something was noticed. Who or where is known to whoever fed the detector.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alarm {
    /// What.
    pub what: What,
    /// When the detector was told of what tipped it.
    pub at: UnixSeconds,
    /// How much, in the unit of [`What`].
    pub seen: f64,
    /// How much is usual or allowed, in the same unit.
    pub usual: f64,
}

/// Tells a thing once; again only when `quiet_seconds` have passed since it was told, or it has doubled.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fold {
    told: Option<(UnixSeconds, f64)>,
}

impl Fold {
    /// Whether to tell of `seen` at `at`.
    pub fn tells(&mut self, at: UnixSeconds, seen: f64, quiet_seconds: u64) -> bool {
        let old =
            self.told.is_some_and(|(told, before)| at.since(told) < quiet_seconds && seen < before * 2.0);
        if !old {
            self.told = Some((at, seen));
        }
        !old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_folded_until_it_is_old_or_doubles() {
        let mut fold = Fold::default();
        let mut tells = |at, seen| fold.tells(UnixSeconds(at), seen, 600);
        assert!(tells(1_000, 3.0));
        assert!(!tells(1_001, 5.9));
        assert!(tells(1_002, 6.0));
        assert!(!tells(1_601, 6.0));
        assert!(tells(1_602, 6.0));
        // A clock that steps back is not a new day.
        assert!(!tells(0, 6.0));
    }
}
