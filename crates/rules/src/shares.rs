//! A budget split by weight into whole millionths of a credit that sum to it exactly.
//!
//! Knows only ids and weights: not what a weight is made of, nor who owns what.

use std::cmp::Reverse;

use gangline_types::{GpuId, MicroCredits, Share};

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
    let ordered: Vec<u64> = order.iter().map(|at| weights[*at].1).collect();
    let mut parts = vec![MicroCredits(0); weights.len()];
    for (at, part) in order.into_iter().zip(split_ordered(budget, &ordered)) {
        parts[at] = part;
    }
    parts
}

/// The same for weights that stand in the order of their GPU ids: one pass of multiplications, a division
/// only for the sum.
pub fn split_ordered(budget: MicroCredits, weights: &[u64]) -> Vec<Share> {
    // Fewer than 2^64 weights of less than 2^64 each: the sum fits in 128 bits, and so does a product.
    let total: u128 = weights.iter().map(|weight| *weight as u128).sum();
    if total == 0 {
        return vec![MicroCredits(0); weights.len()];
    }
    let mut parts = Vec::with_capacity(weights.len());
    // Remainders by their size alone: within one size the smaller id, which stands first, goes before.
    let mut remainders = Vec::with_capacity(weights.len());
    let mut given: u64 = 0;
    // budget / total in 64 binary places, cut: at most the budget, because a weight is at most the total.
    let per_weight = ((budget.0 as u128) << 64) / total;
    for weight in weights {
        // What was cut is less than 2^-64 a unit of weight, so less than 1 in all: right, or one too small.
        let mut whole = whole_part(per_weight, *weight);
        let mut remainder = budget.0 as u128 * *weight as u128 - whole as u128 * total;
        if remainder >= total {
            whole += 1;
            remainder -= total;
        }
        given += whole;
        parts.push(MicroCredits(whole));
        remainders.push(remainder);
    }
    // The remainders sum to `left x total` and each is below `total`: more than `left` of them are above 0,
    // so no unit ever reaches a weight of 0.
    let left = (budget.0 - given) as usize;
    if left > 0 {
        let least = least_rewarded(&remainders, total, left);
        let above = remainders.iter().filter(|remainder| **remainder > least).count();
        let mut of_the_least = left - above;
        for (part, remainder) in parts.iter_mut().zip(&remainders) {
            if *remainder > least {
                part.0 += 1;
            } else if *remainder == least && of_the_least > 0 {
                of_the_least -= 1;
                part.0 += 1;
            }
        }
    }
    parts
}

/// `per_weight x weight / 2^64`, cut, where `per_weight` is at most 2^128 - 1 and the result fits.
fn whole_part(per_weight: u128, weight: u64) -> u64 {
    let (high, low) = ((per_weight >> 64) as u64, per_weight as u64);
    let below = (low as u128 * weight as u128) >> 64;
    (high as u128 * weight as u128 + below) as u64
}

/// Sizes that remainders are first counted by.
const SIZES: usize = 4096;

/// The smallest of the `left` largest remainders. They are counted by size, and only those of one size are
/// looked at closely.
fn least_rewarded(remainders: &[u128], total: u128, left: usize) -> u128 {
    // Of a total and of what is below it, the same leading bits.
    let shift = (128 - total.leading_zeros()).saturating_sub(12);
    let size = |remainder: u128| ((remainder >> shift) as usize).min(SIZES - 1);
    let mut counts = vec![0usize; SIZES];
    for remainder in remainders {
        counts[size(*remainder)] += 1;
    }
    let mut above = 0;
    let mut at = SIZES - 1;
    while above + counts[at] < left {
        above += counts[at];
        at -= 1;
    }
    let mut close: Vec<u128> = remainders.iter().copied().filter(|r| size(*r) == at).collect();
    let (_, least, _) = close.select_nth_unstable_by_key(left - above - 1, |remainder| Reverse(*remainder));
    *least
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

    fn any_weight() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), Just(u64::MAX), 0..10u64, any::<u64>()]
    }

    proptest! {
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
