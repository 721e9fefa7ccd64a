//! What an act takes beyond policy's yes: one table over every action, so that no handler can forget it. A permit
//! for an act that takes a fresh sign-in is made only for somebody who signed in minutes ago, one for an act that
//! takes an approval only with that approval, and a new action does not compile without a row here. Whoever has shown
//! one factor where two are asked for gets a permit for hardly anything, whatever an act takes beyond.

use gangline_types::{AccountId, ApprovalId, UnixSeconds};
use gangline_wire::{
    Action,
    api::{account::Role, operate::Approver},
};

use crate::{Actor, Principal, Refusal, Resource, freeze::Target};

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
    /// Whoever is at a command line confirms it in a browser, freshly signed in: a key that was stolen does not do
    /// this.
    Confirmed,
    /// Another operator approves it, freshly signed in, and so is whoever does it: one operator, or whoever became
    /// one, does not do this.
    Approved,
}

/// What `who` needs for `action` on `what`. A machine or a job is what it is each time it acts, so only people are
/// asked for more.
pub fn care(who: &Principal, action: Action, what: &Resource) -> Care {
    let (account, dangerous): (&AccountId, Care) = match who {
        Principal::Person { account, .. } => (account, Care::Fresh),
        Principal::CommandLine { account, .. } => (account, Care::Confirmed),
        _ => return Care::Plain,
    };
    let of_other = match what {
        Resource::Key(key) => key.account != *account,
        Resource::Machine(machine) => machine.account != *account,
        Resource::Cluster(cluster) => cluster.renter != *account,
        _ => false,
    };
    match action {
        // A further operator, and a way into another's account: with these, two operators would soon be one.
        Action::Invite => match what {
            Resource::Invitation(i) if i.role == Role::Operator && i.account != Some(*account) => {
                Care::Approved
            }
            _ => dangerous,
        },
        // What changes the ways in, and what lets an act happen that takes more.
        Action::ManageWaysIn | Action::EndAccountSessions | Action::DecideApproval => dangerous,
        // A command line may stop one key or account at once; whoever stole its key stops nothing more.
        Action::Freeze => match (who, what) {
            (Principal::CommandLine { .. }, Resource::Halt(h)) if !stops_everybody(&h.target) => Care::Plain,
            _ => dangerous,
        },
        Action::Contain => match who {
            Principal::CommandLine { .. } => Care::Plain,
            _ => dangerous,
        },
        // What lets everybody's changes go on.
        Action::Thaw => match what {
            Resource::Freeze(freeze) if freeze.target == Target::Fleet => Care::Approved,
            _ => dangerous,
        },
        // What decides whose proofs fail.
        Action::MoveCalibration => match what {
            Resource::Calibration(calibration) if calibration.promote => Care::Approved,
            _ => dangerous,
        },
        // What changes many things of others at once; the history undoes it.
        Action::Restore => dangerous,
        // What ends something of somebody else's.
        Action::RevokeKey | Action::RetireMachine | Action::ReleaseCluster if of_other => dangerous,
        Action::RevokeKey | Action::RetireMachine | Action::ReleaseCluster => Care::Plain,
        Action::ReadPublic
        | Action::RequestEnrolment
        | Action::DecideEnrolment
        | Action::UseLink
        | Action::UsePasskey
        | Action::UsePassword
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
        | Action::AskApproval
        | Action::DeclineApproval
        | Action::Watch
        | Action::Judge
        | Action::TakeSnapshot
        | Action::Reconcile
        | Action::Project
        | Action::Simulate
        | Action::MoveBooks => Care::Plain,
    }
}

/// Whether `action` is open to whoever has shown one factor where two are asked for: what anybody may do, what
/// signs somebody in, looking at one's own account, and adding a passkey to it. Which pages that opens is further
/// bounded by the table of endpoints.
pub(crate) fn takes_one_factor(action: Action) -> bool {
    match action {
        Action::ReadPublic
        | Action::UseLink
        | Action::UsePasskey
        | Action::UsePassword
        | Action::SignIn
        | Action::EndSessions
        | Action::ReadAccount
        | Action::ManageWaysIn => true,
        Action::RequestEnrolment
        | Action::DecideEnrolment
        | Action::EndAccountSessions
        | Action::Invite
        | Action::DescribeMachine
        | Action::LabelGpu
        | Action::Beat
        | Action::ProveGpu
        | Action::Supply
        | Action::RetireMachine
        | Action::Hire
        | Action::UseCluster
        | Action::ReleaseCluster
        | Action::RevokeKey
        | Action::RotateKey
        | Action::Operate
        | Action::Contain
        | Action::Freeze
        | Action::Thaw
        | Action::Restore
        | Action::MoveCalibration
        | Action::AskApproval
        | Action::DecideApproval
        | Action::DeclineApproval
        | Action::Watch
        | Action::Judge
        | Action::TakeSnapshot
        | Action::Reconcile
        | Action::Project
        | Action::Simulate
        | Action::MoveBooks => false,
    }
}

fn stops_everybody(target: &Target) -> bool {
    matches!(target, Target::Fleet | Target::Action(_))
}

/// Whether `actor` has what the act takes, at `now`, and the approval that this uses up.
///
/// # Errors
/// [`Refusal::OneFactor`] for somebody who has yet to show a second one, [`Refusal::StepUp`] for somebody who signed
/// in too long ago, [`Refusal::Unapproved`] where an approval is missing
/// or is not of this.
pub(crate) fn check(
    actor: &Actor,
    action: Action,
    what: &Resource,
    now: UnixSeconds,
) -> Result<Option<ApprovalId>, Refusal> {
    if actor.lacks_a_factor() && !takes_one_factor(action) {
        return Err(Refusal::OneFactor);
    }
    let care = care(actor.principal(), action, what);
    let is_person = matches!(actor.principal(), Principal::Person { .. });
    if is_person && care != Care::Plain {
        let fresh = actor.signed_in_at().is_some_and(|at| now.since(at) <= FRESH_SECONDS);
        if !fresh {
            return Err(Refusal::StepUp { minutes: FRESH_SECONDS / 60 });
        }
    }
    let approver = match care {
        Care::Plain | Care::Fresh => return Ok(None),
        Care::Confirmed => Approver::Oneself,
        Care::Approved => Approver::Another,
    };
    let approval = actor.approval().filter(|a| a.lets(actor.principal(), action, what, approver, now));
    approval.map(|a| Some(a.approval)).ok_or(Refusal::Unapproved { approver })
}

#[cfg(test)]
mod tests {
    use gangline_types::{AccountId, KeyId, SessionId};
    use gangline_wire::api::operate::Doer;

    use super::*;
    use crate::{
        Began, Factors, SessionRecord, act,
        authenticate::session,
        permit::permit,
        policy::{matrix, on},
    };

    const OWN: AccountId = AccountId::from_bytes([1; 16]);
    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn operator(seconds_ago: u64) -> Actor {
        signed_in(seconds_ago, Began::Link, Factors::One)
    }

    fn signed_in(seconds_ago: u64, began: Began, asked: Factors) -> Actor {
        let record = SessionRecord {
            session: SessionId::from_bytes([6; 16]),
            account: OWN,
            role: Role::Operator,
            signed_in_at: UnixSeconds(NOW.0 - seconds_ago),
            began,
        };
        session(record, &crate::Freezes::default(), asked)
    }

    #[test]
    fn one_factor_opens_hardly_anything_where_two_are_asked_for() {
        let weak = Began::Provider { is_strong: false };
        let strong = Began::Provider { is_strong: true };
        for (began, asked, is_enough) in [
            (Began::Link, Factors::One, true),
            (Began::Link, Factors::Two, false),
            (Began::Password, Factors::Two, false),
            (weak, Factors::One, true),
            (weak, Factors::Two, false),
            (strong, Factors::Two, true),
            (Began::Passkey, Factors::Two, true),
        ] {
            let who = signed_in(0, began, asked);
            assert_eq!(who.lacks_a_factor(), !is_enough, "{began:?} where {asked:?} are asked for");
            let expected = if is_enough { Ok(()) } else { Err(Refusal::OneFactor) };
            assert_eq!(permit::<act::Operate>(&who, on::Network, NOW).map(drop), expected, "{began:?}");
            assert_eq!(permit::<act::Invite>(&who, link(Role::Renter, None), NOW).map(drop), expected);
            assert_eq!(permit::<act::RevokeKey>(&who, key(OWN), NOW).map(drop), expected);
            let own = on::Account { account: OWN };
            assert!(permit::<act::ManageWaysIn>(&who, own, NOW).is_ok(), "{began:?}: no passkey added");
            assert!(permit::<act::ReadAccount>(&who, own, NOW).is_ok(), "{began:?}: own account not seen");
        }
        // What is none of their business stays so, and an old session is asked to sign in again.
        let half = signed_in(0, Began::Link, Factors::Two);
        let other = on::Account { account: AccountId::from_bytes([2; 16]) };
        assert_eq!(permit::<act::ReadAccount>(&half, other, NOW).map(drop), Err(Refusal::Hidden));
        let old = signed_in(FRESH_SECONDS + 1, Began::Link, Factors::Two);
        let ways = permit::<act::ManageWaysIn>(&old, on::Account { account: OWN }, NOW).map(drop);
        assert_eq!(ways, Err(Refusal::StepUp { minutes: 15 }));
        let open = Action::ALL.iter().filter(|action| takes_one_factor(**action)).count();
        assert!(open <= 8, "{open} actions are open to one factor; this may only shrink");
    }

    fn link(role: Role, account: Option<AccountId>) -> on::Invitation {
        on::Invitation { account, role, name: gangline_types::Label::lossy("Ada") }
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
            assert_eq!(permit::<act::Invite>(&who, link(Role::Renter, None), NOW).map(drop), expected);
            let ways = permit::<act::ManageWaysIn>(&who, on::Account { account: OWN }, NOW).map(drop);
            assert_eq!(ways, expected);
            assert!(permit::<act::RevokeKey>(&who, key(OWN), NOW).is_ok(), "one's own key");
            assert!(permit::<act::Operate>(&who, on::Network, NOW).is_ok(), "looking");
        }
        // What policy refuses stays refused as before, fresh or not.
        let refused = permit::<act::ManageWaysIn>(&operator(9999), on::Account { account: other }, NOW);
        assert_eq!(refused.map(drop), Err(Refusal::Hidden));
    }

    /// The acts that one person does not do alone, whoever they are.
    #[test]
    fn what_takes_two_operators_takes_them_by_browser_and_by_key() {
        let other = AccountId::from_bytes([2; 16]);
        let browser = *operator(0).principal();
        let key_of = KeyId::from_bytes([5; 16]);
        let line = Principal::CommandLine { account: OWN, role: Role::Operator, key: key_of };
        let freeze = |target| {
            Resource::from(on::Freeze { freeze: gangline_types::FreezeId::from_bytes([1; 16]), target })
        };
        let halt = |target| Resource::from(on::Halt { target, seconds: None });
        let table = |promote| {
            Resource::from(on::Calibration { version: 1, table: gangline_types::Hash([1; 32]), promote })
        };
        let check = |action, what: Resource, in_browser, at_line| {
            assert_eq!(care(&browser, action, &what), in_browser, "{action} {what} in a browser");
            assert_eq!(care(&line, action, &what), at_line, "{action} {what} at a command line");
        };
        let (two, own, fresh) = (Care::Approved, Care::Confirmed, Care::Fresh);
        check(Action::Invite, link(Role::Operator, None).into(), two, two);
        check(Action::Invite, link(Role::Operator, Some(other)).into(), two, two);
        check(Action::Invite, link(Role::Operator, Some(OWN)).into(), fresh, own);
        check(Action::Invite, link(Role::Supplier, None).into(), fresh, own);
        check(Action::Thaw, freeze(Target::Fleet), two, two);
        check(Action::Thaw, freeze(Target::Account(other)), fresh, own);
        check(Action::Freeze, halt(Target::Fleet), fresh, own);
        check(Action::Freeze, halt(Target::Account(other)), fresh, Care::Plain);
        check(Action::MoveCalibration, table(true), two, two);
        check(Action::MoveCalibration, table(false), fresh, own);
        check(Action::Restore, on::Restoration { doer: Doer::Account(other), since: NOW }.into(), fresh, own);
        check(Action::RevokeKey, key(other).into(), fresh, own);
        check(Action::RevokeKey, key(OWN).into(), Care::Plain, Care::Plain);
        check(Action::Contain, on::Network.into(), fresh, Care::Plain);
    }

    /// Machines and jobs are what they are each time, and nobody is asked for what they cannot have.
    #[test]
    fn only_people_are_asked_for_more() {
        for (name, who) in matrix::actors() {
            for action in Action::ALL {
                for (kind, what) in matrix::resources() {
                    let asked = care(&who, *action, &what);
                    let can = match who {
                        Principal::Person { .. } => asked != Care::Confirmed,
                        Principal::CommandLine { .. } => asked != Care::Fresh,
                        _ => asked == Care::Plain,
                    };
                    assert!(can, "{name} {action} {kind} takes {asked:?}, which it cannot have");
                }
            }
        }
    }
}
