//! How many different things: one by one up to 64, then estimated from 1,024 bytes by HyperLogLog
//! (Flajolet, Fusy, Gandouet and Meunier 2007), whose standard error there is 1.04 / sqrt(1024) = 3.25 %.
//!
//! Things are hashed with a salt that comes in: who does not know it cannot choose things that collide.

use std::collections::BTreeSet;

use gangline_types::UnixSeconds;

/// So many are held one by one.
pub const EXACT_MAX: usize = 64;
const REGISTERS: usize = 1_024;
const REGISTER_BITS: u32 = REGISTERS.trailing_zeros();
/// One standard error of an estimate, as a share of it.
pub const STANDARD_ERROR: f64 = 0.0325;

/// The secret of the hashes. Random, made at the edge, the same for as long as counts are to be merged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Salt([u8; 32]);

impl Salt {
    /// From 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// The hash of a thing.
    pub fn hash(&self, thing: &[u8]) -> u64 {
        let hash = blake3::keyed_hash(&self.0, thing);
        let [a, b, c, d, e, f, g, h, ..] = *hash.as_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A count, and whether it is one or an estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Count {
    /// How many.
    pub distinct: f64,
    /// Counted one by one.
    pub exact: bool,
}

impl Count {
    /// Surely more than `line`: by count, or by six standard errors of an estimate (a chance of 10^-9 that
    /// an estimate errs so far, as they are close to normal).
    pub fn exceeds(&self, line: f64) -> bool {
        self.distinct > if self.exact { line } else { line * (1.0 + 6.0 * STANDARD_ERROR) }
    }
}

/// Different things, by their hashes.
#[derive(Clone, Debug)]
pub enum Distinct {
    /// One by one.
    Few(BTreeSet<u64>),
    /// Estimated.
    Many(Box<[u8; REGISTERS]>),
}

impl Default for Distinct {
    fn default() -> Self {
        Self::Few(BTreeSet::new())
    }
}

impl Distinct {
    /// Adds a thing by its hash.
    pub fn add(&mut self, hash: u64) {
        match self {
            Self::Few(hashes) => {
                hashes.insert(hash);
                if hashes.len() > EXACT_MAX {
                    let mut registers = Box::new([0; REGISTERS]);
                    hashes.iter().for_each(|hash| raise(&mut registers, *hash));
                    *self = Self::Many(registers);
                }
            }
            Self::Many(registers) => raise(registers, hash),
        }
    }
    /// Adds all that `other` has.
    pub fn merge(&mut self, other: &Self) {
        match other {
            Self::Few(hashes) => hashes.iter().for_each(|hash| self.add(*hash)),
            Self::Many(theirs) => {
                let mut registers = theirs.clone();
                match self {
                    Self::Few(hashes) => hashes.iter().for_each(|hash| raise(&mut registers, *hash)),
                    Self::Many(ours) => {
                        registers.iter_mut().zip(ours.iter()).for_each(|(a, b)| *a = (*a).max(*b));
                    }
                }
                *self = Self::Many(registers);
            }
        }
    }
    /// How many.
    pub fn count(&self) -> Count {
        match self {
            Self::Few(hashes) => Count { distinct: hashes.len() as f64, exact: true },
            Self::Many(registers) => Count { distinct: estimate(registers), exact: false },
        }
    }
}

fn raise(registers: &mut [u8; REGISTERS], hash: u64) {
    let at = (hash >> (64 - REGISTER_BITS)) as usize;
    // The position of the first 1 among the other 54 bits; a stop bit ends a row of zeros.
    let rank = ((hash << REGISTER_BITS) | (1 << (REGISTER_BITS - 1))).leading_zeros() as u8 + 1;
    registers[at] = registers[at].max(rank);
}

fn estimate(registers: &[u8; REGISTERS]) -> f64 {
    let size = REGISTERS as f64;
    let sum: f64 = registers.iter().map(|rank| (-f64::from(*rank)).exp2()).sum();
    let raw = 0.7213 / (1.0 + 1.079 / size) * size * size / sum;
    let empty = registers.iter().filter(|rank| **rank == 0).count();
    if raw <= 2.5 * size && empty > 0 { size * (size / empty as f64).ln() } else { raw }
}

/// Different things of the last one to two spans of time.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    span: u64,
    now: Distinct,
    before: Distinct,
}

impl Recent {
    /// Adds a thing seen at `at`, and counts those of this span of `seconds` and the one before. A clock
    /// that steps back adds to the newest span.
    pub fn add(&mut self, at: UnixSeconds, seconds: u64, hash: u64) -> Count {
        let span = at.0 / seconds.max(1);
        if span > self.span {
            let now = std::mem::take(&mut self.now);
            self.before = if span == self.span + 1 { now } else { Distinct::default() };
            self.span = span;
        }
        self.now.add(hash);
        let mut both = self.now.clone();
        both.merge(&self.before);
        both.count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: Salt = Salt([7; 32]);

    fn of(things: impl Iterator<Item = u64>) -> Distinct {
        let mut distinct = Distinct::default();
        things.for_each(|thing| distinct.add(SALT.hash(&thing.to_be_bytes())));
        distinct
    }

    #[test]
    fn exact_then_close() {
        assert_eq!(of((0..64).chain(0..64)).count(), Count { distinct: 64.0, exact: true });
        for many in [65u64, 500, 2_000, 2_600, 3_000, 10_000, 100_000] {
            let count = of(0..many).count();
            let error = (count.distinct / many as f64 - 1.0).abs();
            assert!(!count.exact && error < 4.0 * STANDARD_ERROR, "{many}: {}", count.distinct);
            assert!(!count.exceeds(many as f64));
            assert!(count.exceeds(many as f64 * 0.7));
        }
        assert_eq!(format!("{SALT:?}"), "[redacted]");
    }

    #[test]
    fn spans_pass() {
        let mut recent = Recent::default();
        let mut add =
            |at, thing: u64| recent.add(UnixSeconds(at), 100, SALT.hash(&thing.to_be_bytes())).distinct;
        assert_eq!(add(50, 1), 1.0);
        assert_eq!(add(150, 2), 2.0);
        assert_eq!(add(250, 3), 2.0);
        assert_eq!(add(90, 4), 3.0);
        assert_eq!(add(450, 5), 1.0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn merging_is_adding_and_order_does_not_matter(a in 0u64..300, b in 0u64..300, overlap in 0u64..300) {
            let (one, other) = (of(0..a), of(a.saturating_sub(overlap)..a + b));
            let all = of((0..a + b).rev()).count();
            let mut merged = one.clone();
            merged.merge(&other);
            prop_assert_eq!(merged.count(), all);
            let mut merged = other;
            merged.merge(&one);
            prop_assert_eq!(merged.count(), all);
        }
    }
}
