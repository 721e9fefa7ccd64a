//! A network's log that a test makes, as the files that a server shows of it.

use std::collections::HashMap;

use gangline_guard::log::{
    Checkpoint, Edge,
    checkpoint::{origin_of, verifier_of},
    leaf_hash,
    tiles::{TILE_WIDTH, Tile, TilePath, bundle, paths_of},
};
use gangline_wire::SigningKey;
use zeroize::Zeroizing;

/// A key that signs a log.
pub fn key(n: u8) -> SigningKey {
    SigningKey::from_seed(&Zeroizing::new([n; 32]))
}

/// Files by their paths.
pub type Files = HashMap<String, Vec<u8>>;

/// A log of these entries as files, signed by key 1.
pub fn log(entries: impl IntoIterator<Item = Vec<u8>>) -> Files {
    let entries: Vec<Vec<u8>> = entries.into_iter().collect();
    let (mut edge, mut tiles) = (Edge::default(), Vec::<Tile>::new());
    for entry in &entries {
        edge.push(leaf_hash(entry), &mut |tile| tiles.push(tile));
    }
    tiles.extend(edge.partials());
    let mut files = Files::new();
    for path in paths_of(edge.size()) {
        let bytes = match path {
            TilePath::Entries { index, width } => {
                let first = index as usize * TILE_WIDTH;
                bundle(&entries[first..first + width])
            }
            TilePath::Hashes { level, index, .. } => {
                tiles.iter().find(|tile| (tile.level, tile.index) == (level, index)).unwrap().to_bytes()
            }
        };
        files.insert(format!("/log/tile/{path}"), bytes);
    }
    let checkpoint = Checkpoint { origin: origin_of(&key(1).public()), size: edge.size(), root: edge.root() };
    files.insert("/log/checkpoint".into(), checkpoint.sign(&key(1)).to_string().into_bytes());
    files.insert("/log/key".into(), verifier_of(&key(1).public()).to_string().into_bytes());
    files
}
