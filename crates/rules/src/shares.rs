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
    // Fewer than 2^64 weights of less than 2^64 each: the sum fits in 128 bits, and so does a product.
    let total: u128 = weights.iter().map(|(_, weight)| *weight as u128).sum();
    if total == 0 {
        return vec![MicroCredits(0); weights.len()];
    }
    let mut parts = Vec::with_capacity(weights.len());
    let mut remainders = Vec::with_capacity(weights.len());
    let mut given: u64 = 0;
    for (at, (gpu, weight)) in weights.iter().enumerate() {
        let product = budget.0 as u128 * *weight as u128;
        // At most the budget, because the weight is at most the total.
        let whole = (product / total) as u64;
        given += whole;
        parts.push(MicroCredits(whole));
        remainders.push((Reverse(product % total), *gpu, at));
    }
    // The remainders sum to `left x total` and each is below `total`: more than `left` of them are above 0,
    // so no unit ever reaches a weight of 0.
    let left = (budget.0 - given) as usize;
    if left > 0 {
        remainders.select_nth_unstable(left - 1);
        for (_, _, at) in &remainders[..left] {
            parts[*at].0 += 1;
        }
    }
    parts
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
