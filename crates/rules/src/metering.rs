//! Metering: what a cluster's seconds cost, and the receipt that closes it.
//!
//! Only seconds in `running` count ([`crate::lifecycle::ClusterState::is_metered`]). Whole seconds and
//! millionths of a credit throughout. Knows no renter and no signature: it gives the bytes to sign.

pub use gangline_types::receipt::{EndedBecause, Receipt};
use gangline_types::{ClusterId, GpuId, MicroCredits, Seconds, UnixSeconds};

/// Seconds of use; 0 where the end is not after the start.
pub fn usage_seconds(started: UnixSeconds, ended: UnixSeconds) -> u64 {
    ended.since(started)
}

/// `price_per_hour x seconds / 3600`, a half millionth rounded up; 2^64 - 1 where it is larger.
pub fn cost(price_per_hour: MicroCredits, seconds: u64) -> MicroCredits {
    // Both factors are below 2^64, so the product leaves room for the half.
    let cost = (price_per_hour.0 as u128 * seconds as u128 + 1800) / 3600;
    MicroCredits(u64::try_from(cost).unwrap_or(u64::MAX))
}

/// The receipt of a cluster that ended. One that never ran (`started_at` is none) costs nothing.
pub fn close(
    cluster: ClusterId,
    gpu: GpuId,
    started_at: Option<UnixSeconds>,
    ended_at: UnixSeconds,
    price_per_hour: MicroCredits,
    because: EndedBecause,
) -> Receipt {
    let seconds = usage_seconds(started_at.unwrap_or(ended_at), ended_at);
    let cost = cost(price_per_hour, seconds);
    Receipt { cluster, gpu, started_at, ended_at, used: Seconds(seconds), price_per_hour, cost, because }
}

/// Whether a receipt's seconds and cost follow from its times and price.
pub fn adds_up(receipt: &Receipt) -> bool {
    let started_at = receipt.started_at.unwrap_or(receipt.ended_at);
    receipt.used.0 == usage_seconds(started_at, receipt.ended_at)
        && receipt.cost == cost(receipt.price_per_hour, receipt.used.0)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn costs_are_rounded_half_up() {
        let check = |price, seconds, expected| assert_eq!(cost(MicroCredits(price), seconds).0, expected);
        check(3_600_000, 1, 1000);
        check(1, 1799, 0);
        check(1, 1800, 1);
        check(1, 5399, 1);
        check(1, 5400, 2);
        check(0, u64::MAX, 0);
        check(u64::MAX, 3600, u64::MAX);
        check(u64::MAX, u64::MAX, u64::MAX);
    }

    fn receipt() -> Receipt {
        let (cluster, gpu) = (ClusterId::from_bytes([1; 16]), GpuId::from_bytes([2; 16]));
        let (started, ended) = (Some(UnixSeconds(1000)), UnixSeconds(1090));
        close(cluster, gpu, started, ended, MicroCredits(400_000), EndedBecause::Released)
    }

    #[test]
    fn a_receipt_adds_up() {
        let receipt = receipt();
        assert_eq!((receipt.used.0, receipt.cost), (90, MicroCredits(10_000)));
        assert!(adds_up(&receipt));
        assert!(!adds_up(&Receipt { used: Seconds(91), ..receipt }));
        assert!(!adds_up(&Receipt { cost: MicroCredits(10_001), ..receipt }));
        let never =
            close(receipt.cluster, receipt.gpu, None, UnixSeconds(5), MicroCredits(9), EndedBecause::Failed);
        assert_eq!((never.used.0, never.cost), (0, MicroCredits(0)));
        let json = serde_json::to_string(&receipt).unwrap();
        assert_eq!(serde_json::from_str::<Receipt>(&json).unwrap(), receipt);
    }

    #[test]
    fn every_field_is_signed() {
        let changes: [fn(&mut Receipt); 9] = [
            |_| (),
            |receipt| receipt.cluster = ClusterId::from_bytes([9; 16]),
            |receipt| receipt.gpu = GpuId::from_bytes([9; 16]),
            |receipt| receipt.started_at = None,
            |receipt| receipt.ended_at.0 += 1,
            |receipt| receipt.used.0 += 1,
            |receipt| receipt.price_per_hour.0 += 1,
            |receipt| receipt.cost.0 += 1,
            |receipt| receipt.because = EndedBecause::Failed,
        ];
        let bytes: HashSet<_> = changes
            .iter()
            .map(|change| {
                let mut changed = receipt();
                change(&mut changed);
                changed.signing_bytes()
            })
            .collect();
        assert_eq!(bytes.len(), changes.len());
        assert!(bytes.iter().all(|bytes| bytes.starts_with(b"gangline 2026 receipt\0") && bytes.len() == 96));
    }

    proptest! {
        #[test]
        fn cost_is_within_half_a_millionth(price in 0..u32::MAX as u64, seconds in 0..u32::MAX as u64) {
            let exact = price as i128 * seconds as i128;
            let error = cost(MicroCredits(price), seconds).0 as i128 * 3600 - exact;
            prop_assert!((-1799..=1800).contains(&error));
        }
    }
}
