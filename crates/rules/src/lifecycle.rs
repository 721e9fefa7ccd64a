//! A cluster's life, as a table of states and events.
//!
//! Knows no renter, no machine and no container: only what may follow what. A repeated or crossing message
//! (a release asked twice, a `ready` that passed a release on the way) leaves the state as it is, so that
//! first try and retry are one path; what cannot be is refused.

pub use gangline_types::cluster::ClusterState;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What can happen to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClusterEvent {
    /// Its machine takes it.
    Accepted,
    /// It can be used.
    Ready,
    /// The owner's policy says no, or the owner takes the machine back.
    RefusedByOwner,
    /// Its container could not be made.
    StartFailed,
    /// The renter is done with it.
    ReleaseAsked,
    /// Its machine says that nothing of it is left.
    Gone,
    /// Its machine has not beaten for too long.
    MachineSilent,
}

/// An event that cannot happen in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cluster that is {} cannot become anything by \"{}\"", state.as_str(), event.as_str())]
pub struct IllegalTransition {
    /// The state it is in.
    pub state: ClusterState,
    /// What was said to have happened.
    pub event: ClusterEvent,
}

impl ClusterEvent {
    /// Every event.
    pub const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Ready,
        Self::RefusedByOwner,
        Self::StartFailed,
        Self::ReleaseAsked,
        Self::Gone,
        Self::MachineSilent,
    ];
    /// Words for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Ready => "ready",
            Self::RefusedByOwner => "refused by owner",
            Self::StartFailed => "start failed",
            Self::ReleaseAsked => "release asked",
            Self::Gone => "gone",
            Self::MachineSilent => "machine silent",
        }
    }
}

/// The state after `event`.
pub fn next(state: ClusterState, event: ClusterEvent) -> Result<ClusterState, IllegalTransition> {
    use ClusterEvent::*;
    use ClusterState::*;
    match (state, event) {
        (Requested | Starting, Accepted) => Ok(Starting),
        (Starting | Running, Ready) => Ok(Running),
        (Requested | Starting, RefusedByOwner | StartFailed) => Ok(Failed),
        // An owner who takes the machine back still has to have it cleaned.
        (Running, RefusedByOwner) => Ok(Releasing),
        (Requested | Starting | Running | Releasing, ReleaseAsked) => Ok(Releasing),
        (Starting | Running, Gone) => Ok(Failed),
        // Crossed the release on the way.
        (Releasing, Accepted | Ready) => Ok(Releasing),
        (Releasing | Lost, Gone) => Ok(Released),
        (Releasing, RefusedByOwner | StartFailed) => Ok(Released),
        (Requested | Starting | Running | Releasing, MachineSilent) => Ok(Lost),
        // Over is over; said again, it stays so.
        (Released | Failed | Lost, ReleaseAsked | MachineSilent) => Ok(state),
        (Released | Failed, Gone) => Ok(state),
        _ => Err(IllegalTransition { state, event }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use ClusterEvent::*;
    use ClusterState::*;

    #[test]
    fn the_whole_table() {
        // Rows: states. Columns: accepted, ready, refused by owner, start failed, release asked, gone, silent.
        let table = [
            "starting  -         failed    failed    releasing -         lost     ",
            "starting  running   failed    failed    releasing failed    lost     ",
            "-         running   releasing -         releasing failed    lost     ",
            "releasing releasing released  released  releasing released  lost     ",
            "-         -         -         -         released  released  released ",
            "-         -         -         -         failed    failed    failed   ",
            "-         -         -         -         lost      released  lost     ",
        ];
        for (state, row) in ClusterState::ALL.into_iter().zip(table) {
            for (event, expected) in ClusterEvent::ALL.into_iter().zip(row.split_whitespace()) {
                let found = next(state, event).map_or("-", ClusterState::as_str);
                assert_eq!(found, expected, "{} by {}", state.as_str(), event.as_str());
            }
        }
    }

    #[test]
    fn a_refusal_names_both() {
        let refused = next(Released, Ready).unwrap_err();
        assert_eq!(refused.to_string(), "a cluster that is released cannot become anything by \"ready\"");
    }

    proptest! {
        #[test]
        fn what_is_over_never_costs_again_and_an_event_repeated_changes_nothing(
            events in prop::collection::vec(prop::sample::select(ClusterEvent::ALL.to_vec()), 0..20),
        ) {
            let mut state = Requested;
            let mut ended = false;
            for event in events {
                let Ok(after) = next(state, event) else { continue };
                ended |= !after.holds_gpu() || after == Releasing;
                prop_assert!(!(ended && after.is_metered()), "running again after its end");
                prop_assert!(!ended || !matches!(after, Requested | Starting | Running));
                state = after;
            }
        }
    }

    #[test]
    fn the_straight_way_is_metered_only_while_running() {
        let mut state = Requested;
        let mut metered = vec![state.is_metered()];
        for event in [Accepted, Ready, ReleaseAsked, Gone] {
            state = next(state, event).unwrap();
            metered.push(state.is_metered());
        }
        assert_eq!((state, metered), (Released, vec![false, false, true, false, false]));
    }
}
