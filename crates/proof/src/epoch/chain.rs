//! One step of a walk and of the ALU chain on the processor: the reference that every kernel equals
//! bit for bit, and what the verifier recomputes.
//!
//! Knows nothing of trees or messages. Blocks of memory are made anew for each step; the reference prover
//! hands in blocks it holds.

use super::{MemoryParams, Params};
use crate::chacha::{self, Key};

/// A chain's state: four words.
pub type State = [u32; 4];

/// Which kind of step.
#[derive(Clone, Copy)]
pub enum Step<'a> {
    /// Reads the block that the state names, mixes all of it in. Blocks are made from this key.
    Walk {
        /// Key of the memory.
        memory: &'a Key,
    },
    /// Mixes without memory, with the words of this key.
    Alu {
        /// Key of the chain.
        key: &'a Key,
    },
}

/// The state in which unit `unit` of the chain with this key starts.
pub fn start(key: &Key, unit: u32) -> State {
    let words = chacha::words::<1>(key, [unit], chacha::START, chacha::DOUBLE_ROUNDS);
    [words[0][0], words[1][0], words[2][0], words[3][0]]
}

/// Runs a segment from each of these states, side by side: of each chain the segment of this number.
pub fn segment<const L: usize>(
    params: &Params,
    step: Step<'_>,
    segments: &[u32; L],
    states: &mut [State; L],
) {
    match step {
        Step::Walk { memory } => {
            for i in 0..params.walk.steps {
                let at = |l: usize| segments[l] * params.walk.steps + i;
                let places = std::array::from_fn(|l| place(&states[l], &params.memory, at(l)));
                let words = chacha::words::<L>(memory, places, chacha::MEMORY, params.memory.rounds);
                for (l, state) in states.iter_mut().enumerate() {
                    take_in(state, &std::array::from_fn(|word| words[word][l]));
                }
            }
        }
        Step::Alu { key } => {
            for i in 0..params.alu.steps {
                let half = (i as usize & 1) * 4;
                for state in states.iter_mut() {
                    *state = mix(*state, [key[half], key[half + 1], key[half + 2], key[half + 3]]);
                }
            }
        }
    }
}

/// The block that a walker in this state reads in this step of its walk.
#[inline(always)]
pub fn place(state: &State, memory: &MemoryParams, step: u32) -> u32 {
    memory.base(step) + state[3] % memory.region_blocks()
}

/// Mixes the sixteen words of a block into a state. For every block this is a bijection of states, and
/// every word of the block acts on the last word of the state, which names the next block.
#[inline(always)]
pub fn take_in(s: &mut State, block: &[u32; 16]) {
    for four in block.chunks_exact(4) {
        for (x, v) in s.iter_mut().zip(four) {
            *x = (*x ^ v).wrapping_mul(0x9E37_79B1);
            *x ^= *x >> 15;
        }
        s[0] = s[0].wrapping_add(s[3]);
        s[1] = s[1].wrapping_add(s[0]);
        s[2] = s[2].wrapping_add(s[1]);
        s[3] = s[3].wrapping_add(s[2]);
    }
}

#[inline(always)]
fn mix(s: State, key: [u32; 4]) -> State {
    let t: State = std::array::from_fn(|i| s[i].wrapping_mul(0x85EB_CA6B).wrapping_add(key[i]));
    std::array::from_fn(|i| (t[i] ^ (t[(i + 1) & 3] >> (t[(i + 3) & 3] & 15))).rotate_left(13))
}
