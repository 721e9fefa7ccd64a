//! The Merkle trees over the rows of one product, and over the units of one chain.
//!
//! Leaves and nodes are hashed under different keys and name the matrix side and their own place,
//! so no hash of one tree means anything in another place or another size. Knows nothing of what
//! rows mean.

use std::sync::LazyLock;

use gangline_types::Hash;

static LEAF_KEY: LazyLock<[u8; 32]> =
    LazyLock::new(|| blake3::derive_key("gangline 2026 proof matrix tree leaf", b""));
static UNIT_KEY: LazyLock<[u8; 32]> =
    LazyLock::new(|| blake3::derive_key("gangline 2026 proof chain tree leaf", b""));
static NODE_KEY: LazyLock<[u8; 32]> =
    LazyLock::new(|| blake3::derive_key("gangline 2026 proof matrix tree node", b""));

// Rows are hashed as they lie in memory, and they are specified to be little-endian.
const _: () = assert!(cfg!(target_endian = "little"), "the proof needs a little-endian machine");

/// Levels between a leaf and the root: those of the next power of two of `n` leaves, so 6 to 13 for
/// rows and 6 to 20 for units.
pub fn depth(n: u32) -> usize {
    n.next_power_of_two().trailing_zeros() as usize
}

/// The leaf of row `index` of an `n` x `n` product.
pub fn leaf(n: u32, index: u32, row: &[i32]) -> Hash {
    let mut h = blake3::Hasher::new_keyed(&LEAF_KEY);
    h.update(&n.to_le_bytes()).update(&index.to_le_bytes()).update(bytemuck::cast_slice(row));
    h.finalize().into()
}

/// The leaf of unit `index` of a chain of `n` units: its states after every segment.
pub fn unit_leaf(n: u32, index: u32, states: &[u32]) -> Hash {
    let mut h = blake3::Hasher::new_keyed(&UNIT_KEY);
    h.update(&n.to_le_bytes()).update(&index.to_le_bytes()).update(bytemuck::cast_slice(states));
    h.finalize().into()
}

/// The keys of row leaves and of unit leaves as words, for kernels that hash.
#[cfg(feature = "gpu")]
pub fn leaf_keys() -> [[u32; 8]; 2] {
    [&LEAF_KEY, &UNIT_KEY].map(|key| {
        let words: &[u8; 32] = key;
        std::array::from_fn(|i| {
            u32::from_le_bytes([words[4 * i], words[4 * i + 1], words[4 * i + 2], words[4 * i + 3]])
        })
    })
}

fn node(n: u32, level: u32, index: u32, left: &Hash, right: &Hash) -> Hash {
    let mut h = blake3::Hasher::new_keyed(&NODE_KEY);
    for number in [n, level, index] {
        h.update(&number.to_le_bytes());
    }
    h.update(&left.0).update(&right.0);
    h.finalize().into()
}

/// A whole tree, leaves first. Missing leaves up to a power of two are 32 zero bytes.
pub struct Tree {
    n: u32,
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// The tree over `n` leaves made by [`leaf`].
    pub fn new(n: u32, mut leaves: Vec<Hash>) -> Self {
        leaves.resize(1 << depth(n), Hash::default());
        let mut levels = vec![leaves];
        for level in 1..=depth(n) {
            let above = levels[level - 1]
                .chunks_exact(2)
                .enumerate()
                .map(|(i, pair)| node(n, level as u32, i as u32, &pair[0], &pair[1]))
                .collect();
            levels.push(above);
        }
        Self { n, levels }
    }

    /// The root.
    pub fn root(&self) -> Hash {
        self.levels[depth(self.n)][0]
    }

    /// The siblings from leaf `index` up to the root, [`depth`] of them.
    pub fn path(&self, index: u32) -> impl Iterator<Item = Hash> {
        self.levels[..depth(self.n)]
            .iter()
            .enumerate()
            .map(move |(level, hashes)| hashes[(index as usize >> level) ^ 1])
    }
}

/// The root that a leaf and its siblings lead to.
pub fn root_of(n: u32, index: u32, leaf: Hash, path: &[Hash]) -> Hash {
    (1u32..).zip(path).fold(leaf, |hash, (level, sibling)| {
        let place = index.checked_shr(level).unwrap_or(0);
        if index >> (level - 1) & 1 == 0 {
            node(n, level, place, &hash, sibling)
        } else {
            node(n, level, place, sibling, &hash)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_leads_to_the_root_and_only_from_its_own_place() {
        for n in [64, 192] {
            let rows: Vec<Vec<i32>> = (0..n).map(|i| vec![i as i32; n as usize]).collect();
            let leaves: Vec<Hash> = (0..n).map(|i| leaf(n, i, &rows[i as usize])).collect();
            let tree = Tree::new(n, leaves.clone());
            for i in 0..n {
                let path: Vec<Hash> = tree.path(i).collect();
                assert_eq!(path.len(), depth(n));
                assert_eq!(root_of(n, i, leaves[i as usize], &path), tree.root());
                let elsewhere = (i + 1) % n;
                assert_ne!(root_of(n, elsewhere, leaves[i as usize], &path), tree.root());
                assert_ne!(leaf(n, elsewhere, &rows[i as usize]), leaves[i as usize]);
                assert_ne!(leaf(n + 64, i, &rows[i as usize]), leaves[i as usize]);
            }
        }
    }
}
