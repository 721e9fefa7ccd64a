//! Offers kept in the order in which they are chosen, so that a hire looks at a handful of 600,000.
//!
//! One bucket for each kind and class of speed, in it the offers by price, proven rate and id: whoever wants a fast
//! GPU passes over no slow ones, and whoever takes any merges some dozen buckets. Whoever keeps it says what became
//! rentable and what no longer is; it holds nothing else, and the books still have the last word.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, btree_map},
};

use gangline_types::{AdapterKind, GpuId, MicroCredits};

use super::{NoneFits, Offer, Wish};

/// Kind as claimed, and half octave of the proven rate.
type Class = (AdapterKind, u8);
/// The order of choice: cheapest, then fastest proven, then the smallest id.
type Rank = (MicroCredits, Reverse<u64>, GpuId);

fn rank(offer: &Offer) -> Rank {
    (offer.price_per_hour, Reverse(offer.profile.matrix_mmacs), offer.gpu)
}

/// Which half octave a rate is in: 4 and 5 are in one, 6 and 7 in the next, 8 to 11 in the one after it.
fn half_octave(rate: u64) -> u8 {
    let octave = 63 - (rate | 1).leading_zeros() as u8;
    2 * octave + if octave > 0 { (rate >> (octave - 1) & 1) as u8 } else { 0 }
}

/// What an offer says beside its rank.
#[derive(Clone, Copy, Debug)]
struct Terms {
    memory_bytes: u64,
    hours_max: u32,
}

/// Offers of one class.
#[derive(Debug)]
struct Bucket {
    kind: AdapterKind,
    offers: BTreeMap<Rank, Terms>,
    /// No offer in it was ever faster: a bucket below a wish's rate is passed over whole.
    fastest: u64,
}

/// Rentable offers by class, each bucket in the order of choice.
#[derive(Debug, Default)]
pub struct Index {
    held: HashMap<GpuId, (u32, Rank)>,
    classes: BTreeMap<Class, u32>,
    buckets: Vec<Bucket>,
}

/// One bucket's next offer, for merging buckets.
struct Head<'a> {
    rank: Rank,
    rest: btree_map::Iter<'a, Rank, Terms>,
}

impl Index {
    /// Offers it holds.
    pub fn len(&self) -> usize {
        self.held.len()
    }
    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes an offer in, in place of what was there for the same GPU; one that is not rentable is taken out.
    pub fn set(&mut self, offer: &Offer) {
        self.remove(offer.gpu);
        if !offer.rentable {
            return;
        }
        let class = (offer.kind, half_octave(offer.profile.matrix_mmacs));
        let buckets = &mut self.buckets;
        let bucket = *self.classes.entry(class).or_insert_with(|| {
            buckets.push(Bucket { kind: offer.kind, offers: BTreeMap::new(), fastest: 0 });
            buckets.len() as u32 - 1
        });
        let rank = rank(offer);
        let place = &mut self.buckets[bucket as usize];
        place.offers.insert(rank, Terms { memory_bytes: offer.memory_bytes, hours_max: offer.hours_max });
        place.fastest = place.fastest.max(offer.profile.matrix_mmacs);
        self.held.insert(offer.gpu, (bucket, rank));
    }

    /// Takes a GPU out, if it is in.
    pub fn remove(&mut self, gpu: GpuId) {
        if let Some((bucket, rank)) = self.held.remove(&gpu) {
            let bucket = &mut self.buckets[bucket as usize];
            bucket.offers.remove(&rank);
            if bucket.offers.is_empty() {
                bucket.fastest = 0;
            }
        }
    }

    /// The best `most` GPUs for `wish`, the best first: what [`choose`](super::choose) would choose, then what
    /// it would choose without that, and so on. Cost: the buckets of the wished kinds, and the offers passed
    /// over for memory or hours.
    pub fn best(&self, wish: &Wish, most: usize) -> Vec<GpuId> {
        let mut heads: Vec<Head> = Vec::new();
        for bucket in &self.buckets {
            let wanted = wish.kinds.is_empty() || wish.kinds.contains(&bucket.kind);
            if !wanted || bucket.fastest < wish.matrix_mmacs_min {
                continue;
            }
            let mut rest = bucket.offers.iter();
            if let Some(rank) = next_fit(&mut rest, wish) {
                heads.push(Head { rank, rest });
            }
        }
        let mut order: std::collections::BinaryHeap<(Reverse<Rank>, usize)> =
            heads.iter().enumerate().map(|(at, head)| (Reverse(head.rank), at)).collect();
        let mut best = Vec::with_capacity(most.min(64));
        while best.len() < most
            && let Some((Reverse(rank), at)) = order.pop()
        {
            best.push(rank.2);
            if let Some(next) = next_fit(&mut heads[at].rest, wish) {
                heads[at].rank = next;
                order.push((Reverse(next), at));
            }
        }
        best
    }

    /// Why none fits `wish`, of so many GPUs that are registered: what [`choose`](super::choose) would say. What fits here
    /// and was refused elsewhere is counted as not for hire. Cost: a look at every offer.
    pub fn why(&self, wish: &Wish, registered: u64) -> NoneFits {
        let held = self.held.len() as u64;
        let registered = registered.max(held);
        let mut none = NoneFits { registered, not_rentable: registered - held, ..NoneFits::default() };
        let all =
            self.buckets.iter().flat_map(|bucket| bucket.offers.iter().map(|offer| (bucket.kind, offer)));
        for (kind, ((price, rate, _), terms)) in all {
            if !wish.kinds.is_empty() && !wish.kinds.contains(&kind) {
                none.other_kind += 1;
            } else if rate.0 < wish.matrix_mmacs_min {
                none.too_slow += 1;
            } else if terms.memory_bytes < wish.memory_bytes_min {
                none.too_little_memory += 1;
            } else if terms.hours_max < wish.hours {
                none.too_short += 1;
            } else if wish.price_per_hour_max.is_some_and(|most| *price > most) {
                none.too_dear += 1;
                let least = none.price_per_hour_least.get_or_insert(*price);
                *least = (*least).min(*price);
            } else {
                none.not_rentable += 1;
            }
        }
        none
    }
}

fn next_fit(offers: &mut btree_map::Iter<'_, Rank, Terms>, wish: &Wish) -> Option<Rank> {
    for (rank, terms) in offers {
        if wish.price_per_hour_max.is_some_and(|most| rank.0 > most) {
            return None;
        }
        if rank.1.0 >= wish.matrix_mmacs_min
            && terms.memory_bytes >= wish.memory_bytes_min
            && terms.hours_max >= wish.hours
        {
            return Some(*rank);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use gangline_types::Profile;
    use proptest::prelude::*;

    use super::{super::choose, *};

    const KINDS: [AdapterKind; 2] = [AdapterKind::Discrete, AdapterKind::Software];

    prop_compose! {
        fn offers()(parts in prop::collection::vec((0..6u8, 0..2usize, 0..9u64, 0..4u64, 0..4u64, 0..4u32, any::<bool>()), 0..40))
            -> Vec<Offer> {
            parts.into_iter().map(|(gpu, kind, rate, price, memory, hours, rentable)| {
                Offer {
                    gpu: GpuId::from_bytes([gpu; 16]),
                    kind: KINDS[kind],
                    profile: Profile { matrix_mmacs: rate, memory_bytes: 0 },
                    memory_bytes: memory,
                    price_per_hour: MicroCredits(price),
                    hours_max: hours,
                    rentable,
                }
            }).collect()
        }
    }

    #[test]
    fn classes_of_speed_are_half_octaves() {
        let classes: Vec<u8> = (0..13).map(half_octave).collect();
        assert_eq!(classes, [0, 0, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 7]);
        assert_eq!(half_octave(u64::MAX), 127);
    }

    proptest! {
        /// Whatever came in whatever order, the index names what a look at every offer would.
        #[test]
        fn it_names_what_a_full_scan_would(
            changes in offers(),
            rate in 0..9u64,
            price in prop::option::of(0..4u64),
            memory in 0..3u64,
            hours in 0..3u32,
            kind in prop::option::of(0..2usize),
        ) {
            let mut index = Index::default();
            let mut now: BTreeMap<GpuId, Offer> = BTreeMap::new();
            for offer in &changes {
                index.set(offer);
                now.insert(offer.gpu, offer.clone());
            }
            let wish = Wish {
                kinds: kind.map(|kind| vec![KINDS[kind]]).unwrap_or_default(),
                matrix_mmacs_min: rate,
                memory_bytes_min: memory,
                price_per_hour_max: price.map(MicroCredits),
                hours,
            };
            let mut left: Vec<Offer> = now.into_values().collect();
            prop_assert_eq!(index.len(), left.iter().filter(|offer| offer.rentable).count());
            if let Err(none) = choose(&left, &wish) {
                prop_assert_eq!(index.why(&wish, left.len() as u64), none);
            }
            let mut expected = Vec::new();
            while let Ok(chosen) = choose(&left, &wish).cloned() {
                expected.push(chosen.gpu);
                left.retain(|offer| offer.gpu != chosen.gpu);
            }
            for most in [0, 1, 3, 50] {
                let named = index.best(&wish, most);
                prop_assert_eq!(&named[..], &expected[..most.min(expected.len())]);
            }
        }
    }
}
