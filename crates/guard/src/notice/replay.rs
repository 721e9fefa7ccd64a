//! What a server's detectors were shown, written down, and shown to fresh ones again: how soon they notice a breach
//! that is put into recorded load, and how often they cry over the load alone.
//!
//! Pure: reading files and drawing where the breach goes are others' work.

use std::collections::{BTreeMap, BTreeSet};

use gangline_types::UnixSeconds;
use serde::{Deserialize, Serialize};

use super::{Owned, Raised, Seen, Subject, Watch, watch::by_the_clock};
use crate::detect::{What, distinct::Salt};

/// One thing that detectors were shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// A request was answered, by somebody who has so many GPUs.
    Seen {
        /// The request.
        #[serde(flatten)]
        seen: Box<Seen>,
        /// GPUs of whoever asked.
        owned: Owned,
    },
    /// A proof was judged.
    Judged {
        /// When.
        at: UnixSeconds,
        /// What its GPU says of itself.
        claims: String,
        /// Whether it failed.
        failed: bool,
    },
    /// A minute passed.
    Minute {
        /// When.
        at: UnixSeconds,
    },
    /// Machines were counted.
    Coverage {
        /// When.
        at: UnixSeconds,
        /// Those that beat within the hour.
        machines: u64,
        /// Those of them that have not for minutes.
        missing: u64,
    },
}

impl Shown {
    /// When it was.
    pub fn at(&self) -> UnixSeconds {
        match self {
            Self::Seen { seen, .. } => seen.at,
            Self::Judged { at, .. } | Self::Minute { at } | Self::Coverage { at, .. } => *at,
        }
    }
    /// The same at another time.
    fn moved_to(&self, to: UnixSeconds) -> Self {
        let mut moved = self.clone();
        match &mut moved {
            Self::Seen { seen, .. } => seen.at = to,
            Self::Judged { at, .. } | Self::Minute { at } | Self::Coverage { at, .. } => *at = to,
        }
        moved
    }
    fn show(&self, watch: &mut Watch) -> Vec<Raised> {
        match self {
            Self::Seen { seen, owned } => watch.saw(seen, *owned),
            Self::Judged { at, claims, failed } => watch.judged(*at, claims, *failed).into_iter().collect(),
            Self::Minute { at } => watch.minute(*at),
            Self::Coverage { at, machines, missing } => {
                watch.coverage(*at, *machines, *missing).into_iter().collect()
            }
        }
    }
}

/// An alarm, and how many of the things shown had come by then.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Things shown, this one among them.
    pub shown: usize,
    /// The alarm; those on the same that came before are not told again.
    pub raised: Raised,
}

/// Shows everything to fresh detectors: the first alarm of each kind on each subject.
pub fn replay(shown: &[Shown], salt: Salt) -> Vec<Told> {
    let mut watch = Watch::new(salt);
    let mut known: BTreeSet<(What, Subject)> = BTreeSet::new();
    let mut told = Vec::new();
    for (n, one) in shown.iter().enumerate() {
        for raised in one.show(&mut watch) {
            if known.insert((raised.alarm.what, raised.subject.clone())) {
                told.push(Told { shown: n + 1, raised });
            }
        }
    }
    told
}

/// The load with a breach in it that begins at `from`. Both are in the order of time; the breach keeps its own pace.
pub fn with_breach(load: &[Shown], breach: &[Shown], from: UnixSeconds) -> Vec<Shown> {
    let began = breach.first().map_or(from, Shown::at);
    let moved = breach
        .iter()
        // Time and the fleet are told of by the load.
        .filter(|one| matches!(one, Shown::Seen { .. } | Shown::Judged { .. }))
        .map(|one| one.moved_to(from.plus(one.at().since(began))));
    let mut all: Vec<Shown> = load.iter().cloned().chain(moved).collect();
    all.sort_by_key(Shown::at);
    all
}

/// What a detector did on load in which nothing was wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnLoad {
    /// How often it could have cried, in the unit of its stated rate.
    pub trials: u64,
    /// How often it did.
    pub alarms: u64,
}

/// Every kind of alarm that comes of what is shown here, with its stated rate of false alarms and what that is counted in.
pub const STATED: &[(What, &str, &str)] = &[
    (What::ForeignTouch, "3e-33", "writes"),
    (What::Breadth, "0 while counted one by one", "writes"),
    (What::Surge, "1e-9", "minutes of a route"),
    (What::Refusals, "1e-10", "askers' minutes"),
    (What::Enumeration, "limits: 20 wrong or 600 ids an hour", "look-ups"),
    (What::EnrolmentFlood, "1e-9", "minutes of a block"),
    (What::ProofFailures, "1e-10", "verdicts"),
    (What::Coverage, "1e-10", "minutes"),
];

/// Counts what each detector was shown of the load, and how often it cried.
pub fn on_load(load: &[Shown], salt: Salt) -> BTreeMap<What, OnLoad> {
    let mut counted: BTreeMap<What, OnLoad> =
        STATED.iter().map(|(what, ..)| (*what, OnLoad::default())).collect();
    let (mut routes, mut blocks, mut askers) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut more = |what: What, trials: u64| counted.entry(what).or_default().trials += trials;
    for one in load {
        let minute = one.at().0 / 60;
        match one {
            Shown::Seen { seen, .. } => {
                let asked = seen.asked.len() as u64;
                more(What::ForeignTouch, asked);
                more(What::Breadth, asked);
                more(What::Enumeration, u64::from(seen.about.is_some()));
                more(
                    What::Surge,
                    u64::from(
                        seen.writes
                            && !by_the_clock(seen.action)
                            && routes.insert((seen.route.to_string(), minute)),
                    ),
                );
                more(What::EnrolmentFlood, u64::from(blocks.insert((seen.block, minute))));
                more(
                    What::Refusals,
                    u64::from(seen.by_somebody && askers.insert((seen.key, seen.block, minute))),
                );
            }
            Shown::Judged { .. } => more(What::ProofFailures, 1),
            Shown::Coverage { .. } => more(What::Coverage, 1),
            Shown::Minute { .. } => {}
        }
    }
    for told in replay(load, salt) {
        counted.entry(told.raised.alarm.what).or_default().alarms += 1;
    }
    counted
}
