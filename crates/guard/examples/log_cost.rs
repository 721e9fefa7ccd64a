//! What the log costs: an append, a proof, its verification, a signed checkpoint, and a check from outside.
//! `cargo run --release -p gangline-guard --example log_cost [ENTRIES]`

use std::{hint::black_box, time::Instant};

use gangline_guard::log::{
    Checker, Checkpoint, Edge, Entry, Event,
    checkpoint::{origin_of, verifier_of},
    entry::Change,
    leaf_hash,
    tiles::{TILE_WIDTH, Tile, Tiles},
    tree::{prove_consistency, prove_inclusion, verify_consistency, verify_inclusion},
};
use gangline_types::{GpuId, Hash, UnixSeconds};
use gangline_wire::SigningKey;
use zeroize::Zeroizing;

fn per(name: &str, count: u64, mut work: impl FnMut(u64)) {
    let start = Instant::now();
    (0..count).for_each(&mut work);
    println!("{name:<42} {:>10.2} us", start.elapsed().as_secs_f64() * 1e6 / count as f64);
}

fn main() {
    let size: u64 = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000);
    let entry = |n: u64| {
        let event = Event::MetadataChange { gpu: GpuId::from_bytes([1; 16]), change: Change::Set };
        Entry { at: UnixSeconds(n), event, sealed: Hash([n as u8; 32]) }.to_bytes()
    };
    println!("{size} entries of {} bytes; each figure is the mean of many", entry(size).len());
    let (mut edge, mut all, mut leaves) = (Edge::default(), Vec::<Tile>::new(), Vec::new());
    per("write an entry and hash it", size, |n| leaves.push(leaf_hash(&entry(n))));
    per("append a hash to the tree", size, |n| edge.push(leaves[n as usize], &mut |tile| all.push(tile)));
    all.extend(edge.partials());
    let leaf_tiles: Vec<Vec<Hash>> =
        all.iter().filter(|tile| tile.level == 0).map(|tile| tile.hashes.clone()).collect();
    let mut tiles = Tiles::default();
    tiles.take_all(all);
    let root = edge.root();
    per("root of the tree", 1000, |_| {
        black_box(edge.root());
    });

    let at = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size;
    let mut proofs = Vec::new();
    per("prove that an entry is in it", 2000, |n| proofs.extend(prove_inclusion(&tiles, at(n), size)));
    per("verify that", 2000, |n| {
        let index = at(n);
        assert!(verify_inclusion(&leaves[index as usize], index, size, &proofs[n as usize], &root));
    });
    let old = size - size / 3;
    let before = Edge::of(old, |level, index, width| {
        let hash = |n| gangline_guard::log::tree::Subtrees::subtree(&tiles, level * 8, index * 256 + n);
        (0..width as u64).map(hash).collect::<Result<Vec<_>, _>>()
    });
    let before = before.expect("the tiles are all here").root();
    let mut proof = Vec::new();
    per("prove that it only grew", 2000, |_| {
        proof = prove_consistency(&tiles, old, size).expect("the tiles are all here");
    });
    per("verify that", 2000, |_| assert!(verify_consistency(old, &before, size, &root, &proof)));

    let key = SigningKey::from_seed(&Zeroizing::new([7; 32]));
    let checkpoint = Checkpoint { origin: origin_of(&key.public()), size, root };
    let log = verifier_of(&key.public());
    let mut note = checkpoint.sign(&key);
    per("sign a checkpoint", 1000, |_| note = checkpoint.sign(&key));
    per("verify a checkpoint", 1000, |_| assert!(Checkpoint::of_note(&note, &log).is_ok()));

    let mut checker = Checker::new(checkpoint, vec![]).expect("nothing was seen before");
    let start = Instant::now();
    for (n, hashes) in leaf_tiles.iter().enumerate() {
        let first = (n * TILE_WIDTH) as u64;
        let entries: Vec<Vec<u8>> = (first..first + hashes.len() as u64).map(entry).collect();
        checker.take(&entries, hashes, &mut |_, _| ()).expect("the log is honest");
    }
    checker.end().expect("the log is honest");
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{:<42} {:>10.2} us an entry, {seconds:.2} s in all",
        "check the whole log",
        seconds * 1e6 / size as f64
    );
}
