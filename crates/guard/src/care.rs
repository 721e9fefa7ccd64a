//! What an act takes beyond policy's yes: one table over every action, so that no handler can forget it. A permit
//! for an act that takes a fresh sign-in is made only for somebody who signed in minutes ago, and a new action
//! does not compile without a row here.

use gangline_types::UnixSeconds;
use gangline_wire::Action;

use crate::{Actor, Principal, Refusal, Resource};

/// How long after signing in somebody's session counts as fresh, in seconds.
pub const FRESH_SECONDS: u64 = 15 * 60;

/// What an act takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Policy's yes is enough.
    Plain,
    /// Whoever is in a browser must have signed in within [`FRESH_SECONDS`]: a session that somebody left open, or
    /// whose cookie was stolen, does not do this.
    Fresh,
}

/// What `who` needs for `action` on `what`. A key or a job is what it is each time it acts, so only people in
/// browsers are asked for more.
pub fn care(who: &Principal, action: Action, what: &Resource) -> Care {
    let Principal::Person { account, .. } = who else { return Care::Plain };
    let of_other = match what {
        Resource::Key(key) => key.account != *account,
        Resource::Machine(machine) => machine.account != *account,
        Resource::Cluster(cluster) => cluster.renter != *account,
        _ => false,
    };
    match action {
        // What lets somebody in, or changes the ways in.
        Action::Invite | Action::ManageWaysIn => Care::Fresh,
        // What stops everybody's work, or lets it go on.
        Action::Contain => Care::Fresh,
        // What ends something of somebody else's.
        Action::RevokeKey | Action::RetireMachine | Action::ReleaseCluster if of_other => Care::Fresh,
        Action::RevokeKey | Action::RetireMachine | Action::ReleaseCluster => Care::Plain,
        Action::ReadPublic
        | Action::RequestEnrolment
        | Action::DecideEnrolment
        | Action::UseLink
        | Action::UsePasskey
        | Action::SignIn
        | Action::EndSessions
        | Action::DescribeMachine
        | Action::LabelGpu
        | Action::Beat
        | Action::ProveGpu
        | Action::Supply
        | Action::Hire
        | Action::UseCluster
        | Action::ReadAccount
        | Action::RotateKey
        | Action::Operate
        | Action::Watch
        | Action::Judge
        | Action::TakeSnapshot
        | Action::Reconcile
        | Action::Project
        | Action::Simulate => Care::Plain,
    }
}

/// Whether `actor` has what the act takes, at `now`.
///
/// # Errors
/// [`Refusal::StepUp`] for somebody who signed in too long ago.
pub(crate) fn check(actor: &Actor, action: Action, what: &Resource, now: UnixSeconds) -> Result<(), Refusal> {
    match care(actor.principal(), action, what) {
        Care::Plain => Ok(()),
        Care::Fresh => {
            let fresh = actor.signed_in_at().is_some_and(|at| now.since(at) <= FRESH_SECONDS);
            if fresh { Ok(()) } else { Err(Refusal::StepUp { minutes: FRESH_SECONDS / 60 }) }
        }
    }
}

#[cfg(test)]
mod tests {
    use gangline_types::{AccountId, KeyId, SessionId};
    use gangline_wire::api::account::Role;

    use super::*;
    use crate::{
        SessionRecord, act,
        authenticate::session,
        permit::permit,
        policy::{matrix, on},
    };

    const OWN: AccountId = AccountId::from_bytes([1; 16]);
    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn operator(seconds_ago: u64) -> Actor {
        let signed_in_at = UnixSeconds(NOW.0 - seconds_ago);
        let session_of = SessionId::from_bytes([6; 16]);
        session(
            SessionRecord { session: session_of, account: OWN, role: Role::Operator, signed_in_at },
            &crate::Freezes::default(),
        )
    }

    fn key(account: AccountId) -> on::Key {
        on::Key { key: KeyId::from_bytes([5; 16]), account }
    }

    #[test]
    fn a_session_that_is_not_fresh_ends_nothing_of_others_and_lets_nobody_in() {
        let other = AccountId::from_bytes([2; 16]);
        let stale = Err(Refusal::StepUp { minutes: 15 });
        for (ago, expected) in [(0, Ok(())), (FRESH_SECONDS, Ok(())), (FRESH_SECONDS + 1, stale)] {
            let who = operator(ago);
            let told = permit::<act::RevokeKey>(&who, key(other), NOW).map(drop);
            assert_eq!(told, expected, "another's key, {ago} s after signing in");
            assert_eq!(permit::<act::Invite>(&who, on::Network, NOW).map(drop), expected);
            let ways = permit::<act::ManageWaysIn>(&who, on::Account { account: OWN }, NOW).map(drop);
            assert_eq!(ways, expected);
            assert!(permit::<act::RevokeKey>(&who, key(OWN), NOW).is_ok(), "one's own key");
            assert!(permit::<act::Operate>(&who, on::Network, NOW).is_ok(), "looking");
        }
        // What policy refuses stays refused as before, fresh or not.
        let refused = permit::<act::ManageWaysIn>(&operator(9999), on::Account { account: other }, NOW);
        assert_eq!(refused.map(drop), Err(Refusal::Hidden));
    }

    /// Machines, command lines and jobs are what they are each time.
    #[test]
    fn only_people_in_browsers_are_asked_for_more() {
        for (name, who) in matrix::actors() {
            for action in Action::ALL {
                for (kind, what) in matrix::resources() {
                    let asked = care(&who, *action, &what) == Care::Fresh;
                    assert!(
                        !asked || matches!(who, Principal::Person { .. }),
                        "{name} {action} {kind} takes a sign-in that it cannot have"
                    );
                }
            }
        }
    }
}
