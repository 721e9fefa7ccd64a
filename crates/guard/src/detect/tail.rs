//! How unusual a number is against those before it, in decades: 3 means "one in a thousand".
//!
//! Knows a bounded number of past values and nothing of what they measure.

use std::collections::VecDeque;

/// Below this many values nothing is called unusual.
const VALUES_MIN: usize = 30;
/// The part of the values that counts as their tail.
const TAIL_SHARE: f64 = 0.02;
/// The fewest values a tail is fitted to.
const TAIL_VALUES_MIN: usize = 8;
/// The heaviest tail that is believed; at 1/2 a generalised Pareto's variance is infinite.
const SHAPE_MAX: f64 = 0.45;

/// The last values of something, sorted, with the chance of going beyond them.
///
/// Inside what was seen the chance is the rank's, `(as far or farther + 1) / (n + 1)`. Beyond the
/// outermost 2 % it is a generalised Pareto tail (Pickands 1975, Balkema and de Haan 1974: what exceeds
/// a high line has that shape whatever the distribution), fitted by its first two moments (Hosking and
/// Wallis 1987): with mean `m` and variance `v` of the excesses, `shape = (1 - m^2/v) / 2` and
/// `scale = m (1 - shape)`. No bounded tails are believed: `shape` is held to 0..0.45, which errs towards
/// "less unusual".
///
/// State: at most `capacity` values, twice.
#[derive(Clone, Debug)]
pub struct Tail {
    capacity: usize,
    by_age: VecDeque<f64>,
    sorted: Vec<f64>,
}

impl Tail {
    /// Of the last `capacity` values.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), by_age: VecDeque::new(), sorted: Vec::new() }
    }

    /// Adds `value` and forgets the oldest if there are too many. What is not a finite number is left out.
    pub fn push(&mut self, value: f64) {
        if !value.is_finite() {
            return;
        }
        if self.by_age.len() >= self.capacity
            && let Some(oldest) = self.by_age.pop_front()
        {
            let at = self.sorted.partition_point(|other| other.total_cmp(&oldest).is_lt());
            self.sorted.remove(at);
        }
        self.by_age.push_back(value);
        let at = self.sorted.partition_point(|other| other.total_cmp(&value).is_lt());
        self.sorted.insert(at, value);
    }

    /// How many values are held.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }
    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// From `value` to the nearest value that was seen; nothing if none was.
    pub fn distance(&self, value: f64) -> Option<f64> {
        let at = self.sorted.partition_point(|other| *other < value);
        let below = at.checked_sub(1).map(|below| value - self.sorted[below]);
        let above = self.sorted.get(at).map(|above| above - value);
        match (below, above) {
            (Some(below), Some(above)) => Some(below.min(above)),
            (one, other) => one.or(other),
        }
    }

    /// Decades of surprise at a value this high, 0 with too few values to tell.
    pub fn above(&self, value: f64) -> f64 {
        let count = self.sorted.len();
        if count < VALUES_MIN || value.is_nan() {
            return 0.0;
        }
        let value = value.min(f64::MAX);
        let tail = tail_values(count);
        let line = self.sorted[count - tail];
        if value <= line {
            let as_far = count - self.sorted.partition_point(|other| *other < value);
            return rank_decades(as_far, count);
        }
        let excesses = self.sorted[count - tail..].iter().map(|other| other - line);
        beyond(value - line, excesses, tail, count, line, self.sorted[count / 2])
    }

    /// Decades of surprise at a value this low, 0 with too few values to tell.
    pub fn below(&self, value: f64) -> f64 {
        let count = self.sorted.len();
        if count < VALUES_MIN || value.is_nan() {
            return 0.0;
        }
        let value = value.max(f64::MIN);
        let tail = tail_values(count);
        let line = self.sorted[tail - 1];
        if value >= line {
            return rank_decades(self.sorted.partition_point(|other| *other <= value), count);
        }
        let excesses = self.sorted[..tail].iter().map(|other| line - other);
        beyond(line - value, excesses, tail, count, line, self.sorted[count / 2])
    }

    /// The greater of [`Self::above`] and [`Self::below`].
    pub fn either(&self, value: f64) -> f64 {
        self.above(value).max(self.below(value))
    }
}

fn tail_values(count: usize) -> usize {
    ((count as f64 * TAIL_SHARE).ceil() as usize).max(TAIL_VALUES_MIN)
}

fn rank_decades(as_far: usize, count: usize) -> f64 {
    ((count + 1) as f64 / (as_far + 1) as f64).log10()
}

/// Decades for an excess `over` the line, from the excesses of the tail.
fn beyond(
    over: f64,
    excesses: impl Iterator<Item = f64> + Clone,
    tail: usize,
    count: usize,
    line: f64,
    median: f64,
) -> f64 {
    let share = tail as f64 / count as f64;
    // A tail without spread (a constant, a count of few values) would make everything impossible: a
    // tenth of the way from the median to the line, a thousandth of the values' size, or nearly nothing.
    let floor = (0.1 * (line - median).abs()).max(1e-3 * line.abs().max(median.abs())).max(1e-9);
    let mean = (excesses.clone().sum::<f64>() / tail as f64).max(floor);
    let variance = excesses.map(|excess| (excess - mean).powi(2)).sum::<f64>() / tail as f64;
    let ratio = if variance > 0.0 { mean * mean / variance } else { 1.0 };
    let shape = (0.5 * (1.0 - ratio)).clamp(0.0, SHAPE_MAX);
    let scale = mean * (1.0 - shape);
    let exponent = if shape < 1e-3 { over / scale } else { (shape * over / scale).ln_1p() / shape };
    let decades = exponent / std::f64::consts::LN_10 - share.log10();
    if decades.is_nan() { 0.0 } else { decades }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(values: impl IntoIterator<Item = f64>) -> Tail {
        let mut tail = Tail::new(2_000);
        values.into_iter().for_each(|value| tail.push(value));
        tail
    }

    #[test]
    fn ranks_inside_a_fitted_tail_beyond() {
        let tail = filled((0..1_000).map(f64::from));
        // 100 of 1000 values are 900 or more: (100 + 1) / (1000 + 1).
        assert!((tail.above(900.0) - (1_001.0f64 / 101.0).log10()).abs() < 1e-12);
        assert!((tail.below(99.0) - (1_001.0f64 / 101.0).log10()).abs() < 1e-12);
        // Twenty excesses 0..19 over 980, their mean held to a tenth of 980 - 500: 48; no spread, so
        // exponential: 480 more is e^-10 of the 2 %.
        let expected = 10.0 / std::f64::consts::LN_10 + 50.0f64.log10();
        assert!((tail.above(980.0 + 480.0) - expected).abs() < 1e-9, "{}", tail.above(1_460.0));
        assert!(tail.above(1e300) > 100.0 && tail.above(f64::INFINITY).is_finite());
    }

    #[test]
    fn too_few_values_and_what_is_no_number_surprise_nobody() {
        let mut tail = filled((0..29).map(f64::from));
        assert_eq!(tail.either(1e9), 0.0);
        tail.push(f64::NAN);
        tail.push(f64::INFINITY);
        assert_eq!(tail.len(), 29);
        assert_eq!(filled((0..99).map(f64::from)).either(f64::NAN), 0.0);
    }

    #[test]
    fn a_heavy_tail_is_less_surprised_than_a_light_one() {
        // Quantiles of an exponential and of a Pareto with index 2.5, both with the same 98 % line.
        let light = filled((1..1_000).map(|i| -(1.0 - f64::from(i) / 1_000.0).ln()));
        let heavy = filled((1..1_000).map(|i| (1.0 - f64::from(i) / 1_000.0).powf(-0.4)));
        let beyond = |tail: &Tail| tail.above(tail.sorted[979] * 4.0);
        assert!(beyond(&heavy) + 2.0 < beyond(&light), "{} {}", beyond(&heavy), beyond(&light));
    }

    proptest! {
        #[test]
        fn surprise_grows_with_distance_and_state_is_bounded(
            values in prop::collection::vec(-1e6f64..1e6, 1..400), a in -1e7f64..1e7, b in -1e7f64..1e7,
        ) {
            let mut tail = Tail::new(100);
            for value in &values {
                tail.push(*value);
            }
            prop_assert!(tail.len() <= 100 && tail.by_age.len() == tail.sorted.len());
            prop_assert!(tail.sorted.is_sorted());
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(tail.above(high) + 1e-9 >= tail.above(low));
            prop_assert!(tail.below(low) + 1e-9 >= tail.below(high));
            prop_assert!(tail.either(a).is_finite() && tail.either(a) >= 0.0);
            let nearest = values.iter().rev().take(100).map(|v| (v - a).abs()).fold(f64::MAX, f64::min);
            prop_assert_eq!(tail.distance(a), Some(nearest));
        }
    }
}
