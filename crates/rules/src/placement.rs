//! Placement: the GPU that a renter's one-node cluster goes to, or why none fits.
//!
//! A pure choice over the GPUs that are registered; knows no owners and keeps nothing. [`index::Index`] answers the
//! same question without looking at every GPU.

pub mod index;

use gangline_types::{AdapterKind, GpuId, MicroCredits, Profile};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A GPU as a renter may get it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Offer {
    /// The GPU.
    pub gpu: GpuId,
    /// What it is.
    pub kind: AdapterKind,
    /// What it has proven.
    pub profile: Profile,
    /// Memory it says it has; 0 where it does not say.
    pub memory_bytes: u64,
    /// Price of an hour of it.
    pub price_per_hour: MicroCredits,
    /// Longest hire, in hours.
    pub hours_max: u32,
    /// Whether it is proven, connected, offered and free.
    pub rentable: bool,
}

/// What a renter asks for. The default asks for any GPU at any price.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Wish {
    /// Kinds that are welcome; empty means every kind.
    pub kinds: Vec<AdapterKind>,
    /// Least proven matrix rate, in millions of multiply-adds a second.
    pub matrix_mmacs_min: u64,
    /// Least memory.
    pub memory_bytes_min: u64,
    /// Highest price of an hour; none means any price.
    pub price_per_hour_max: Option<MicroCredits>,
    /// How long it is wanted, in hours; 0 means however long it is offered.
    pub hours: u32,
}

/// Why no GPU fits. Each GPU is counted once, under the first reason in this order, so the counts sum to
/// `registered`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{}", self.words())]
pub struct NoneFits {
    /// GPUs that were looked at.
    pub registered: u64,
    /// Not for hire now: not proven, not connected, not offered, or hired.
    pub not_rentable: u64,
    /// Of another kind.
    pub other_kind: u64,
    /// Proven rate below the least that was asked for.
    pub too_slow: u64,
    /// Less memory than asked for.
    pub too_little_memory: u64,
    /// Offered for fewer hours than asked for.
    pub too_short: u64,
    /// Fits but for its price.
    pub too_dear: u64,
    /// The lowest price among those that fit but for it.
    pub price_per_hour_least: Option<MicroCredits>,
}

impl NoneFits {
    fn words(&self) -> String {
        if self.registered == 0 {
            return "no GPU is registered".into();
        }
        let counts = [
            (self.not_rentable, "not for hire now"),
            (self.other_kind, "of another kind"),
            (self.too_slow, "too slow"),
            (self.too_little_memory, "with too little memory"),
            (self.too_short, "offered for fewer hours"),
            (self.too_dear, "too dear"),
        ];
        let reasons: Vec<_> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, why)| format!("{count} {why}"))
            .collect();
        let hint = self
            .price_per_hour_least
            .map(|price| format!("; the cheapest that fits costs {price} credits an hour"));
        format!("no GPU of {} fits: {}{}", self.registered, reasons.join(", "), hint.unwrap_or_default())
    }
}

/// The GPU for `wish`: of those that fit, the cheapest, then the fastest proven, then the smallest id.
pub fn choose<'a>(offers: &'a [Offer], wish: &Wish) -> Result<&'a Offer, NoneFits> {
    let mut none = NoneFits::default();
    let mut best: Option<&Offer> = None;
    let rank =
        |offer: &Offer| (offer.price_per_hour, std::cmp::Reverse(offer.profile.matrix_mmacs), offer.gpu);
    for offer in offers {
        none.registered += 1;
        if !offer.rentable {
            none.not_rentable += 1;
        } else if !wish.kinds.is_empty() && !wish.kinds.contains(&offer.kind) {
            none.other_kind += 1;
        } else if offer.profile.matrix_mmacs < wish.matrix_mmacs_min {
            none.too_slow += 1;
        } else if offer.memory_bytes < wish.memory_bytes_min {
            none.too_little_memory += 1;
        } else if offer.hours_max < wish.hours {
            none.too_short += 1;
        } else if wish.price_per_hour_max.is_some_and(|most| offer.price_per_hour > most) {
            none.too_dear += 1;
            let least = none.price_per_hour_least.get_or_insert(offer.price_per_hour);
            *least = offer.price_per_hour.min(*least);
        } else if best.is_none_or(|best| rank(offer) < rank(best)) {
            best = Some(offer);
        }
    }
    best.ok_or(none)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer(n: u8, matrix_mmacs: u64, price: u64) -> Offer {
        Offer {
            gpu: GpuId::from_bytes([n; 16]),
            kind: AdapterKind::Discrete,
            profile: Profile { matrix_mmacs, memory_bytes: 0 },
            memory_bytes: 8 << 30,
            price_per_hour: MicroCredits(price),
            hours_max: 24,
            rentable: true,
        }
    }

    #[test]
    fn cheapest_then_fastest_then_smallest_id() {
        let check = |offers: &[Offer], chosen: u8| {
            let wish = Wish::default();
            assert_eq!(choose(offers, &wish).map(|offer| offer.gpu), Ok(GpuId::from_bytes([chosen; 16])));
        };
        check(&[offer(1, 100, 5), offer(2, 10, 4)], 2);
        check(&[offer(1, 100, 5), offer(2, 200, 5)], 2);
        check(&[offer(2, 100, 5), offer(1, 100, 5)], 1);
    }

    #[test]
    fn a_refusal_counts_every_reason() {
        let offers = [
            Offer { rentable: false, ..offer(1, 100, 5) },
            Offer { kind: AdapterKind::Software, ..offer(2, 100, 5) },
            offer(3, 99, 5),
            Offer { memory_bytes: 1, ..offer(4, 100, 5) },
            Offer { hours_max: 1, ..offer(7, 100, 5) },
            offer(5, 100, 2_000_000),
            offer(6, 100, 1_500_000),
        ];
        let wish = Wish {
            kinds: vec![AdapterKind::Discrete, AdapterKind::Integrated],
            matrix_mmacs_min: 100,
            memory_bytes_min: 8 << 30,
            price_per_hour_max: Some(MicroCredits(1_000_000)),
            hours: 2,
        };
        assert_eq!(
            choose(&offers, &wish).unwrap_err().to_string(),
            "no GPU of 7 fits: 1 not for hire now, 1 of another kind, 1 too slow, 1 with too little memory, \
             1 offered for fewer hours, 2 too dear; the cheapest that fits costs 1.500000 credits an hour"
        );
        assert_eq!(choose(&[], &wish).unwrap_err().to_string(), "no GPU is registered");
        let dearer = Wish { price_per_hour_max: Some(MicroCredits(1_500_000)), ..wish };
        assert_eq!(choose(&offers, &dearer), Ok(&offers[6]));
    }

    proptest! {
        #[test]
        fn the_choice_fits_and_nothing_that_fits_is_better(
            gpus in prop::collection::vec((0..4u64, 0..4u64, any::<bool>()), 0..12),
            slowest in 0..4u64,
            dearest in 0..4u64,
        ) {
            let offers: Vec<_> = gpus.iter().enumerate().map(|(n, (rate, price, rentable))| {
                Offer { rentable: *rentable, ..offer(n as u8, *rate, *price) }
            }).collect();
            let wish = Wish {
                matrix_mmacs_min: slowest, price_per_hour_max: Some(MicroCredits(dearest)), ..Wish::default()
            };
            let fits = |offer: &&Offer| {
                offer.rentable && offer.profile.matrix_mmacs >= slowest && offer.price_per_hour.0 <= dearest
            };
            match choose(&offers, &wish) {
                Ok(chosen) => {
                    prop_assert!(fits(&chosen));
                    for other in offers.iter().filter(fits) {
                        prop_assert!(chosen.price_per_hour <= other.price_per_hour);
                    }
                }
                Err(none) => {
                    prop_assert_eq!(offers.iter().filter(fits).count(), 0);
                    let sum = none.not_rentable + none.other_kind + none.too_slow + none.too_little_memory + none.too_short + none.too_dear;
                    prop_assert_eq!(sum, none.registered);
                }
            }
        }
    }
}
