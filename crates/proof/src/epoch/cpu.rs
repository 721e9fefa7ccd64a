//! The reference prover: the processor alone, exact, on all its cores.
//!
//! Knows nothing of devices. Holds everything in plain vectors.

use gangline_types::Hash;

use super::{
    Challenge, Commitment, Opening, Params, Part,
    chain::{self, State, Step},
    prove::{Chained, Engine, Prover, ProverError, Watch, piece},
};
use crate::{
    chacha::{self, Key, LANES},
    par, product,
    prove::operands,
    tree,
};

/// Blocks or units between two questions whether to go on.
const PIECE: usize = 1 << 14;

/// The reference prover.
pub struct CpuProver(Chained<Cpu>);

impl CpuProver {
    /// A prover without a commitment.
    pub fn new() -> Self {
        Self(Chained::new(Cpu::default()))
    }
}

impl Default for CpuProver {
    fn default() -> Self {
        Self::new()
    }
}

impl Prover for CpuProver {
    fn warm_up(&mut self, params: &Params, watch: &mut Watch<'_>) -> Result<(), ProverError> {
        self.0.warm_up(params, watch)
    }
    fn commit(&mut self, challenge: &Challenge, watch: &mut Watch<'_>) -> Result<Commitment, ProverError> {
        self.0.commit(challenge, watch)
    }
    fn open(&mut self, nonce: &Hash) -> Result<Opening, ProverError> {
        self.0.open(nonce)
    }
}

/// What the processor holds of one proof.
#[derive(Default)]
pub(crate) struct Cpu {
    pub(crate) blocks: Vec<[u32; 16]>,
    pub(crate) memory: Key,
    /// Of each chain, for each unit its states after each segment.
    pub(crate) states: [Vec<State>; 3],
    pub(crate) products: Vec<Vec<i32>>,
}

pub(crate) fn place_of(part: Part) -> usize {
    match part {
        Part::Alu => 1,
        Part::LastWalk => 2,
        Part::Fill | Part::Walk | Part::Matrix => 0,
    }
}

impl Cpu {
    /// The segment of this number from each of these states, reading what is held.
    fn advance(&self, params: &Params, (part, segment): (Part, u32), key: &Key, states: &mut [State]) {
        if part == Part::Alu {
            for four in states.chunks_mut(LANES) {
                let mut lanes: [State; LANES] =
                    std::array::from_fn(|l| four.get(l).copied().unwrap_or_default());
                chain::segment(params, Step::Alu { key }, &[segment; LANES], &mut lanes);
                four.copy_from_slice(&lanes[..four.len()]);
            }
            return;
        }
        for i in 0..params.walk.steps {
            for state in &mut *states {
                let step = segment * params.walk.steps + i;
                let block = &self.blocks[chain::place(state, &params.memory, step) as usize];
                chain::take_in(state, block);
            }
        }
    }
}

impl Engine for Cpu {
    fn prepare(&mut self, _: &Params, _: &mut Watch<'_>) -> Result<(), ProverError> {
        Ok(())
    }

    fn fill(&mut self, params: &Params, key: &Key, watch: &mut Watch<'_>) -> Result<(), ProverError> {
        self.memory = *key;
        self.blocks = vec![[0; 16]; params.memory.blocks as usize];
        let pieces = self.blocks.len().div_ceil(PIECE) as u32;
        for (i, blocks) in self.blocks.chunks_mut(PIECE).enumerate() {
            piece(watch, Part::Fill, i as u32, pieces)?;
            par::bands(blocks, 256, |band, out| {
                let first = (i * PIECE + band * 256) as u32;
                chacha::fill_memory(key, params.memory.rounds, first, out);
            });
        }
        Ok(())
    }

    fn chain(
        &mut self,
        params: &Params,
        part: Part,
        key: &Key,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Hash>, ProverError> {
        let chain = if part == Part::Alu { &params.alu } else { &params.walk };
        let (units, segments) = (chain.units as usize, chain.segments as usize);
        let mut kept: Vec<State> = vec![State::default(); units * segments];
        let pieces = units.div_ceil(1024) as u32;
        let this = &*self;
        for (i, kept) in kept.chunks_mut(1024 * segments).enumerate() {
            piece(watch, part, i as u32, pieces)?;
            par::bands(kept, 64 * segments, |band, kept| {
                let first = i * 1024 + band * 64;
                let count = kept.len() / segments;
                let mut states: Vec<State> =
                    (0..count).map(|u| chain::start(key, (first + u) as u32)).collect();
                for segment in 0..segments {
                    this.advance(params, (part, segment as u32), key, &mut states);
                    for (u, state) in states.iter().enumerate() {
                        kept[u * segments + segment] = *state;
                    }
                }
            });
        }
        let mut leaves = vec![Hash::default(); units];
        par::bands(&mut leaves, 256, |band, leaves| {
            for (i, leaf) in leaves.iter_mut().enumerate() {
                let unit = band * 256 + i;
                let states = &kept[unit * segments..][..segments];
                *leaf = tree::unit_leaf(chain.units, unit as u32, states.as_flattened());
            }
        });
        self.states[place_of(part)] = kept;
        Ok(leaves)
    }

    fn multiply(&mut self, params: &Params, step: u32, key: &Key) -> Result<Vec<Hash>, ProverError> {
        let n = params.matrix.map_or(0, |m| m.n);
        if step == 0 {
            self.products.clear();
        }
        let (a, b) = operands(key, n as usize);
        let product = product::multiply(&a, &b, n as usize);
        let mut leaves = vec![Hash::default(); n as usize];
        par::bands(&mut leaves, 64, |band, leaves| {
            for (i, leaf) in leaves.iter_mut().enumerate() {
                let row = band * 64 + i;
                *leaf = tree::leaf(n, row as u32, &product[row * n as usize..][..n as usize]);
            }
        });
        self.products.push(product);
        Ok(leaves)
    }

    fn worked(&mut self) {
        self.blocks = Vec::new();
    }

    fn states(&mut self, params: &Params, part: Part, units: &[u32]) -> Result<Vec<u32>, ProverError> {
        let chain = if part == Part::Alu { &params.alu } else { &params.walk };
        let segments = chain.segments as usize;
        let kept = &self.states[place_of(part)];
        Ok(units
            .iter()
            .flat_map(|u| kept[*u as usize * segments..][..segments].iter().flatten())
            .copied()
            .collect())
    }

    fn rows(&mut self, params: &Params, step: u32, rows: &[u32]) -> Result<Vec<i32>, ProverError> {
        let n = params.matrix.map_or(0, |m| m.n) as usize;
        let product = &self.products[step as usize];
        Ok(rows.iter().flat_map(|row| &product[*row as usize * n..][..n]).copied().collect())
    }

    fn release(&mut self) {
        *self = Self::default();
    }
}
