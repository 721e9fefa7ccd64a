//! The stream that fills matrices and memory: ChaCha (D. J. Bernstein, 2008), 64-bit block counter
//! in words 12 and 13, and what it fills in word 14. Every 64-byte block can be made alone, so the
//! verifier never holds a matrix or a memory.
//!
//! Knows nothing of keys' origin. Eight rounds suffice for matrices: the stream must have no
//! structure that makes a product cheaper, not keep a secret. Memory takes as many as make a block
//! dearer to compute than to read.

const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
/// Double rounds of the blocks of matrices and of starts.
pub const DOUBLE_ROUNDS: u32 = 4;
/// Blocks made side by side: sixteen words of four lanes fill the sixteen vector registers of every
/// x86-64; eight lanes spill and take more than twice as long.
pub const LANES: usize = 4;

/// The key of one step's matrices, as eight little-endian words.
pub type Key = [u32; 8];

/// Which of a step's two matrices; the value is the tag in the block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Operand {
    /// A, row by row.
    Left = 1,
    /// B, column by column.
    Right = 2,
}

/// Tag of the blocks that fill memory.
pub const MEMORY: u32 = 3;
/// Tag of the blocks whose first four words start a chain.
pub const START: u32 = 4;

/// Writes the rows of `operand` (columns for B) that start at `first_row`, as many as `out` holds.
/// `n` is a multiple of 64 and `out` of `n`.
pub fn fill_rows(key: &Key, operand: Operand, n: usize, first_row: usize, out: &mut [i8]) {
    fill(key, operand as u32, (first_row * (n / 64)) as u32, bytemuck::cast_slice_mut(out));
}

fn fill(key: &Key, tag: u32, mut block: u32, out: &mut [u8]) {
    let mut wide = out.chunks_exact_mut(64 * LANES);
    for chunk in &mut wide {
        blocks::<LANES>(key, tag, block, chunk);
        block += LANES as u32;
    }
    for chunk in wide.into_remainder().chunks_exact_mut(64) {
        blocks::<1>(key, tag, block, chunk);
        block += 1;
    }
}

#[inline(always)]
fn quarter<const L: usize>(s: &mut [[u32; L]; 16], a: usize, b: usize, c: usize, d: usize) {
    for (add, to, from, turn) in [(a, d, b, 16), (c, b, d, 12), (a, d, b, 8), (c, b, d, 7)] {
        s[add] = std::array::from_fn(|l| s[add][l].wrapping_add(s[from][l]));
        s[to] = std::array::from_fn(|l| (s[to][l] ^ s[add][l]).rotate_left(turn));
    }
}

/// The blocks with these counters, word by word and in each word lane by lane.
#[inline(always)]
pub fn words<const L: usize>(key: &Key, counters: [u32; L], tag: u32, double_rounds: u32) -> [[u32; L]; 16] {
    let mut start = [[0u32; L]; 16];
    for (word, value) in CONSTANTS.iter().chain(key).enumerate() {
        start[word] = [*value; L];
    }
    start[12] = counters;
    start[14] = [tag; L];
    let mut s = start;
    for _ in 0..double_rounds {
        quarter(&mut s, 0, 4, 8, 12);
        quarter(&mut s, 1, 5, 9, 13);
        quarter(&mut s, 2, 6, 10, 14);
        quarter(&mut s, 3, 7, 11, 15);
        quarter(&mut s, 0, 5, 10, 15);
        quarter(&mut s, 1, 6, 11, 12);
        quarter(&mut s, 2, 7, 8, 13);
        quarter(&mut s, 3, 4, 9, 14);
    }
    for (word, from) in s.iter_mut().zip(&start) {
        for (x, y) in word.iter_mut().zip(from) {
            *x = x.wrapping_add(*y);
        }
    }
    s
}

fn blocks<const L: usize>(key: &Key, tag: u32, first: u32, out: &mut [u8]) {
    let counters = std::array::from_fn(|l| first + l as u32);
    let s = words::<L>(key, counters, tag, DOUBLE_ROUNDS);
    for (l, block) in out.chunks_exact_mut(64).enumerate() {
        for (word, bytes) in block.chunks_exact_mut(4).enumerate() {
            bytes.copy_from_slice(&s[word][l].to_le_bytes());
        }
    }
}

/// Writes memory blocks from `first`, sixteen words each.
pub fn fill_memory(key: &Key, double_rounds: u32, first: u32, out: &mut [[u32; 16]]) {
    for (chunk, at) in out.chunks_mut(LANES).zip((first..).step_by(LANES)) {
        let counters: [u32; LANES] = std::array::from_fn(|l| at.wrapping_add(l as u32));
        let s = words::<LANES>(key, counters, MEMORY, double_rounds);
        for (l, block) in chunk.iter_mut().enumerate() {
            *block = std::array::from_fn(|word| s[word][l]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_chacha8_and_every_block_stands_alone() {
        // Strombergson's ChaCha test vectors, TC1: 256-bit zero key, zero nonce, 8 rounds.
        let mut zero = [0u8; 64];
        fill(&[0; 8], 0, 0, &mut zero);
        let hex: String = zero.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "3e00ef2f895f40d67f5bb8e81f09a5a12c840ec3ce9a7f3b181be188ef711a1e\
             984ce172b9216f419f445367456d5619314a42a3da86b001387bfdb80e0cfe42"
        );
        let key = [7, 1, 2, 3, 4, 5, 6, u32::MAX];
        let mut whole = [0u8; 64 * 11];
        fill(&key, 2, 5, &mut whole);
        for (i, expected) in whole.chunks_exact(64).enumerate() {
            let mut one = [0u8; 64];
            fill(&key, 2, 5 + i as u32, &mut one);
            assert_eq!(one, expected, "block {i}");
        }
    }
}
