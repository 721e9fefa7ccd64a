//! Approvals of dangerous acts. What an act takes beyond policy's yes stands in [`care`](crate::care); where that is
//! somebody's approval, it is of exactly one act: its action and everything that it is about, by a digest, asked for
//! by one account and, at a command line, by one key. It can be used once, which the write sees to: a
//! [`Permit`](crate::Permit) carries the approval that it took.

use gangline_types::{AccountId, ApprovalId, Hash, KeyId, UnixSeconds};
use gangline_wire::{Action, api::operate::Approver};

use crate::{Principal, Resource};

/// How long somebody may take to confirm what their own command line asked for, in seconds.
pub const CONFIRM_SECONDS: u64 = 15 * 60;
/// How long another operator may take to approve, and how long an approval that is ready can be used, in seconds: a
/// day, because the other operator may be asleep.
pub const APPROVE_SECONDS: u64 = 24 * 3600;
/// For how long the same is not asked for again once it was declined, in seconds.
pub const DECLINED_SECONDS: u64 = 15 * 60;
/// Within how many seconds another operator must have been here to count as one who could approve: 30 days. Whoever
/// has left for good does not lock those who stayed out.
pub const HERE_SECONDS: u64 = 30 * 24 * 3600;

/// An approval as the store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approval {
    /// Which.
    pub approval: ApprovalId,
    /// Of what: see [`digest`].
    pub digest: Hash,
    /// Who may approve it, as was found when it was asked for.
    pub approver: Approver,
    /// Who asked.
    pub asked_by: AccountId,
    /// With which key; none for somebody in a browser.
    pub key: Option<KeyId>,
    /// Who approved.
    pub approved_by: AccountId,
    /// From when on it may be done.
    pub ready_at: UnixSeconds,
    /// Until when.
    pub expires_at: UnixSeconds,
}

/// What is approved: an action on a resource, which says all of a dangerous act.
pub fn digest(action: Action, what: &Resource) -> Hash {
    let mut hasher = blake3::Hasher::new_derive_key("gangline 2026 dangerous act");
    let word = action.as_str();
    hasher.update(&(word.len() as u64).to_le_bytes()).update(word.as_bytes());
    hasher.update(what.to_string().as_bytes());
    Hash(*hasher.finalize().as_bytes())
}

impl Approval {
    /// Whether it lets `who` do this at `now`, where `needed` has to have approved.
    pub(crate) fn lets(
        &self,
        who: &Principal,
        action: Action,
        what: &Resource,
        needed: Approver,
        now: UnixSeconds,
    ) -> bool {
        let by_whom = match (needed, self.approver) {
            (Approver::Oneself, _) => true,
            (_, Approver::Another) => self.approved_by != self.asked_by,
            (_, Approver::Alone) => self.approved_by == self.asked_by,
            (_, Approver::Oneself) => false,
        };
        by_whom
            && self.digest == digest(action, what)
            && who.account() == Some(self.asked_by)
            && who.key() == self.key
            && (self.ready_at..self.expires_at).contains(&now)
    }
}

#[cfg(test)]
mod tests {
    use gangline_types::{FreezeId, SessionId};
    use gangline_wire::api::account::Role;

    use super::*;
    use crate::{
        Actor, Began, Factors, Freezes, Refusal, SessionRecord, act, authenticate::session, freeze::Target,
        permit::permit, policy::on,
    };

    const ADA: AccountId = AccountId::from_bytes([1; 16]);
    const BEN: AccountId = AccountId::from_bytes([2; 16]);
    const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

    fn ada() -> Actor {
        let record = SessionRecord {
            session: SessionId::from_bytes([6; 16]),
            account: ADA,
            role: Role::Operator,
            signed_in_at: NOW,
            began: Began::Passkey,
        };
        session(record, &Freezes::default(), Factors::Two)
    }

    fn frozen(n: u8, target: Target) -> on::Freeze {
        on::Freeze { freeze: FreezeId::from_bytes([n; 16]), target }
    }

    fn approval() -> Approval {
        Approval {
            approval: ApprovalId::from_bytes([9; 16]),
            digest: digest(Action::Thaw, &frozen(1, Target::Fleet).into()),
            approver: Approver::Another,
            asked_by: ADA,
            key: None,
            approved_by: BEN,
            ready_at: NOW,
            expires_at: NOW.plus(60),
        }
    }

    #[test]
    fn an_act_that_takes_another_operator_is_done_as_approved_or_not_at_all() {
        let fleet = frozen(1, Target::Fleet);
        let refused = Err(Refusal::Unapproved { approver: Approver::Another });
        let check = |approval: Option<Approval>, what: on::Freeze, at: UnixSeconds, ok: bool| {
            let actor = approval.into_iter().fold(ada(), Actor::with_approval);
            let told = permit::<act::Thaw>(&actor, what, at).map(|permit| permit.approval());
            let expected = if ok { Ok(approval.map(|a| a.approval)) } else { refused.clone() };
            assert_eq!(told, expected, "{approval:?} for {what:?} at {at}");
        };
        check(None, fleet, NOW, false);
        check(Some(approval()), fleet, NOW, true);
        check(Some(approval()), fleet, NOW.plus(59), true);
        check(Some(approval()), fleet, NOW.plus(60), false);
        check(Some(Approval { ready_at: NOW.plus(1), ..approval() }), fleet, NOW, false);
        // Of another freeze, by oneself, by another account, by a key, of another act.
        check(Some(approval()), frozen(2, Target::Fleet), NOW, false);
        check(Some(Approval { approved_by: ADA, ..approval() }), fleet, NOW, false);
        check(Some(Approval { approver: Approver::Oneself, ..approval() }), fleet, NOW, false);
        check(Some(Approval { asked_by: BEN, approved_by: ADA, ..approval() }), fleet, NOW, false);
        check(Some(Approval { key: Some(KeyId::from_bytes([5; 16])), ..approval() }), fleet, NOW, false);
        let other = digest(Action::Freeze, &fleet.into());
        check(Some(Approval { digest: other, ..approval() }), fleet, NOW, false);
        // Nobody else is there: one's own after the delay.
        let alone = Approval { approver: Approver::Alone, approved_by: ADA, ..approval() };
        check(Some(alone), fleet, NOW, true);
        check(Some(Approval { approved_by: BEN, ..alone }), fleet, NOW, false);
    }

    #[test]
    fn what_takes_no_approval_uses_none_up() {
        let actor = ada().with_approval(approval());
        let own = permit::<act::Thaw>(&actor, frozen(1, Target::Account(BEN)), NOW).unwrap();
        assert_eq!(own.approval(), None);
    }
}
