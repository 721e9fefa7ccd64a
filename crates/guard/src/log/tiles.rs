//! Tiles: stretches of 256 hashes of one level, and of 256 entries, with the paths that the world knows them
//! by (c2sp.org/tlog-tiles).

use std::{collections::HashMap, fmt, str::FromStr};

use gangline_types::Hash;

use super::{edge::stretch_root, tree::Subtrees};

/// Levels of the tree in a tile.
pub const TILE_HEIGHT: u8 = 8;
/// Hashes, or entries, in a full tile.
pub const TILE_WIDTH: usize = 1 << TILE_HEIGHT;
/// Levels of tiles in a tree of 2^64 leaves.
pub const TILE_LEVELS: u8 = 8;
/// Bytes of an entry in a bundle at most: its length is two bytes.
pub const ENTRY_BYTES_MAX: usize = u16::MAX as usize;

/// One tile with its hashes: 1 to 256 of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// 0 for leaf hashes; each further level is 8 levels of the tree up.
    pub level: u8,
    /// Which, from the left.
    pub index: u64,
    /// Its hashes.
    pub hashes: Vec<Hash>,
}

impl Tile {
    /// As it is served: the hashes, one after the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.iter().flat_map(|hash| hash.0).collect()
    }
}

/// The hashes of a tile as served; none if the bytes are not `width` of them.
pub fn tile_hashes(bytes: &[u8], width: usize) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    (rest.is_empty() && hashes.len() == width).then(|| hashes.iter().copied().map(Hash).collect())
}

/// A bundle as served: each entry after its length in two bytes, most significant first.
///
/// # Panics
/// If an entry is longer than [`ENTRY_BYTES_MAX`]: a mistake in our own code.
pub fn bundle<B: AsRef<[u8]>>(entries: impl IntoIterator<Item = B>) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        let length = u16::try_from(entry.len()).expect("entries are written by us and are short");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(entry);
    }
    out
}

/// The entries of a bundle as served; none if the bytes are not `width` of them.
pub fn bundle_entries(mut bytes: &[u8], width: usize) -> Option<Vec<Vec<u8>>> {
    let mut entries = Vec::with_capacity(width.min(TILE_WIDTH));
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<2>()?;
        let (entry, rest) = rest.split_at_checked(u16::from_be_bytes(*length) as usize)?;
        entries.push(entry.to_vec());
        bytes = rest;
        if entries.len() > width {
            return None;
        }
    }
    (entries.len() == width).then_some(entries)
}

/// What a path under `tile/` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TilePath {
    /// Hashes of one level.
    Hashes {
        /// 0 to 7.
        level: u8,
        /// Which, from the left.
        index: u64,
        /// How many of its hashes, 1 to 256.
        width: usize,
    },
    /// Entries.
    Entries {
        /// Which, from the left.
        index: u64,
        /// How many of its entries, 1 to 256.
        width: usize,
    },
}

/// Why a text is no path of a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a path of a tile: expected for example 0/x001/234 or entries/067.p/5")]
pub struct TilePathError;

impl fmt::Display for TilePath {
    /// As it stands after `tile/`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (index, width) = match *self {
            Self::Hashes { level, index, width } => {
                write!(f, "{level}/")?;
                (index, width)
            }
            Self::Entries { index, width } => {
                f.write_str("entries/")?;
                (index, width)
            }
        };
        let mut groups = vec![index % 1000];
        let mut rest = index / 1000;
        while rest > 0 {
            groups.push(rest % 1000);
            rest /= 1000;
        }
        for group in groups[1..].iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", groups[0])?;
        if width < TILE_WIDTH { write!(f, ".p/{width}") } else { Ok(()) }
    }
}

impl FromStr for TilePath {
    type Err = TilePathError;
    fn from_str(text: &str) -> Result<Self, TilePathError> {
        let (kind, rest) = text.split_once('/').ok_or(TilePathError)?;
        let (index_text, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().map_err(|_| TilePathError)?),
            None => (rest, TILE_WIDTH),
        };
        let mut index = 0u64;
        for group in index_text.split('/') {
            let digits: u64 = group.trim_start_matches('x').parse().map_err(|_| TilePathError)?;
            index = index.checked_mul(1000).and_then(|i| i.checked_add(digits)).ok_or(TilePathError)?;
        }
        let path = match kind {
            "entries" => Self::Entries { index, width },
            level => Self::Hashes { level: level.parse().map_err(|_| TilePathError)?, index, width },
        };
        let in_range = match path {
            Self::Hashes { level, width, .. } => level < TILE_LEVELS && (1..=TILE_WIDTH).contains(&width),
            Self::Entries { width, .. } => (1..=TILE_WIDTH).contains(&width),
        };
        // One tile has one name: what we would write differently is refused.
        if in_range && path.to_string() == text { Ok(path) } else { Err(TilePathError) }
    }
}

/// Every tile of hashes and every bundle of a tree of `size` leaves, lowest level first.
pub fn paths_of(size: u64) -> impl Iterator<Item = TilePath> {
    let tiles = |hashes: u64| {
        let full = hashes >> TILE_HEIGHT;
        let rest = (hashes & (TILE_WIDTH as u64 - 1)) as usize;
        (0..full).map(|index| (index, TILE_WIDTH)).chain((rest > 0).then_some((full, rest)))
    };
    let levels = (0..TILE_LEVELS).map(move |level| (level, size >> (TILE_HEIGHT * level)));
    let hashes = levels.flat_map(move |(level, hashes)| {
        tiles(hashes).map(move |(index, width)| TilePath::Hashes { level, index, width })
    });
    tiles(size).map(|(index, width)| TilePath::Entries { index, width }).chain(hashes)
}

/// Tiles in memory, for proofs.
#[derive(Clone, Debug, Default)]
pub struct Tiles(HashMap<(u8, u64), Vec<Hash>>);

/// A tile that a proof needs is not here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hash {index} of level {level} of the tree is in no tile that is here")]
pub struct MissingHash {
    /// Level of the tree, 0 for leaves.
    pub level: u8,
    /// Which, from the left.
    pub index: u64,
}

impl Tiles {
    /// Takes a tile; one of the same place that has fewer hashes goes.
    pub fn take(&mut self, tile: Tile) {
        let known = self.0.entry((tile.level, tile.index)).or_default();
        if known.len() < tile.hashes.len() {
            *known = tile.hashes;
        }
    }
    /// Takes many.
    pub fn take_all(&mut self, tiles: impl IntoIterator<Item = Tile>) {
        tiles.into_iter().for_each(|tile| self.take(tile));
    }
}

impl Subtrees for Tiles {
    type Error = MissingHash;
    fn subtree(&self, level: u8, index: u64) -> Result<Hash, MissingHash> {
        let within = level % TILE_HEIGHT;
        let first = index << within;
        let tile = self.0.get(&(level / TILE_HEIGHT, first >> TILE_HEIGHT));
        let at = (first & (TILE_WIDTH as u64 - 1)) as usize;
        tile.and_then(|hashes| hashes.get(at..at + (1 << within)))
            .map(stretch_root)
            .ok_or(MissingHash { level, index })
    }
}

/// The tiles that a proof of consistency from `old` to `size` leaves can need: the last of each level, of
/// both trees, and those that hold the way up to the old one's.
pub fn paths_for_consistency(old: u64, size: u64) -> Vec<TilePath> {
    let mut paths = Vec::new();
    for leaf in [old.saturating_sub(1), old, size.saturating_sub(1)] {
        if leaf >= size {
            continue;
        }
        for level in 0..TILE_LEVELS {
            let hashes = size >> (TILE_HEIGHT * level);
            let index = leaf.checked_shr((TILE_HEIGHT * (level + 1)) as u32).unwrap_or(0);
            // The place may be in the tile that is only begun, or in none.
            let width = hashes.saturating_sub(index << TILE_HEIGHT).min(TILE_WIDTH as u64) as usize;
            let path = TilePath::Hashes { level, index, width };
            if width > 0 && !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_specification() {
        let check = |path: TilePath, text: &str| {
            assert_eq!(path.to_string(), text);
            assert_eq!(text.parse(), Ok(path));
        };
        check(TilePath::Hashes { level: 0, index: 1_234_067, width: 256 }, "0/x001/x234/067");
        check(TilePath::Hashes { level: 1, index: 0, width: 17 }, "1/000.p/17");
        check(TilePath::Entries { index: 273, width: 112 }, "entries/273.p/112");
        check(TilePath::Entries { index: 1000, width: 256 }, "entries/x001/000");
        for refused in [
            "",
            "0",
            "0/",
            "0/0",
            "0/00",
            "0/0000",
            "8/000",
            "-1/000",
            "+1/000",
            "00/000",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/257",
            "0/000.p/05",
            "0/x000/001",
            "0/001/x000",
            "0/001/000",
            "0/xx001/000",
            "0/000.p/1.p/2",
            "entries/../000",
            "data/000",
            "0/x999/x999/x999/x999/x999/x999/x999/999",
            "0/000/",
        ] {
            assert!(refused.parse::<TilePath>().is_err(), "{refused} was taken");
        }
    }

    #[test]
    fn the_specification_s_tree_has_the_specification_s_tiles() {
        // "a log of size 70,000 has 273 full level 0 tiles, one partial with 112 hashes, one full level 1 tile,
        // one partial with 17, and one level 2 tile with one hash".
        let names: Vec<String> = paths_of(70_000).map(|path| path.to_string()).collect();
        assert_eq!(names.len(), 274 + 274 + 2 + 1);
        for name in ["0/272", "0/273.p/112", "1/000", "1/001.p/17", "2/000.p/1", "entries/273.p/112"] {
            assert!(names.iter().any(|n| n == name), "{name}");
        }
        assert_eq!(paths_of(0).count(), 0);
    }

    #[test]
    fn bundles_come_back_and_spoiled_ones_do_not() {
        let entries: Vec<&[u8]> = vec![b"a", b"", b"longer"];
        let bytes = bundle(&entries);
        assert_eq!(bytes, b"\0\x01a\0\0\0\x06longer");
        assert_eq!(bundle_entries(&bytes, 3).unwrap(), entries);
        for (bytes, width) in [(&bytes[..], 2), (&bytes[..], 4), (&bytes[..bytes.len() - 1], 3), (b"\0", 1)] {
            assert_eq!(bundle_entries(bytes, width), None);
        }
        assert_eq!(tile_hashes(&[1; 64], 2), Some(vec![Hash([1; 32]); 2]));
        assert_eq!((tile_hashes(&[1; 64], 1), tile_hashes(&[1; 63], 1)), (None, None));
    }
}
