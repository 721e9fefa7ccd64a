//! How many different things somebody reaches: GPUs written by a key or account, ids looked up in the
//! explorer from a block of addresses.
//!
//! **Writes.** A machine's key has reason to touch its own GPUs, an account all of its own. The line is
//! what it owns and a few to spare for cards that were changed within the span. Up to 64 are counted one
//! by one, so whoever stays within the line is never told of; an estimate must pass the line by six
//! standard errors (10^-9 a check).
//!
//! **Look-ups.** Nobody owns what he reads, so lines are limits: per block of addresses 600 ids an hour,
//! 2,000 a day, 10,000 in four weeks (whoever needs more has the snapshots, which hold no owners), and 20
//! misses an hour: ids cannot be guessed, so a miss is an old link. Were a hundred readers behind one
//! address to open 60 GPUs an hour between them, at random, the chance of 600 in an hour is at most
//! exp(-60 (10 ln 10 - 9)) = 10^-365 (Chernoff); of 20 misses where one is usual, exp(-(20 ln 20 - 19)) =
//! 2 x 10^-18. Spans are counted as this one and the one before, so a limit is met after at most its span
//! and never later than at twice its rate.

use gangline_types::UnixSeconds;

use super::{
    alarm::{Alarm, Fold, What},
    bounded::Bounded,
    distinct::{Recent, Salt},
};

const HOUR: u64 = 3_600;
const QUIET_SECONDS: u64 = 3_600;

/// Distinct GPUs touched, by key or by account.
#[derive(Clone, Debug)]
pub struct Breadth<K> {
    salt: Salt,
    spare: u64,
    by_key: Bounded<K, (Recent, Fold)>,
}

impl<K: Ord + Clone> Breadth<K> {
    /// For at most `keys_max` keys at a time, each with `spare` GPUs more than it owns allowed.
    pub fn new(salt: Salt, keys_max: usize, spare: u64) -> Self {
        Self { salt, spare, by_key: Bounded::new(keys_max) }
    }

    /// `key`, which owns `owned` GPUs, touched or tried to touch the GPU with this id.
    pub fn touched(&mut self, at: UnixSeconds, key: &K, gpu: &[u8], owned: u64) -> Option<Alarm> {
        let (recent, fold) = self.by_key.feed(key, Default::default);
        let count = recent.add(at, HOUR, self.salt.hash(gpu));
        let usual = owned.saturating_add(self.spare) as f64;
        let tells = count.exceeds(usual) && fold.tells(at, count.distinct, QUIET_SECONDS);
        tells.then_some(Alarm { what: What::Breadth, at, seen: count.distinct, usual })
    }
}

/// Limits for one block of addresses, of distinct ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalkLimits {
    /// Ids that exist, in an hour, a day and four weeks.
    pub found: [u64; 3],
    /// Ids that do not, in an hour.
    pub missed_hour: u64,
}

impl Default for WalkLimits {
    fn default() -> Self {
        Self { found: [600, 2_000, 10_000], missed_hour: 20 }
    }
}

const SPANS: [u64; 3] = [HOUR, 24 * HOUR, 28 * 24 * HOUR];

#[derive(Clone, Debug, Default)]
struct Walk {
    found: [(Recent, Fold); 3],
    missed: (Recent, Fold),
}

/// Look-ups in the explorer by block of addresses.
///
/// State: 8 sets of about 1 KiB for a block, so 32 MiB for 4,096 blocks that are all busy.
#[derive(Clone, Debug)]
pub struct Walks<K> {
    salt: Salt,
    limits: WalkLimits,
    by_block: Bounded<K, Walk>,
}

impl<K: Ord + Clone> Walks<K> {
    /// For at most `blocks_max` blocks at a time.
    pub fn new(salt: Salt, blocks_max: usize, limits: WalkLimits) -> Self {
        Self { salt, limits, by_block: Bounded::new(blocks_max) }
    }

    /// Somebody from `block` asked for the GPU with this id, which exists or not.
    pub fn looked(&mut self, at: UnixSeconds, block: &K, id: &[u8], exists: bool) -> Option<Alarm> {
        let walk = self.by_block.feed(block, Walk::default);
        let hash = self.salt.hash(id);
        if !exists {
            return beyond(&mut walk.missed, at, HOUR, hash, self.limits.missed_hour);
        }
        let mut told = None;
        for ((part, seconds), limit) in walk.found.iter_mut().zip(SPANS).zip(self.limits.found) {
            told = beyond(part, at, seconds, hash, limit).or(told);
        }
        told
    }
}

fn beyond(
    (recent, fold): &mut (Recent, Fold),
    at: UnixSeconds,
    seconds: u64,
    hash: u64,
    limit: u64,
) -> Option<Alarm> {
    let count = recent.add(at, seconds, hash);
    let usual = limit as f64;
    let tells = count.exceeds(usual) && fold.tells(at, count.distinct, seconds);
    tells.then_some(Alarm { what: What::Enumeration, at, seen: count.distinct, usual })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn salt() -> Salt {
        Salt::new([9; 32])
    }

    #[test]
    fn one_gpu_more_than_the_spare_is_told() {
        let mut breadth = Breadth::new(salt(), 100, 2);
        let told = (0u64..40)
            .find(|gpu| breadth.touched(UnixSeconds(*gpu), &"key", &gpu.to_be_bytes(), 8).is_some());
        assert_eq!(told, Some(10));
    }

    #[test]
    fn a_crawl_is_told_fast_or_slow_and_guessing_sooner() {
        // Ten ids a second, then one each ten minutes for weeks.
        for (seconds, expected) in [(1, 600..760), (600, 2_000..10_000)] {
            let mut walks =
                Walks::new(salt(), 100, WalkLimits { found: [600, 2_000, 2_500], missed_hour: 20 });
            let told = (0u64..)
                .find(|id| walks.looked(UnixSeconds(id * seconds), &1, &id.to_be_bytes(), true).is_some());
            assert!(told.is_some_and(|told| expected.contains(&told)), "{told:?}");
        }
        let mut walks = Walks::new(salt(), 100, WalkLimits::default());
        let told = (0u64..).find(|id| walks.looked(UnixSeconds(*id), &1, &id.to_be_bytes(), false).is_some());
        assert_eq!(told, Some(20));
        // The same page a thousand times is one page.
        assert!((0..1_000).all(|i| walks.looked(UnixSeconds(i), &2, b"one", true).is_none()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn who_stays_with_his_own_is_never_told_of(owned in 1u64..300, touches in prop::collection::vec(any::<u64>(), 1..500)) {
            let mut breadth = Breadth::new(salt(), 100, 2);
            for (i, touch) in touches.iter().enumerate() {
                let gpu = (touch % owned).to_be_bytes();
                prop_assert_eq!(breadth.touched(UnixSeconds(i as u64 * 60), &0, &gpu, owned), None);
            }
        }

        #[test]
        fn who_goes_half_as_far_again_is(owned in 5u64..600) {
            let mut breadth = Breadth::new(salt(), 100, 0);
            let told = (0..owned + owned / 2).any(|gpu| breadth.touched(UnixSeconds(5), &0, &gpu.to_be_bytes(), owned).is_some());
            prop_assert!(told);
        }
    }
}
