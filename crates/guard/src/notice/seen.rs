//! What is seen of a request once it is answered.

use core::net::IpAddr;
use std::{
    borrow::Cow,
    sync::{Arc, Mutex},
};

use gangline_types::{AccountId, GpuId, KeyId, MachineId, UnixSeconds};
use gangline_wire::Action;
use serde::{Deserialize, Serialize};

use crate::{Principal, Refusal, policy::Resource};

/// Questions to policy that one request's trail keeps.
const ASKED_MAX: usize = 16;

/// A block of addresses that one asker may have at will: a /24 of IPv4, a /48 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Block {
    /// The first three bytes.
    V4([u8; 3]),
    /// The first six.
    V6([u8; 6]),
}

impl Block {
    /// The block of an address; an IPv4 address written as IPv6 is one of IPv4.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f])
            }
        }
    }
}

impl std::fmt::Display for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::V4([a, b, c]) => write!(f, "{a}.{b}.{c}.0/24"),
            Self::V6([a, b, c, d, e, g]) => {
                let pair = |high: &u8, low: &u8| u16::from_be_bytes([*high, *low]);
                write!(f, "{:x}:{:x}:{:x}::/48", pair(a, b), pair(c, d), pair(e, g))
            }
        }
    }
}

/// Whose a thing is, as seen from whoever asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// Theirs.
    Own,
    /// Of another machine of the same account.
    Sibling,
    /// Somebody else's.
    Foreign,
    /// Nobody's in particular.
    Common,
}

impl Relation {
    fn between(who: &Principal, what: &Resource) -> Self {
        let by_account = |account: AccountId| {
            if who.account() == Some(account) { Self::Own } else { Self::Foreign }
        };
        let by_machine = |machine: MachineId, account: AccountId| match who.machine() {
            Some(own) if own == machine => Self::Own,
            Some(_) if who.account() == Some(account) => Self::Sibling,
            _ => by_account(account),
        };
        match what {
            Resource::Network(_) | Resource::Enrolment(_) | Resource::Identity(_) => Self::Common,
            Resource::Invitation(_)
            | Resource::Halt(_)
            | Resource::Freeze(_)
            | Resource::Restoration(_)
            | Resource::Calibration(_)
            | Resource::Approval(_) => Self::Common,
            Resource::Account(on) => by_account(on.account),
            Resource::Key(on) => by_account(on.account),
            Resource::Machine(on) => by_machine(on.machine, on.account),
            Resource::Gpu(on) => by_machine(on.machine, on.account),
            Resource::Cluster(on) if who.machine() == Some(on.machine) => Self::Own,
            Resource::Cluster(on) => by_account(on.renter),
        }
    }
}

/// What the guard said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Yes.
    Allowed,
    /// No, by policy.
    Denied,
    /// Yes by policy, but it is frozen.
    Frozen,
    /// Yes by policy, but it takes a fresh sign-in, a second factor or an approval, which was not there. Nobody is suspicious for that.
    Wanting,
}

/// One question to the guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// May they do this,
    pub action: Action,
    /// to this,
    pub resource: String,
    /// which is this GPU, if it is one,
    pub gpu: Option<GpuId>,
    /// and whose it is.
    pub relation: Relation,
    /// The answer.
    pub answer: Answer,
}

impl Asked {
    /// A question and its answer.
    pub fn new<T>(who: &Principal, action: Action, what: &Resource, answer: &Result<T, Refusal>) -> Self {
        Self {
            action,
            resource: what.to_string(),
            gpu: match what {
                Resource::Gpu(on) => Some(on.gpu),
                _ => None,
            },
            relation: Relation::between(who, what),
            answer: match answer {
                Ok(_) => Answer::Allowed,
                Err(Refusal::Frozen { .. }) => Answer::Frozen,
                Err(Refusal::StepUp { .. } | Refusal::OneFactor | Refusal::Unapproved { .. }) => {
                    Answer::Wanting
                }
                Err(_) => Answer::Denied,
            },
        }
    }
}

/// What one request asked the guard, gathered while it is answered. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Trail(Arc<Mutex<Vec<Asked>>>);

impl Trail {
    /// Adds a question; more than a request ever has are not kept.
    pub fn add(&self, asked: Asked) {
        let mut all = self.0.lock().unwrap_or_else(|e| e.into_inner());
        if all.len() < ASKED_MAX {
            all.push(asked);
        }
    }
    /// All of them; the trail is empty afterwards.
    pub fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// As asked.
    Done,
    /// Refused, or malformed.
    Refused,
    /// There is no such thing, or it is none of the asker's business.
    NotFound,
    /// Could not be done now: a conflict, or our own failure.
    NotNow,
}

/// A request, once it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// When it came.
    pub at: UnixSeconds,
    /// The endpoint's name.
    pub route: Cow<'static, str>,
    /// The endpoint's action.
    pub action: Action,
    /// Whether it is one that changes something.
    pub writes: bool,
    /// Whether one has to show something to be let in at all.
    pub by_somebody: bool,
    /// The key that was verified.
    pub key: Option<KeyId>,
    /// The account behind it, or behind a browser's session.
    pub account: Option<AccountId>,
    /// The machine, if it was one.
    pub machine: Option<MachineId>,
    /// From where.
    pub block: Block,
    /// How it ended.
    pub outcome: Outcome,
    /// The id of what it was about, as it stood in the address or the search.
    pub about: Option<String>,
    /// What it asked the guard.
    pub asked: Vec<Asked>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::on;

    /// An operator whose session grew old, and who ends somebody's key, touches nothing foreign: their account would be
    /// frozen for it.
    #[test]
    fn what_only_takes_more_is_not_denied() {
        let operator = Principal::Person {
            account: AccountId::from_bytes([1; 16]),
            role: gangline_wire::api::account::Role::Operator,
            session: gangline_types::SessionId::from_bytes([2; 16]),
        };
        let key = on::Key { key: KeyId::from_bytes([3; 16]), account: AccountId::from_bytes([4; 16]) }.into();
        let check = |refusal, expected| {
            let asked = Asked::new(&operator, Action::RevokeKey, &key, &Err::<(), _>(refusal));
            assert_eq!((asked.relation, asked.answer), (Relation::Foreign, expected));
        };
        check(Refusal::Hidden, Answer::Denied);
        check(Refusal::StepUp { minutes: 15 }, Answer::Wanting);
        check(Refusal::OneFactor, Answer::Wanting);
        check(
            Refusal::Unapproved { approver: gangline_wire::api::operate::Approver::Another },
            Answer::Wanting,
        );
    }

    #[test]
    fn blocks_are_what_one_asker_may_have_at_will() {
        let check = |address: &str, expected: &str| {
            assert_eq!(Block::of(address.parse().unwrap()).to_string(), expected);
        };
        check("203.0.113.77", "203.0.113.0/24");
        check("::ffff:203.0.113.77", "203.0.113.0/24");
        check("2001:db8:12:3456::1", "2001:db8:12::/48");
        check("::1", "0:0:0::/48");
    }
}
