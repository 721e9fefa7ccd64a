//! Robust statistics in whole numbers: medians, quantiles, and how far honest values spread.
//!
//! Knows numbers only; not what they measure, nor who sent them. Nothing here uses floats, so the same
//! values give the same answer on every machine.

/// Thousandths: 1,150 is 1.15 times.
pub type Permille = u64;

/// The middle of `values`; of an even count the mean of the two middle ones, rounded down. `None` of none.
pub fn median(values: &[u64]) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some(((u128::from(sorted[middle - 1]) + u128::from(sorted[middle])) / 2) as u64),
    }
}

/// The value below which `permille` thousandths of `values` lie, by nearest rank. `None` of none.
pub fn quantile(values: &[u64], permille: Permille) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let last = sorted.len().checked_sub(1)?;
    let at = (sorted.len() as u128 * u128::from(permille.min(1000)) / 1000) as usize;
    Some(sorted[at.min(last)])
}

/// `part / whole` in thousandths, rounded down; the most there is where `whole` is 0.
pub fn ratio(part: u64, whole: u64) -> Permille {
    if whole == 0 {
        return Permille::MAX;
    }
    (u128::from(part) * 1000 / u128::from(whole)).min(u128::from(u64::MAX)) as u64
}

/// `value` times `permille` thousandths, rounded down.
pub fn times(value: u64, permille: Permille) -> u64 {
    (u128::from(value) * u128::from(permille) / 1000).min(u128::from(u64::MAX)) as u64
}

/// A seeded source of numbers for simulations that must come out the same everywhere (splitmix64, by
/// Sebastiano Vigna, public domain). For nothing that must be unforeseeable.
#[derive(Clone, Debug)]
pub struct Seeded(pub u64);

impl Seeded {
    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// A number below `bound`; 0 where `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }
    /// `values` in another order.
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            let other = self.below(last + 1);
            values.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_samples_have_the_expected_middles() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7]), Some(7));
        assert_eq!(median(&[9, 1]), Some(5));
        assert_eq!(median(&[u64::MAX, u64::MAX]), Some(u64::MAX));
        assert_eq!(quantile(&[], 500), None);
        assert_eq!(quantile(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 900), Some(10));
        assert_eq!(quantile(&[1, 2, 3], 0), Some(1));
        assert_eq!((ratio(3, 2), ratio(1, 0), times(200, 1150)), (1500, u64::MAX, 230));
    }

    proptest! {
        /// Whatever fewer than half of the values are, the median stays between two of the others.
        #[test]
        fn a_minority_cannot_move_a_median_beyond_the_others(
            honest in prop::collection::vec(1..1_000_000u64, 1..40),
            lies in prop::collection::vec(any::<u64>(), 0..39),
        ) {
            let lies = &lies[..lies.len().min(honest.len() - 1)];
            let all: Vec<u64> = honest.iter().chain(lies).copied().collect();
            let found = median(&all).unwrap();
            prop_assert!(found >= *honest.iter().min().unwrap() && found <= *honest.iter().max().unwrap());
        }

        #[test]
        fn a_shuffle_keeps_every_value(mut values: Vec<u64>, seed: u64) {
            let mut before = values.clone();
            Seeded(seed).shuffle(&mut values);
            before.sort_unstable();
            values.sort_unstable();
            prop_assert_eq!(before, values);
        }
    }
}
