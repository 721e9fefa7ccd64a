//! The verifier: says whether a transcript holds, and if not, what was the first thing wrong.
//!
//! Knows no clock, no network and no randomness, and never holds a matrix: blocks of rows are made,
//! used and overwritten. Every length is compared with the challenge before anything is sized by it.
//! What is cheap is checked first, over all steps: shapes, then rows and their paths, then products.

use gangline_types::Hash;

use crate::{
    Challenge, Commitment, MatrixParams, Opening, ParamsError,
    chacha::{self, Key, Operand},
    field::{self, ColumnSum, Limbs},
    transcript::{Draw, StepOpening, step_key},
    tree,
};

/// Bytes of matrix made at a time.
const BLOCK_BYTES: usize = 1 << 16;

/// What an accepted transcript has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Exact int8 multiply-adds whose results were committed before the nonce.
    pub macs: u64,
    /// Bytes that the matrices of one step take.
    pub memory_bytes: u64,
    /// Rows that were opened and held, over all steps.
    pub rows_opened: u32,
}

/// Why a transcript is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The challenge asks for a size outside the limits: the verifier's own mistake.
    #[error("the challenge's size is outside the limits")]
    Params(#[from] ParamsError),
    /// Not one root for each step.
    #[error("the commitment has {got} roots, not {expected}")]
    Roots {
        /// Steps asked for.
        expected: usize,
        /// Roots that came.
        got: usize,
    },
    /// Not one opening for each step.
    #[error("the opening has {got} steps, not {expected}")]
    Steps {
        /// Steps asked for.
        expected: usize,
        /// Openings that came.
        got: usize,
    },
    /// A vector of a step's opening has the wrong length.
    #[error("{what} of step {step} has {got} items, not {expected}")]
    Length {
        /// The step, from 0.
        step: u32,
        /// `y`, `rows` or `paths`.
        what: &'static str,
        /// Items asked for.
        expected: usize,
        /// Items that came.
        got: usize,
    },
    /// An element of `y` is not below 2^61 - 1, so it would be a second spelling of another.
    #[error("element {index} of y in step {step} is not below 2^61 - 1")]
    Element {
        /// The step, from 0.
        step: u32,
        /// The row it belongs to.
        index: u32,
    },
    /// A row is not the one that was committed at this place.
    #[error("row {row} of step {step} is not the one under the committed root")]
    NotCommitted {
        /// The step, from 0.
        step: u32,
        /// The drawn row.
        row: u32,
    },
    /// A committed row does not give its element of `y`.
    #[error("row {row} of step {step} does not agree with y")]
    RowDisagrees {
        /// The step, from 0.
        step: u32,
        /// The drawn row.
        row: u32,
    },
    /// `y` is not what the product of the challenge's matrices gives.
    #[error("y of step {step} is not A(Br) at row {row}")]
    WrongProduct {
        /// The step, from 0.
        step: u32,
        /// The first row that differs.
        row: u32,
    },
}

impl Rejection {
    /// A stable code for machines.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Params(_) => "params_out_of_range",
            Self::Roots { .. } => "wrong_root_count",
            Self::Steps { .. } => "wrong_step_count",
            Self::Length { .. } => "wrong_length",
            Self::Element { .. } => "element_not_reduced",
            Self::NotCommitted { .. } => "row_not_committed",
            Self::RowDisagrees { .. } => "row_disagrees_with_y",
            Self::WrongProduct { .. } => "wrong_product",
        }
    }

    /// Whether the message was well formed and its content false: a forgery or a device that
    /// computes wrongly, as opposed to a malformed message.
    pub fn is_wrong_bits(&self) -> bool {
        matches!(self, Self::NotCommitted { .. } | Self::RowDisagrees { .. } | Self::WrongProduct { .. })
    }
}

/// Judges a transcript. `nonce` must have been unknown to the prover until `commitment` was in; the
/// caller sees to that. Total over any input.
///
/// A proof with a false opened row is accepted with a chance of at most `steps * rows / 2^61`; one
/// that skipped a share f of its rows with at most `(1-f)^(steps * rows)`.
pub fn verify(
    challenge: &Challenge,
    commitment: &Commitment,
    nonce: &Hash,
    opening: &Opening,
) -> Result<Verified, Rejection> {
    let params = challenge.params.check()?;
    let digest = challenge.digest();
    let draw = Draw::new(&digest, &commitment.roots, nonce);
    verify_steps(&params, &digest, &draw, &commitment.roots, &opening.steps)?;
    Ok(Verified {
        macs: params.macs(),
        memory_bytes: params.memory_bytes(),
        rows_opened: params.steps * params.rows,
    })
}

/// Judges a chain of products whose matrices follow from `digest`, opened as `draw` says.
pub(crate) fn verify_steps(
    params: &MatrixParams,
    digest: &Hash,
    draw: &Draw,
    roots: &[Hash],
    opened: &[StepOpening],
) -> Result<(), Rejection> {
    check_shape(params, roots, opened)?;
    let vectors: Vec<Vec<u64>> = (0..params.steps).map(|step| draw.vector(step, params.n)).collect();
    let drawn = draw.rows(params, opened.iter().map(|s| s.y.as_slice()));

    let steps = opened.iter().zip(roots).zip(&vectors).zip(&drawn);
    for (step, (((open, root), r), rows)) in (0u32..).zip(steps) {
        check_rows(params, step, open, root, r, rows)?;
    }
    let mut root_before = Hash::default();
    for (step, ((open, root), r)) in (0u32..).zip(opened.iter().zip(roots).zip(&vectors)) {
        let key = step_key(digest, step, &root_before);
        if let Some(row) = first_difference(&key, params.n, r, &open.y) {
            return Err(Rejection::WrongProduct { step, row });
        }
        root_before = *root;
    }
    Ok(())
}

/// Whether there is a root and an opening for each step, all of the right lengths.
pub(crate) fn check_shape(
    params: &MatrixParams,
    roots: &[Hash],
    opened: &[StepOpening],
) -> Result<(), Rejection> {
    let (n, rows, expected) = (params.n as usize, params.rows as usize, params.steps as usize);
    if roots.len() != expected {
        return Err(Rejection::Roots { expected, got: roots.len() });
    }
    if opened.len() != expected {
        return Err(Rejection::Steps { expected, got: opened.len() });
    }
    for (step, open) in (0u32..).zip(opened) {
        for (what, expected, got) in [
            ("y", n, open.y.len()),
            ("rows", rows * n, open.rows.len()),
            ("paths", rows * tree::depth(params.n), open.paths.len()),
        ] {
            if got != expected {
                return Err(Rejection::Length { step, what, expected, got });
            }
        }
        if let Some(index) = open.y.iter().position(|x| *x >= field::P) {
            return Err(Rejection::Element { step, index: index as u32 });
        }
    }
    Ok(())
}

fn check_rows(
    params: &MatrixParams,
    step: u32,
    open: &StepOpening,
    root: &Hash,
    r: &[u64],
    drawn: &[u32],
) -> Result<(), Rejection> {
    let n = params.n;
    let rows = open.rows.chunks_exact(n as usize).zip(open.paths.chunks_exact(tree::depth(n)));
    for (&row, (entries, path)) in drawn.iter().zip(rows) {
        if tree::root_of(n, row, tree::leaf(n, row, entries), path) != *root {
            return Err(Rejection::NotCommitted { step, row });
        }
        if open.y.get(row as usize) != Some(&field::dot_i32(entries, r)) {
            return Err(Rejection::RowDisagrees { step, row });
        }
    }
    Ok(())
}

/// The first row where `y` is not `A (B r)` modulo p; O(n^2) time, O(n) memory.
fn first_difference(key: &Key, n: u32, r: &[u64], y: &[u64]) -> Option<u32> {
    let mut sum = ColumnSum::new(n as usize);
    for_each_row(key, Operand::Right, n, |j, column| {
        sum.add(column, r[j]);
        true
    });
    let x = Limbs::new(&sum.finish());
    let mut different = None;
    for_each_row(key, Operand::Left, n, |i, row| {
        let same = x.dot(row) == y[i];
        if !same {
            different = Some(i as u32);
        }
        same
    });
    different
}

/// `A (B r)` modulo p: what `y` must be. Takes no product, so it shows nothing of one.
pub(crate) fn product_with(key: &Key, n: u32, r: &[u64]) -> Vec<u64> {
    let mut sum = ColumnSum::new(n as usize);
    for_each_row(key, Operand::Right, n, |j, column| {
        sum.add(column, r[j]);
        true
    });
    let x = Limbs::new(&sum.finish());
    let mut y = Vec::new();
    for_each_row(key, Operand::Left, n, |_, row| {
        y.push(x.dot(row));
        true
    });
    y
}

/// Calls `f(index, row)` for the rows of a matrix (columns for B) until it says false.
fn for_each_row(key: &Key, operand: Operand, n: u32, mut f: impl FnMut(usize, &[i8]) -> bool) {
    let n = n as usize;
    let at_once = (BLOCK_BYTES / n).clamp(1, n);
    let mut block = vec![0i8; at_once * n];
    for first in (0..n).step_by(at_once) {
        let count = at_once.min(n - first);
        chacha::fill_rows(key, operand, n, first, &mut block[..count * n]);
        for (i, row) in block[..count * n].chunks_exact(n).enumerate() {
            if !f(first + i, row) {
                return;
            }
        }
    }
}
