//! Freezes: writes of a kind, by a key or by an account are stopped until somebody has looked.
//!
//! A freeze stops *changes of what others rely on*: names, claims, hires, new keys. It never takes what is
//! earned: [`Freezable`] has no word for a heartbeat, a proof or a cluster that runs, so that no freeze, made by
//! a rule or by a person, on purpose or by mistake, can name one. Nor has it one for ending a key or a hire, or
//! for what operators do: a freeze keeps nobody from limiting a damage or from lifting it.
//!
//! Knows no clock and no store: what is frozen comes in, as a [`Freezes`] that every actor carries.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use gangline_types::{AccountId, FreezeId, KeyId, UnixSeconds};
use gangline_wire::Action;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Principal, Refusal};

macro_rules! freezable {
    (yes: $($name:ident = $word:literal),+; no: $($never:ident),+;) => {
        /// What can be frozen.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Freezable {
            $(#[doc = concat!("See [`Action::", stringify!($name), "`].")] $name),+
        }
        impl Freezable {
            /// All of it.
            pub const ALL: &'static [Freezable] = &[$(Freezable::$name),+];
            /// What of an action can be frozen; nothing of most. A new action does not compile until it is
            /// written down here on one side.
            pub const fn of(action: Action) -> Option<Self> {
                match action {
                    $(Action::$name => Some(Self::$name),)+
                    $(Action::$never => None,)+
                }
            }
            /// Its word, the action's own.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }
        }
    };
}

freezable! {
    yes: RequestEnrolment = "request_enrolment", DecideEnrolment = "decide_enrolment", Invite = "invite",
        DescribeMachine = "describe_machine", LabelGpu = "label_gpu", RetireMachine = "retire_machine", Hire = "hire",
        RotateKey = "rotate_key";
    no: ReadPublic, UseLink, UsePasskey, UsePassword, SignIn, EndSessions, ManageWaysIn, EndAccountSessions, Beat, ProveGpu, Supply, UseCluster, ReleaseCluster, ReadAccount,
        RevokeKey, Operate, Contain, Freeze, Thaw, Restore, MoveCalibration, AskApproval, DecideApproval, DeclineApproval, Watch, Judge, TakeSnapshot, Reconcile, Project, Simulate, MoveBooks;
}

impl std::str::FromStr for Freezable {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.iter().copied().find(|what| what.as_str() == text).ok_or(())
    }
}

/// Whose or which writes a freeze stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// All that can be frozen, signed with this key.
    Key(KeyId),
    /// All that can be frozen, by this account's keys and browsers.
    Account(AccountId),
    /// This, whoever does it.
    Action(Freezable),
    /// All that can be frozen, whoever does it.
    Fleet,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Account(account) => account.fmt(f),
            Self::Action(what) => f.write_str(what.as_str()),
            Self::Fleet => f.write_str("fleet"),
        }
    }
}

impl std::str::FromStr for Target {
    type Err = TargetError;
    /// As [`Display`](std::fmt::Display) writes it.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        if let Ok(key) = text.parse() {
            return Ok(Self::Key(key));
        }
        if let Ok(account) = text.parse() {
            return Ok(Self::Account(account));
        }
        match text.parse() {
            Ok(what) => Ok(Self::Action(what)),
            Err(()) if text == "fleet" => Ok(Self::Fleet),
            Err(()) => Err(TargetError),
        }
    }
}

/// A text that names nothing which can be frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "that is nothing which can be frozen: a key's or an account's id, an action that changes something, or fleet"
)]
pub struct TargetError;

impl Target {
    /// Whether it stops `what` by `who`.
    pub fn stops(&self, who: &Principal, what: Freezable) -> bool {
        match self {
            // Our own jobs are told what to do by nobody outside.
            _ if matches!(who, Principal::Job(_)) => false,
            Self::Key(key) => who.key() == Some(*key),
            Self::Account(account) => who.account() == Some(*account),
            Self::Action(stopped) => *stopped == what,
            Self::Fleet => true,
        }
    }
}

/// One freeze that is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freeze {
    /// Which.
    pub id: FreezeId,
    /// What it stops.
    pub target: Target,
    /// Since when.
    pub since: UnixSeconds,
    /// When it ends by itself; none: until it is lifted.
    pub until: Option<UnixSeconds>,
}

/// What is frozen, as of a moment. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Freezes(Option<Arc<BTreeMap<Target, Freeze>>>);

impl Freezes {
    /// Of these; of two on the same target the one that lasts longer counts.
    pub fn new(freezes: impl IntoIterator<Item = Freeze>) -> Self {
        let mut by_target: BTreeMap<Target, Freeze> = BTreeMap::new();
        let end = |freeze: &Freeze| freeze.until.map_or(u64::MAX, |until| until.0);
        for freeze in freezes {
            let kept = by_target.entry(freeze.target).or_insert(freeze);
            if end(&freeze) > end(kept) {
                *kept = freeze;
            }
        }
        Self((!by_target.is_empty()).then(|| Arc::new(by_target)))
    }

    /// The freeze that stops `action` by `who` at `at`, if one does.
    pub fn stopping(&self, who: &Principal, action: Action, at: UnixSeconds) -> Option<&Freeze> {
        let (by_target, what) = (self.0.as_ref()?, Freezable::of(action)?);
        let targets = [
            who.key().map(Target::Key),
            who.account().map(Target::Account),
            Some(Target::Action(what)),
            Some(Target::Fleet),
        ];
        targets
            .into_iter()
            .flatten()
            .filter_map(|target| by_target.get(&target))
            .find(|freeze| freeze.target.stops(who, what) && freeze.until.is_none_or(|until| at < until))
    }

    /// Refuses what is frozen.
    pub(crate) fn check(&self, who: &Principal, action: Action, at: UnixSeconds) -> Result<(), Refusal> {
        let Some(freeze) = self.stopping(who, action, at) else { return Ok(()) };
        Err(Refusal::Frozen {
            freeze: freeze.id,
            what: match freeze.target {
                Target::Key(_) => "what this key may change",
                Target::Account(_) => "what this account may change",
                Target::Action(_) => "this kind of change",
                Target::Fleet => "every change in this network",
            },
            since: freeze.since,
            until: freeze.until,
        })
    }

    /// The freeze on exactly this target, if there is one that lasts at `at`.
    pub fn on(&self, target: &Target, at: UnixSeconds) -> Option<&Freeze> {
        self.all().get(target).filter(|freeze| freeze.until.is_none_or(|until| at < until))
    }

    /// All, by target.
    pub fn all(&self) -> &BTreeMap<Target, Freeze> {
        static NONE: LazyLock<BTreeMap<Target, Freeze>> = LazyLock::new(BTreeMap::new);
        self.0.as_deref().unwrap_or(&NONE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Actor, act,
        permit::permit,
        policy::{self, on},
    };

    const NOW: UnixSeconds = UnixSeconds(1_000);
    const ID: FreezeId = FreezeId::from_bytes([1; 16]);

    fn freezes(target: Target, until: Option<UnixSeconds>) -> Freezes {
        Freezes::new([Freeze { id: ID, target, since: UnixSeconds(900), until }])
    }

    /// Over every actor and action there is: a freeze of everything stops what is freezable, and nothing else.
    #[test]
    fn the_whole_fleet_frozen_still_beats_proves_and_ends_things() {
        let all = freezes(Target::Fleet, None);
        for (name, who) in policy::actors() {
            for action in Action::ALL {
                let stopped = all.stopping(&who, *action, NOW).is_some();
                let job = matches!(who, Principal::Job(_));
                assert_eq!(stopped, Freezable::of(*action).is_some() && !job, "{name} {action}");
            }
        }
        for never in [Action::Beat, Action::ProveGpu, Action::Supply, Action::RevokeKey, Action::Contain] {
            assert_eq!(Freezable::of(never), None);
        }
        for what in Freezable::ALL {
            assert_eq!(what.as_str().parse(), Ok(*what));
            assert!(Action::ALL.iter().any(|action| action.as_str() == what.as_str()));
        }
    }

    #[test]
    fn the_door_asks() {
        let (account, key) = (AccountId::from_bytes([1; 16]), KeyId::from_bytes([5; 16]));
        let machine = gangline_types::MachineId::from_bytes([3; 16]);
        let who = Principal::Machine { machine, account, key };
        let gpu = on::Gpu { gpu: gangline_types::GpuId::from_bytes([8; 16]), machine, account };
        let others = on::Gpu { account: AccountId::from_bytes([2; 16]), ..gpu };
        let check = |target, until, expected: &str| {
            let actor = Actor::of(who, freezes(target, until));
            let told = permit::<act::LabelGpu>(&actor, gpu, NOW).map_or_else(|e| e.code(), |_| "ok");
            assert_eq!(told, expected, "{target} {until:?}");
            // What one may not do is refused as ever, and beats pass.
            let hidden = permit::<act::LabelGpu>(&actor, others, NOW).unwrap_err();
            assert_eq!(hidden, Refusal::Hidden);
            permit::<act::Beat>(&actor, on::Machine { machine, account }, NOW).unwrap();
        };
        check(Target::Key(key), None, "frozen");
        check(Target::Account(account), None, "frozen");
        check(Target::Action(Freezable::LabelGpu), None, "frozen");
        check(Target::Fleet, Some(UnixSeconds(1_001)), "frozen");
        check(Target::Fleet, Some(NOW), "ok");
        check(Target::Key(KeyId::from_bytes([6; 16])), None, "ok");
        check(Target::Account(AccountId::from_bytes([2; 16])), None, "ok");
        check(Target::Action(Freezable::Hire), None, "ok");
    }

    #[test]
    fn targets_are_read_as_written_and_nothing_unfreezable_is() {
        for target in [
            Target::Key(KeyId::from_bytes([6; 16])),
            Target::Account(AccountId::from_bytes([2; 16])),
            Target::Action(Freezable::Hire),
            Target::Fleet,
        ] {
            assert_eq!(target.to_string().parse(), Ok(target));
        }
        for bad in ["beat", "prove_gpu", "supply", "revoke_key", "contain", "", "Fleet", "key_x"] {
            assert_eq!(bad.parse::<Target>(), Err(TargetError), "{bad}");
        }
    }
}
