//! Which part of the trials: refused requests, failed proofs of GPUs that claim the same, machines that do
//! not beat.
//!
//! What is usual is learnt as a running share, at most twice the usual a lesson; Page's test
//! ([`super::cusum`]) on each batch of trials tells when it speaks for `times` that share.
//!
//! **False alarms.** At most one in 10^10 batches on average. At 100 requests a second, one by one, that is
//! one in three years. Trials that go together (a rack loses power, one client tries again and again) are
//! not independent; batches that vary more than they should teach a dispersion that divides every step,
//! and requests are best fed once for each key and minute.
//!
//! | watched | usual at first, and at least | looked for | told after, at the least |
//! |---|---|---|---|
//! | refusals | 10 %, 0.5 % | 10 times, at most 90 % | 11 in a row (23.0 / ln 9), later 10 or 11 (23.0 / ln 10) |
//! | failed proofs of a cluster | 0.1 %, of the whole fleet | half | 4 in a row (23.0 / ln 500 = 3.7) |
//! | missing beats | 1 % | 3 times | of 1,000 machines, 41 missing: 41 ln 3 - 959 ln(0.99 / 0.97) = 25.5 |
//!
//! **A small or a new network.** One in a hundred askers makes a mistake in a large one; where eight people try things
//! out, one in three does. So a tenth is taken for usual until some ten thousand asker's minutes have taught better,
//! and up to half of them may err without a word: with 10 % and 90 % an asker that was refused and one that was not
//! weigh the same.

use gangline_types::UnixSeconds;

use super::{
    alarm::{Alarm, Fold, What},
    bounded::Bounded,
    cusum::{Cusum, binomial_step},
};

const LESSON_MAX: f64 = 2.0;
const DISPERSION_WEIGHT: f64 = 1.0 / 500.0;
const SPREAD_MAX: f64 = 25.0;

/// What counts as too great a share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShareRule {
    /// What an alarm is called.
    pub what: What,
    /// The least that is taken for usual.
    pub usual_min: f64,
    /// What is taken for usual at first.
    pub usual_at_first: f64,
    /// So many times the usual is what is looked for.
    pub times: f64,
    /// But no more than this.
    pub risen_max: f64,
    /// At most one false alarm in so many batches.
    pub batches_per_false_alarm: f64,
    /// How much a trial teaches.
    pub lesson: f64,
    /// A repeat within this time is folded.
    pub quiet_seconds: u64,
}

impl ShareRule {
    /// Requests that are refused.
    pub const REFUSALS: Self = Self {
        what: What::Refusals,
        usual_min: 0.005,
        usual_at_first: 0.1,
        times: 10.0,
        risen_max: 0.9,
        batches_per_false_alarm: 1e10,
        lesson: 1e-4,
        quiet_seconds: 600,
    };
    /// Proofs that fail, within a cluster of claims against the fleet.
    pub const PROOF_FAILURES: Self = Self {
        what: What::ProofFailures,
        usual_min: 0.001,
        usual_at_first: 0.001,
        times: 500.0,
        risen_max: 0.5,
        quiet_seconds: 3_600,
        ..Self::REFUSALS
    };
    /// Machines of the fleet that do not beat in a minute.
    pub const MISSING_BEATS: Self = Self {
        what: What::Coverage,
        usual_min: 0.01,
        usual_at_first: 0.01,
        times: 3.0,
        lesson: 1e-6,
        ..Self::REFUSALS
    };
}

/// What is usual, learnt.
#[derive(Clone, Copy, Debug)]
struct Usual {
    share: f64,
    dispersion: f64,
}

impl Usual {
    fn step(&self, rule: &ShareRule, hits: f64, trials: f64) -> f64 {
        let risen = (self.share * rule.times).min(rule.risen_max).max(self.share);
        binomial_step(hits, trials, self.share, risen, self.dispersion)
    }
    fn learn(&mut self, rule: &ShareRule, hits: f64, trials: f64) {
        // One trial cannot vary more than one trial does.
        if trials > 1.0 {
            let variance = trials * self.share * (1.0 - self.share);
            let limit = SPREAD_MAX * self.dispersion;
            let spread = ((hits - trials * self.share).powi(2) / variance).min(limit);
            self.dispersion = (self.dispersion + (spread - self.dispersion) * DISPERSION_WEIGHT).max(1.0);
        }
        let lesson = (hits / trials).min(LESSON_MAX * self.share.max(1.0 / trials));
        self.share += (lesson - self.share) * (rule.lesson * trials).min(0.1);
        self.share = self.share.clamp(rule.usual_min, rule.risen_max);
    }
}

/// A detector for one share.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    rule: ShareRule,
    usual: Usual,
    cusum: Cusum,
    fold: Fold,
}

impl Share {
    /// That has seen nothing.
    pub fn new(rule: ShareRule) -> Self {
        let usual = Usual { share: rule.usual_at_first, dispersion: 1.0 };
        Self { rule, usual, cusum: Cusum::new(rule.batches_per_false_alarm), fold: Fold::default() }
    }

    /// Of so many trials, so many hits: of 1 request, 1 refused; of the fleet, those that did not beat.
    /// Minutes in which our own intake was down are no trials: leave them out.
    pub fn tried(&mut self, at: UnixSeconds, trials: u64, hits: u64) -> Option<Alarm> {
        if trials == 0 {
            return None;
        }
        let usual = self.usual.share;
        let (hits, trials) = (hits.min(trials) as f64, trials as f64);
        let reached = self.cusum.add(self.usual.step(&self.rule, hits, trials));
        self.usual.learn(&self.rule, hits, trials);
        let seen = hits / trials;
        let tells = reached && self.fold.tells(at, seen.max(usual), self.rule.quiet_seconds);
        tells.then_some(Alarm { what: self.rule.what, at, seen, usual })
    }

    /// What is taken for usual, a part of 1.
    pub fn usual(&self) -> f64 {
        self.usual.share
    }
}

#[derive(Clone, Copy, Debug)]
struct Cluster {
    cusum: Cusum,
    fold: Fold,
    trials: u64,
    hits: u64,
}

/// Shares within clusters, measured against what is usual in the whole: GPUs with the same claim, driver
/// or block of addresses that fail together while the fleet does not.
#[derive(Clone, Debug)]
pub struct Clusters<K> {
    rule: ShareRule,
    usual: Usual,
    by_cluster: Bounded<K, Cluster>,
}

impl<K: Ord + Clone> Clusters<K> {
    /// For at most `clusters_max` clusters at a time.
    pub fn new(rule: ShareRule, clusters_max: usize) -> Self {
        let usual = Usual { share: rule.usual_at_first, dispersion: 1.0 };
        Self { rule, usual, by_cluster: Bounded::new(clusters_max) }
    }

    /// One trial of `cluster`. An alarm's share is that of the cluster since its last alarm.
    pub fn tried(&mut self, at: UnixSeconds, cluster: &K, hit: bool) -> Option<Alarm> {
        let rule = self.rule;
        let of = self.by_cluster.feed(cluster, || Cluster {
            cusum: Cusum::new(rule.batches_per_false_alarm),
            fold: Fold::default(),
            trials: 0,
            hits: 0,
        });
        of.trials = of.trials.saturating_add(1);
        of.hits = of.hits.saturating_add(u64::from(hit));
        let (usual, hit) = (self.usual.share, f64::from(u8::from(hit)));
        let reached = of.cusum.add(self.usual.step(&rule, hit, 1.0));
        self.usual.learn(&rule, hit, 1.0);
        if !reached {
            return None;
        }
        let seen = of.hits as f64 / of.trials as f64;
        (of.hits, of.trials) = (0, 0);
        let tells = of.fold.tells(at, seen, rule.quiet_seconds);
        tells.then_some(Alarm { what: rule.what, at, seen, usual })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::dice::Dice;

    #[test]
    fn rows_of_hits_are_told_as_documented() {
        let mut refusals = Share::new(ShareRule::REFUSALS);
        let told = (1u64..).find(|_| refusals.tried(UnixSeconds(0), 1, 1).is_some());
        assert_eq!(told, Some(11));
        // And one that has learnt, in four days of ten askers a minute.
        let mut refusals = Share::new(ShareRule::REFUSALS);
        assert!((0..60_000).all(|n| refusals.tried(UnixSeconds(n * 6), 1, 0).is_none()));
        assert!((0.005..0.0051).contains(&refusals.usual()), "{}", refusals.usual());
        let told = (1u64..).find(|n| refusals.tried(UnixSeconds(400_000 + n), 1, 1).is_some());
        // The usual share learns on the way.
        assert!(told.is_some_and(|told| (10..=11).contains(&told)), "{told:?}");
        let mut proofs = Clusters::new(ShareRule::PROOF_FAILURES, 10);
        let told = (1u64..).find(|_| proofs.tried(UnixSeconds(0), &"claim", true).is_some());
        assert_eq!(told, Some(4));
        let mut beats = Share::new(ShareRule::MISSING_BEATS);
        assert_eq!(beats.tried(UnixSeconds(0), 1_000, 10), None);
        assert_eq!(beats.tried(UnixSeconds(60), 1_000, 37), None);
        let mut beats = Share::new(ShareRule::MISSING_BEATS);
        assert!(beats.tried(UnixSeconds(0), 1_000, 41).is_some());
        assert_eq!(beats.tried(UnixSeconds(60), 0, 0), None);
    }

    #[test]
    fn a_cluster_that_fails_is_told_apart_from_the_fleet() {
        let (mut proofs, mut dice) = (Clusters::new(ShareRule::PROOF_FAILURES, 1_000), Dice::new(2));
        let mut told = Vec::new();
        for proof in 0..100_000u64 {
            let cluster = proof % 100;
            // From proof 50,000 on, cluster 17 fails seven times in ten.
            let chance = if cluster == 17 && proof > 50_000 { 0.7 } else { 0.001 };
            if proofs.tried(UnixSeconds(proof), &cluster, dice.unit() < chance).is_some() {
                told.push((proof, cluster));
            }
        }
        assert!(told.first().is_some_and(|(proof, _)| (50_000..52_000).contains(proof)), "{told:?}");
        assert!(told.iter().all(|(_, cluster)| *cluster == 17), "{told:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn what_is_usual_raises_no_alarm(seed: u64, share in 0.0f64..0.01) {
            let (mut refusals, mut dice) = (Share::new(ShareRule::REFUSALS), Dice::new(seed));
            for request in 0..100_000 {
                let told = refusals.tried(UnixSeconds(request), 1, u64::from(dice.unit() < share));
                prop_assert_eq!(told, None);
            }
        }

        #[test]
        fn a_small_network_of_clumsy_people_raises_no_alarm(seed: u64, askers in 2u64..30, share in 0.0f64..0.4) {
            let (mut refusals, mut dice) = (Share::new(ShareRule::REFUSALS), Dice::new(seed));
            for minute in 0..3 * 1_440 {
                let hits = (0..askers).filter(|_| dice.unit() < share).count() as u64;
                prop_assert_eq!(refusals.tried(UnixSeconds(minute * 60), askers, hits), None);
            }
        }

        #[test]
        fn a_lost_tenth_of_the_fleet_is_told_in_its_minute(seed: u64, fleet in 300u64..20_000) {
            let (mut beats, mut dice) = (Share::new(ShareRule::MISSING_BEATS), Dice::new(seed));
            for minute in 0..2_000 {
                let missing = dice.poisson(fleet as f64 * 0.01).min(fleet);
                prop_assert_eq!(beats.tried(UnixSeconds(minute * 60), fleet, missing), None);
            }
            let told = beats.tried(UnixSeconds(120_000), fleet, fleet / 10 + fleet / 100);
            prop_assert!(told.is_some());
        }
    }
}
