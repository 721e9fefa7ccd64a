//! The right edge of the tree: all that is needed to make it grow. Each level has one tile that is not full
//! yet; a tile that fills up becomes one hash of the level above (c2sp.org/tlog-tiles).

use gangline_types::Hash;

use super::{
    tiles::{TILE_HEIGHT, TILE_WIDTH, Tile},
    tree::{fold, node_hash},
};

/// A tree's size and its tiles that are not full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    /// Hashes of the last tile of each level, 0 to 255 of them, lowest level first.
    levels: Vec<Vec<Hash>>,
}

/// Root of one full or partial stretch of a tile, whose length is a power of two.
pub(super) fn stretch_root(hashes: &[Hash]) -> Hash {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row.chunks_exact(2).map(|pair| node_hash(&pair[0], &pair[1])).collect();
    }
    row.first().copied().unwrap_or_default()
}

impl Edge {
    /// The edge of a tree of `size` leaves; `tile` gives the first `width` hashes of a level's tile `index`.
    ///
    /// # Errors
    /// What `tile` fails with.
    pub fn of<E>(size: u64, mut tile: impl FnMut(u8, u64, usize) -> Result<Vec<Hash>, E>) -> Result<Self, E> {
        let mut levels = Vec::new();
        for (level, index, width) in partials_of(size) {
            levels.push(if width == 0 { Vec::new() } else { tile(level, index, width)? });
        }
        Ok(Self { size, levels })
    }

    /// How many leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf; `full` gets every tile that it fills.
    pub fn push(&mut self, leaf: Hash, full: &mut impl FnMut(Tile)) {
        let (mut hash, mut level) = (leaf, 0);
        loop {
            if self.levels.len() == level {
                self.levels.push(Vec::with_capacity(TILE_WIDTH));
            }
            let tile = &mut self.levels[level];
            tile.push(hash);
            if tile.len() < TILE_WIDTH {
                break;
            }
            let hashes = std::mem::take(tile);
            hash = stretch_root(&hashes);
            let index = self.size >> (TILE_HEIGHT as usize * (level + 1));
            full(Tile { level: level as u8, index, hashes });
            level += 1;
        }
        self.size += 1;
    }

    /// The tiles that are not full, the empty ones left out.
    pub fn partials(&self) -> Vec<Tile> {
        partials_of(self.size)
            .zip(&self.levels)
            .filter(|(_, hashes)| !hashes.is_empty())
            .map(|((level, index, _), hashes)| Tile { level, index, hashes: hashes.clone() })
            .collect()
    }

    /// The root.
    pub fn root(&self) -> Hash {
        // The complete subtrees that the tree consists of, largest first: for each level from the top, the
        // binary digits of the number of hashes in its last tile.
        let mut parts = Vec::new();
        for tile in self.levels.iter().rev() {
            let mut at = 0;
            for bit in (0..TILE_HEIGHT).rev() {
                let width = 1 << bit;
                if tile.len() & width != 0 {
                    parts.push(stretch_root(&tile[at..at + width]));
                    at += width;
                }
            }
        }
        fold(&parts)
    }
}

/// Level, index and width of the last tile of each level that a tree of `size` leaves has begun; a width of 0
/// where the last one is full.
pub fn partials_of(size: u64) -> impl Iterator<Item = (u8, u64, usize)> {
    let levels = if size == 0 { 0 } else { size.ilog2() / TILE_HEIGHT as u32 + 1 };
    (0..levels as u8).map(move |level| {
        let hashes = size >> (TILE_HEIGHT * level);
        let index = hashes >> TILE_HEIGHT;
        (level, index, (hashes & (TILE_WIDTH as u64 - 1)) as usize)
    })
}
