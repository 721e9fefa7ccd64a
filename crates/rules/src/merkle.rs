//! The tree over a snapshot's entries: hashes with a domain each, so that a leaf can never be passed off
//! as an inner node or a head.
//!
//! The shape is that of RFC 6962, section 2.1 (a node without a sibling moves up as it is; nothing is
//! duplicated, so two different lists never share a root). Knows bytes only, not what a leaf says.

use gangline_types::Hash;

const LEAF: &str = "gangline 2026 snapshot leaf";
const NODE: &str = "gangline 2026 snapshot node";
const HEAD: &str = "gangline 2026 snapshot head";

/// Hashes leaves and nodes; the two domains are keyed once.
pub(crate) struct Tree {
    leaf: blake3::Hasher,
    node: blake3::Hasher,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self { leaf: blake3::Hasher::new_derive_key(LEAF), node: blake3::Hasher::new_derive_key(NODE) }
    }
    /// Hash of a leaf's bytes.
    pub(crate) fn leaf(&self, bytes: &[u8]) -> Hash {
        self.leaf.clone().update(bytes).finalize().into()
    }
    fn node(&self, left: Hash, right: Hash) -> Hash {
        self.node.clone().update(&left.0).update(&right.0).finalize().into()
    }
    fn level_above(&self, level: &[Hash]) -> Vec<Hash> {
        let join = |pair: &[Hash]| if let [left, right] = pair { self.node(*left, *right) } else { pair[0] };
        level.chunks(2).map(join).collect()
    }
    /// Every level over the leaves, the leaves first and the root last; of none, no level.
    pub(crate) fn levels(&self, leaves: Vec<Hash>) -> Vec<Vec<Hash>> {
        let mut levels = Vec::new();
        let mut level = leaves;
        while level.len() > 1 {
            let above = self.level_above(&level);
            levels.push(std::mem::replace(&mut level, above));
        }
        if !level.is_empty() {
            levels.push(level);
        }
        levels
    }
    /// Root over `leaves`; over none, the hash of nothing in the domain of nodes.
    pub(crate) fn root(&self, leaves: Vec<Hash>) -> Hash {
        let root = self.levels(leaves).pop().and_then(|top| top.first().copied());
        root.unwrap_or_else(|| self.node.clone().finalize().into())
    }
    /// The root that `path` gives for the leaf at place `at` of `width`; `None` where these do not fit together.
    pub(crate) fn root_from(&self, leaf: Hash, mut at: u32, mut width: u32, path: &[Hash]) -> Option<Hash> {
        if at >= width {
            return None;
        }
        let mut siblings = path.iter();
        let mut hash = leaf;
        while width > 1 {
            if at % 2 == 1 {
                hash = self.node(*siblings.next()?, hash);
            } else if at + 1 < width {
                hash = self.node(hash, *siblings.next()?);
            }
            at /= 2;
            width = width.div_ceil(2);
        }
        siblings.next().is_none().then_some(hash)
    }
}

/// The siblings of leaf `index` under these levels, from the leaf up; `None` where there is no such leaf.
pub(crate) fn path(levels: &[Vec<Hash>], index: usize) -> Option<Vec<Hash>> {
    levels.first()?.get(index)?;
    let siblings = levels.iter().enumerate().filter_map(|(height, level)| level.get((index >> height) ^ 1));
    Some(siblings.copied().collect())
}

/// Hash of a snapshot's head.
pub(crate) fn head(bytes: &[u8]) -> Hash {
    Hash(blake3::derive_key(HEAD, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(tree: &Tree, count: usize) -> Vec<Hash> {
        (0..count).map(|i| tree.leaf(&[i as u8])).collect()
    }

    #[test]
    fn every_leaf_of_every_size_is_joined_to_its_root_and_no_other_place_is() {
        let tree = Tree::new();
        for count in 1..40 {
            let all = leaves(&tree, count);
            let root = tree.root(all.clone());
            for (index, leaf) in all.iter().enumerate() {
                let path = path(&tree.levels(all.clone()), index).unwrap();
                let from = |at: usize, path: &[Hash]| tree.root_from(*leaf, at as u32, count as u32, path);
                assert_eq!(from(index, &path), Some(root));
                for other in (0..count).filter(|other| *other != index) {
                    assert_ne!(from(other, &path), Some(root), "{count} leaves, {index} as {other}");
                }
                assert_eq!(from(index, &[path.clone(), vec![root]].concat()), None);
                assert_eq!(from(count, &path), None);
            }
            assert_eq!(path(&tree.levels(all), count), None);
        }
    }

    #[test]
    fn lists_of_different_lengths_never_share_a_root() {
        let tree = Tree::new();
        let mut roots: Vec<_> = (0..40).map(|count| tree.root(leaves(&tree, count))).collect();
        let mut twice = leaves(&tree, 3);
        twice.push(twice[2]);
        roots.push(tree.root(twice));
        roots.sort();
        roots.dedup();
        assert_eq!(roots.len(), 41);
    }
}
