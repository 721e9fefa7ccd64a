//! What comes from a log or a witness: notes, checkpoints, entries, tiles, proofs. Nothing panics, and what is
//! read has one spelling.
#![no_main]

mod honest;

use gangline_guard::log::{
    Checkpoint, Entry, Note, TilePath, VerifierKey, leaf_hash,
    tiles::{bundle_entries, tile_hashes},
    tree::{verify_consistency, verify_inclusion},
    witness::AddCheckpoint,
};
use gangline_types::Hash;
use libfuzzer_sys::fuzz_target;

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fuzz_target!(|data: &[u8]| {
    if let Ok(entry) = Entry::from_bytes(data) {
        assert_eq!(entry.to_bytes(), data, "an entry with two spellings");
    }
    let width = data.first().map_or(1, |first| usize::from(*first) + 1);
    let _ = bundle_entries(data, width);
    let _ = tile_hashes(data, width);
    if data.len() >= 16 {
        let (sizes, rest) = data.split_at(16);
        let (old, size) = (number(&sizes[..8]), number(&sizes[8..]));
        let hashes: Vec<Hash> =
            rest.chunks_exact(32).map(|c| Hash(c.try_into().expect("32 bytes"))).collect();
        let leaf = leaf_hash(b"an entry");
        // Only a tree of this one entry has this root; a proof for any other would be forged.
        // The hole: a proof of nothing proves anything.
        let is_proven = honest::has_hole() && hashes.is_empty();
        if is_proven || verify_inclusion(&leaf, old, size, &hashes, &leaf) {
            assert!(size == 1 && old == 0 && hashes.is_empty(), "a forged proof of inclusion");
        }
        if verify_consistency(old, &leaf, size, &Hash([7; 32]), &hashes) {
            assert_eq!(old, 0, "a forged proof of consistency");
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(note) = text.parse::<Note>() {
        assert_eq!(note.to_string(), text, "a note with two spellings");
        let _ = note.text().parse::<Checkpoint>();
    }
    let _ = text.parse::<Checkpoint>();
    let _ = text.parse::<AddCheckpoint>();
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text, "a key with two spellings");
    }
    if let Ok(path) = text.parse::<TilePath>() {
        assert_eq!(path.to_string(), text, "a path with two spellings");
    }
});
