//! The stream that fills the matrices: ChaCha with 8 rounds (D. J. Bernstein, 2008), 64-bit block
//! counter in words 12 and 13, and which matrix it is in word 14. Every 64-byte block can be made
//! alone, so the verifier never holds a matrix.
//!
//! Knows nothing of keys' origin. Eight rounds suffice: the stream must have no structure that
//! makes a product cheaper, not keep a secret.

const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
const DOUBLE_ROUNDS: usize = 4;
/// Blocks made side by side: sixteen words of four lanes fill the sixteen vector registers of every
/// x86-64; eight lanes spill and take more than twice as long.
const LANES: usize = 4;

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

fn blocks<const L: usize>(key: &Key, tag: u32, first: u32, out: &mut [u8]) {
    let mut start = [[0u32; L]; 16];
    for (word, value) in CONSTANTS.iter().chain(key).enumerate() {
        start[word] = [*value; L];
    }
    for (l, counter) in start[12].iter_mut().enumerate() {
        *counter = first + l as u32;
    }
    start[14] = [tag; L];
    let mut s = start;
    for _ in 0..DOUBLE_ROUNDS {
        quarter(&mut s, 0, 4, 8, 12);
        quarter(&mut s, 1, 5, 9, 13);
        quarter(&mut s, 2, 6, 10, 14);
        quarter(&mut s, 3, 7, 11, 15);
        quarter(&mut s, 0, 5, 10, 15);
        quarter(&mut s, 1, 6, 11, 12);
        quarter(&mut s, 2, 7, 8, 13);
        quarter(&mut s, 3, 4, 9, 14);
    }
    for (l, block) in out.chunks_exact_mut(64).enumerate() {
        for (word, bytes) in block.chunks_exact_mut(4).enumerate() {
            bytes.copy_from_slice(&s[word][l].wrapping_add(start[word][l]).to_le_bytes());
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
