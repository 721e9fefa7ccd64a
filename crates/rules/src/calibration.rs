//! Calibration: how long an epoch's work takes on one profile, through one backend, with one build, learned
//! from the network itself, so that honest GPUs set the pace and no minority can move it.
//!
//! A table does nothing by itself: as a *canary* it is only watched, and fails nobody until the operator
//! promotes it. Knows times and accounts as opaque values; no clock, no proofs and no storage.

use std::collections::BTreeMap;

use gangline_types::{Backend, GpuClaim, Hash, Text};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    classify::{TOLERANCE, words},
    floors,
    reference::{self, Spec},
    robust::{Permille, median, ratio, times},
};

/// Accounts behind a median, at least: below that, one owner could be most of them.
pub const ACCOUNTS_MIN: usize = 5;
/// Entries of a table at most.
pub const ENTRIES_MAX: usize = 10_000;
/// Milliseconds beside the work that nobody is failed for: the way there and back, and waiting in line. At most
/// this, and at most a quarter of the median, which holds a usual way already: two identities on one device
/// need twice the median and must not hide in what is allowed.
pub const ROUND_TRIP_MILLIS: u64 = 500;
/// Proofs a canary must have watched before it may count.
pub const CANARY_JUDGED_MIN: u64 = 60;
/// The most of them that it would have failed: 2 in 100, the goal for honest GPUs.
pub const CANARY_FAILED_MAX: Permille = 20;
/// The most that a median may move from the table it replaces, either way, in one promotion.
pub const DRIFT_MAX: Permille = 1_150;

/// What one median is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The claimed model.
    pub model: Text<128>,
    /// The graphics interface.
    pub backend: Backend,
    /// The driver and its version.
    pub build: Text<128>,
    /// The work: a hash of its parameters.
    pub work: Hash,
}

impl Key {
    /// The key of a claim for this work.
    pub fn of(claim: &GpuClaim, work: Hash) -> Self {
        Self { model: claim.model.clone(), backend: claim.backend, build: claim.driver.clone(), work }
    }
}

/// One median.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is of.
    pub key: Key,
    /// Accounts that it was learned from.
    pub accounts: u32,
    /// Milliseconds from the bell to the last root.
    pub median_millis: u64,
}

impl Entry {
    /// The slowest time that holds, in milliseconds: 1.15 times the median, and the round trip.
    pub fn deadline_millis(&self) -> u64 {
        times(self.median_millis, TOLERANCE).saturating_add(ROUND_TRIP_MILLIS.min(self.median_millis / 4))
    }
}

/// The median, in milliseconds, that a deadline was made of ([`Entry::deadline_millis`]), or at most two less.
pub fn median_of_deadline(deadline_millis: u64) -> u64 {
    let permille_below = TOLERANCE + 250;
    // Up to four round trips, a quarter of the median was added; beyond, the round trip.
    if deadline_millis <= times(4 * ROUND_TRIP_MILLIS, permille_below) {
        return ratio(deadline_millis, permille_below);
    }
    ratio(deadline_millis.saturating_sub(ROUND_TRIP_MILLIS), TOLERANCE)
}

/// A version of all medians.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Which version.
    pub version: u32,
    /// In rising order of keys, each once.
    #[schemars(length(max = 10000))]
    pub entries: Vec<Entry>,
}

/// Where a table stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Watched: it fails nobody.
    Canary,
    /// It sets deadlines.
    Promoted,
    /// It counts no more.
    Withdrawn,
}

impl State {
    /// The word used everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Promoted => "promoted",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// Why a table is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// Too many entries.
    #[error("a table has at most {ENTRIES_MAX} entries, and this one has {0}")]
    TooMany(usize),
    /// An entry is not after the one before it.
    #[error("entry {0} is not in rising order of model, backend, build and work, or is there twice")]
    Order(usize),
    /// An entry rests on too few accounts.
    #[error("entry {at} rests on {accounts} accounts; {ACCOUNTS_MIN} are needed")]
    Accounts {
        /// Which, from 0.
        at: usize,
        /// Its accounts.
        accounts: u32,
    },
    /// An entry has no time.
    #[error("entry {0} has a median of 0 ms")]
    NoTime(usize),
}

impl Table {
    /// The table itself if it is sound.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn check(self) -> Result<Self, Unsound> {
        if self.entries.len() > ENTRIES_MAX {
            return Err(Unsound::TooMany(self.entries.len()));
        }
        for (at, entry) in self.entries.iter().enumerate() {
            if at > 0 && self.entries[at - 1].key >= entry.key {
                return Err(Unsound::Order(at));
            }
            if (entry.accounts as usize) < ACCOUNTS_MIN {
                return Err(Unsound::Accounts { at, accounts: entry.accounts });
            }
            if entry.median_millis == 0 {
                return Err(Unsound::NoTime(at));
            }
        }
        Ok(self)
    }

    /// What an operator signs: a hash of every field.
    pub fn digest(&self) -> Hash {
        let mut h = blake3::Hasher::new_derive_key("gangline 2026 calibration table");
        h.update(&self.version.to_le_bytes()).update(&(self.entries.len() as u64).to_le_bytes());
        for Entry { key, accounts, median_millis } in &self.entries {
            for text in [key.model.as_str(), key.build.as_str()] {
                h.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
            }
            h.update(&[key.backend as u8]).update(&key.work.0);
            h.update(&accounts.to_le_bytes()).update(&median_millis.to_le_bytes());
        }
        Hash(*h.finalize().as_bytes())
    }

    /// The median of this key.
    pub fn find(&self, key: &Key) -> Option<&Entry> {
        self.entries.binary_search_by(|entry| entry.key.cmp(key)).ok().map(|at| &self.entries[at])
    }
}

/// One accepted proof, seen by whoever learns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Whose GPU it was, as an opaque value that is the same for one account.
    pub account: Hash,
    /// Of what.
    pub key: Key,
    /// Milliseconds from the bell to the last root.
    pub elapsed_millis: u64,
}

/// What physics allows of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Faster than this no device of the model can be.
    pub least_millis: u64,
    /// Slower than this it is not one.
    pub most_millis: u64,
}

/// Learns a table. Every account has one voice for a key, however many GPUs it has and however often they
/// prove: the median of its times. The entry is the median of the voices, kept within what physics allows,
/// so that even a majority that lies moves it no further than that. Keys with too few accounts get none.
pub fn learn(version: u32, observations: &[Observation], bounds: impl Fn(&Key) -> Bounds) -> Table {
    let mut voices: BTreeMap<&Key, BTreeMap<Hash, Vec<u64>>> = BTreeMap::new();
    for one in observations {
        voices.entry(&one.key).or_default().entry(one.account).or_default().push(one.elapsed_millis);
    }
    let entries = voices.into_iter().filter(|(_, accounts)| accounts.len() >= ACCOUNTS_MIN).filter_map(
        |(key, accounts)| {
            let voices: Vec<u64> = accounts.values().filter_map(|times| median(times)).collect();
            let Bounds { least_millis, most_millis } = bounds(key);
            let median_millis = median(&voices)?.min(most_millis).max(least_millis).max(1);
            Some(Entry { key: key.clone(), accounts: accounts.len() as u32, median_millis })
        },
    );
    Table { version, entries: entries.take(ENTRIES_MAX).collect() }
}

/// How much work an epoch is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Blocks of 64 bytes that are filled.
    pub blocks: u64,
    /// Double rounds of each.
    pub rounds: u64,
    /// Blocks that are read at random.
    pub reads: u64,
    /// Steps of the ALU chain.
    pub alu_steps: u64,
}

impl Amounts {
    /// 32-bit operations: 96 a double round; 32 a step of the ALU chain (four words, eight each).
    fn operations(&self) -> u128 {
        u128::from(self.blocks) * u128::from(self.rounds) * 96 + u128::from(self.alu_steps) * 32
    }
}

/// What makers' figures and floors allow a claimed model for this work.
///
/// *Least*: all operations at half the published fp32 rate (which counts a multiply-add as two) and all reads
/// at the published bandwidth, each 1.35 times as fast as published, one after the other, as the chain of
/// parts demands. *Most*: eight times slower than the model's measured integer rate (see [`floors`]), reads at
/// 1 GB/s, and the overhead that is nobody's GPU. Unknown models have no least; those without a floor no most.
pub fn bounds(claim: &GpuClaim, amounts: &Amounts) -> Bounds {
    let named = words(claim.model.as_str());
    let specs = reference::specs();
    let fastest = |figure: fn(&Spec) -> u64| {
        specs.iter().filter(|spec| words(&spec.name) == named).map(figure).max().filter(|most| *most > 0)
    };
    let bytes = u128::from(amounts.reads) * 64;
    let least = match (fastest(|spec| spec.fp32_mflops), fastest(|spec| spec.bandwidth_mbps)) {
        // A million a second is a thousand a millisecond.
        (Some(fp32), Some(bandwidth)) => {
            amounts.operations() * 1000 / (u128::from(fp32) / 2 * 1350).max(1) / 1000
                + bytes * 1000 / (u128::from(bandwidth) * 1350) / 1000
        }
        _ => 0,
    };
    let floor = u128::from(floors::floor(claim).rate_mmacs);
    let most = match floor {
        0 => u128::from(u64::MAX),
        // The floor is the integer rate / 64, in millions of multiply-adds; an eighth of the rate is 8 x that.
        floor => {
            amounts.operations() / (floor * 8 * 1000)
                + bytes / 1_000_000
                + u128::from(floors::OVERHEAD_MILLIS)
        }
    };
    let millis = |value: u128| value.min(u128::from(u64::MAX)) as u64;
    Bounds { least_millis: millis(least), most_millis: millis(most.max(least)) }
}

/// What a canary has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Watched {
    /// Accepted proofs that it had a median for.
    pub judged: u64,
    /// How many of them it would have failed.
    pub failed: u64,
}

/// Why a canary may not be promoted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    /// It is no canary.
    #[error("it is {}, and only a canary can be promoted", .0.as_str())]
    NoCanary(State),
    /// It has seen too little.
    #[error("it has watched {0} proofs; {CANARY_JUDGED_MIN} are needed before it may fail anybody")]
    Unseen(u64),
    /// It would fail honest GPUs.
    #[error("it would have failed {failed} of {judged} accepted proofs, more than 2 in 100")]
    Unfair {
        /// Would have failed.
        failed: u64,
        /// Of so many.
        judged: u64,
    },
    /// A median moved too far.
    #[error(
        "the median of {model:?} moved from {from_millis} to {to_millis} ms, more than 1.15 times; promote in smaller steps"
    )]
    Drift {
        /// Whose.
        model: String,
        /// In the table that counts now.
        from_millis: u64,
        /// In the canary.
        to_millis: u64,
    },
}

/// Whether a canary may take the place of `current`.
///
/// # Errors
/// What speaks against it.
pub fn may_promote(
    state: State,
    canary: &Table,
    watched: Watched,
    current: Option<&Table>,
) -> Result<(), NotYet> {
    if state != State::Canary {
        return Err(NotYet::NoCanary(state));
    }
    if watched.judged < CANARY_JUDGED_MIN {
        return Err(NotYet::Unseen(watched.judged));
    }
    if ratio(watched.failed, watched.judged) > CANARY_FAILED_MAX {
        return Err(NotYet::Unfair { failed: watched.failed, judged: watched.judged });
    }
    for entry in &canary.entries {
        let Some(before) = current.and_then(|current| current.find(&entry.key)) else { continue };
        let (from_millis, to_millis) = (before.median_millis, entry.median_millis);
        if ratio(from_millis, to_millis).max(ratio(to_millis, from_millis)) > DRIFT_MAX {
            return Err(NotYet::Drift { model: entry.key.model.to_string(), from_millis, to_millis });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use gangline_types::AdapterKind;
    use proptest::prelude::*;

    use super::*;

    fn key(model: &str) -> Key {
        Key {
            model: Text::new(model).unwrap(),
            backend: Backend::Vulkan,
            build: Text::new("550.54").unwrap(),
            work: Hash([1; 32]),
        }
    }
    fn observed(account: u8, elapsed_millis: u64) -> Observation {
        Observation { account: Hash([account; 32]), key: key("card"), elapsed_millis }
    }
    const ANY: Bounds = Bounds { least_millis: 0, most_millis: u64::MAX };

    #[test]
    fn one_account_has_one_voice_however_many_gpus_it_has() {
        // Four honest accounts with one proof each, one account with a thousand slow ones.
        let mut all: Vec<Observation> = (1..=4).map(|account| observed(account, 1000)).collect();
        all.extend((0..1000).map(|_| observed(9, 60_000)));
        let table = learn(1, &all, |_| ANY);
        assert_eq!((table.entries[0].median_millis, table.entries[0].accounts), (1000, 5));
        assert_eq!(table.find(&key("card")).unwrap().deadline_millis(), 1400);
        let entry = |median_millis| Entry { median_millis, ..table.entries[0].clone() };
        assert_eq!(entry(4000).deadline_millis(), 5100);
        for median_millis in [100, 600, 1000, 60_000] {
            assert!(entry(median_millis).deadline_millis() < 2 * median_millis, "sharing would hide");
        }
        assert!(learn(1, &all[..4], |_| ANY).entries.is_empty(), "four accounts are too few");
    }

    #[test]
    fn a_colluding_majority_moves_a_median_no_further_than_physics_allows() {
        // Three honest accounts, seven that wait before they answer so that slower devices pass as theirs.
        let all: Vec<Observation> =
            (1..=10).map(|account| observed(account, if account <= 3 { 1000 } else { 55_000 })).collect();
        let bounds = |_: &Key| Bounds { least_millis: 700, most_millis: 1_400 };
        assert_eq!(learn(1, &all, bounds).entries[0].median_millis, 1_400);
        // And seven that claim to be impossibly fast, so that honest ones fail.
        let all: Vec<Observation> =
            (1..=10).map(|account| observed(account, if account <= 3 { 1000 } else { 1 })).collect();
        assert_eq!(learn(1, &all, bounds).entries[0].median_millis, 700);
    }

    #[test]
    fn physics_bounds_a_real_model_and_never_excludes_what_is_published() {
        let claim = |model: &str, kind| GpuClaim {
            slot: Hash::default(),
            model: Text::new(model).unwrap(),
            kind,
            backend: Backend::Vulkan,
            driver: Text::default(),
            pci_vendor: 0,
            pci_device: 0,
            memory_bytes: 24 << 30,
        };
        // 21.6 GB filled with 160 double rounds, read four times, 1.4e11 steps.
        let amounts =
            Amounts { blocks: 362_387_808, rounds: 160, reads: 1_449_551_232, alu_steps: 137_438_953_472 };
        let found = bounds(&claim("NVIDIA GeForce RTX 4090", AdapterKind::Discrete), &amounts);
        // 9.97e12 operations at 55.7e12 a second and 92.8 GB at 1,363 GB/s: 179 + 68 ms.
        assert!((240..=255).contains(&found.least_millis), "{found:?}");
        // The same at 1.9e12 operations a second, 92.8 s of reads at 1 GB/s.
        assert!((90_000..=110_000).contains(&found.most_millis), "{found:?}");
        let software = bounds(&claim("llvmpipe", AdapterKind::Software), &amounts);
        assert_eq!(software, Bounds { least_millis: 0, most_millis: u64::MAX });
    }

    #[test]
    fn a_canary_counts_only_after_it_was_seen_to_be_fair() {
        let table = |median_millis| Table {
            version: 2,
            entries: vec![Entry { key: key("card"), accounts: 5, median_millis }],
        };
        let check = |state, judged, failed, median, words: &str| {
            let found = may_promote(state, &table(median), Watched { judged, failed }, Some(&table(1000)));
            match found {
                Ok(()) => assert_eq!(words, ""),
                Err(why) => assert!(!words.is_empty() && why.to_string().contains(words), "{why}"),
            }
        };
        check(State::Canary, 100, 2, 1000, "");
        check(State::Canary, 100, 3, 1000, "would have failed 3 of 100");
        check(State::Canary, 59, 0, 1000, "has watched 59");
        check(State::Canary, 100, 0, 1151, "moved from 1000 to 1151");
        check(State::Canary, 100, 0, 868, "moved from 1000 to 868");
        check(State::Withdrawn, 100, 0, 1000, "only a canary");
    }

    #[test]
    fn an_unsound_table_is_refused_and_every_field_is_signed() {
        let entry = |model: &str, accounts, median_millis| Entry { key: key(model), accounts, median_millis };
        let table = |entries: Vec<Entry>| Table { version: 1, entries };
        let check = |entries, expected| assert_eq!(table(entries).check().err(), Some(expected));
        check(vec![entry("b", 5, 1), entry("a", 5, 1)], Unsound::Order(1));
        check(vec![entry("a", 5, 1), entry("a", 5, 1)], Unsound::Order(1));
        check(vec![entry("a", 4, 1)], Unsound::Accounts { at: 0, accounts: 4 });
        check(vec![entry("a", 5, 0)], Unsound::NoTime(0));
        let good = table(vec![entry("a", 5, 1), entry("b", 5, 1)]);
        assert!(good.clone().check().is_ok());
        let mut others = vec![good.clone(); 4];
        others[0].version = 2;
        others[1].entries[1].median_millis = 2;
        others[2].entries[0].key.work = Hash([9; 32]);
        others[3].entries.pop();
        assert!(others.iter().all(|other| other.digest() != good.digest()));
    }

    proptest! {
        #[test]
        fn a_median_is_found_again_in_its_deadline(median_millis in 1..100_000_000u64) {
            let deadline = Entry { key: key("card"), accounts: 5, median_millis }.deadline_millis();
            let found = median_of_deadline(deadline);
            prop_assert!(found <= median_millis && found + 2 >= median_millis, "{found} of {median_millis}");
        }

        /// Fewer than half of the accounts, whatever they say, leave the median between two honest ones.
        #[test]
        fn a_minority_of_accounts_cannot_move_a_deadline_beyond_the_honest(
            honest in prop::collection::vec(500..2_000u64, 5..20),
            lies in prop::collection::vec(prop::collection::vec(any::<u64>(), 1..20), 0..19),
        ) {
            let lies = &lies[..lies.len().min(honest.len() - 1)];
            let mut all: Vec<Observation> =
                honest.iter().enumerate().map(|(i, millis)| observed(i as u8, *millis)).collect();
            for (i, times) in lies.iter().enumerate() {
                all.extend(times.iter().map(|millis| observed(100 + i as u8, *millis)));
            }
            let found = learn(1, &all, |_| ANY).entries[0].median_millis;
            prop_assert!(found >= *honest.iter().min().unwrap() && found <= *honest.iter().max().unwrap());
        }
    }
}
