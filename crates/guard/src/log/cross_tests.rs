//! The tree, the tiles and the notes against implementations by others, over trees of many sizes.

use std::convert::Infallible;

use ct_merkle::{HashableLeaf, mem_backed_tree::MemoryBackedTree};
use gangline_types::Hash;
use gangline_wire::SigningKey;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::{
    checkpoint::{Checkpoint, origin_of, verifier_of},
    edge::Edge,
    leaf_hash,
    tiles::{Tiles, paths_for_consistency, paths_of},
    tree::{Subtrees, prove_consistency, prove_inclusion, root, verify_consistency, verify_inclusion},
};

/// Hashes the plain way: every subtree from its leaves.
struct Plain(Vec<Hash>);
impl Subtrees for Plain {
    type Error = Infallible;
    fn subtree(&self, level: u8, index: u64) -> Result<Hash, Infallible> {
        let width = 1usize << level;
        let at = index as usize * width;
        Ok(super::edge::stretch_root(&self.0[at..at + width]))
    }
}

#[derive(Clone)]
struct Leaf(u64);
impl HashableLeaf for Leaf {
    fn hash<H: sha2::digest::Update>(&self, hasher: &mut H) {
        hasher.update(&self.0.to_be_bytes());
    }
}

fn grown(size: u64) -> (Edge, Tiles, Plain, MemoryBackedTree<sha2::Sha256, Leaf>) {
    let (mut edge, mut tiles, mut plain) = (Edge::default(), Tiles::default(), Plain(vec![]));
    let mut other = MemoryBackedTree::new();
    for n in 0..size {
        let leaf = leaf_hash(&n.to_be_bytes());
        edge.push(leaf, &mut |tile| tiles.take(tile));
        plain.0.push(leaf);
        other.push(Leaf(n));
    }
    tiles.take_all(edge.partials());
    (edge, tiles, plain, other)
}

fn bytes(proof: &[Hash]) -> Vec<u8> {
    proof.iter().flat_map(|hash| hash.0).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn proofs_are_those_of_others_and_no_spoiled_one_passes(
        size in prop_oneof![1u64..40, 250u64..262, 500u64..900], one in any::<u64>(), two in any::<u64>(), flip in any::<u8>(),
    ) {
        let (edge, tiles, plain, other) = grown(size);
        let top = edge.root();
        let others = other.root();
        prop_assert_eq!(&top.0[..], &others.as_bytes()[..]);
        prop_assert_eq!(top, root(&plain, size).unwrap());
        prop_assert_eq!(top, root(&tiles, size).unwrap());

        let index = one % size;
        let proof = prove_inclusion(&tiles, index, size).unwrap();
        prop_assert_eq!(&proof, &prove_inclusion(&plain, index, size).unwrap());
        let others = other.prove_inclusion(index as usize);
        prop_assert_eq!(bytes(&proof), others.as_bytes());
        let leaf = leaf_hash(&index.to_be_bytes());
        prop_assert!(verify_inclusion(&leaf, index, size, &proof, &top));
        prop_assert!(!verify_inclusion(&leaf, index, size, &proof, &leaf_hash(b"")));
        prop_assert!(size == 1 || !verify_inclusion(&leaf, (index + 1) % size, size, &proof, &top));
        let mut longer = proof.clone();
        longer.push(top);
        prop_assert!(!verify_inclusion(&leaf, index, size, &longer, &top));
        if !proof.is_empty() {
            prop_assert!(!verify_inclusion(&leaf, index, size, &proof[1..], &top));
            let mut spoiled = proof.clone();
            let at = flip as usize % spoiled.len();
            spoiled[at].0[flip as usize % 32] ^= 1 << (flip % 8);
            prop_assert!(!verify_inclusion(&leaf, index, size, &spoiled, &top));
        }

        let old = 1 + two % size;
        let (before, ..) = grown(old);
        let proof = prove_consistency(&tiles, old, size).unwrap();
        prop_assert!(verify_consistency(old, &before.root(), size, &top, &proof));
        if old < size {
            let others = other.prove_consistency((size - old) as usize);
            prop_assert_eq!(bytes(&proof), others.as_bytes());
            let mut spoiled = proof.clone();
            let at = flip as usize % spoiled.len();
            spoiled[at].0[flip as usize % 32] ^= 1 << (flip % 8);
            prop_assert!(!verify_consistency(old, &before.root(), size, &top, &spoiled));
            prop_assert!(!verify_consistency(old, &top, size, &top, &proof));
            prop_assert!(!verify_consistency(old, &before.root(), size, &before.root(), &proof));
            prop_assert!(!verify_consistency(old, &before.root(), size, &top, &proof[1..]));
        }

        // What a client would fetch is enough for the proof.
        let mut fetched = Tiles::default();
        for path in paths_for_consistency(old, size) {
            let super::TilePath::Hashes { level, index, width } = path else { unreachable!() };
            let hashes = (0..width as u64)
                .map(|n| tiles.subtree(level * 8, index * 256 + n).unwrap()).collect();
            fetched.take(super::tiles::Tile { level, index, hashes });
        }
        prop_assert_eq!(prove_consistency(&fetched, old, size).unwrap(), proof);
    }

    #[test]
    fn an_edge_is_taken_up_where_it_was_left(size in 0u64..700, more in 0u64..300) {
        let (mut whole, ..) = grown(size + more);
        let (_, tiles, ..) = grown(size);
        let mut edge = Edge::of(size, |level, index, width| {
            (0..width as u64).map(|n| tiles.subtree(level * 8, index * 256 + n)).collect::<Result<Vec<_>, _>>()
        }).unwrap();
        for n in size..size + more {
            edge.push(leaf_hash(&n.to_be_bytes()), &mut |_| ());
        }
        prop_assert_eq!(edge.root(), whole.root());
        prop_assert_eq!(edge.partials(), whole.partials());
        whole.push(Hash([1; 32]), &mut |_| ());
        prop_assert!(edge != whole);
    }
}

#[test]
fn another_implementation_names_the_same_tiles() {
    // That one writes the height of a tile into its path, as its forerunner did.
    for size in [1u64, 255, 256, 257, 65_535, 65_536, 70_000] {
        let ours: Vec<String> = paths_of(size)
            .filter(|path| matches!(path, super::TilePath::Hashes { .. }))
            .map(|path| format!("tile/8/{path}"))
            .collect();
        let mut theirs: Vec<String> =
            tlog_tiles::Tile::new_tiles(8, 0, size).iter().map(tlog_tiles::Tile::path).collect();
        let mut sorted = ours.clone();
        sorted.sort();
        theirs.sort();
        assert_eq!(sorted, theirs, "{size}");
    }
}

#[test]
fn another_implementation_verifies_our_notes() {
    use signed_note::{Note, StandardVerifier, VerifierList};
    let key = SigningKey::from_seed(&Zeroizing::new([7; 32]));
    let checkpoint = Checkpoint { origin: origin_of(&key.public()), size: 3, root: Hash([1; 32]) };
    let text = checkpoint.sign(&key).to_string();
    let verifier = StandardVerifier::new(&verifier_of(&key.public()).to_string()).unwrap();
    let verifiers = VerifierList::new(vec![Box::new(verifier)]);
    let note = Note::from_bytes(text.as_bytes()).unwrap();
    let (verified, _) = note.verify(&verifiers).unwrap();
    assert_eq!(verified.len(), 1);
}
