//! What one size is called, and sizes at which something changes, for whoever compares one prover with another bit for bit.

use gangline_types::Hash;

use super::{ChainParams, MemoryParams, Params};
use crate::MatrixParams;

/// Leaves of one chunk and of several (63, 64 and 255 segments are 1,016, 1,032 and 4,088 bytes; rows of 256 and 1,088 are 1 and 5
/// chunks), memory in one buffer and in many and no multiple of them, units that are no power of two, one matrix tile and
/// many; and the regions of a memory whose ends are in the middle of a segment.
pub const SIZES: [Params; 5] = [
    Params {
        memory: MemoryParams::whole(1024, 8),
        walk: ChainParams { units: 128, segments: 3, steps: 8, opened: 6 },
        alu: ChainParams { units: 64, segments: 2, steps: 9, opened: 5 },
        matrix: Some(MatrixParams { n: 64, steps: 2, rows: 3 }),
    },
    Params {
        memory: MemoryParams::whole(64 * 37, 5),
        walk: ChainParams { units: 192, segments: 63, steps: 2, opened: 16 },
        alu: ChainParams { units: 64, segments: 64, steps: 3, opened: 9 },
        matrix: Some(MatrixParams { n: 256, steps: 1, rows: 8 }),
    },
    Params {
        memory: MemoryParams::whole(4096, 480),
        walk: ChainParams { units: 64, segments: 255, steps: 1, opened: 7 },
        alu: ChainParams { units: 128, segments: 1, steps: 1 << 15, opened: 4 },
        matrix: Some(MatrixParams { n: 1088, steps: 2, rows: 4 }),
    },
    Params {
        memory: MemoryParams::whole(1 << 16, 16),
        walk: ChainParams { units: 4096, segments: 2, steps: 128, opened: 8 },
        alu: ChainParams { units: 1024, segments: 4, steps: 256, opened: 8 },
        matrix: None,
    },
    // Three regions; a stay ends in the middle of a segment, and a segment in the middle of a stay.
    Params {
        memory: MemoryParams { regions: 3, stay: 16, ..MemoryParams::whole(3 * 2048, 8) },
        walk: ChainParams { units: 64, segments: 12, steps: 36, opened: 9 },
        alu: ChainParams { units: 64, segments: 2, steps: 9, opened: 5 },
        matrix: None,
    },
];

impl Params {
    /// A hash of how much is asked: what medians of times are kept apart by.
    ///
    /// # Panics
    /// Never: numbers always have a JSON form.
    pub fn work(&self) -> Hash {
        let json = serde_json::to_vec(self).expect("numbers have a JSON form");
        let mut h = blake3::Hasher::new_derive_key("gangline 2026 work of an epoch");
        Hash(*h.update(&json).finalize().as_bytes())
    }
}
