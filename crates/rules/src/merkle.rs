//! The tree over a snapshot's entries: BLAKE3's own, in its mode with a context, over the groups of entries one after
//! another, each filled up with zeros to four of its chunks. So the root of all of them is one call of any BLAKE3 and as quick
//! as that, and a group's way to it is the chaining values beside its way.
//!
//! The shape is that of the BLAKE3 paper, section 2.1, and of RFC 6962: a node without a sibling moves up as it is. Chaining
//! values know their place, and a root is another value than the same node within a larger tree: neither passes for the other.
//! Knows bytes only, not what a group says.

use blake3::hazmat::{
    ContextKey, HasherExt, Mode, hash_derive_key_context, merge_subtrees_non_root, merge_subtrees_root,
};
use gangline_types::Hash;

const ENTRIES: &str = "gangline 2026 snapshot entries";
const HEAD: &str = "gangline 2026 snapshot head";

/// Bytes of a group as it is hashed: four chunks.
pub(crate) const SPAN: usize = 4096;
/// Groups whose common node is kept with a snapshot.
pub const RUN: usize = 64;

/// Hashes groups and nodes; the context is hashed once.
pub(crate) struct Tree {
    entries: blake3::Hasher,
    key: ContextKey,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let key = hash_derive_key_context(ENTRIES);
        Self { entries: blake3::Hasher::new_from_context_key(&key), key }
    }
    /// The chaining value of some groups, filled up and one after another, of which the first is at place `at` of all. As many
    /// as a power of two whose multiple `at` is, or the last ones.
    fn part(&self, at: usize, spans: &[u8]) -> Hash {
        let mut hasher = self.entries.clone();
        hasher.set_input_offset((at * SPAN) as u64).update(spans);
        Hash(hasher.finalize_non_root())
    }
    /// The chaining value of one group.
    pub(crate) fn group(&self, at: usize, records: &[u8]) -> Hash {
        self.part(at, &span(records))
    }
    /// The root of one group that is all there is.
    fn only(&self, records: &[u8]) -> Hash {
        self.entries.clone().update(&span(records)).finalize().into()
    }
    fn node(&self, left: Hash, right: Hash) -> Hash {
        Hash(merge_subtrees_non_root(&left.0, &right.0, Mode::DeriveKeyMaterial(&self.key)))
    }
    fn top(&self, left: Hash, right: Hash) -> Hash {
        merge_subtrees_root(&left.0, &right.0, Mode::DeriveKeyMaterial(&self.key)).into()
    }
    fn level_above(&self, level: &[Hash]) -> Vec<Hash> {
        let join = |pair: &[Hash]| if let [left, right] = pair { self.node(*left, *right) } else { pair[0] };
        level.chunks(2).map(join).collect()
    }
    /// Every level over these nodes up to the last one of which two or fewer are left, these first.
    pub(crate) fn levels(&self, nodes: Vec<Hash>) -> Vec<Vec<Hash>> {
        let mut levels = vec![nodes];
        while let Some(level) = levels.last()
            && level.len() > 2
        {
            levels.push(self.level_above(level));
        }
        levels
    }
    /// The node over these, which is not the root.
    fn over(&self, nodes: Vec<Hash>) -> Option<Hash> {
        match self.levels(nodes).pop()?.as_slice() {
            [left, right] => Some(self.node(*left, *right)),
            [one] => Some(*one),
            _ => None,
        }
    }
    /// The root over these nodes, two or more.
    fn root_over(&self, nodes: Vec<Hash>) -> Option<Hash> {
        match self.levels(nodes).pop()?.as_slice() {
            [left, right] => Some(self.top(*left, *right)),
            _ => None,
        }
    }
    /// The root that `path` gives for the group at place `at` of `width`; `None` where these do not fit together.
    pub(crate) fn root_from(
        &self,
        records: &[u8],
        mut at: usize,
        mut width: usize,
        path: &[Hash],
    ) -> Option<Hash> {
        if at >= width {
            return None;
        }
        if width == 1 {
            return path.is_empty().then(|| self.only(records));
        }
        let mut siblings = path.iter();
        let mut hash = self.group(at, records);
        while width > 2 {
            if at % 2 == 1 {
                hash = self.node(*siblings.next()?, hash);
            } else if at + 1 < width {
                hash = self.node(hash, *siblings.next()?);
            }
            at /= 2;
            width = width.div_ceil(2);
        }
        let last = *siblings.next()?;
        let root = if at == 1 { self.top(last, hash) } else { self.top(hash, last) };
        siblings.next().is_none().then_some(root)
    }
}

/// A group as it is hashed.
fn span(records: &[u8]) -> [u8; SPAN] {
    let mut span = [0; SPAN];
    let length = records.len().min(SPAN);
    span[..length].copy_from_slice(&records[..length]);
    span
}

/// Hashes groups in their order, a run of them at a time: BLAKE3 takes many chunks at once.
pub(crate) struct Runs<'a> {
    tree: &'a Tree,
    spans: Vec<u8>,
    held: usize,
    nodes: Vec<Hash>,
}

impl<'a> Runs<'a> {
    pub(crate) fn new(tree: &'a Tree) -> Self {
        Self { tree, spans: vec![0; RUN * SPAN], held: 0, nodes: Vec::new() }
    }
    /// Takes the next group, of `length` bytes, which `fill` writes.
    pub(crate) fn push(&mut self, length: usize, fill: impl FnOnce(&mut [u8])) -> &[u8] {
        if self.held == RUN {
            self.close();
        }
        let at = self.held * SPAN;
        let (records, rest) = self.spans[at..at + SPAN].split_at_mut(length);
        fill(records);
        rest.fill(0);
        self.held += 1;
        &self.spans[at..at + length]
    }
    fn close(&mut self) {
        let at = self.nodes.len() * RUN;
        self.nodes.push(self.tree.part(at, &self.spans[..self.held * SPAN]));
        self.held = 0;
    }
    /// The root, and the nodes of all runs.
    pub(crate) fn finish(mut self) -> (Hash, Vec<Hash>) {
        let last = &self.spans[..self.held * SPAN];
        // Of one run alone its node is the root itself.
        let only = self.nodes.is_empty().then(|| self.tree.entries.clone().update(last).finalize().into());
        if self.held > 0 {
            self.close();
        }
        let root = only.or_else(|| self.tree.root_over(self.nodes.clone())).unwrap_or_default();
        (root, self.nodes)
    }
}

/// The siblings of node `index` under these levels, from it up; `None` where there is no such node.
pub(crate) fn path(levels: &[Vec<Hash>], index: usize) -> Option<Vec<Hash>> {
    levels.first()?.get(index)?;
    let siblings = levels.iter().enumerate().filter_map(|(height, level)| level.get((index >> height) ^ 1));
    Some(siblings.copied().collect())
}

/// The ways of the groups of one run to the root.
pub(crate) struct RunPaths {
    within: Vec<Vec<Hash>>,
    above: Vec<Hash>,
}

impl RunPaths {
    /// From the records of the groups of run `run`, in order, and the nodes of all runs; `None` where they do not fit
    /// together.
    pub(crate) fn new<'a>(
        tree: &Tree,
        run: usize,
        groups: impl Iterator<Item = &'a [u8]>,
        nodes: &[Hash],
    ) -> Option<Self> {
        let hashes: Vec<Hash> =
            groups.enumerate().map(|(n, records)| tree.group(run * RUN + n, records)).collect();
        let node = tree.over(hashes.clone())?;
        if *nodes.get(run)? != node {
            return None;
        }
        let above = if nodes.len() > 1 { path(&tree.levels(nodes.to_vec()), run)? } else { Vec::new() };
        Some(Self { within: tree.levels(hashes), above })
    }
    /// The siblings of the n-th group of the run, from it up.
    pub(crate) fn path(&self, n: usize) -> Option<Vec<Hash>> {
        let mut path = path(&self.within, n)?;
        path.extend(&self.above);
        Some(path)
    }
}

/// Hash of a snapshot's head.
pub(crate) fn head(bytes: &[u8]) -> Hash {
    Hash(blake3::derive_key(HEAD, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(n: usize) -> Vec<u8> {
        vec![(n as u8).wrapping_add(1); 62 * (n % 64 + 1)]
    }
    fn taken(tree: &Tree, count: usize) -> (Hash, Vec<Hash>) {
        let mut runs = Runs::new(tree);
        for n in 0..count {
            let records = group(n);
            runs.push(records.len(), |bytes| bytes.copy_from_slice(&records));
        }
        runs.finish()
    }

    #[test]
    fn the_root_is_what_blake3_says_of_all_groups_filled_up() {
        let tree = Tree::new();
        for count in [0, 1, 2, 3, 63, 64, 65, 127, 128, 129, 200, 321] {
            let all: Vec<u8> = (0..count).flat_map(|n| span(&group(n))).collect();
            let (root, nodes) = taken(&tree, count);
            assert_eq!(root, Hash(blake3::derive_key(ENTRIES, &all)), "{count} groups");
            assert_eq!(nodes.len(), count.div_ceil(RUN));
        }
    }

    #[test]
    fn every_group_is_joined_to_its_root_and_no_other_place_is() {
        let tree = Tree::new();
        for count in [1, 2, 3, 5, 8, 63, 64, 65, 66, 128, 129, 193] {
            let (root, nodes) = taken(&tree, count);
            for run in 0..nodes.len() {
                let groups: Vec<Vec<u8>> = (run * RUN..((run + 1) * RUN).min(count)).map(group).collect();
                let paths = RunPaths::new(&tree, run, groups.iter().map(Vec::as_slice), &nodes).unwrap();
                for (n, records) in groups.iter().enumerate().filter(|(n, _)| n % 7 < 2) {
                    let (index, path) = (run * RUN + n, paths.path(n).unwrap());
                    let from = |at: usize, path: &[Hash]| tree.root_from(records, at, count, path);
                    assert_eq!(from(index, &path), Some(root), "{index} of {count}");
                    for other in (0..count).filter(|other| *other != index) {
                        assert_ne!(from(other, &path), Some(root), "{count} groups, {index} as {other}");
                    }
                    assert_eq!(from(index, &[path.clone(), vec![root]].concat()), None);
                    assert_eq!(from(count, &path), None);
                    assert_ne!(tree.root_from(&group(n + 1), index, count, &path), Some(root));
                }
                assert_eq!(paths.path(groups.len()), None);
            }
        }
    }

    #[test]
    fn a_run_of_other_groups_has_no_way_to_the_root() {
        let tree = Tree::new();
        let (_, nodes) = taken(&tree, 100);
        let groups: Vec<Vec<u8>> = (1..65).map(group).collect();
        assert!(RunPaths::new(&tree, 0, groups.iter().map(Vec::as_slice), &nodes).is_none());
    }

    #[test]
    fn lists_of_different_lengths_never_share_a_root() {
        let tree = Tree::new();
        let mut roots: Vec<_> = (0..140).map(|count| taken(&tree, count).0).collect();
        roots.sort();
        roots.dedup();
        assert_eq!(roots.len(), 140);
    }
}
