//! Metering: what a cluster's seconds cost, and the receipt that closes it.
//!
//! Only seconds in `running` count ([`crate::lifecycle::ClusterState::is_metered`]). Whole seconds and
//! millionths of a credit throughout. Knows no renter and no signature: it gives the bytes to sign.

use gangline_types::{ClusterId, GpuId, MicroCredits, UnixSeconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// Why a cluster ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndedBecause {
    /// The renter released it.
    Released,
    /// Its owner took the machine back, or refused it.
    Owner,
    /// It could not be started.
    StartFailed,
    /// Its container ended unasked.
    Gone,
    /// Its machine fell silent.
    MachineSilent,
}

impl EndedBecause {
    /// Words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Released => "released by the renter",
            Self::Owner => "ended by the machine's owner",
            Self::StartFailed => "could not be started",
            Self::Gone => "its container ended",
            Self::MachineSilent => "its machine fell silent",
        }
    }
    /// Part of the signed bytes: never renumber.
    fn code(self) -> u8 {
        match self {
            Self::Released => 0,
            Self::Owner => 1,
            Self::StartFailed => 2,
            Self::Gone => 3,
            Self::MachineSilent => 4,
        }
    }
}

/// What a cluster used and cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Receipt {
    /// The cluster.
    pub cluster: ClusterId,
    /// The GPU it ran on.
    pub gpu: GpuId,
    /// When it began to run; the same as its end if it never ran.
    pub started_at: UnixSeconds,
    /// When it stopped running.
    pub ended_at: UnixSeconds,
    /// Seconds charged.
    pub seconds: u64,
    /// Price of an hour, as agreed.
    pub price_per_hour: MicroCredits,
    /// Price of those seconds.
    pub cost: MicroCredits,
    /// Why it ended.
    pub ended_because: EndedBecause,
}

impl Receipt {
    /// The receipt of a cluster that ran from `started_at` (none: it never ran) to `ended_at`.
    pub fn close(
        cluster: ClusterId,
        gpu: GpuId,
        started_at: Option<UnixSeconds>,
        ended_at: UnixSeconds,
        price_per_hour: MicroCredits,
        ended_because: EndedBecause,
    ) -> Self {
        let started_at = started_at.unwrap_or(ended_at);
        let seconds = usage_seconds(started_at, ended_at);
        let cost = cost(price_per_hour, seconds);
        Self { cluster, gpu, started_at, ended_at, seconds, price_per_hour, cost, ended_because }
    }
    /// Whether its seconds and cost follow from its times and price.
    pub fn adds_up(&self) -> bool {
        self.seconds == usage_seconds(self.started_at, self.ended_at)
            && self.cost == cost(self.price_per_hour, self.seconds)
    }
    /// The bytes that are signed: a name of what this is, then every field at a fixed place, integers in
    /// little-endian order.
    pub fn signing_bytes(&self) -> Vec<u8> {
        let mut bytes = b"gangline 2026 receipt\0".to_vec();
        bytes.extend(self.cluster.as_bytes());
        bytes.extend(self.gpu.as_bytes());
        let fields = [self.started_at.0, self.ended_at.0, self.seconds, self.price_per_hour.0, self.cost.0];
        fields.iter().for_each(|field| bytes.extend(field.to_le_bytes()));
        bytes.push(self.ended_because.code());
        bytes
    }
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
        Receipt::close(cluster, gpu, started, ended, MicroCredits(400_000), EndedBecause::Released)
    }

    #[test]
    fn a_receipt_adds_up() {
        let receipt = receipt();
        assert_eq!((receipt.seconds, receipt.cost), (90, MicroCredits(10_000)));
        assert!(receipt.adds_up());
        assert!(!Receipt { seconds: 91, ..receipt.clone() }.adds_up());
        assert!(!Receipt { cost: MicroCredits(10_001), ..receipt.clone() }.adds_up());
        let never = Receipt::close(
            receipt.cluster,
            receipt.gpu,
            None,
            UnixSeconds(5),
            MicroCredits(9),
            EndedBecause::StartFailed,
        );
        assert_eq!((never.seconds, never.cost), (0, MicroCredits(0)));
        let json = serde_json::to_string(&receipt).unwrap();
        assert_eq!(serde_json::from_str::<Receipt>(&json).unwrap(), receipt);
    }

    #[test]
    fn every_field_is_signed() {
        let changes: [fn(&mut Receipt); 9] = [
            |_| (),
            |receipt| receipt.cluster = ClusterId::from_bytes([9; 16]),
            |receipt| receipt.gpu = GpuId::from_bytes([9; 16]),
            |receipt| receipt.started_at.0 += 1,
            |receipt| receipt.ended_at.0 += 1,
            |receipt| receipt.seconds += 1,
            |receipt| receipt.price_per_hour.0 += 1,
            |receipt| receipt.cost.0 += 1,
            |receipt| receipt.ended_because = EndedBecause::Gone,
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
        assert!(bytes.iter().all(|bytes| bytes.starts_with(b"gangline 2026 receipt\0") && bytes.len() == 95));
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
