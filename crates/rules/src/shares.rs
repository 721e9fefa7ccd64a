//! A budget split by weight into whole millionths of a credit that sum to it exactly.
//!
//! Knows only ids, weights and standings: not what a weight is made of, nor who owns what.

use std::cmp::Reverse;

use gangline_types::{GpuId, MicroCredits, Share, Standing};

/// What one GPU has of the shares of its snapshots, taken in order. A share of a suspect GPU is held until the GPU is
/// proven again, and then paid in full; only fraud loses what is held, and nothing loses what was paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purse {
    /// Paid, in millionths of a credit.
    pub paid: u64,
    /// Held, in millionths of a credit.
    pub held: u64,
}

impl Purse {
    /// Takes the share of the next snapshot in, in which the GPU stood like this.
    pub fn take(&mut self, standing: Standing, share: Share) {
        match standing {
            Standing::Proven => {
                self.paid = self.paid.saturating_add(self.held).saturating_add(share.0);
                self.held = 0;
            }
            Standing::Quarantined => self.held = 0,
            Standing::Suspect | Standing::Unproven | Standing::Retired => {
                self.held = self.held.saturating_add(share.0);
            }
        }
    }
}

/// The parts of `budget`, one for each of `weights` and in their order.
///
/// Largest remainder (Hamilton's method): each gets the whole part of `budget x weight / sum`, and the
/// units left over go one each to the largest remainders, ties to the smaller GPU id. The parts sum to
/// `budget` exactly, or to 0 where no weight is above 0; a weight of 0 gets 0; a larger weight never gets
/// less. The ids are expected to be distinct; the order of the input then changes nobody's part.
///
/// ```
/// # use gangline_types::{GpuId, MicroCredits};
/// let gpu = |n| GpuId::from_bytes([n; 16]);
/// let parts = gangline_rules::shares::split(MicroCredits(100), &[(gpu(1), 1), (gpu(2), 1), (gpu(3), 1)]);
/// assert_eq!(parts, [MicroCredits(34), MicroCredits(33), MicroCredits(33)]);
/// ```
pub fn split(budget: MicroCredits, weights: &[(GpuId, u64)]) -> Vec<Share> {
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_unstable_by_key(|at| weights[*at].0);
    let mut split = Split::new(budget, order.len(), |at| weights[order[at]].1);
    let mut parts = vec![MicroCredits(0); weights.len()];
    for at in order {
        parts[at] = split.part(weights[at].1);
    }
    parts
}

/// The same for weights that stand in the order of their GPU ids, one part after another. Weights are asked for three times and
/// neither they nor the parts are kept: memory that is new costs more than the multiplications.
pub struct Split(Width);

/// Remainders are of one size for all of a split.
enum Width {
    Nothing,
    Narrow(Parts<u64>),
    Wide(Parts<u128>),
}

impl Split {
    /// Of `budget` by so many weights, told by their place.
    pub fn new(budget: MicroCredits, count: usize, weight: impl Fn(usize) -> u64) -> Self {
        // Fewer than 2^64 weights of less than 2^64 each: the sum fits in 128 bits, and so does a product.
        let total: u128 = (0..count).map(|at| weight(at) as u128).sum();
        Self(match u64::try_from(total) {
            Ok(0) => Width::Nothing,
            // A remainder that is one total too large still fits.
            Ok(total) if total < 1 << 63 => Width::Narrow(Parts::new(budget.0, total, count, weight)),
            _ => Width::Wide(Parts::new(budget.0, total, count, weight)),
        })
    }
    /// Whether no weight is above 0.
    pub fn is_of_nothing(&self) -> bool {
        matches!(self.0, Width::Nothing)
    }
    /// The part of the next weight: to be asked for in the order of places, each once.
    #[inline(always)]
    pub fn part(&mut self, weight: u64) -> Share {
        MicroCredits(match &mut self.0 {
            Width::Nothing => 0,
            Width::Narrow(parts) => parts.part(weight),
            Width::Wide(parts) => parts.part(weight),
        })
    }
}

/// A number that remainders fit in, and those that are one total too large.
trait Remainder: Copy + Ord + Into<u128> + std::ops::SubAssign {
    /// What is left of `budget x weight` after so many whole times the total.
    fn of(budget: u64, weight: u64, whole: u64, total: Self) -> Self;
    /// Its first eight bits, where that many stand above `shift`.
    fn size(self, shift: u32) -> u8;
}

impl Remainder for u64 {
    fn of(budget: u64, weight: u64, whole: u64, total: Self) -> Self {
        budget.wrapping_mul(weight).wrapping_sub(whole.wrapping_mul(total))
    }
    fn size(self, shift: u32) -> u8 {
        (self >> shift) as u8
    }
}

impl Remainder for u128 {
    fn of(budget: u64, weight: u64, whole: u64, total: Self) -> Self {
        budget as u128 * weight as u128 - whole as u128 * total
    }
    fn size(self, shift: u32) -> u8 {
        (self >> shift) as u8
    }
}

/// What is the same for every weight: a division only for the sum.
struct Parts<R> {
    budget: u64,
    total: R,
    /// budget / total in 64 binary places, cut: at most the budget, because a weight is at most the total.
    per_weight: u128,
    /// The smallest remainder that a unit left over goes to, and how many of that size get one.
    least: R,
    of_the_least: usize,
}

impl<R: Remainder> Parts<R> {
    fn new(budget: u64, total: R, count: usize, weight: impl Fn(usize) -> u64) -> Self {
        let per_weight = ((budget as u128) << 64) / total.into();
        // No remainder is as large as the total.
        let mut parts = Self { budget, total, per_weight, least: total, of_the_least: 0 };
        // Remainders by their first bits: a byte each is kept, and only those of one size are looked at closely.
        let shift = (128 - total.into().leading_zeros()).saturating_sub(8);
        let mut counts = [0usize; 256];
        let mut given = 0;
        let mut sizes = Vec::with_capacity(count);
        sizes.extend((0..count).map(|at| {
            let (whole, left) = parts.whole(weight(at));
            given += whole;
            let size = left.size(shift);
            counts[usize::from(size)] += 1;
            size
        }));
        // The remainders sum to `left x total` and each is below `total`: more than `left` of them are above 0,
        // so no unit ever reaches a weight of 0.
        let left = (budget - given) as usize;
        if left > 0 {
            let mut above = 0;
            let mut of = u8::MAX;
            while above + counts[usize::from(of)] < left {
                above += counts[usize::from(of)];
                of -= 1;
            }
            let mut close: Vec<R> = Vec::with_capacity(counts[usize::from(of)]);
            for (n, sizes) in sizes.chunks(64).enumerate() {
                // Most have none, which is seen of all of them at once.
                if sizes.iter().fold(false, |any, size| any | (*size == of)) {
                    let those = sizes.iter().enumerate().filter(|(_, size)| **size == of);
                    close.extend(those.map(|(at, _)| parts.whole(weight(n * 64 + at)).1));
                }
            }
            let (larger, least, _) =
                close.select_nth_unstable_by_key(left - above - 1, |left| Reverse(*left));
            // Of those before it in that order some may be as large.
            above += larger.iter().filter(|other| **other > *least).count();
            (parts.least, parts.of_the_least) = (*least, left - above);
        }
        parts
    }

    /// The whole part of a weight, and the remainder.
    #[inline(always)]
    fn whole(&self, weight: u64) -> (u64, R) {
        // What was cut is less than 2^-64 a unit of weight, so less than 1 in all: right, or one too small.
        let mut whole = whole_part(self.per_weight, weight);
        let mut left = R::of(self.budget, weight, whole, self.total);
        if left >= self.total {
            whole += 1;
            left -= self.total;
        }
        (whole, left)
    }

    /// Remainders go by their size alone: within one size the smaller id, which stands first, goes before.
    #[inline(always)]
    fn part(&mut self, weight: u64) -> u64 {
        let (whole, left) = self.whole(weight);
        if left == self.least && self.of_the_least > 0 {
            self.of_the_least -= 1;
            return whole + 1;
        }
        whole + u64::from(left > self.least)
    }
}

/// `per_weight x weight / 2^64`, cut, where `per_weight` is at most 2^128 - 1 and the result fits.
#[inline(always)]
fn whole_part(per_weight: u128, weight: u64) -> u64 {
    let (high, low) = ((per_weight >> 64) as u64, per_weight as u64);
    let below = (low as u128 * weight as u128) >> 64;
    (high as u128 * weight as u128 + below) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gpu(n: u32) -> GpuId {
        let mut bytes = [0; 16];
        bytes[12..].copy_from_slice(&n.to_be_bytes());
        GpuId::from_bytes(bytes)
    }
    fn numbered(weights: &[u64]) -> Vec<(GpuId, u64)> {
        weights.iter().enumerate().map(|(i, w)| (gpu(i as u32), *w)).collect()
    }
    fn check(budget: u64, weights: &[u64], expected: &[u64]) {
        let parts: Vec<u64> =
            split(MicroCredits(budget), &numbered(weights)).iter().map(|part| part.0).collect();
        assert_eq!(parts, expected);
    }

    #[test]
    fn small_cases() {
        check(100, &[], &[]);
        check(100, &[0, 0], &[0, 0]);
        check(0, &[1, 2], &[0, 0]);
        check(100, &[5], &[100]);
        check(1, &[1, 1, 1], &[1, 0, 0]);
        check(2, &[1, 0, 1, 1], &[1, 0, 1, 0]);
        check(10, &[6, 3, 2], &[5, 3, 2]);
        check(u64::MAX, &[u64::MAX, u64::MAX], &[u64::MAX / 2 + 1, u64::MAX / 2]);
        check(u64::MAX, &[u64::MAX; 3], &[u64::MAX / 3; 3]);
    }

    /// The definition, worked out for each by itself.
    fn by_definition(budget: u64, weights: &[u64]) -> Vec<u64> {
        let total: u128 = weights.iter().map(|weight| *weight as u128).sum();
        let exact = |weight: &u64| budget as u128 * *weight as u128;
        let mut parts: Vec<u64> = weights.iter().map(|weight| (exact(weight) / total) as u64).collect();
        let mut order: Vec<usize> = (0..weights.len()).collect();
        order.sort_by_key(|at| Reverse(exact(&weights[*at]) % total));
        for at in order.into_iter().take((budget - parts.iter().sum::<u64>()) as usize) {
            parts[at] += 1;
        }
        parts
    }

    #[test]
    fn thousands_of_parts_are_those_of_the_definition() {
        let weight = |n: u64, of: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % of;
        for (budget, of) in
            [(1_000_000_000_000, 90_000_000), (12_345, 7), (999, 1 << 40), (u64::MAX, u64::MAX)]
        {
            let weights: Vec<u64> = (0..3000).map(|n| weight(n, of)).collect();
            check(budget, &weights, &by_definition(budget, &weights));
        }
        check(2_999, &[5; 3000], &by_definition(2_999, &[5; 3000]));
    }

    #[test]
    fn a_suspects_shares_are_held_and_paid_in_full_once_it_is_proven_again() {
        use Standing::*;
        let check = |taken: &[(Standing, u64)], paid, held| {
            let mut purse = Purse::default();
            taken.iter().for_each(|(standing, share)| purse.take(*standing, MicroCredits(*share)));
            assert_eq!(purse, Purse { paid, held }, "{taken:?}");
        };
        check(&[(Proven, 5), (Suspect, 3), (Suspect, 4)], 5, 7);
        check(&[(Proven, 5), (Suspect, 3), (Suspect, 4), (Proven, 1)], 13, 0);
        check(&[(Proven, 5), (Suspect, 3), (Unproven, 0), (Proven, 0)], 8, 0);
        // Fraud loses what is held, never what was paid.
        check(&[(Proven, 5), (Suspect, 3), (Quarantined, 0), (Proven, 1)], 6, 0);
    }

    fn any_weight() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), Just(u64::MAX), 0..10u64, any::<u64>()]
    }

    proptest! {
        /// Without fraud nothing is ever lost, in whatever order standings come.
        #[test]
        fn a_purse_loses_nothing_but_by_fraud(taken in prop::collection::vec((0..4u8, 0..1_000_000u64), 0..30)) {
            let mut purse = Purse::default();
            let mut sum = 0;
            for (standing, share) in taken {
                let standing = [Standing::Proven, Standing::Suspect, Standing::Unproven, Standing::Retired]
                    [usize::from(standing)];
                let before = purse;
                purse.take(standing, MicroCredits(share));
                sum += share;
                prop_assert_eq!(purse.paid + purse.held, sum);
                prop_assert!(purse.paid >= before.paid);
            }
        }

        #[test]
        fn sums_exactly_is_monotone_and_gives_nothing_for_nothing(
            budget in prop_oneof![0..50u64, any::<u64>()],
            weights in prop::collection::vec(any_weight(), 0..40),
        ) {
            let parts = split(MicroCredits(budget), &numbered(&weights));
            let sum: u128 = parts.iter().map(|part| part.0 as u128).sum();
            let earned = weights.iter().any(|weight| *weight > 0);
            prop_assert_eq!(sum, if earned { budget as u128 } else { 0 });
            for i in 0..weights.len() {
                prop_assert!(weights[i] > 0 || parts[i].0 == 0);
                for j in 0..weights.len() {
                    prop_assert!(weights[i] < weights[j] || parts[i] >= parts[j] || weights[i] == weights[j]);
                    prop_assert!(weights[i] != weights[j] || parts[i].0.abs_diff(parts[j].0) <= 1);
                }
            }
        }

        #[test]
        fn the_order_of_the_input_changes_nobodys_part(
            budget in any::<u64>(),
            (sorted, shuffled) in prop::collection::vec(any_weight(), 1..30).prop_flat_map(|weights| {
                let input = numbered(&weights);
                (Just(input.clone()), Just(input).prop_shuffle())
            }),
        ) {
            let by_id = |input: &[(GpuId, u64)]| {
                let mut parts: Vec<_> =
                    input.iter().map(|(id, _)| *id).zip(split(MicroCredits(budget), input)).collect();
                parts.sort();
                parts
            };
            prop_assert_eq!(by_id(&sorted), by_id(&shuffled));
        }
    }
}
