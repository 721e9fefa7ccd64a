//! Scoring a detector by the rule of the Numenta Anomaly Benchmark (Lavin and Ahmad 2015, "Evaluating
//! Real-time Anomaly Detection Algorithms"), version 1.1.
//!
//! A series has labelled windows. The first alarm inside a window earns up to 1, more the earlier; a
//! window without one costs; each alarm outside costs up to the profile's weight, less right after a
//! window. The first 15 % of a series (of at most 5,000 points) is for learning and is not scored. One
//! threshold for all series is the one with the greatest total; the total is told on a scale on which
//! saying nothing is 0 and perfection is 100.
//!
//! Knows positions and scores; nothing of files, times or detectors.

/// What hits, false alarms and misses weigh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// The benchmark's name for it.
    pub name: &'static str,
    /// For the earliest alarm of a window.
    pub hit: f64,
    /// For each alarm outside of windows.
    pub false_alarm: f64,
    /// For each window without an alarm.
    pub miss: f64,
}

/// The profile that detectors are compared by.
pub const STANDARD: Profile = Profile { name: "standard", hit: 1.0, false_alarm: 0.11, miss: 1.0 };
/// False alarms weigh twice as much.
pub const LOW_FALSE_ALARMS: Profile =
    Profile { name: "reward_low_FP_rate", hit: 1.0, false_alarm: 0.22, miss: 1.0 };
/// Misses weigh twice as much.
pub const LOW_MISSES: Profile =
    Profile { name: "reward_low_FN_rate", hit: 1.0, false_alarm: 0.11, miss: 2.0 };
/// All profiles, in the order of the benchmark's result columns.
pub const PROFILES: [Profile; 3] = [LOW_FALSE_ALARMS, LOW_MISSES, STANDARD];

/// A window by its first and last position, both within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first point's position in its series.
    pub first: usize,
    /// The last point's.
    pub last: usize,
}

impl Window {
    fn points(self) -> usize {
        self.last - self.first + 1
    }
}

/// A series of anomaly scores, one a point, and its windows in order and apart from each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    scores: Vec<f64>,
    windows: Vec<Window>,
}

/// Why a series cannot be scored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NabError {
    /// A window that ends before it starts, reaches past the series, or overlaps the one before.
    #[error("window {index} ({first} to {last}) does not lie in order within the {points} points")]
    Window {
        /// Which, from 0.
        index: usize,
        /// As given.
        first: usize,
        /// As given.
        last: usize,
        /// How long the series is.
        points: usize,
    },
    /// A score that is not from 0 to 1.
    #[error("the score at point {point} is not a number from 0 to 1")]
    Score {
        /// Which, from 0.
        point: usize,
    },
}

impl Scored {
    /// A series of scores from 0 to 1 with its windows.
    pub fn new(scores: Vec<f64>, windows: Vec<Window>) -> Result<Self, NabError> {
        if let Some(point) = scores.iter().position(|score| !(0.0..=1.0).contains(score)) {
            return Err(NabError::Score { point });
        }
        let mut free = 0;
        for (index, &Window { first, last }) in windows.iter().enumerate() {
            if first < free || last < first || last >= scores.len() {
                return Err(NabError::Window { index, first, last, points: scores.len() });
            }
            free = last + 1;
        }
        Ok(Self { scores, windows })
    }

    /// The anomaly scores.
    pub fn scores(&self) -> &[f64] {
        &self.scores
    }
    /// The windows.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }
    /// How many points at the start are not scored.
    pub fn probation_points(&self) -> usize {
        probation_points(self.scores.len())
    }

    /// What an alarm at each point would be worth, and in which window it is.
    fn worth(&self, profile: Profile) -> Vec<(f64, Option<usize>)> {
        let mut out = Vec::with_capacity(self.scores.len());
        let (mut next, mut before) = (0, None::<Window>);
        for point in 0..self.scores.len() {
            if let Some(window) = self.windows.get(next).filter(|window| window.first <= point) {
                let position = -((window.last - point + 1) as f64) / window.points() as f64;
                out.push((scaled_sigmoid(position) / scaled_sigmoid(-1.0) * profile.hit, Some(next)));
                if point == window.last {
                    before = Some(*window);
                    next += 1;
                }
                continue;
            }
            let worth = match before {
                // A window of one point has no length to measure by: all after it is far after it.
                Some(window) if window.points() > 1 => {
                    scaled_sigmoid((point - window.last) as f64 / (window.points() - 1) as f64)
                }
                _ => -1.0,
            };
            out.push((worth * profile.false_alarm, None));
        }
        out
    }

    /// What an alarm at each point would be worth: the benchmark's `S(t)` column.
    pub fn point_worth(&self, profile: Profile) -> Vec<f64> {
        self.worth(profile).into_iter().map(|(worth, _)| worth).collect()
    }

    /// The score of this series with alarms where a score is at least `threshold`.
    pub fn at(&self, profile: Profile, threshold: f64) -> Outcome {
        let mut best = vec![-profile.miss; self.windows.len()];
        let mut outcome = Outcome::default();
        for (point, (worth, window)) in self.worth(profile).into_iter().enumerate() {
            if point < self.probation_points() {
                continue;
            }
            match (window, self.scores[point] >= threshold) {
                (Some(window), true) => {
                    outcome.hits += 1;
                    best[window] = best[window].max(worth);
                }
                (Some(_), false) => outcome.misses += 1,
                (None, true) => {
                    outcome.false_alarms += 1;
                    outcome.score += worth;
                }
                (None, false) => outcome.quiet += 1,
            }
        }
        outcome.score += best.iter().sum::<f64>();
        outcome
    }
}

/// The score of a series, and its scored points by what was said of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Not normalised.
    pub score: f64,
    /// Alarms inside windows.
    pub hits: usize,
    /// Points outside without one.
    pub quiet: usize,
    /// Alarms outside.
    pub false_alarms: usize,
    /// Points inside without one.
    pub misses: usize,
}

/// The benchmark's curve: 1 far left, 0 at a window's right edge, -1 from three lengths behind it.
pub fn scaled_sigmoid(position: f64) -> f64 {
    if position > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * position).exp()) - 1.0 }
}

/// How many points at the start of a series of `points` are not scored: 15 % of at most 5,000.
pub fn probation_points(points: usize) -> usize {
    (points * 15 / 100).min(750)
}

/// A threshold and what it scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// Alarms are where a score is at least this; above 1 if silence scores best.
    pub threshold: f64,
    /// The sum over all series, not normalised.
    pub score: f64,
}

/// The one threshold for all `series` with the greatest total, among all that can make a difference.
pub fn best_threshold(series: &[&Scored], profile: Profile) -> Best {
    let mut points = Vec::new();
    let mut windows = Vec::new();
    for one in series {
        let base = windows.len();
        windows.extend(one.windows.iter().map(|_| -profile.miss));
        let worth = one.worth(profile).into_iter().zip(&one.scores).skip(one.probation_points());
        points.extend(worth.map(|((worth, window), score)| (*score, worth, window.map(|w| base + w))));
    }
    points.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut false_alarms = 0.0;
    let mut hits: f64 = windows.iter().sum();
    let mut best = Best { threshold: 1.1, score: hits };
    for (at, &(score, worth, window)) in points.iter().enumerate() {
        match window {
            Some(window) if worth > windows[window] => {
                hits += worth - windows[window];
                windows[window] = worth;
            }
            Some(_) => {}
            None => false_alarms += worth,
        }
        let last_of_its_score = points.get(at + 1).is_none_or(|next| next.0 != score);
        if last_of_its_score && hits + false_alarms > best.score {
            best = Best { threshold: score, score: hits + false_alarms };
        }
    }
    best
}

/// A total on the scale on which silence is 0 and the first point of each of `windows` is 100. Nothing
/// without windows.
pub fn normalised(score: f64, windows: usize, profile: Profile) -> Option<f64> {
    let silence = -profile.miss * windows as f64;
    let perfect = profile.hit * windows as f64;
    (windows > 0).then(|| 100.0 * (score - silence) / (perfect - silence))
}

/// How the threshold carries over to series it was not chosen on: series `i` is in fold `i % folds`; each
/// fold is scored with the threshold that is best on the others, and the sum is normalised.
pub fn held_out(series: &[&Scored], profile: Profile, folds: usize) -> Option<f64> {
    let part = |fold: usize, held: bool| -> Vec<&Scored> {
        let in_part = |at: usize| (at % folds == fold) == held;
        series.iter().enumerate().filter(|(at, _)| in_part(*at)).map(|(_, one)| *one).collect()
    };
    let total: f64 = (0..folds)
        .map(|fold| {
            let threshold = best_threshold(&part(fold, false), profile).threshold;
            part(fold, true).iter().map(|one| one.at(profile, threshold).score).sum::<f64>()
        })
        .sum();
    normalised(total, series.iter().map(|one| one.windows.len()).sum(), profile)
}

#[cfg(test)]
#[path = "nab_tests.rs"]
mod tests;
