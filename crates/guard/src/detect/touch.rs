//! Refused writes to what is another's: the one alarm that needs no statistics.
//!
//! Ids are 128 random bits, so nobody meets another's GPU by a slip of the hand: with 10^6 GPUs a random
//! id exists with a chance of 10^6 / 2^128 = 3 x 10^-33. The one honest way to a foreign GPU is to have
//! owned it: a machine that was sold or moved and still writes. Former owners are told of at their third
//! attempt within an hour, everybody else at the first.

use gangline_types::UnixSeconds;

use super::{
    alarm::{Alarm, Fold, What},
    bounded::Bounded,
};

const HOUR: u64 = 3_600;
/// At which attempt a former owner is told of.
pub const FORMER_ATTEMPTS: u64 = 3;
const QUIET_SECONDS: u64 = 600;

/// Who tries to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Toucher {
    /// Never owned it.
    Stranger,
    /// Owned it until not long ago.
    FormerOwner,
}

#[derive(Clone, Copy, Debug, Default)]
struct Attempts {
    since: UnixSeconds,
    attempts: u64,
    fold: Fold,
}

/// Refused writes by key.
#[derive(Clone, Debug)]
pub struct Touches<K> {
    by_key: Bounded<K, Attempts>,
}

impl<K: Ord + Clone> Touches<K> {
    /// For at most `keys_max` keys at a time.
    pub fn new(keys_max: usize) -> Self {
        Self { by_key: Bounded::new(keys_max) }
    }

    /// A write by `key` was refused because the resource is another's.
    pub fn refused(&mut self, at: UnixSeconds, key: &K, toucher: Toucher) -> Option<Alarm> {
        let of = self.by_key.feed(key, || Attempts { since: at, ..Attempts::default() });
        if at.since(of.since) >= HOUR {
            (of.since, of.attempts) = (at, 0);
        }
        of.attempts = of.attempts.saturating_add(1);
        let line = if toucher == Toucher::Stranger { 1 } else { FORMER_ATTEMPTS };
        let seen = of.attempts as f64;
        let tells = of.attempts >= line && of.fold.tells(at, seen, QUIET_SECONDS);
        tells.then_some(Alarm { what: What::ForeignTouch, at, seen, usual: 0.0 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stranger_at_once_a_former_owner_at_the_third_time() {
        let mut touches = Touches::new(10);
        let mut at = |seconds, key, toucher| touches.refused(UnixSeconds(seconds), &key, toucher).is_some();
        assert!(at(0, "thief", Toucher::Stranger));
        assert!(!at(1, "seller", Toucher::FormerOwner));
        assert!(!at(2, "seller", Toucher::FormerOwner));
        assert!(at(3, "seller", Toucher::FormerOwner));
        // One attempt an hour is a machine that nobody switched off.
        assert!((1..50).all(|hour| !at(hour * 3_600, "slow seller", Toucher::FormerOwner)));
    }

    proptest! {
        #[test]
        fn every_stranger_is_told_of_and_a_flood_is_folded(attempts in 1u64..5_000) {
            let mut touches = Touches::new(10);
            let told = (0..attempts).filter(|i| touches.refused(UnixSeconds(i / 100), &1, Toucher::Stranger).is_some());
            let told = told.count() as u32;
            prop_assert!(told >= 1 && told <= attempts.ilog2() + 1, "{}", told);
        }
    }
}
