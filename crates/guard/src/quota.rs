//! How often: a token bucket in whole numbers, one for each thing that is counted. Time comes in.

use gangline_types::UnixMillis;

/// A bucket's size and refill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// As many at once.
    pub burst: u32,
    /// As many more each minute.
    pub per_minute: u32,
}

/// What is left, in 60,000ths of one (so that a millisecond refills a whole number).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    left: u64,
    at: UnixMillis,
}

const ONE: u64 = 60_000;

impl Bucket {
    /// A full bucket.
    pub fn full(quota: Quota, at: UnixMillis) -> Self {
        Self { left: quota.burst as u64 * ONE, at }
    }
    /// Takes one; otherwise says in how many seconds there will be one.
    pub fn take(&mut self, quota: Quota, now: UnixMillis) -> Result<(), u64> {
        let passed = now.0.saturating_sub(self.at.0);
        let refill = passed.saturating_mul(quota.per_minute as u64);
        self.left = self.left.saturating_add(refill).min(quota.burst as u64 * ONE);
        self.at = self.at.max(now);
        if self.left >= ONE {
            self.left -= ONE;
            return Ok(());
        }
        Err((ONE - self.left).div_ceil((quota.per_minute as u64).max(1) * 1000).max(1))
    }
    /// Whether nothing was taken for so long that forgetting this bucket changes nothing.
    pub fn is_full(&self, quota: Quota, now: UnixMillis) -> bool {
        let refill = now.0.saturating_sub(self.at.0).saturating_mul(quota.per_minute as u64);
        self.left.saturating_add(refill) >= quota.burst as u64 * ONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let quota = Quota { burst: 3, per_minute: 6 };
        let mut bucket = Bucket::full(quota, UnixMillis(0));
        for _ in 0..3 {
            assert_eq!(bucket.take(quota, UnixMillis(0)), Ok(()));
        }
        assert_eq!(bucket.take(quota, UnixMillis(0)), Err(10));
        assert_eq!(bucket.take(quota, UnixMillis(9_999)), Err(1));
        assert_eq!(bucket.take(quota, UnixMillis(10_000)), Ok(()));
        assert!(!bucket.is_full(quota, UnixMillis(10_000)));
        assert!(bucket.is_full(quota, UnixMillis(40_000)));
        // A clock that steps back refills nothing.
        assert!(bucket.take(quota, UnixMillis(0)).is_err());
    }
}
