//! A detector for each of many keys, of which there are never more than a given number: whoever makes
//! keys by the million costs no memory. The one that was not fed for longest is forgotten.
//!
//! Forgetting can hide somebody who is slow among very many; watch the whole beside the parts.

use std::collections::BTreeMap;

/// At most `capacity` values by key.
#[derive(Clone, Debug)]
pub struct Bounded<K, V> {
    capacity: usize,
    feeds: u64,
    forgotten: u64,
    values: BTreeMap<K, (u64, V)>,
    by_feed: BTreeMap<u64, K>,
}

impl<K: Ord + Clone, V> Bounded<K, V> {
    /// With room for `capacity` keys, at least one.
    pub fn new(capacity: usize) -> Self {
        let (values, by_feed) = (BTreeMap::new(), BTreeMap::new());
        Self { capacity: capacity.max(1), feeds: 0, forgotten: 0, values, by_feed }
    }

    /// The value of `key`, which is now the last to be forgotten; made if there is none.
    pub fn feed(&mut self, key: &K, make: impl FnOnce() -> V) -> &mut V {
        if !self.values.contains_key(key)
            && self.values.len() >= self.capacity
            && let Some((_, oldest)) = self.by_feed.pop_first()
        {
            self.values.remove(&oldest);
            self.forgotten += 1;
        }
        self.feeds += 1;
        let (fed, value) = self.values.entry(key.clone()).or_insert_with(|| (0, make()));
        self.by_feed.remove(fed);
        *fed = self.feeds;
        self.by_feed.insert(*fed, key.clone());
        value
    }

    /// The value of `key`, if it is held.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|(_, value)| value)
    }
    /// The keys that are held, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.values.keys()
    }
    /// How many keys are held.
    pub fn len(&self) -> usize {
        self.values.len()
    }
    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
    /// How many keys were forgotten for others; a number that grows is itself a sign.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_last_fed_are_held_and_no_more(keys in prop::collection::vec(0u8..20, 1..200), room in 1usize..10) {
            let mut bounded = Bounded::new(room);
            for key in &keys {
                *bounded.feed(key, || 0u32) += 1;
                prop_assert!(bounded.len() <= room && bounded.by_feed.len() == bounded.values.len());
            }
            let mut last = Vec::new();
            for key in keys.iter().rev() {
                if !last.contains(key) { last.push(*key); }
            }
            for key in last.iter().take(room) {
                prop_assert!(bounded.get(key).is_some());
            }
        }
    }
}
