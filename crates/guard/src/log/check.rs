//! The check from outside: given a signed checkpoint, what was seen before, and every entry and tile, does it
//! all hold together? Pure: whoever checks fetches, and feeds in order.

use std::collections::HashMap;

use gangline_types::Hash;

use super::{
    checkpoint::Checkpoint,
    edge::Edge,
    entry::{Entry, Kind},
    note::NoteError,
    tiles::TILE_WIDTH,
    tree::leaf_hash,
};

/// What is wrong with a log: each is proof that somebody changed what nobody may change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// An entry's bytes are not those that the tree was built over.
    #[error("edit: entry {index} is not the one that the log's tree was built over")]
    Edited {
        /// Which, from 0.
        index: u64,
    },
    /// Entries and tiles agree with each other and not with what was signed.
    #[error("edit: the {size} entries add up to root {found}, and the log signed {signed}")]
    OtherRoot {
        /// Size of the tree.
        size: u64,
        /// Root as signed.
        signed: Hash,
        /// Root as computed.
        found: Hash,
    },
    /// A tile above the leaves is not what follows from the leaves.
    #[error("edit: tile {index} of level {level} does not follow from the entries")]
    OtherTile {
        /// Level of the tile.
        level: u8,
        /// Which, from 0.
        index: u64,
    },
    /// Two signed checkpoints of one size have two roots.
    #[error(
        "fork: the log signed two trees of {size} entries, one with root {one} and one with root {other} ({whose})"
    )]
    Fork {
        /// Size of both.
        size: u64,
        /// Root that is shown now.
        one: Hash,
        /// Root that was shown elsewhere or before.
        other: Hash,
        /// Where it was seen.
        whose: String,
    },
    /// The tree does not begin with one that was signed before.
    #[error(
        "fork: the first {size} entries now have root {now}, and a signed checkpoint of {size} entries had root {before} ({whose})"
    )]
    Rewritten {
        /// Size of the tree seen before.
        size: u64,
        /// Its root.
        before: Hash,
        /// What its entries add up to now.
        now: Hash,
        /// Where it was seen.
        whose: String,
    },
    /// The log is shorter than it was.
    #[error("roll-back: the log has {size} entries, and a signed checkpoint had {before} ({whose})")]
    RolledBack {
        /// Size now.
        size: u64,
        /// Size seen before.
        before: u64,
        /// Where it was seen.
        whose: String,
    },
    /// The checkpoint is not the log's.
    #[error("forgery: the checkpoint ({whose}) is not what the log signed: {why}")]
    Unsigned {
        /// Which checkpoint.
        whose: String,
        /// Why.
        why: NoteError,
    },
    /// Bytes that hash well and are no entry.
    #[error("edit: entry {index} is not of the log's form")]
    Malformed {
        /// Which, from 0.
        index: u64,
    },
    /// A tile or bundle has not as many entries as the checkpoint says.
    #[error("roll-back: {what} does not hold the {expected} that the checkpoint says")]
    Short {
        /// Which.
        what: String,
        /// How many it should hold.
        expected: usize,
    },
}

/// A checkpoint that was seen at another time or place, its signature verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Where, in words.
    pub whose: String,
}

/// What a check has found in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Entries.
    pub entries: u64,
    /// Of each kind.
    pub kinds: Vec<(Kind, u64)>,
    /// Checkpoints from elsewhere that the log goes on from.
    pub seen: usize,
}

/// Goes through a log from its first entry to its last.
#[derive(Debug)]
pub struct Checker {
    checkpoint: Checkpoint,
    /// What was seen before, the smallest last.
    seen: Vec<Seen>,
    seen_count: usize,
    edge: Edge,
    /// Tiles above the leaves as they follow.
    above: HashMap<(u8, u64), Vec<Hash>>,
    kinds: Vec<(Kind, u64)>,
}

impl Checker {
    /// Begins with a checkpoint whose signature was verified.
    ///
    /// # Errors
    /// When what was seen before already tells of a fork or a roll-back.
    pub fn new(checkpoint: Checkpoint, mut seen: Vec<Seen>) -> Result<Self, Finding> {
        seen.sort_by_key(|seen| std::cmp::Reverse(seen.checkpoint.size));
        for Seen { checkpoint: before, whose } in &seen {
            if before.size > checkpoint.size {
                let (size, before) = (checkpoint.size, before.size);
                return Err(Finding::RolledBack { size, before, whose: whose.clone() });
            }
            if before.size == checkpoint.size && before.root != checkpoint.root {
                let (one, other) = (checkpoint.root, before.root);
                return Err(Finding::Fork { size: before.size, one, other, whose: whose.clone() });
            }
        }
        let kinds = Kind::ALL.iter().map(|kind| (*kind, 0)).collect();
        let seen_count = seen.len();
        let mut checker =
            Self { checkpoint, seen, seen_count, edge: Edge::default(), above: HashMap::new(), kinds };
        checker.meet()?;
        Ok(checker)
    }

    /// Goes on after entries that were checked before: `edge` is that of their tree. What it takes next are those after them.
    ///
    /// # Errors
    /// When the log has become shorter, or has another tree of that size.
    pub fn onwards(checkpoint: Checkpoint, edge: Edge) -> Result<Self, Finding> {
        let before = Checkpoint { origin: checkpoint.origin.clone(), size: edge.size(), root: edge.root() };
        let mut checker =
            Self::new(checkpoint, vec![Seen { checkpoint: before, whose: "read before".into() }])?;
        checker.edge = edge;
        checker.meet()?;
        Ok(checker)
    }

    /// The edge of the tree so far.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// Compares with every checkpoint that was seen at the size that is reached.
    fn meet(&mut self) -> Result<(), Finding> {
        while let Some(Seen { checkpoint: before, whose }) = self.seen.last() {
            if before.size != self.edge.size() {
                break;
            }
            let now = self.edge.root();
            if before.root != now {
                let (size, before) = (before.size, before.root);
                return Err(Finding::Rewritten { size, before, now, whose: whose.clone() });
            }
            self.seen.pop();
        }
        Ok(())
    }

    /// Takes the next entries of a bundle, up to its end, and their hashes of the tile; `visit` sees every entry.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn take(
        &mut self,
        entries: &[Vec<u8>],
        hashes: &[Hash],
        visit: &mut impl FnMut(u64, &Entry),
    ) -> Result<(), Finding> {
        let left = self.checkpoint.size - self.edge.size();
        let room = TILE_WIDTH as u64 - self.edge.size() % TILE_WIDTH as u64;
        let expected = left.min(room) as usize;
        let short = |what: &str| {
            let index = self.edge.size() / TILE_WIDTH as u64;
            Finding::Short { what: format!("{what} {index}"), expected }
        };
        if entries.len() != expected {
            return Err(short("the bundle of entries"));
        }
        if hashes.len() != expected {
            return Err(short("tile 0 of index"));
        }
        for (bytes, hash) in entries.iter().zip(hashes) {
            let index = self.edge.size();
            if leaf_hash(bytes) != *hash {
                return Err(Finding::Edited { index });
            }
            let entry = Entry::from_bytes(bytes).map_err(|_| Finding::Malformed { index })?;
            let count = self.kinds.iter_mut().find(|(kind, _)| *kind == entry.event.kind());
            count.into_iter().for_each(|(_, count)| *count += 1);
            visit(index, &entry);
            let above = &mut self.above;
            self.edge.push(*hash, &mut |tile| {
                if tile.level > 0 {
                    above.insert((tile.level, tile.index), tile.hashes);
                }
            });
            self.meet()?;
        }
        Ok(())
    }

    /// Ends with the entries: do they add up to the signed root? From here on tiles can be compared.
    ///
    /// # Errors
    /// When they do not.
    pub fn end(&mut self) -> Result<(), Finding> {
        let Checkpoint { size, root: signed, .. } = self.checkpoint;
        let found = self.edge.root();
        if self.edge.size() != size || found != signed {
            return Err(Finding::OtherRoot { size, signed, found });
        }
        for tile in self.edge.partials().into_iter().filter(|tile| tile.level > 0) {
            self.above.insert((tile.level, tile.index), tile.hashes);
        }
        Ok(())
    }

    /// Compares a tile above the leaves with what follows from them.
    ///
    /// # Errors
    /// When it differs.
    pub fn compare(&self, level: u8, index: u64, hashes: &[Hash]) -> Result<(), Finding> {
        let follows = self.above.get(&(level, index)).is_some_and(|known| known == hashes);
        if follows { Ok(()) } else { Err(Finding::OtherTile { level, index }) }
    }

    /// What was checked.
    pub fn checked(self) -> Checked {
        let kinds = self.kinds.into_iter().filter(|(_, count)| *count > 0).collect();
        Checked { entries: self.edge.size(), kinds, seen: self.seen_count }
    }
}

#[cfg(test)]
mod tests {
    use gangline_types::UnixSeconds;

    use super::*;
    use crate::log::{
        entry::tests::events,
        tiles::{Tile, Tiles},
        tree,
    };

    const SIZE: u64 = 700;

    fn entry(n: u64) -> Vec<u8> {
        let events = events();
        let event = events[n as usize % events.len()];
        Entry { at: UnixSeconds(n), event, sealed: Hash([n as u8; 32]) }.to_bytes()
    }

    fn log(entries: impl IntoIterator<Item = Vec<u8>>) -> (Checkpoint, Vec<Vec<Vec<u8>>>, Vec<Tile>) {
        let (mut edge, mut tiles, mut all) = (Edge::default(), Vec::new(), Vec::new());
        for entry in entries {
            edge.push(leaf_hash(&entry), &mut |tile| tiles.push(tile));
            all.push(entry);
        }
        tiles.extend(edge.partials());
        let bundles = all.chunks(TILE_WIDTH).map(<[_]>::to_vec).collect();
        (Checkpoint { origin: "o".into(), size: edge.size(), root: edge.root() }, bundles, tiles)
    }

    fn at(size: u64) -> Seen {
        Seen { checkpoint: log((0..size).map(entry)).0, whose: "before".into() }
    }

    fn check(
        (checkpoint, bundles, tiles): (Checkpoint, Vec<Vec<Vec<u8>>>, Vec<Tile>),
        seen: Vec<Seen>,
    ) -> Result<Checked, Finding> {
        let mut checker = Checker::new(checkpoint, seen)?;
        let leaves = |index| tiles.iter().find(|tile| tile.level == 0 && tile.index == index).unwrap();
        for (index, bundle) in bundles.iter().enumerate() {
            checker.take(bundle, &leaves(index as u64).hashes, &mut |_, _| ())?;
        }
        checker.end()?;
        for tile in tiles.iter().filter(|tile| tile.level > 0) {
            checker.compare(tile.level, tile.index, &tile.hashes)?;
        }
        Ok(checker.checked())
    }

    #[test]
    fn an_honest_log_holds_together_with_all_that_was_seen_of_it() {
        let seen: Vec<Seen> = [0, 1, 255, 256, 257, 699, SIZE].map(at).into();
        let checked = check(log((0..SIZE).map(entry)), seen).unwrap();
        assert_eq!((checked.entries, checked.seen), (SIZE, 7));
        assert_eq!(checked.kinds.iter().map(|(_, n)| n).sum::<u64>(), SIZE);
        assert_eq!(check(log([]), vec![at(0)]).unwrap().entries, 0);
    }

    #[test]
    fn an_edit_is_found_and_named() {
        let honest = log((0..SIZE).map(entry));
        // The bytes alone.
        let mut edited = honest.clone();
        edited.1[1][44] = entry(999);
        assert_eq!(check(edited.clone(), vec![]), Err(Finding::Edited { index: 300 }));
        // Bytes and their hash.
        let leaf = leaf_hash(&entry(999));
        let tile = edited.2.iter_mut().find(|t| t.level == 0 && t.index == 1).unwrap();
        tile.hashes[44] = leaf;
        assert!(matches!(check(edited, vec![]), Err(Finding::OtherRoot { size: SIZE, .. })));
        // Only a tile above.
        let mut above = honest.clone();
        above.2.iter_mut().find(|t| t.level == 1).unwrap().hashes[1] = leaf;
        assert_eq!(check(above, vec![]), Err(Finding::OtherTile { level: 1, index: 0 }));
        // All of it, signed again: whoever saw the tree before has it.
        let anew = log((0..SIZE).map(|n| entry(if n == 300 { 999 } else { n })));
        assert!(check(anew.clone(), vec![at(300)]).is_ok(), "an old checkpoint before the edit cannot tell");
        assert!(matches!(check(anew.clone(), vec![at(301)]), Err(Finding::Rewritten { size: 301, .. })));
        assert!(matches!(check(anew, vec![at(SIZE)]), Err(Finding::Fork { size: SIZE, .. })));
        // What is no entry, however well it hashes.
        let odd = log((0..SIZE).map(|n| if n == 5 { b"acct_x".to_vec() } else { entry(n) }));
        assert_eq!(check(odd, vec![]), Err(Finding::Malformed { index: 5 }));
        // One less.
        let mut short = honest;
        short.1[2].pop();
        assert!(matches!(check(short, vec![]), Err(Finding::Short { .. })));
    }

    /// Reads a log to its end, of which the first entries were read before.
    fn go_on(
        before: u64,
        (checkpoint, bundles, tiles): (Checkpoint, Vec<Vec<Vec<u8>>>, Vec<Tile>),
    ) -> Result<Vec<u64>, Finding> {
        let mut edge = Edge::default();
        (0..before).for_each(|n| edge.push(leaf_hash(&entry(n)), &mut |_| {}));
        let mut checker = Checker::onwards(checkpoint, edge)?;
        let (first, known) = ((before / 256) as usize, (before % 256) as usize);
        let mut read = Vec::new();
        for (index, bundle) in bundles.iter().enumerate().skip(first) {
            let leaves = tiles.iter().find(|tile| tile.level == 0 && tile.index == index as u64).unwrap();
            let skip = if index == first { known } else { 0 };
            checker.take(&bundle[skip..], &leaves.hashes[skip..], &mut |n, _| read.push(n))?;
        }
        checker.end()?;
        // Those that were full before were compared then.
        for tile in
            tiles.iter().filter(|tile| tile.level > 0 && tile.index >= before >> (8 * (tile.level + 1)))
        {
            checker.compare(tile.level, tile.index, &tile.hashes)?;
        }
        assert_eq!(checker.edge().size(), SIZE);
        Ok(read)
    }

    #[test]
    fn a_log_is_read_on_from_where_it_was() {
        let honest = || log((0..SIZE).map(entry));
        for before in [0, 1, 255, 256, 257, 512, 699, SIZE] {
            assert_eq!(go_on(before, honest()), Ok((before..SIZE).collect()), "{before}");
        }
        // Something old is another now, in the bundle that is gone on with or before it; or is there no more.
        for (changed, before) in [(300, 301), (300, 600), (10, 600), (699, SIZE)] {
            let anew = log((0..SIZE).map(|n| entry(if n == changed { 999 } else { n })));
            let found = go_on(before, anew);
            assert!(
                matches!(found, Err(Finding::OtherRoot { .. } | Finding::Fork { .. })),
                "{changed} {before}: {found:?}"
            );
        }
        let mut edited = honest();
        edited.1[2][100] = entry(999);
        assert_eq!(go_on(600, edited), Err(Finding::Edited { index: 612 }));
        let mut short = honest();
        short.1[2].pop();
        assert!(matches!(go_on(600, short), Err(Finding::Short { expected: 100, .. })));
        assert!(matches!(go_on(SIZE, log((0..650).map(entry))), Err(Finding::RolledBack { .. })));
    }

    #[test]
    fn a_roll_back_and_a_fork_are_found() {
        let rolled = check(log((0..SIZE - 1).map(entry)), vec![at(SIZE)]);
        assert!(matches!(rolled, Err(Finding::RolledBack { size: 699, before: SIZE, .. })));
        // Rolled back and grown again, otherwise.
        let regrown = check(log((0..SIZE + 9).map(|n| entry(n + n / 650))), vec![at(SIZE), at(600)]);
        assert!(matches!(regrown, Err(Finding::Rewritten { size: SIZE, .. })), "{regrown:?}");
    }

    #[test]
    fn tiles_give_the_proofs_that_the_tree_gives() {
        let (checkpoint, _, all) = log((0..SIZE).map(entry));
        let mut tiles = Tiles::default();
        tiles.take_all(all);
        for index in [0, 255, 256, 511, 512, SIZE - 1] {
            let proof = tree::prove_inclusion(&tiles, index, SIZE).unwrap();
            let leaf = leaf_hash(&entry(index));
            assert!(tree::verify_inclusion(&leaf, index, SIZE, &proof, &checkpoint.root));
            assert!(!tree::verify_inclusion(&leaf, index ^ 1, SIZE, &proof, &checkpoint.root));
        }
    }
}
