//! The Merkle tree of RFC 6962 with SHA-256: hashes, proofs and their verification (RFC 9162, 2.1.3 and
//! 2.1.4). The tree itself is nowhere: whoever proves gives the hashes of complete subtrees.

use gangline_types::Hash;
use sha2::{Digest, Sha256};

/// Hashes of an inclusion or consistency proof, in the order of the RFC. At most 63 for any tree.
pub type Proof = Vec<Hash>;

/// Hashes in any proof: one for each level of a tree of 2^63 leaves.
pub const PROOF_HASHES_MAX: usize = 63;

/// Hash of an entry's bytes: SHA-256 of a zero byte and them.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(entry).finalize().into())
}

/// Hash of two neighbours: SHA-256 of a one byte, left and right.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Hash(Sha256::new().chain_update([1]).chain_update(left.0).chain_update(right.0).finalize().into())
}

/// Root of the tree without entries.
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

/// Hashes of complete subtrees.
pub trait Subtrees {
    /// Why one cannot be had.
    type Error;
    /// The root over the leaves from `index << level` to `(index + 1) << level`, all of them in the tree.
    ///
    /// # Errors
    /// When it is not known.
    fn subtree(&self, level: u8, index: u64) -> Result<Hash, Self::Error>;
}

/// Root over the leaves `low..high`, where `low` is a multiple of the first power of two that is not less
/// than their number: the ranges that proofs are made of.
fn range_root<S: Subtrees>(nodes: &S, low: u64, high: u64) -> Result<Hash, S::Error> {
    let (mut at, mut parts) = (low, Vec::new());
    while at < high {
        let level = (high - at).ilog2() as u8;
        parts.push(nodes.subtree(level, at >> level)?);
        at += 1 << level;
    }
    Ok(fold(&parts))
}

/// Joins complete subtrees, largest first, into one root.
pub(super) fn fold(parts: &[Hash]) -> Hash {
    let mut from_right = parts.iter().rev();
    let Some(last) = from_right.next() else { return empty_root() };
    from_right.fold(*last, |right, left| node_hash(left, &right))
}

/// The largest power of two below `leaves`, which is at least 2.
fn split(leaves: u64) -> u64 {
    1 << (leaves - 1).ilog2()
}

/// Root over the first `size` leaves.
///
/// # Errors
/// When a subtree is not known.
pub fn root<S: Subtrees>(nodes: &S, size: u64) -> Result<Hash, S::Error> {
    range_root(nodes, 0, size)
}

/// Shows that leaf `index` is in the tree of `size` leaves.
///
/// # Errors
/// When a subtree is not known.
///
/// # Panics
/// If the leaf is not in the tree: a mistake in our own code.
pub fn prove_inclusion<S: Subtrees>(nodes: &S, index: u64, size: u64) -> Result<Proof, S::Error> {
    assert!(index < size, "a proof is only for what is in the tree");
    let (mut low, mut high, mut proof) = (0, size, Proof::new());
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            proof.push(range_root(nodes, middle, high)?);
            high = middle;
        } else {
            proof.push(range_root(nodes, low, middle)?);
            low = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Shows that the tree of `size` leaves begins with the tree of `old` leaves. Empty for equal sizes and for
/// an empty old tree, as there is nothing to show.
///
/// # Errors
/// When a subtree is not known.
///
/// # Panics
/// If `old` is larger than `size`: a mistake in our own code.
pub fn prove_consistency<S: Subtrees>(nodes: &S, old: u64, size: u64) -> Result<Proof, S::Error> {
    assert!(old <= size, "a tree only grows");
    if old == 0 || old == size {
        return Ok(Proof::new());
    }
    let (mut low, mut high, mut proof) = (0, size, Proof::new());
    while old != high {
        let middle = low + split(high - low);
        if old <= middle {
            proof.push(range_root(nodes, middle, high)?);
            high = middle;
        } else {
            proof.push(range_root(nodes, low, middle)?);
            low = middle;
        }
    }
    // The old tree's own root is known to whoever asks; a part of it is not.
    if low > 0 {
        proof.push(range_root(nodes, low, high)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Whether `proof` shows that `leaf` is at `index` of the tree of `size` leaves with this root.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, *leaf);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree of `size` leaves with root `root` begins with the tree of `old` leaves
/// with root `old_root`. Equal sizes need equal roots and an empty proof; so does an empty old tree.
pub fn verify_consistency(old: u64, old_root: &Hash, size: u64, root: &Hash, proof: &[Hash]) -> bool {
    if old > size {
        return false;
    }
    if old == size {
        return proof.is_empty() && old_root == root;
    }
    if old == 0 {
        return proof.is_empty() && *old_root == empty_root();
    }
    // A complete old tree is its own first hash, which the proof leaves out.
    let (first, rest) = match (old.is_power_of_two(), proof.split_first()) {
        (true, _) => (old_root, proof),
        (false, Some((first, rest))) => (first, rest),
        (false, None) => return false,
    };
    let (mut at, mut last) = (old - 1, size - 1);
    let skip = at.trailing_ones();
    (at, last) = (at >> skip, last >> skip);
    let (mut old_hash, mut hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            old_hash = node_hash(sibling, &old_hash);
            hash = node_hash(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old_hash == *old_root && hash == *root
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{edge::Edge, tiles::Tiles};

    /// The eight leaves and roots that implementations of Certificate Transparency test with.
    const LEAVES: [&[u8]; 8] =
        [b"", b"\x00", b"\x10", b" !", b"01", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    #[test]
    fn known_trees_have_their_known_roots() {
        assert_eq!(
            empty_root().to_string(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let (mut edge, mut tiles) = (Edge::default(), Tiles::default());
        for (leaf, known) in LEAVES.iter().zip(ROOTS) {
            edge.push(leaf_hash(leaf), &mut |_| ());
            tiles.take_all(edge.partials());
            assert_eq!(edge.root().to_string(), known);
            assert_eq!(root(&tiles, edge.size()).unwrap().to_string(), known);
        }
        // RFC 6962's own worked example is over seven leaves; the path of leaf 6 there is [i, k].
        let proof = prove_inclusion(&tiles, 6, 7).unwrap();
        let i = node_hash(&leaf_hash(LEAVES[4]), &leaf_hash(LEAVES[5]));
        assert_eq!(proof, [i, ROOTS[3].parse().unwrap()]);
    }

    #[test]
    fn equal_sizes_need_equal_roots_and_an_empty_proof() {
        let (a, b) = (leaf_hash(b"a"), leaf_hash(b"b"));
        assert!(verify_consistency(1, &a, 1, &a, &[]));
        assert!(!verify_consistency(1, &a, 1, &b, &[]));
        assert!(!verify_consistency(1, &a, 1, &a, &[b]));
        assert!(verify_consistency(0, &empty_root(), 1, &a, &[]));
        assert!(!verify_consistency(0, &b, 1, &a, &[]));
        assert!(!verify_consistency(0, &empty_root(), 1, &a, &[b]));
        assert!(!verify_consistency(2, &a, 1, &a, &[]));
        assert!(!verify_consistency(3, &a, 4, &b, &[]));
        assert!(!verify_inclusion(&a, 1, 1, &[], &a));
        assert!(verify_inclusion(&a, 0, 1, &[], &a));
    }
}
