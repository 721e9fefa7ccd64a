//! How many of a kind in a while: writes on one route, enrolments from one block of addresses.
//!
//! What is usual is learnt: a running mean for each hour of the day, over about two days of it. Page's
//! test ([`super::cusum`]) tells when counts speak for `times` as many: in the middle of a bucket already,
//! because a part of a bucket can only say less than all of it. Below `(times - 1) / ln(times)` times the
//! usual (2.16 for four) the sum falls, so that such a rise is never told however long it lasts.
//!
//! **False alarms.** At most one in `buckets_per_false_alarm` buckets: with 10^9 minutes and 60 routes, one
//! in 32 years. That holds for counts with the learnt mean and dispersion. Were the mean learnt a fifth
//! too low, the exponent would shrink by the root of 1.2 (4^r - 1) = 3 r, r = 0.79, and leave 10^7.1
//! minutes: so the mean is taken two standard errors high.
//!
//! **Teaching it wrong.** A bucket teaches at most one and a half times the usual, so whoever keeps just
//! below the line raises an hour's mean by at most `(1 + 0.5/120)^60`, 28 % a day.
//!
//! Sums over five buckets go to [`super::surprise`] as well, which sees what is no surge: routes that fall
//! silent, strange rhythms. Its findings are notices: see there.

use gangline_types::UnixSeconds;

use super::{
    alarm::{Alarm, Fold, What},
    bounded::Bounded,
    cusum::{Cusum, poisson_step},
    surprise::{LINE_DECADES, Pace, Surprise},
};

const HOURS: usize = 24;
const SLOT_WEIGHT: f64 = 1.0 / 120.0;
const SLOT_BUCKETS_MIN: u32 = 60;
const ALL_WEIGHT: f64 = 1.0 / 2_880.0;
const DISPERSION_WEIGHT: f64 = 1.0 / 1_440.0;
const LESSON_MAX: f64 = 1.5;
const SHAPE_BUCKETS: u64 = 5;
/// Buckets without an event that are gone through one by one; a longer silence is cut to this.
const GAP_BUCKETS_MAX: u64 = 1_440;

/// What counts as too many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateRule {
    /// What an alarm is called.
    pub what: What,
    /// How long a bucket is.
    pub bucket_seconds: u64,
    /// So many times the usual is what is looked for.
    pub times: f64,
    /// At most one false alarm in so many buckets.
    pub buckets_per_false_alarm: f64,
    /// The least that is taken for usual, in events a bucket.
    pub usual_min: f64,
    /// What is taken for usual until `learning_buckets` have passed, if it is more than what was seen.
    pub usual_at_first: f64,
    /// So many buckets teach without limit and before trust.
    pub learning_buckets: u64,
    /// A repeat within this time is folded.
    pub quiet_seconds: u64,
    /// Whether the shape of the series is watched too, at about 250 KiB of state.
    pub shape: bool,
}

impl RateRule {
    /// Writes on a route, by the minute. On the first day five a second are taken for usual, for the mean of a
    /// night says nothing of the morning.
    pub const WRITES: Self = Self {
        what: What::Surge,
        bucket_seconds: 60,
        times: 4.0,
        buckets_per_false_alarm: 1e9,
        usual_min: 1.0,
        usual_at_first: 300.0,
        learning_buckets: 1_440,
        quiet_seconds: 600,
        shape: true,
    };
    /// Enrolments from a block of addresses, by the minute: one each five minutes is usual anywhere, so that
    /// 16 at once are told of (16 ln 4 - 0.2 x 3 = 21.6 > 20.7).
    pub const ENROLMENTS: Self = Self {
        what: What::EnrolmentFlood,
        usual_min: 0.2,
        usual_at_first: 0.2,
        learning_buckets: 0,
        quiet_seconds: 3_600,
        shape: false,
        ..Self::WRITES
    };
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    mean: f64,
    buckets: u32,
}

impl Slot {
    fn learn(&mut self, count: f64, weight_min: f64) {
        self.buckets = self.buckets.saturating_add(1);
        self.mean += (count - self.mean) * (1.0 / f64::from(self.buckets)).max(weight_min);
    }
}

/// A detector for one kind of event.
#[derive(Clone, Debug)]
pub struct Rate {
    rule: RateRule,
    bucket: Option<u64>,
    count: u64,
    closed: u64,
    slots: [Slot; HOURS],
    all: Slot,
    dispersion: f64,
    cusum: Cusum,
    fold: Fold,
    shape: Option<Box<Surprise>>,
    shape_count: u64,
}

impl Rate {
    /// That has seen nothing.
    pub fn new(rule: RateRule) -> Self {
        Self {
            rule,
            bucket: None,
            count: 0,
            closed: 0,
            slots: [Slot::default(); HOURS],
            all: Slot::default(),
            dispersion: 1.0,
            cusum: Cusum::new(rule.buckets_per_false_alarm),
            fold: Fold::default(),
            shape: rule.shape.then(|| Box::new(Surprise::new(Pace::default()))),
            shape_count: 0,
        }
    }

    /// So many more events at `at`; none to let time pass. Events of a bucket that is over count into the
    /// newest. At most one alarm of each of two kinds.
    pub fn counted(&mut self, at: UnixSeconds, events: u64) -> Vec<Alarm> {
        let mut told = Vec::new();
        let now = at.0 / self.rule.bucket_seconds.max(1);
        let mut bucket = *self.bucket.get_or_insert(now);
        if now - bucket.min(now) > GAP_BUCKETS_MAX {
            told.extend(self.close(bucket));
            bucket = now - GAP_BUCKETS_MAX;
        }
        while bucket < now {
            told.extend(self.close(bucket));
            bucket += 1;
        }
        self.bucket = Some(bucket);
        self.count = self.count.saturating_add(events);
        let usual = self.usual(bucket);
        let (seen, step) = (self.count as f64, self.step(usual));
        if self.cusum.would(step) && self.fold.tells(at, seen, self.rule.quiet_seconds) {
            told.push(Alarm { what: self.rule.what, at, seen, usual });
        }
        told
    }

    /// What is taken for usual at `at`, in events a bucket.
    pub fn usual_at(&self, at: UnixSeconds) -> f64 {
        self.usual(at.0 / self.rule.bucket_seconds.max(1))
    }

    fn slot(&self, bucket: u64) -> usize {
        (bucket.saturating_mul(self.rule.bucket_seconds) / 3_600) as usize % HOURS
    }

    fn usual(&self, bucket: u64) -> f64 {
        let slot = self.slots[self.slot(bucket)];
        let (mean, weight) = if slot.buckets >= SLOT_BUCKETS_MIN {
            (slot.mean, SLOT_WEIGHT.max(1.0 / f64::from(slot.buckets)))
        } else {
            (self.all.mean, ALL_WEIGHT.max(1.0 / f64::from(self.all.buckets.max(1))))
        };
        // A running mean of weight w has the variance of one value times w / (2 - w), about w / 2.
        let error = (mean * self.dispersion * weight / 2.0).sqrt();
        let at_first = if self.closed < self.rule.learning_buckets { self.rule.usual_at_first } else { 0.0 };
        (mean + 2.0 * error).max(self.rule.usual_min).max(at_first)
    }

    fn step(&self, usual: f64) -> f64 {
        poisson_step(self.count as f64, usual, self.rule.times, self.dispersion)
    }

    fn close(&mut self, bucket: u64) -> Option<Alarm> {
        let usual = self.usual(bucket);
        self.cusum.add(self.step(usual));
        let learning = self.closed < self.rule.learning_buckets;
        let count = self.count as f64;
        let lesson = if learning { count } else { count.min(LESSON_MAX * usual) };
        let slot = self.slot(bucket);
        let mean =
            if self.slots[slot].buckets >= SLOT_BUCKETS_MIN { self.slots[slot].mean } else { self.all.mean };
        if mean > 0.0 && self.all.buckets > 60 {
            let weight = DISPERSION_WEIGHT.max(1.0 / f64::from(self.all.buckets));
            let spread =
                ((lesson - mean).powi(2) / mean.max(self.rule.usual_min)).min(10.0 * self.dispersion);
            self.dispersion = (self.dispersion + (spread - self.dispersion) * weight).max(1.0);
        }
        self.slots[slot].learn(lesson, SLOT_WEIGHT);
        self.all.learn(lesson, ALL_WEIGHT);
        self.closed += 1;
        self.shape_count = self.shape_count.saturating_add(std::mem::take(&mut self.count));
        if !(bucket + 1).is_multiple_of(SHAPE_BUCKETS) {
            return None;
        }
        let sum = std::mem::take(&mut self.shape_count) as f64;
        let at = UnixSeconds((bucket + 1).saturating_mul(self.rule.bucket_seconds));
        let decades = self.shape.as_mut()?.observe(at, sum).decades;
        let alarm = Alarm { what: What::Unusual, at, seen: decades, usual: LINE_DECADES };
        (decades >= LINE_DECADES).then_some(alarm)
    }
}

/// A [`Rate`] for each of many keys.
#[derive(Clone, Debug)]
pub struct Rates<K> {
    rule: RateRule,
    by_key: Bounded<K, Rate>,
}

impl<K: Ord + Clone> Rates<K> {
    /// For at most `keys_max` keys at a time.
    pub fn new(rule: RateRule, keys_max: usize) -> Self {
        Self { rule, by_key: Bounded::new(keys_max) }
    }
    /// The keys that are held, in order.
    pub fn keys(&self) -> Vec<K> {
        self.by_key.keys().cloned().collect()
    }
    /// So many more events for `key`.
    pub fn counted(&mut self, at: UnixSeconds, key: &K, events: u64) -> Vec<Alarm> {
        let rule = self.rule;
        self.by_key.feed(key, || Rate::new(rule)).counted(at, events)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::dice::Dice;

    const WRITES: RateRule = RateRule { shape: false, ..RateRule::WRITES };

    /// Writes a minute over a day: 20 at night, 180 at noon.
    fn usual(minute: u64) -> f64 {
        100.0 - 80.0 * (minute as f64 * std::f64::consts::TAU / 1_440.0).cos()
    }

    /// Feeds days of usual writes in clumps; the alarms on the way.
    fn days(rate: &mut Rate, dice: &mut Dice, minutes: std::ops::Range<u64>, clump: u64) -> usize {
        minutes
            .map(|minute| {
                let events = dice.poisson(usual(minute) / clump as f64) * clump;
                rate.counted(UnixSeconds(minute * 60), events).len()
            })
            .sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(6))]
        #[test]
        fn weeks_of_days_and_nights_raise_no_alarm(seed: u64, clump in 1u64..6) {
            let mut rate = Rate::new(WRITES);
            prop_assert_eq!(days(&mut rate, &mut Dice::new(seed), 0..20 * 1_440, clump), 0);
        }

        #[test]
        fn a_surge_is_told_within_seconds_at_any_hour(seed: u64, minute in 0u64..1_440) {
            let (mut rate, mut dice) = (Rate::new(WRITES), Dice::new(seed));
            let start = 5 * 1_440 + minute;
            days(&mut rate, &mut dice, 0..start, 1);
            // Two hundred forged writes a second.
            let told = (0..60).find(|second| !rate.counted(UnixSeconds(start * 60 + second), 200).is_empty());
            prop_assert!(told.is_some_and(|second| second < 5), "{:?}", told);
        }
    }

    #[test]
    fn a_slow_rise_is_told_in_minutes_and_a_doubling_never() {
        for (times, expected) in [(2, None), (3, Some(0..30))] {
            let (mut rate, mut dice) = (Rate::new(WRITES), Dice::new(5));
            days(&mut rate, &mut dice, 0..5 * 1_440 + 180, 1);
            let told = (0..45).find(|minute| {
                let minute = 5 * 1_440 + 180 + minute;
                let events = dice.poisson(usual(minute) * f64::from(times));
                !rate.counted(UnixSeconds(minute * 60), events).is_empty()
            });
            match expected {
                None => assert_eq!(told, None, "{times} times"),
                Some(within) => assert!(told.is_some_and(|told| within.contains(&told)), "{times}: {told:?}"),
            }
        }
    }

    #[test]
    fn a_flood_of_enrolments_is_told_at_the_sixteenth() {
        let mut floods = Rates::new(RateRule::ENROLMENTS, 100);
        let told = (1u64..).find(|_| !floods.counted(UnixSeconds(90_000), &"block", 1).is_empty());
        assert_eq!(told, Some(16));
        assert!((0..500).all(|i| floods.counted(UnixSeconds(90_000 + i * 300), &"home", 1).is_empty()));
    }

    #[test]
    fn a_long_silence_is_cut_short_and_a_step_back_is_no_silence() {
        let mut rate = Rate::new(WRITES);
        rate.counted(UnixSeconds(60), 5);
        rate.counted(UnixSeconds(u64::MAX), 5);
        assert_eq!(rate.closed, GAP_BUCKETS_MAX + 1);
        rate.counted(UnixSeconds(0), 5);
        assert_eq!((rate.closed, rate.count), (GAP_BUCKETS_MAX + 1, 10));
    }

    #[test]
    fn a_route_that_falls_silent_is_noticed_by_its_shape() {
        let (mut rate, mut dice) = (Rate::new(RateRule::WRITES), Dice::new(3));
        let noon = 6 * 1_440 + 720;
        days(&mut rate, &mut dice, 0..noon, 1);
        let told = (0..300).flat_map(|minute| rate.counted(UnixSeconds((noon + minute) * 60), 0));
        let told: Vec<Alarm> = told.collect();
        assert!(told.iter().any(|alarm| alarm.what == What::Unusual), "{told:?}");
    }
}
