//! Provers: the interface, the chain that every prover walks, and the reference on the processor.
//!
//! Knows neither clock nor network; whoever drives a prover sends the messages and measures. The
//! products stay in host memory from commitment to opening (bounded by
//! [`MatrixParams::KEPT_BYTES_MAX`]).

use gangline_types::Hash;

use crate::{
    Challenge, Commitment, MatrixParams, Opening, ParamsError, Rejection,
    chacha::{self, Key, Operand},
    field, par, product,
    transcript::{Draw, StepOpening, step_key},
    tree::{self, Tree},
    verify,
};

/// Something that can make matrix proofs.
pub trait Prover {
    /// Gets ready for proofs of this size, so that [`commit`](Self::commit) spends its time on the
    /// work alone: compiles kernels, takes memory, runs each kernel once.
    fn warm_up(&mut self, params: &MatrixParams) -> Result<(), ProverError>;

    /// Does the work and commits to it. `progress` is told how many steps are done after each.
    /// Forgets a commitment that was not opened.
    fn commit(
        &mut self,
        challenge: &Challenge,
        progress: &mut dyn FnMut(u32),
    ) -> Result<Commitment, ProverError>;

    /// Opens the last commitment once, and forgets it. The opening is checked as the verifier will
    /// check it: a device that computes wrongly is found here and never sends a false transcript.
    fn open(&mut self, nonce: &Hash) -> Result<Opening, ProverError>;
}

/// Why a prover has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProverError {
    /// The size asked for is outside the limits.
    #[error("the challenge asks for a size outside the limits")]
    Params(#[from] ParamsError),
    /// There is no commitment waiting to be opened.
    #[error("there is nothing to open: no commitment is waiting for its nonce")]
    NothingCommitted,
    /// The device's own answer did not pass the verifier's check, so it was not sent.
    #[error("the device computed a wrong product; its answer was held back")]
    WrongProduct(#[source] Rejection),
    /// No adapter with this index.
    #[error(
        "no graphics adapter {index}: {found} found (hint: `vulkaninfo --summary` lists them; on Debian, mesa-vulkan-drivers and libvulkan1 give a software one)"
    )]
    NoAdapter {
        /// The index asked for.
        index: usize,
        /// Adapters there are.
        found: usize,
    },
    /// The device has less memory or smaller buffers than this size needs.
    #[error("{device} cannot hold matrices of side {n}: {what}")]
    TooLarge {
        /// The adapter's name.
        device: String,
        /// The matrix side asked for.
        n: u32,
        /// What is too small.
        what: String,
    },
    /// The device or its driver failed.
    #[error("{device} failed while {doing}: {why}")]
    Device {
        /// The adapter's name.
        device: String,
        /// What was being done.
        doing: &'static str,
        /// What the driver said.
        why: String,
    },
}

/// One step's product and the tree over its rows.
pub(crate) struct Step {
    pub product: Vec<i32>,
    pub tree: Tree,
}

impl Step {
    /// The step with the leaves hashed on the processor.
    pub fn new(n: u32, product: Vec<i32>) -> Self {
        let mut leaves = vec![Hash::default(); n as usize];
        hash_rows(n, 0, &product, &mut leaves);
        Self { product, tree: Tree::new(n, leaves) }
    }
}

/// Hashes rows into their leaves; `rows` begins with row `first_row`.
pub(crate) fn hash_rows(n: u32, first_row: usize, rows: &[i32], leaves: &mut [Hash]) {
    let n_usize = n as usize;
    // At least 64 KiB for a thread, or starting it costs more than it saves.
    let band = (1usize << 14).div_ceil(n_usize);
    par::bands(leaves, band, |index, leaves| {
        for (i, leaf) in leaves.iter_mut().enumerate() {
            let row = index * band + i;
            *leaf = tree::leaf(n, (first_row + row) as u32, &rows[row * n_usize..][..n_usize]);
        }
    });
}

/// A committed chain of products, waiting for its nonce.
pub(crate) struct Held {
    pub challenge: Challenge,
    pub commitment: Commitment,
    pub steps: Vec<Step>,
}

impl Held {
    /// Walks the chain: each step's product comes from `multiply`, given the key of its matrices.
    pub fn walk(
        challenge: &Challenge,
        progress: &mut dyn FnMut(u32),
        mut multiply: impl FnMut(&Key) -> Result<Step, ProverError>,
    ) -> Result<Self, ProverError> {
        let params = challenge.params.check()?;
        let digest = challenge.digest();
        let (mut steps, mut roots) = (Vec::new(), Vec::new());
        let mut root_before = Hash::default();
        for step in 0..params.steps {
            let done = multiply(&step_key(&digest, step, &root_before))?;
            root_before = done.tree.root();
            roots.push(root_before);
            steps.push(done);
            progress(step + 1);
        }
        Ok(Self { challenge: *challenge, commitment: Commitment { roots }, steps })
    }

    /// The opening for this nonce, checked as the verifier will.
    pub fn open(&self, nonce: &Hash) -> Result<Opening, ProverError> {
        let n = self.challenge.params.n as usize;
        let opening = self.open_with(nonce, |step, r| {
            let mut y = vec![0; n];
            par::bands(&mut y, (1usize << 16).div_ceil(n), |band, y| {
                let first = band * (1usize << 16).div_ceil(n);
                for (i, y) in y.iter_mut().enumerate() {
                    *y = field::dot_i32(&self.steps[step].product[(first + i) * n..][..n], r);
                }
            });
            y
        });
        verify::verify(&self.challenge, &self.commitment, nonce, &opening)
            .map_err(ProverError::WrongProduct)?;
        Ok(opening)
    }

    /// The opening with `y` of each step from `y(step, r)`.
    pub fn open_with(&self, nonce: &Hash, y: impl Fn(usize, &[u64]) -> Vec<u64>) -> Opening {
        let params = self.challenge.params;
        let draw = Draw::new(&self.challenge.digest(), &self.commitment.roots, nonce);
        let ys: Vec<Vec<u64>> =
            (0..params.steps).map(|step| y(step as usize, &draw.vector(step, params.n))).collect();
        let drawn = draw.rows(&params, ys.iter().map(Vec::as_slice));
        Opening { steps: self.steps.iter().zip(ys).zip(drawn).map(|((s, y), d)| show(s, y, &d)).collect() }
    }
}

fn show(step: &Step, y: Vec<u64>, drawn: &[u32]) -> StepOpening {
    let n = y.len();
    let rows = drawn.iter().flat_map(|row| &step.product[*row as usize * n..][..n]).copied().collect();
    let paths = drawn.iter().flat_map(|row| step.tree.path(*row)).collect();
    StepOpening { y, rows, paths }
}

/// The reference prover: the processor alone, exact, on all its cores.
#[derive(Default)]
pub struct CpuProver {
    held: Option<Held>,
}

impl CpuProver {
    /// A prover without a commitment.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Both matrices of a step: A row by row, B column by column.
pub(crate) fn operands(key: &Key, n: usize) -> (Vec<i8>, Vec<i8>) {
    let fill = |operand| {
        let mut matrix = vec![0i8; n * n];
        let rows = (1usize << 18).div_ceil(n);
        par::bands(&mut matrix, rows * n, |band, out| {
            chacha::fill_rows(key, operand, n, band * rows, out);
        });
        matrix
    };
    (fill(Operand::Left), fill(Operand::Right))
}

impl Prover for CpuProver {
    fn warm_up(&mut self, params: &MatrixParams) -> Result<(), ProverError> {
        params.check()?;
        Ok(())
    }

    fn commit(
        &mut self,
        challenge: &Challenge,
        progress: &mut dyn FnMut(u32),
    ) -> Result<Commitment, ProverError> {
        self.held = None;
        let n = challenge.params.n;
        let held = Held::walk(challenge, progress, |key| {
            let (a, b) = operands(key, n as usize);
            Ok(Step::new(n, product::multiply(&a, &b, n as usize)))
        })?;
        Ok(self.held.insert(held).commitment.clone())
    }

    fn open(&mut self, nonce: &Hash) -> Result<Opening, ProverError> {
        self.held.take().ok_or(ProverError::NothingCommitted)?.open(nonce)
    }
}
