//! How long to wait before asking again: longer after each failure, never at the same moment as
//! every other machine. The randomness comes in as an argument.

use std::time::Duration;

const FIRST_MILLIS: u64 = 1_000;
/// 32 s: a server that comes back sees every machine again within that.
const LONGEST_MILLIS: u64 = 32_000;

/// The wait after `failures` failures in a row (at least one): half of 1 s, 2 s, 4 s ... 32 s, and a
/// part of the other half as `random` says.
pub(crate) fn delay(failures: u32, random: u64) -> Duration {
    let whole = FIRST_MILLIS.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_MILLIS);
    let half = whole / 2;
    // The top bits of a 128-bit product: a fair part of `half` without floats.
    Duration::from_millis(half + ((half as u128 * random as u128) >> 64) as u64)
}

/// Counts failures and draws the waits.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// One more failure: wait this long.
    pub(crate) fn failed(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        delay(self.failures, random())
    }
    /// It worked.
    pub(crate) fn worked(&mut self) {
        self.failures = 0;
    }
}

/// 64 random bits; without a source of randomness the middle, which only costs the jitter.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or(1 << 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_lie_in_their_upper_half() {
        for (failures, whole) in
            [(0, 1000), (1, 1000), (2, 2000), (3, 4000), (6, 32_000), (7, 32_000), (u32::MAX, 32_000)]
        {
            let least = delay(failures, 0).as_millis() as u64;
            let most = delay(failures, u64::MAX).as_millis() as u64;
            assert_eq!(least, whole / 2, "after {failures} failures");
            assert_eq!(most, whole - 1, "after {failures} failures");
        }
    }

    #[test]
    fn success_begins_anew() {
        let mut backoff = Backoff::default();
        for _ in 0..9 {
            backoff.failed();
        }
        assert!(backoff.failed().as_millis() >= 16_000);
        backoff.worked();
        assert!(backoff.failed().as_millis() <= 1_000);
    }
}
