//! The size of a matrix proof, and the limits that keep every message and buffer bounded.
//!
//! Knows nothing of how long a size takes on any device.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::tree;

/// How much work a matrix proof is and how much of it is opened. Deserializing validates; a value
/// built by hand is checked again by the verifier and by every prover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Unchecked", deny_unknown_fields)]
#[schemars(!try_from)]
pub struct MatrixParams {
    /// Side of the square matrices: a multiple of 64 from 64 to 8192.
    #[schemars(range(min = 64, max = 8192), extend("multipleOf" = 64))]
    pub n: u32,
    /// Products in the chain, each made from the root of the one before: 1 to 64.
    #[schemars(range(min = 1, max = 64))]
    pub steps: u32,
    /// Distinct rows opened in *every* step: 1 to 256, and at most `n`.
    #[schemars(range(min = 1, max = 256))]
    pub rows: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    n: u32,
    steps: u32,
    rows: u32,
}

impl TryFrom<Unchecked> for MatrixParams {
    type Error = ParamsError;
    fn try_from(p: Unchecked) -> Result<Self, ParamsError> {
        Self { n: p.n, steps: p.steps, rows: p.rows }.check()
    }
}

/// Why a size of proof is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// `n` is not a multiple of 64 from 64 to 8192.
    #[error("matrix side {0} is not a multiple of 64 from 64 to 8192")]
    Side(u32),
    /// `steps` is outside 1 to 64.
    #[error("{0} steps are outside 1 to 64")]
    Steps(u32),
    /// `rows` is outside 1 to 256, or more than the matrix has.
    #[error("{rows} opened rows a step are outside 1 to {most}")]
    Rows {
        /// Rows asked for.
        rows: u32,
        /// The most that this side allows.
        most: u32,
    },
    /// The products of all steps are more than a prover must keep until it is asked to open.
    #[error("the products of all steps take {0} bytes, more than {max} a prover keeps until the opening", max = MatrixParams::KEPT_BYTES_MAX)]
    Kept(u64),
    /// The opening would be larger than a message may be.
    #[error("the opening would take {0} bytes, more than {max}", max = MatrixParams::OPENING_BYTES_MAX)]
    Opening(u64),
}

impl MatrixParams {
    /// Largest side.
    pub const N_MAX: u32 = 8192;
    /// Most steps.
    pub const STEPS_MAX: u32 = 64;
    /// Most opened rows a step.
    pub const ROWS_MAX: u32 = 256;
    /// Most bytes of products (4 n^2 a step) that a prover keeps from commitment to opening.
    pub const KEPT_BYTES_MAX: u64 = 1 << 30;
    /// Most bytes of an opening before text encoding.
    pub const OPENING_BYTES_MAX: u64 = 16 << 20;

    /// The proof asked of a GPU when it joins: 12.9 thousand million multiply-adds, about one second
    /// of a software device on two idle cores.
    ///
    /// 12 rows in each of 12 steps are 144 rows. Whoever skips a share f of all rows, spread as he
    /// likes over the steps, is accepted with a chance of at most (1-f)^144: 2.6e-7 for 10 %, 0.06 %
    /// for 5 %. Gathering what is skipped in few steps is worse for him, since every step is opened:
    /// 5 % of the proof are 60 % of one step, and 0.4^12 = 1.7e-5. The opening is 0.73 MB, 0.98 MB as
    /// text.
    pub const JOINING: Self = Self { n: 1024, steps: 12, rows: 12 };

    /// The proof asked of a GPU from whose claim some rate follows: 25.8 thousand million multiply-adds, 72 opened rows.
    pub const MIDDLING: Self = Self { n: 2048, steps: 3, rows: 24 };

    /// The proof asked of a GPU that claims to be fast: 137 thousand million multiply-adds, so that its time is mostly theirs and
    /// not that of launches and hashes (an H200 answers [`Self::JOINING`] in 26 to 54 ms, most of it latency). 64 opened rows: who skips a tenth is accepted with 0.12 %. The opening
    /// is 0.81 MB, 1.08 MB as text, and verifying it takes four times a product of 4,096: 0.2 s of a core.
    ///
    /// A larger side opens fewer rows in a message of 1.2 MB, for a row takes 4 n bytes: 4,096 leaves 45 of them, with which a
    /// tenth could be skipped once in 115 times. More steps of 2,048 hold as much work.
    pub const LARGE: Self = Self { n: 2048, steps: 16, rows: 4 };

    /// The value itself if it is within every limit.
    pub fn check(self) -> Result<Self, ParamsError> {
        if !self.n.is_multiple_of(64) || !(64..=Self::N_MAX).contains(&self.n) {
            return Err(ParamsError::Side(self.n));
        }
        if !(1..=Self::STEPS_MAX).contains(&self.steps) {
            return Err(ParamsError::Steps(self.steps));
        }
        let most = Self::ROWS_MAX.min(self.n);
        if !(1..=most).contains(&self.rows) {
            return Err(ParamsError::Rows { rows: self.rows, most });
        }
        let kept = u64::from(self.n).pow(2) * 4 * u64::from(self.steps);
        if kept > Self::KEPT_BYTES_MAX {
            return Err(ParamsError::Kept(kept));
        }
        let opening = self.opening_bytes();
        if opening > Self::OPENING_BYTES_MAX {
            return Err(ParamsError::Opening(opening));
        }
        Ok(self)
    }

    /// Multiply-adds of the whole proof by the schoolbook method: `steps * n^3`.
    pub fn macs(&self) -> u64 {
        u64::from(self.n).saturating_pow(3).saturating_mul(u64::from(self.steps))
    }

    /// Bytes of device memory that the matrices of one step take: two of int8 and one of i32, 6 n^2.
    pub fn memory_bytes(&self) -> u64 {
        u64::from(self.n).saturating_pow(2).saturating_mul(6)
    }

    /// Exact bytes of an opening before text encoding: per step `8 n` of `y` and per opened row
    /// `4 n` of entries and 32 for each level of the tree.
    pub fn opening_bytes(&self) -> u64 {
        let n = u64::from(self.n);
        let row = 4 * n + 32 * tree::depth(self.n) as u64;
        u64::from(self.steps).saturating_mul(8 * n + u64::from(self.rows).saturating_mul(row))
    }

    /// Blocks of 64 bytes in one int8 matrix.
    #[cfg(feature = "gpu")]
    pub(crate) fn blocks(&self) -> u32 {
        self.n / 64 * self.n
    }
}
