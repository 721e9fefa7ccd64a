//! Every detector, fed from one place.
//!
//! | seen | fed to |
//! |---|---|
//! | the guard denied an act on another's thing | [`Touches`] by key, or by account in a browser |
//! | a GPU was named, or somebody tried | [`Breadth`] by key and by account |
//! | a request that changes something | [`Rates`] by route: all attempts, and apart those that landed |
//! | a request of somebody | [`Share`] of askers that were refused in a minute; [`Rate`] of refusals |
//! | a look-up of an id, or a wrong id anywhere | [`Walks`] by block of addresses |
//! | a request for enrolment | [`Rates`] by block of addresses |
//! | a verdict | [`Clusters`] by what is claimed |
//! | machines that beat and that do not | [`Share`] of the fleet |
//!
//! What machines do by the clock (beats, reports, proofs) is no write in this sense and is not counted.
//! State: bounded by the constants below, at most about 120 MiB when every table is full of busy askers.

use std::collections::BTreeMap;

use gangline_types::{AccountId, ApprovalId, KeyId, UnixSeconds};
use gangline_wire::Action;
use serde::{Deserialize, Serialize};

use super::{Answer, Block, Outcome, Relation, Seen, Severity, recent::Recent, rule};
use crate::{
    detect::{
        Alarm, What,
        breadth::{Breadth, WalkLimits, Walks},
        distinct::Salt,
        rate::{Rate, RateRule, Rates},
        share::{Clusters, Share, ShareRule},
        touch::{Toucher, Touches},
    },
    freeze::{Freezable, Target},
};

const ASKERS_MAX: usize = 16_384;
const BLOCKS_MAX: usize = 4_096;
const ROUTES_MAX: usize = 128;
const CLUSTERS_MAX: usize = 4_096;
/// GPUs that a key or an account may touch beyond what it has: cards that were changed within the hour.
const SPARE: u64 = 4;
/// Minutes after a start in which missing machines are ours: they come back as they notice.
const COVERAGE_AFTER_MINUTES: u64 = 5;

/// Refusals of all, by the minute: one a second is taken for usual at first.
const REFUSALS: RateRule = RateRule {
    what: What::Refusals,
    usual_at_first: 60.0,
    usual_min: 10.0,
    shape: false,
    ..RateRule::WRITES
};
const LANDED: RateRule = RateRule { shape: false, ..RateRule::WRITES };

/// Whom or what an alarm is about; repeats on the same are one incident.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A key.
    Key(KeyId),
    /// An account.
    Account(AccountId),
    /// A block of addresses.
    Block(Block),
    /// A route, by its endpoint's name: all attempts.
    Route(String),
    /// Changes of a kind that were really made.
    Landed(Freezable),
    /// GPUs that claim the same.
    Claims(String),
    /// A witness of the log, by its name.
    Witness(String),
    /// An act, by the number of its audit row.
    Act(u64),
    /// An act that was asked for.
    Approval(ApprovalId),
    /// All of the network.
    Network,
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Key(key) => key.fmt(f),
            Self::Account(account) => account.fmt(f),
            Self::Block(block) => block.fmt(f),
            Self::Route(route) => write!(f, "route {route}"),
            Self::Landed(what) => write!(f, "changes {}", what.as_str()),
            Self::Claims(claims) => write!(f, "GPUs that claim {claims}"),
            Self::Witness(name) => write!(f, "witness {name}"),
            Self::Act(number) => write!(f, "act {number}"),
            Self::Approval(approval) => approval.fmt(f),
            Self::Network => f.write_str("network"),
        }
    }
}

/// How many GPUs somebody has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// The key's machine; for a command line's key and a browser as many as the account.
    pub key: u64,
    /// All of the account.
    pub account: u64,
}

/// What was noticed.
#[derive(Clone, Debug, PartialEq)]
pub struct Raised {
    /// By a detector.
    pub alarm: Alarm,
    /// About whom or what.
    pub subject: Subject,
    /// The key, where one was verified.
    pub key: Option<KeyId>,
    /// The account, where one is behind it.
    pub account: Option<AccountId>,
    /// From where.
    pub block: Option<Block>,
    /// What was done or tried.
    pub action: Option<Action>,
    /// On which.
    pub resource: Option<String>,
}

impl Raised {
    /// How bad.
    pub fn severity(&self) -> Severity {
        rule::severity(self.alarm.what)
    }
    /// What is frozen for it, and for how many seconds.
    pub fn freeze(&self) -> Option<(Target, u64)> {
        rule::freeze(self.alarm.what, &self.subject)
    }
}

/// Somebody who may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Key(KeyId),
    Account(AccountId),
}

impl From<Who> for Subject {
    fn from(who: Who) -> Self {
        match who {
            Who::Key(key) => Self::Key(key),
            Who::Account(account) => Self::Account(account),
        }
    }
}

/// Askers of one minute and whether any of their requests was refused.
#[derive(Clone, Debug, Default)]
struct Askers {
    minute: u64,
    refused: BTreeMap<(Option<KeyId>, Block), bool>,
}

/// All detectors.
#[derive(Clone, Debug)]
pub struct Watch {
    touches: Touches<Who>,
    breadth: Breadth<Who>,
    attempts: Rates<String>,
    landed: Rates<Freezable>,
    refusals: Rate,
    refused: Share,
    askers: Askers,
    walks: Walks<Block>,
    enrolments: Rates<Block>,
    proofs: Clusters<String>,
    beats: Share,
    started: Option<UnixSeconds>,
    recent: Recent,
}

/// What machines do by the clock, and reads.
pub(super) fn by_the_clock(action: Action) -> bool {
    matches!(action, Action::Beat | Action::Supply | Action::ProveGpu | Action::UseCluster)
}

/// Whether there is nothing to learn of such a request: it need not be shown to [`Watch::saw`].
pub fn is_dull(action: Action, outcome: Outcome) -> bool {
    by_the_clock(action) && outcome == Outcome::Done
}

impl Watch {
    /// That has seen nothing. The salt is the secret of its hashes.
    pub fn new(salt: Salt) -> Self {
        Self {
            touches: Touches::new(ASKERS_MAX),
            breadth: Breadth::new(salt, ASKERS_MAX, SPARE),
            attempts: Rates::new(RateRule::WRITES, ROUTES_MAX),
            landed: Rates::new(LANDED, Freezable::ALL.len()),
            refusals: Rate::new(REFUSALS),
            refused: Share::new(ShareRule::REFUSALS),
            askers: Askers::default(),
            walks: Walks::new(salt, BLOCKS_MAX, WalkLimits::default()),
            enrolments: Rates::new(RateRule::ENROLMENTS, BLOCKS_MAX),
            proofs: Clusters::new(ShareRule::PROOF_FAILURES, CLUSTERS_MAX),
            beats: Share::new(ShareRule::MISSING_BEATS),
            started: None,
            recent: Recent::default(),
        }
    }

    /// What was done lately, for what a freeze would stop.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// A request was answered. `owned` is how many GPUs whoever asked has; it counts only where
    /// [`Seen::asked`] is about a GPU.
    pub fn saw(&mut self, seen: &Seen, owned: Owned) -> Vec<Raised> {
        let mut told = Vec::new();
        let raise = |alarm: Alarm, subject: Subject, resource: Option<String>| Raised {
            alarm,
            subject,
            key: seen.key,
            account: seen.account,
            block: Some(seen.block),
            action: Some(seen.action),
            resource,
        };
        let who = seen.key.map(Who::Key).or(seen.account.map(Who::Account));
        for asked in &seen.asked {
            let write = !matches!(asked.action, Action::ReadPublic | Action::ReadAccount);
            let toucher = match asked.relation {
                Relation::Foreign => Some(Toucher::Stranger),
                // Their own, by the wrong machine: a card that was moved and a script that does not know yet.
                Relation::Sibling => Some(Toucher::FormerOwner),
                Relation::Own | Relation::Common => None,
            };
            if let (Some(who), Some(toucher), true, Answer::Denied) = (who, toucher, write, asked.answer) {
                // Every one counts into the incident; the detector says from which on there is one.
                let alarm = self.touches.refused(seen.at, &who, toucher).or_else(|| {
                    let again = Alarm { what: What::ForeignTouch, at: seen.at, seen: 1.0, usual: 0.0 };
                    (toucher == Toucher::Stranger).then_some(again)
                });
                told.extend(alarm.map(|alarm| raise(alarm, who.into(), Some(asked.resource.clone()))));
            }
            if let (Some(gpu), true) = (asked.gpu, write && !by_the_clock(asked.action)) {
                let parts = [
                    seen.key.map(|key| (Who::Key(key), owned.key)),
                    seen.account.map(|account| (Who::Account(account), owned.account)),
                ];
                for (who, owned) in parts.into_iter().flatten() {
                    let alarm = self.breadth.touched(seen.at, &who, gpu.as_bytes(), owned);
                    told.extend(alarm.map(|alarm| raise(alarm, who.into(), Some(asked.resource.clone()))));
                }
            }
            if asked.answer == Answer::Allowed
                && let Some(what) = Freezable::of(asked.action)
            {
                self.recent.add(seen.at, seen.key, seen.account, seen.machine, what);
                if seen.outcome == Outcome::Done {
                    let alarms = self.landed.counted(seen.at, &what, 1);
                    told.extend(alarms.into_iter().map(|alarm| raise(alarm, Subject::Landed(what), None)));
                }
            }
        }
        if seen.writes && !by_the_clock(seen.action) {
            let route = seen.route.to_string();
            let alarms = self.attempts.counted(seen.at, &route, 1);
            told.extend(alarms.into_iter().map(|alarm| raise(alarm, Subject::Route(route.clone()), None)));
        }
        if seen.action == Action::RequestEnrolment && seen.outcome == Outcome::Done {
            let alarms = self.enrolments.counted(seen.at, &seen.block, 1);
            told.extend(alarms.into_iter().map(|alarm| raise(alarm, Subject::Block(seen.block), None)));
        }
        told.extend(
            self.looked(seen).map(|alarm| raise(alarm, Subject::Block(seen.block), seen.about.clone())),
        );
        let refused = matches!(seen.outcome, Outcome::Refused | Outcome::NotFound) && seen.by_somebody;
        if refused {
            let alarms = self.refusals.counted(seen.at, 1);
            told.extend(alarms.into_iter().map(|alarm| raise(alarm, Subject::Network, None)));
        }
        if seen.by_somebody {
            told.extend(self.asker(seen, refused));
        }
        told
    }

    /// A look-up of an id: in the explorer found or missed, anywhere else only if there is no such thing and
    /// the guard was not even asked.
    fn looked(&mut self, seen: &Seen) -> Option<Alarm> {
        let id = seen.about.as_ref()?;
        let exists = match seen.outcome {
            Outcome::Done => true,
            Outcome::NotFound => false,
            Outcome::Refused | Outcome::NotNow => return None,
        };
        let public = seen.action == Action::ReadPublic;
        let counts = if exists { public } else { public || seen.asked.is_empty() };
        counts.then(|| self.walks.looked(seen.at, &seen.block, id.as_bytes(), exists)).flatten()
    }

    /// An asker is one trial a minute, however often it asks: one that tries again and again is one.
    fn asker(&mut self, seen: &Seen, refused: bool) -> Vec<Raised> {
        let minute = seen.at.0 / 60;
        let told = if minute > self.askers.minute { self.close_minute(seen.at) } else { Vec::new() };
        let asker = (seen.key, seen.block);
        if self.askers.refused.len() < ASKERS_MAX || self.askers.refused.contains_key(&asker) {
            *self.askers.refused.entry(asker).or_default() |= refused;
        }
        told
    }

    fn close_minute(&mut self, at: UnixSeconds) -> Vec<Raised> {
        self.askers.minute = at.0 / 60;
        let askers = std::mem::take(&mut self.askers.refused);
        let hits = askers.values().filter(|refused| **refused).count() as u64;
        let alarm = self.refused.tried(at, askers.len() as u64, hits);
        alarm.map(|alarm| of_network(alarm, Subject::Network)).into_iter().collect()
    }

    /// Time passes: what falls silent is noticed too. To be called about once a minute.
    pub fn minute(&mut self, at: UnixSeconds) -> Vec<Raised> {
        let mut told = Vec::new();
        if at.0 / 60 > self.askers.minute {
            told.extend(self.close_minute(at));
        }
        for route in self.attempts.keys() {
            let alarms = self.attempts.counted(at, &route, 0);
            told.extend(alarms.into_iter().map(|alarm| of_network(alarm, Subject::Route(route.clone()))));
        }
        told
    }

    /// A proof was judged. `claims` is what its GPU and those like it say of themselves.
    pub fn judged(&mut self, at: UnixSeconds, claims: &str, failed: bool) -> Option<Raised> {
        let alarm = self.proofs.tried(at, &claims.to_owned(), failed)?;
        Some(of_network(alarm, Subject::Claims(claims.to_owned())))
    }

    /// Of `machines` that beat within the last hour, `missing` have not for three minutes. Minutes after a
    /// start of ours are left out.
    pub fn coverage(&mut self, at: UnixSeconds, machines: u64, missing: u64) -> Option<Raised> {
        let started = *self.started.get_or_insert(at);
        if at.since(started) < COVERAGE_AFTER_MINUTES * 60 {
            return None;
        }
        self.beats.tried(at, machines, missing).map(|alarm| of_network(alarm, Subject::Network))
    }
}

fn of_network(alarm: Alarm, subject: Subject) -> Raised {
    Raised { alarm, subject, key: None, account: None, block: None, action: None, resource: None }
}
