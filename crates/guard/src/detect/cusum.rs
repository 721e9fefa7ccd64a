//! Page's test: adds up how much likelier each count is under "it has risen" than under "as usual", never
//! below zero, and tells when the sum reaches a line.
//!
//! With log-likelihood ratios as steps, `exp(step)` has mean 1 (or less) as long as all is as usual, and
//! then the mean number of steps to a false alarm is at least `exp(line)` (Page 1954; Lorden 1971, theorem
//! 2). So a line of `ln(10^9)` = 20.7 means at most one false alarm in 10^9 steps, whatever the usual count
//! is. How fast a true rise is told is the line over the mean step: writes that rise from 100 to 1,000 a
//! minute with the alternative "four times" add 1,000 ln 4 - 300 = 1,086 a minute: told after 232 writes,
//! 14 s into the first minute; at 10,000 a minute, after 1.4 s.
//!
//! Counts that come in clumps vary more than independent ones. A dispersion of d (variance over mean)
//! divides every step by d: exact where each event is a clump of d, an approximation otherwise.

/// The sum and its line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cusum {
    sum: f64,
    line: f64,
}

impl Cusum {
    /// With at most one false alarm in `steps` steps on average.
    pub fn new(steps: f64) -> Self {
        Self { sum: 0.0, line: steps.max(1.0).ln() }
    }
    /// Whether the line would be reached with `step`.
    pub fn would(&self, step: f64) -> bool {
        self.sum + step >= self.line
    }
    /// Adds `step`; true, and back to zero, if that reaches the line. What is no number is no step.
    pub fn add(&mut self, step: f64) -> bool {
        if step.is_nan() {
            return false;
        }
        let reached = self.would(step);
        self.sum = if reached { 0.0 } else { (self.sum + step).max(0.0) };
        reached
    }
    /// The sum as a share of the line.
    pub fn share(&self) -> f64 {
        self.sum / self.line.max(f64::MIN_POSITIVE)
    }
}

/// The step for `count` events where `usual` are, against `times` as many.
pub fn poisson_step(count: f64, usual: f64, times: f64, dispersion: f64) -> f64 {
    (count * times.ln() - usual * (times - 1.0)) / dispersion.max(1.0)
}

/// The step for `hits` of `trials`, where a share of `usual` is, against a share of `risen`.
pub fn binomial_step(hits: f64, trials: f64, usual: f64, risen: f64, dispersion: f64) -> f64 {
    let misses = (trials - hits).max(0.0);
    (hits * (risen / usual).ln() + misses * ((1.0 - risen) / (1.0 - usual)).ln()) / dispersion.max(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::detect::dice::Dice;

    proptest! {
        /// What the bound on false alarms rests on: the mean of exp(step) is 1.
        #[test]
        fn the_steps_are_fair(usual in 0.1f64..50.0, times in 1.5f64..6.0) {
            let (mut chance_ln, mut mean) = (-usual, 0.0);
            for count in 0..2_000u32 {
                mean += (chance_ln + poisson_step(f64::from(count), usual, times, 1.0)).exp();
                chance_ln += (usual / f64::from(count + 1)).ln();
            }
            prop_assert!((mean - 1.0).abs() < 1e-6, "{mean}");
            let (p, q) = (usual / 100.0, (usual / 100.0 * times).min(0.9));
            let mean = p * binomial_step(1.0, 1.0, p, q, 1.0).exp() + (1.0 - p) * binomial_step(0.0, 1.0, p, q, 1.0).exp();
            prop_assert!((mean - 1.0).abs() < 1e-9, "{mean}");
        }

        #[test]
        fn the_sum_stays_between_zero_and_the_line(steps in prop::collection::vec(-5.0f64..5.0, 0..200)) {
            let mut cusum = Cusum::new(1e4);
            for step in steps {
                cusum.add(step);
                prop_assert!((0.0..1.0).contains(&cusum.share()));
            }
        }
    }

    #[test]
    fn false_alarms_are_as_rare_as_said() {
        // 400,000 steps with a line for one in 1,000: at most 400 expected, and the bound is loose.
        let mut dice = Dice::new(11);
        let mut cusum = Cusum::new(1_000.0);
        let told =
            (0..400_000).filter(|_| cusum.add(poisson_step(dice.poisson(3.0) as f64, 3.0, 2.0, 1.0))).count();
        assert!(told <= 400, "{told}");
        assert!(told >= 10, "a line this low must be reached sometimes: {told}");
    }

    #[test]
    fn the_documented_delay_holds() {
        let cusum = Cusum::new(1e9);
        let after = (1u32..).find(|count| cusum.would(poisson_step(f64::from(*count), 100.0, 4.0, 1.0)));
        assert_eq!(after, Some(232));
        // A rise of the sixth part of the line per step is told in the sixth step or seventh.
        let mut cusum = Cusum::new(1e9);
        let steps = (1..).find(|_| cusum.add(poisson_step(5.0, 1.0, 4.0, 1.0)));
        assert_eq!(steps, Some(6));
        assert!(!cusum.add(f64::NAN) && cusum.share() == 0.0);
    }
}
