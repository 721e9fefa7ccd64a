//! Calibration by times: what a model needs for a piece of work, learned from many runs of it.
//!
//! The same rules serve any work whose time is measured, by (model, API, build, work). Knows no files and
//! never looks at the run it judges.

use std::collections::BTreeMap;

use super::{Agreement, Basis, Expected, Measured, Resource, TOLERANCE, Verdict, judge, names, nearest};
use crate::{
    reference::Renders,
    robust::{Permille, median, quantile, ratio, times},
};

/// Runs behind a calibration that is held to [`TOLERANCE`].
pub const SAMPLES_MIN: usize = 10;
/// A calibration is held to it only if nine of ten honest runs lie within this of the median. Where they do
/// not, one name covers unlike devices or systems, and 1.15 would fail honest runs: over the shipped series,
/// split in halves, everything at 1.15 rejects 6.8 % of honest runs, these alone 2.3 %.
pub const SPREAD_MAX: Permille = 1_060;
/// A wide calibration allows so many times the distance from the median to the nine-tenths point.
const WIDE_TIMES: Permille = 2_500;
/// The most that anything is allowed, and what a calibration of few runs gets. Two identities that share one
/// device each need twice the time, so it stays well below 2. Over series of fewer than five runs, split in
/// halves, 1.5 rejects 2 to 3 % of honest runs, 1.3 rejects 4 to 6 %.
pub const TOLERANCE_MAX: Permille = 1_500;

/// What was learned from the runs of one series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// Runs.
    pub samples: usize,
    /// Their median in milliseconds.
    pub median_millis: u64,
    /// How many times slower still holds.
    pub tolerance_permille: Permille,
    /// How sharp it is.
    pub basis: Basis,
}

impl Learned {
    /// The slowest time that still holds, in milliseconds.
    pub fn limit_millis(&self) -> u64 {
        times(self.median_millis, self.tolerance_permille)
    }
}

/// Learns from the times of honest runs. `None` of none.
pub fn learn(times_millis: &[u64]) -> Option<Learned> {
    let median_millis = median(times_millis)?.max(1);
    let samples = times_millis.len();
    let spread = ratio(quantile(times_millis, 900)?, median_millis);
    let (basis, tolerance_permille) = match samples {
        SAMPLES_MIN.. if spread <= SPREAD_MAX => (Basis::Calibrated, TOLERANCE),
        5.. => {
            let wide = 1000 + times(spread.saturating_sub(1000), WIDE_TIMES);
            (Basis::Wide, wide.clamp(TOLERANCE, TOLERANCE_MAX))
        }
        _ => (Basis::Wide, TOLERANCE_MAX),
    };
    Some(Learned { samples, median_millis, tolerance_permille, basis })
}

/// What is the same for every model: API, build and work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conditions {
    /// The API.
    pub api: String,
    /// The build.
    pub build: String,
    /// The work.
    pub scene: String,
}

/// Everything that was learned.
#[derive(Clone, Debug, Default)]
pub struct Calibration {
    by_conditions: BTreeMap<Conditions, BTreeMap<Vec<String>, (String, Learned)>>,
}

impl Calibration {
    /// Learns from many series. Of two series of one model under the same conditions, the runs are put
    /// together.
    pub fn learn(series: &[Renders]) -> Self {
        let mut runs: BTreeMap<(Conditions, Vec<String>), (String, Vec<u64>)> = BTreeMap::new();
        for one in series {
            let conditions =
                Conditions { api: one.api.clone(), build: one.build.clone(), scene: one.scene.clone() };
            let entry = runs.entry((conditions, names::words(&one.model))).or_default();
            entry.0.clone_from(&one.model);
            entry.1.extend(&one.times_millis);
        }
        let mut by_conditions: BTreeMap<Conditions, BTreeMap<_, _>> = BTreeMap::new();
        for ((conditions, words), (model, times)) in runs {
            if let Some(learned) = learn(&times) {
                by_conditions.entry(conditions).or_default().insert(words, (model, learned));
            }
        }
        Self { by_conditions }
    }

    /// What was learned of a model under these conditions.
    pub fn learned(&self, model: &str, conditions: &Conditions) -> Option<Learned> {
        Some(self.by_conditions.get(conditions)?.get(&names::words(model))?.1)
    }

    /// What a model should need: learned, or carried over. `None` where nothing is known of the model.
    pub fn expect(&self, model: &str, conditions: &Conditions) -> Option<Expected> {
        if let Some(learned) = self.learned(model, conditions) {
            return Some(Expected {
                resource: Resource::RenderTime,
                value: learned.median_millis,
                tolerance_permille: learned.tolerance_permille,
                basis: learned.basis,
                samples: learned.samples,
            });
        }
        let (value, samples) = self.carried_over(model, conditions)?;
        Some(Expected {
            resource: Resource::RenderTime,
            value,
            tolerance_permille: TOLERANCE_MAX,
            basis: Basis::Related,
            samples,
        })
    }

    /// The time of a model that was never measured under these conditions: from every other conditions it was
    /// measured under, through every model measured under both. The median over all of them, and how many.
    fn carried_over(&self, model: &str, conditions: &Conditions) -> Option<(u64, usize)> {
        let words = names::words(model);
        let here = self.by_conditions.get(conditions)?;
        let mut estimates = Vec::new();
        for there in self.by_conditions.values() {
            let Some((_, known)) = there.get(&words) else { continue };
            for (other, (_, other_here)) in here {
                let Some((_, other_there)) = there.get(other) else { continue };
                let scaled = u128::from(known.median_millis) * u128::from(other_here.median_millis)
                    / u128::from(other_there.median_millis.max(1));
                estimates.push(scaled.min(u128::from(u64::MAX)) as u64);
            }
        }
        Some((median(&estimates)?.max(1), estimates.len()))
    }

    /// The models nearest to a time under these conditions.
    pub fn nearest(&self, millis: u64, conditions: &Conditions) -> Vec<Agreement> {
        let models = self.by_conditions.get(conditions).into_iter().flat_map(BTreeMap::values);
        let profiles = models.map(|(model, learned)| {
            let expected = Expected {
                resource: Resource::RenderTime,
                value: learned.median_millis,
                tolerance_permille: TOLERANCE,
                basis: learned.basis,
                samples: learned.samples,
            };
            (model.clone(), vec![expected])
        });
        nearest(profiles, &[Measured { resource: Resource::RenderTime, value: millis }], 5)
    }

    /// Judges one run by what is claimed.
    pub fn judge(&self, claim: &str, conditions: &Conditions, millis: u64) -> Verdict {
        let expected: Vec<Expected> = self.expect(claim, conditions).into_iter().collect();
        let measured = [Measured { resource: Resource::RenderTime, value: millis }];
        let mut verdict = judge(claim, &expected, &measured);
        verdict.agrees_with = self.nearest(millis, conditions);
        verdict
    }

    /// Every model that is at least `permille` thousandths as fast as `model` under these conditions: what
    /// would be an over-claim of it.
    pub fn faster(&self, model: &str, conditions: &Conditions, permille: Permille) -> Vec<(&str, Learned)> {
        let Some(models) = self.by_conditions.get(conditions) else { return vec![] };
        let Some(own) = self.learned(model, conditions) else { return vec![] };
        let faster = models.values().filter(|(_, learned)| {
            u128::from(own.median_millis) * 1000 >= u128::from(learned.median_millis) * u128::from(permille)
        });
        faster.map(|(model, learned)| (model.as_str(), *learned)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{classify::Decision, reference, robust::Seeded};

    fn series(model: &str, scene: &str, times: &[u64]) -> Renders {
        Renders {
            model: model.to_owned(),
            api: "CUDA".to_owned(),
            build: "2.81".to_owned(),
            scene: scene.to_owned(),
            times_millis: times.to_vec(),
        }
    }
    fn conditions(scene: &str) -> Conditions {
        Conditions { api: "CUDA".to_owned(), build: "2.81".to_owned(), scene: scene.to_owned() }
    }

    #[test]
    fn close_runs_are_held_to_fifteen_in_a_hundred_and_spread_ones_are_not() {
        let learned = learn(&[100, 101, 99, 100, 102, 100, 100, 99, 101, 103]).unwrap();
        assert_eq!((learned.basis, learned.tolerance_permille), (Basis::Calibrated, 1_150));
        let learned = learn(&[100, 101, 99, 100, 102, 100, 100, 140, 140, 141]).unwrap();
        assert_eq!((learned.basis, learned.tolerance_permille), (Basis::Wide, 1_500));
        assert_eq!(learn(&[100]).unwrap().tolerance_permille, 1_500);
        assert_eq!(learn(&[]), None);
    }

    #[test]
    fn an_unmeasured_condition_is_carried_over() {
        let all = Calibration::learn(&[
            series("slow", "a", &[200; 10]),
            series("fast", "a", &[100; 10]),
            series("slow", "b", &[1000; 10]),
        ]);
        let expected = all.expect("NVIDIA fast", &conditions("b")).unwrap();
        assert_eq!((expected.value, expected.basis), (500, Basis::Related));
        let check = |claim, scene, millis, decision| {
            assert_eq!(all.judge(claim, &conditions(scene), millis).decision, decision, "{claim} {scene}");
        };
        check("fast", "b", 750, Decision::Accepted);
        check("fast", "b", 751, Decision::Rejected);
        check("fast", "a", 115, Decision::Accepted);
        check("fast", "a", 200, Decision::Rejected);
        check("unheard of", "a", 1, Decision::NotJudged);
        assert_eq!(all.judge("fast", &conditions("a"), 199).agrees_with[0].profile, "slow");
    }

    /// Learned from one half of each series, the other half judged: honest runs of sharp calibrations, and of
    /// all. Neither half saw the other.
    #[test]
    fn runs_never_seen_are_judged_fairly() {
        let mut rng = Seeded(20_260_701);
        let (mut known, mut unseen) = (vec![], vec![]);
        for mut one in reference::renders() {
            rng.shuffle(&mut one.times_millis);
            let half = one.times_millis.split_off(one.times_millis.len() / 2);
            unseen.push(Renders { times_millis: half, ..one.clone() });
            if !one.times_millis.is_empty() {
                known.push(one);
            }
        }
        let all = Calibration::learn(&known);
        let mut two_of_three = [0; 2];
        let (mut sharp, mut every) = ([0; 2], [0; 2]);
        for one in &unseen {
            let conditions =
                Conditions { api: one.api.clone(), build: one.build.clone(), scene: one.scene.clone() };
            let Some(expected) = all.expect(&one.model, &conditions) else { continue };
            for three in one.times_millis.chunks_exact(3) {
                let failed = three.iter().filter(|millis| **millis > expected.limit()).count();
                two_of_three = [two_of_three[0] + usize::from(failed >= 2), two_of_three[1] + 1];
            }
            for millis in &one.times_millis {
                let failed = usize::from(*millis > expected.limit());
                every = [every[0] + failed, every[1] + 1];
                if expected.basis == Basis::Calibrated {
                    sharp = [sharp[0] + failed, sharp[1] + 1];
                }
            }
        }
        println!(
            "seed 20260701: sharp {sharp:?}, all {every:?}, two of three {two_of_three:?} rejected of judged"
        );
        assert!(two_of_three[0] * 1000 <= two_of_three[1] * 8, "{two_of_three:?}");
        assert!(sharp[0] * 1000 <= sharp[1] * 30, "{sharp:?}");
        assert!(every[0] * 1000 <= every[1] * 30, "{every:?}");
        assert!(sharp[1] > 1_500 && every[1] > 5_000);
    }
}
