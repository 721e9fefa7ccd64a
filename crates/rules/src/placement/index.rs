//! Offers kept in the order in which they are chosen, so that a hire looks at a handful of 600,000.
//!
//! One bucket for each kind and model, in it the offers by price, proven rate and id. Whoever keeps it says
//! what became rentable and what no longer is; it holds nothing else, and the books still have the last word.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap, btree_set},
};

use gangline_types::{AdapterKind, GpuId, MicroCredits, Text};

use super::{Offer, Wish};

/// Kind and model as claimed.
type Class = (AdapterKind, Text<128>);
/// The order of choice: cheapest, then fastest proven, then the smallest id.
type Rank = (MicroCredits, Reverse<u64>, GpuId);

fn rank(offer: &Offer) -> Rank {
    (offer.price_per_hour, Reverse(offer.profile.matrix_mmacs), offer.gpu)
}

/// What of an offer is kept.
#[derive(Clone, Copy, Debug)]
struct Held {
    bucket: u32,
    rank: Rank,
    memory_bytes: u64,
    hours_max: u32,
}

/// Offers of one kind and model.
#[derive(Debug, Default)]
struct Bucket {
    kind: Option<AdapterKind>,
    ranks: BTreeSet<Rank>,
    /// No offer in it was ever faster: a bucket below a wish's rate is passed over whole.
    fastest: u64,
}

/// Rentable offers by kind and model, each bucket in the order of choice.
#[derive(Debug, Default)]
pub struct Index {
    held: HashMap<GpuId, Held>,
    classes: BTreeMap<Class, u32>,
    buckets: Vec<Bucket>,
}

/// One bucket's next offer, for merging buckets.
struct Head<'a> {
    rank: Rank,
    rest: btree_set::Iter<'a, Rank>,
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
    pub fn set(&mut self, model: &Text<128>, offer: &Offer) {
        self.remove(offer.gpu);
        if !offer.rentable {
            return;
        }
        let class = (offer.kind, model.clone());
        let bucket = match self.classes.get(&class) {
            Some(bucket) => *bucket,
            None => {
                let bucket = self.buckets.len() as u32;
                self.buckets.push(Bucket { kind: Some(offer.kind), ..Bucket::default() });
                self.classes.insert(class, bucket);
                bucket
            }
        };
        let rank = rank(offer);
        let place = &mut self.buckets[bucket as usize];
        place.ranks.insert(rank);
        place.fastest = place.fastest.max(offer.profile.matrix_mmacs);
        let held = Held { bucket, rank, memory_bytes: offer.memory_bytes, hours_max: offer.hours_max };
        self.held.insert(offer.gpu, held);
    }

    /// Takes a GPU out, if it is in.
    pub fn remove(&mut self, gpu: GpuId) {
        if let Some(held) = self.held.remove(&gpu) {
            let bucket = &mut self.buckets[held.bucket as usize];
            bucket.ranks.remove(&held.rank);
            if bucket.ranks.is_empty() {
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
            let wanted = wish.kinds.is_empty() || bucket.kind.is_some_and(|kind| wish.kinds.contains(&kind));
            if !wanted || bucket.fastest < wish.matrix_mmacs_min {
                continue;
            }
            let mut rest = bucket.ranks.iter();
            if let Some(rank) = self.next_fit(&mut rest, wish) {
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
            if let Some(next) = self.next_fit(&mut heads[at].rest, wish) {
                heads[at].rank = next;
                order.push((Reverse(next), at));
            }
        }
        best
    }

    fn next_fit(&self, ranks: &mut btree_set::Iter<'_, Rank>, wish: &Wish) -> Option<Rank> {
        for rank in ranks {
            if wish.price_per_hour_max.is_some_and(|most| rank.0 > most) {
                return None;
            }
            if rank.1.0 < wish.matrix_mmacs_min {
                continue;
            }
            // The usual wish says nothing of the rest, and then nothing is looked up.
            if wish.memory_bytes_min == 0 && wish.hours == 0 {
                return Some(*rank);
            }
            let fits =
                |held: &Held| held.memory_bytes >= wish.memory_bytes_min && held.hours_max >= wish.hours;
            if self.held.get(&rank.2).is_some_and(fits) {
                return Some(*rank);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use gangline_types::Profile;
    use proptest::prelude::*;

    use super::{super::choose, *};

    const KINDS: [AdapterKind; 2] = [AdapterKind::Discrete, AdapterKind::Software];

    prop_compose! {
        fn offers()(parts in prop::collection::vec((0..6u8, 0..2usize, 0..4u64, 0..4u64, 0..4u64, 0..4u32, any::<bool>()), 0..40))
            -> Vec<(Text<128>, Offer)> {
            parts.into_iter().map(|(gpu, kind, rate, price, memory, hours, rentable)| {
                let offer = Offer {
                    gpu: GpuId::from_bytes([gpu; 16]),
                    kind: KINDS[kind],
                    profile: Profile { matrix_mmacs: rate, memory_bytes: 0 },
                    memory_bytes: memory,
                    price_per_hour: MicroCredits(price),
                    hours_max: hours,
                    rentable,
                };
                (Text::lossy(&format!("model {}", gpu % 3)), offer)
            }).collect()
        }
    }

    proptest! {
        /// Whatever came in whatever order, the index names what a look at every offer would.
        #[test]
        fn it_names_what_a_full_scan_would(
            changes in offers(),
            rate in 0..4u64,
            price in prop::option::of(0..4u64),
            memory in 0..3u64,
            hours in 0..3u32,
            kind in prop::option::of(0..2usize),
        ) {
            let mut index = Index::default();
            let mut now: BTreeMap<GpuId, Offer> = BTreeMap::new();
            for (model, offer) in &changes {
                index.set(model, offer);
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
