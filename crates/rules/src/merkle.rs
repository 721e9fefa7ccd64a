//! The tree over a snapshot's entries: hashes with a domain each, so that a leaf can never be passed off
//! as an inner node or a head.
//!
//! The shape is that of RFC 6962, section 2.1 (a node without a sibling moves up as it is; nothing is
//! duplicated, so two different lists never share a root). Knows bytes only, not what a leaf says.

use gangline_types::Hash;
pub use gangline_types::public::InclusionProof;

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
    /// Root over `leaves`; over none, the hash of nothing in the domain of nodes.
    pub(crate) fn root(&self, mut level: Vec<Hash>) -> Hash {
        while level.len() > 1 {
            level = self.level_above(&level);
        }
        level.first().copied().unwrap_or_else(|| self.node.clone().finalize().into())
    }
    /// The siblings of leaf `index`; `None` where there is no such leaf.
    pub(crate) fn path(&self, mut level: Vec<Hash>, index: usize) -> Option<Vec<Hash>> {
        level.get(index)?;
        let mut path = Vec::new();
        let mut at = index;
        while level.len() > 1 {
            path.extend(level.get(at ^ 1));
            level = self.level_above(&level);
            at /= 2;
        }
        Some(path)
    }
    /// The root that `proof` gives for `leaf`; `None` where its numbers do not fit together.
    pub(crate) fn root_from(&self, leaf: Hash, proof: &InclusionProof) -> Option<Hash> {
        let (mut at, mut width) = (proof.index, proof.leaves);
        if at >= width {
            return None;
        }
        let mut siblings = proof.path.iter();
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
                let path = tree.path(all.clone(), index).unwrap();
                let proof = InclusionProof { index: index as u32, leaves: count as u32, path };
                assert_eq!(tree.root_from(*leaf, &proof), Some(root));
                for other in (0..count as u32).filter(|other| *other != proof.index) {
                    let moved = InclusionProof { index: other, ..proof.clone() };
                    assert_ne!(
                        tree.root_from(*leaf, &moved),
                        Some(root),
                        "{count} leaves, {index} as {other}"
                    );
                }
                let longer =
                    InclusionProof { path: [proof.path.clone(), vec![root]].concat(), ..proof.clone() };
                assert_eq!(tree.root_from(*leaf, &longer), None);
                let outside = InclusionProof { index: count as u32, ..proof };
                assert_eq!(tree.root_from(*leaf, &outside), None);
            }
            assert_eq!(tree.path(all, count), None);
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
