//! The verifier of epoch proofs: says whether a transcript holds, and if not, what was the first thing
//! wrong.
//!
//! Knows no clock, no network and no randomness, and holds neither memory nor matrix: every block that an
//! opened walker read is made anew. Every length is compared with the challenge before anything is sized by
//! it. What is cheap is checked first: shapes, then paths, then products' rows, then segments.

use gangline_types::Hash;

use super::{
    ChainOpening, ChainParams, Challenge, Commitment, Draw, Opening, Params, ParamsError, Part,
    chain::{self, State, Step},
    messages::{part_hash, part_key},
};
use crate::{chacha::LANES, transcript, tree, verify as matrix};

/// What an accepted transcript has shown: lower bounds, all of them committed before the nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Bytes of memory that were filled and read at random, before and after the other parts.
    pub memory_bytes: u64,
    /// Blocks of 64 bytes that were read one after the other by all walkers of both walks.
    pub reads: u64,
    /// Steps of the ALU chain over all lanes, each four words wide.
    pub alu_steps: u64,
    /// Exact int8 multiply-adds; 0 without a matrix chain.
    pub macs: u64,
    /// Segments that were recomputed and held, over all chains.
    pub segments_opened: u32,
    /// Rows of products that were opened and held.
    pub rows_opened: u32,
}

/// Why a transcript is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The challenge asks for a size outside the limits: the verifier's own mistake.
    #[error("the challenge's size is outside the limits")]
    Params(#[from] ParamsError),
    /// There is a matrix chain that was not asked for, or none where one was.
    #[error("the {what} has {got} products, and {expected} were asked for")]
    Products {
        /// `commitment` or `opening`.
        what: &'static str,
        /// Products asked for.
        expected: usize,
        /// Products that came.
        got: usize,
    },
    /// A vector of a chain's opening has the wrong length.
    #[error("{what} of the {} has {got} items, not {expected}", part.name())]
    Length {
        /// Which chain.
        part: Part,
        /// `states` or `paths`.
        what: &'static str,
        /// Items asked for.
        expected: usize,
        /// Items that came.
        got: usize,
    },
    /// The states of a unit are not those that were committed at this place.
    #[error("the states of unit {unit} of the {} are not those under the committed root", part.name())]
    NotCommitted {
        /// Which chain.
        part: Part,
        /// The drawn walker or lane.
        unit: u32,
    },
    /// A committed state does not follow from the one before it.
    #[error("segment {segment} of unit {unit} of the {} does not follow from the one before", part.name())]
    WrongSegment {
        /// Which chain.
        part: Part,
        /// The drawn walker or lane.
        unit: u32,
        /// The drawn segment, from 0.
        segment: u32,
    },
    /// The matrix chain does not hold.
    #[error("matrix chain: {0}")]
    Matrix(#[from] crate::Rejection),
}

impl Rejection {
    /// A stable code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Params(_) => "params_out_of_range",
            Self::Products { .. } => "wrong_product_count",
            Self::Length { .. } => "wrong_length",
            Self::NotCommitted { .. } => "unit_not_committed",
            Self::WrongSegment { .. } => "wrong_segment",
            Self::Matrix(rejection) => rejection.code(),
        }
    }

    /// Whether the message was well formed and its content false: a forgery or a device that computes
    /// wrongly, as opposed to a malformed message.
    pub fn is_wrong_bits(&self) -> bool {
        match self {
            Self::Params(_) | Self::Products { .. } | Self::Length { .. } => false,
            Self::NotCommitted { .. } | Self::WrongSegment { .. } => true,
            Self::Matrix(rejection) => rejection.is_wrong_bits(),
        }
    }
}

/// The key each chain's units start from.
pub(crate) struct Keys {
    pub fill: crate::chacha::Key,
    pub walk: crate::chacha::Key,
    pub alu: crate::chacha::Key,
    pub last_walk: crate::chacha::Key,
    /// What the matrices' keys come from.
    pub matrix: Hash,
}

impl Keys {
    fn new(seed: &Hash, commitment: &Commitment) -> Self {
        Self {
            fill: part_key(seed, Part::Fill, None),
            walk: part_key(seed, Part::Walk, None),
            alu: part_key(seed, Part::Alu, Some(&commitment.walk)),
            matrix: part_hash(seed, Part::Matrix, Some(&commitment.alu)),
            last_walk: part_key(seed, Part::LastWalk, Some(commitment.before_last_walk())),
        }
    }
}

/// Judges a transcript. `nonce` must have been unknown to the prover until `commitment` was in; the caller
/// sees to that. Total over any input.
///
/// A chain with a share f of false segments is accepted with a chance of at most `(1-f)^opened`; the
/// matrix chain as [`crate::verify()`] says.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(
    challenge: &Challenge,
    commitment: &Commitment,
    nonce: &Hash,
    opening: &Opening,
) -> Result<Verified, Rejection> {
    let params = challenge.params.check()?;
    let products = params.matrix.map_or(0, |matrix| matrix.steps as usize);
    for (what, got) in [("commitment", commitment.matrix.len()), ("opening", opening.matrix.len())] {
        if got != products {
            return Err(Rejection::Products { what, expected: products, got });
        }
    }
    let chains = [
        (Part::Walk, &params.walk, &opening.walk, &commitment.walk),
        (Part::Alu, &params.alu, &opening.alu, &commitment.alu),
        (Part::LastWalk, &params.walk, &opening.last_walk, &commitment.last_walk),
    ];
    for (part, chain, open, _) in chains {
        check_shape(part, chain, open)?;
    }
    if let Some(matrix) = &params.matrix {
        matrix::check_shape(matrix, &commitment.matrix, &opening.matrix)?;
    }
    let seed = challenge.seed();
    let draw = Draw::new(&seed, commitment, nonce);
    let keys = Keys::new(&seed, commitment);
    let picks = chains.map(|(part, chain, ..)| draw.picks(part, chain));
    for ((part, chain, open, root), picks) in chains.iter().zip(&picks) {
        check_paths(*part, chain, open, root, picks)?;
    }
    for ((part, chain, open, _), picks) in chains.iter().zip(&picks) {
        let (start, step) = match part {
            Part::LastWalk => (&keys.last_walk, Step::Walk { memory: &keys.fill }),
            Part::Alu => (&keys.alu, Step::Alu { key: &keys.alu }),
            _ => (&keys.walk, Step::Walk { memory: &keys.fill }),
        };
        check_segments(&params, *part, chain, open, picks, start, step)?;
    }
    let mut rows_opened = 0;
    if let Some(matrix) = &params.matrix {
        let inner = transcript::Draw::new(&keys.matrix, &commitment.matrix, &draw.seed);
        matrix::verify_steps(matrix, &keys.matrix, &inner, &commitment.matrix, &opening.matrix)?;
        rows_opened = matrix.steps * matrix.rows;
    }
    Ok(Verified {
        memory_bytes: params.memory_bytes(),
        reads: params.reads(),
        alu_steps: params.alu.total_steps(),
        macs: params.macs(),
        segments_opened: 2 * params.walk.opened + params.alu.opened,
        rows_opened,
    })
}

fn check_shape(part: Part, chain: &ChainParams, open: &ChainOpening) -> Result<(), Rejection> {
    let (opened, segments) = (chain.opened as usize, chain.segments as usize);
    for (what, expected, got) in [
        ("states", opened * segments * 4, open.states.len()),
        ("paths", opened * tree::depth(chain.units), open.paths.len()),
    ] {
        if got != expected {
            return Err(Rejection::Length { part, what, expected, got });
        }
    }
    Ok(())
}

fn check_paths(
    part: Part,
    chain: &ChainParams,
    open: &ChainOpening,
    root: &Hash,
    picks: &[(u32, u32)],
) -> Result<(), Rejection> {
    let units = chain.units;
    let shown = open.states.chunks_exact(chain.segments as usize * 4);
    for ((&(unit, _), states), path) in
        picks.iter().zip(shown).zip(open.paths.chunks_exact(tree::depth(units)))
    {
        if tree::root_of(units, unit, tree::unit_leaf(units, unit, states), path) != *root {
            return Err(Rejection::NotCommitted { part, unit });
        }
    }
    Ok(())
}

/// Recomputes the drawn segments, [`LANES`] side by side.
fn check_segments(
    params: &Params,
    part: Part,
    chain: &ChainParams,
    open: &ChainOpening,
    picks: &[(u32, u32)],
    start: &crate::chacha::Key,
    step: Step<'_>,
) -> Result<(), Rejection> {
    let words = chain.segments as usize * 4;
    let before_and_after = |(i, &(unit, segment)): (usize, &(u32, u32))| {
        let states = &open.states[i * words..][..words];
        let state = |segment: usize| -> State { std::array::from_fn(|w| states[segment * 4 + w]) };
        let before = match segment.checked_sub(1) {
            None => chain::start(start, unit),
            Some(before) => state(before as usize),
        };
        (before, state(segment as usize))
    };
    let all: Vec<(State, State)> = picks.iter().enumerate().map(before_and_after).collect();
    for (some, picks) in all.chunks(LANES).zip(picks.chunks(LANES)) {
        let mut states: [State; LANES] = std::array::from_fn(|l| some.get(l).map_or([0; 4], |pair| pair.0));
        let segments = std::array::from_fn(|l| picks.get(l).map_or(0, |pick| pick.1));
        chain::segment(params, step, &segments, &mut states);
        for ((got, (_, committed)), &(unit, segment)) in states.iter().zip(some).zip(picks) {
            if got != committed {
                return Err(Rejection::WrongSegment { part, unit, segment });
            }
        }
    }
    Ok(())
}
