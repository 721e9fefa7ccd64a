//! How much of a GPU's time proving may take: a sliding hour, told the time by whoever asks.
//!
//! Knows no clock. One for each GPU.

use std::collections::VecDeque;

use gangline_types::UnixMillis;

/// What was spent of a GPU's hour. Spending beyond the limit is recorded all the same, and then nothing may
/// start until enough of it is older than an hour.
#[derive(Clone, Debug)]
pub struct Budget {
    limit_millis: u64,
    spent: VecDeque<(UnixMillis, u64)>,
}

/// Why no proof may start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "proving took {spent_millis} ms of this GPU's last hour and would take {wanted_millis} more; {limit_millis} ms are allowed"
)]
pub struct OverBudget {
    /// Spent within the hour.
    pub spent_millis: u64,
    /// What was asked for.
    pub wanted_millis: u64,
    /// The limit.
    pub limit_millis: u64,
}

impl Budget {
    /// The network's promise to suppliers: at most ten seconds of GPU time an hour.
    pub const LIMIT_MILLIS: u64 = 10_000;
    /// The time over which the limit counts.
    pub const WINDOW_MILLIS: u64 = 3_600_000;
    /// Most entries remembered; with more, the two oldest are counted as one, at the later time.
    const ENTRIES_MAX: usize = 1024;

    /// A budget of [`LIMIT_MILLIS`](Self::LIMIT_MILLIS) an hour, nothing spent.
    pub fn new() -> Self {
        Self::with_limit(Self::LIMIT_MILLIS)
    }

    /// A budget of this many milliseconds an hour; joining proofs have one of their own.
    pub fn with_limit(limit_millis: u64) -> Self {
        Self { limit_millis, spent: VecDeque::new() }
    }

    /// Whether a proof that is expected to take this long may start now.
    ///
    /// # Errors
    /// If it would go over the limit.
    pub fn may_start(&mut self, now: UnixMillis, expected_millis: u64) -> Result<(), OverBudget> {
        let spent_millis = self.spent_millis(now);
        if spent_millis.saturating_add(expected_millis) <= self.limit_millis {
            return Ok(());
        }
        Err(OverBudget { spent_millis, wanted_millis: expected_millis, limit_millis: self.limit_millis })
    }

    /// Records that a proof which ended now took this long, finished or stopped.
    pub fn spend(&mut self, now: UnixMillis, took_millis: u64) {
        self.spent.push_back((now, took_millis));
        if self.spent.len() > Self::ENTRIES_MAX {
            let oldest = self.spent.pop_front().map_or(0, |(_, millis)| millis);
            if let Some((_, millis)) = self.spent.front_mut() {
                *millis = millis.saturating_add(oldest);
            }
        }
    }

    /// Spent in the hour before now.
    pub fn spent_millis(&mut self, now: UnixMillis) -> u64 {
        while let Some((at, _)) = self.spent.front()
            && now.0.saturating_sub(at.0) >= Self::WINDOW_MILLIS
        {
            self.spent.pop_front();
        }
        self.spent.iter().fold(0, |sum, (_, millis)| sum.saturating_add(*millis))
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_seconds_an_hour_and_not_one_more() {
        let mut budget = Budget::new();
        let at = |seconds: u64| UnixMillis(1_000_000_000 + seconds * 1000);
        assert_eq!(budget.may_start(at(0), 10_000), Ok(()));
        assert!(budget.may_start(at(0), 10_001).is_err());
        budget.spend(at(4), 4_000);
        budget.spend(at(2000), 5_000);
        assert_eq!(budget.may_start(at(2000), 1_000), Ok(()));
        let error = budget.may_start(at(2000), 1_001).unwrap_err();
        assert_eq!((error.spent_millis, error.wanted_millis), (9_000, 1_001));
        assert!(error.to_string().contains("10000 ms are allowed"));
        // The first four seconds are forgotten an hour after they ended, not before.
        assert!(budget.may_start(at(3603), 5_000).is_err());
        assert_eq!(budget.may_start(at(3604), 5_000), Ok(()));
        // A clock set back forgets nothing.
        assert_eq!(budget.spent_millis(at(0)), 5_000);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_nothing_is_lost() {
        let mut budget = Budget::with_limit(u64::MAX);
        for i in 0..3_000 {
            budget.spend(UnixMillis(i), 1);
        }
        assert_eq!(budget.spent_millis(UnixMillis(3_000)), 3_000);
        assert_eq!(budget.spent.len(), Budget::ENTRIES_MAX);
    }
}
