//! Provers of epoch proofs: the order of the parts, which every prover walks, and the interface to what
//! does the work.
//!
//! Knows neither clock nor network; whoever drives a prover sends the messages and measures. Between any two
//! pieces of work the driver is asked whether to go on: a prover yields to a renter's job within one piece.

use std::ops::ControlFlow;

use gangline_types::Hash;

use super::{
    ChainOpening, ChainParams, Challenge, Commitment, Draw, Opening, Params, ParamsError, Part, Rejection,
    messages::{part_hash, part_key},
    verify::verify,
};
use crate::{
    StepOpening,
    chacha::Key,
    transcript::{self, step_key},
    tree::Tree,
    verify::product_with,
};

/// How far a prover is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub part: Part,
    /// Pieces of it that are done.
    pub done: u32,
    /// Pieces of it in all.
    pub of: u32,
}

/// Told of progress, and asked with the same breath whether to go on: `Break` stops the prover at once, which
/// then gives its memory back and answers [`ProverError::Stopped`].
pub type Watch<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// Something that can make epoch proofs. All but [`warm_up`](Self::warm_up) works on one proof at a time.
pub trait Prover {
    /// Gets ready for proofs of this size, so that [`commit`](Self::commit) spends its time on the work alone:
    /// compiles kernels, takes all memory, runs each kernel once. To be called before the bell.
    ///
    /// # Errors
    /// If the size is outside its limits or the device cannot do it.
    fn warm_up(&mut self, params: &Params, watch: &mut Watch<'_>) -> Result<(), ProverError>;

    /// Does the work, commits to it and gives the filled memory back; what can be opened stays. Forgets a
    /// commitment that was not opened.
    ///
    /// # Errors
    /// If it was stopped, or the device cannot do it.
    fn commit(&mut self, challenge: &Challenge, watch: &mut Watch<'_>) -> Result<Commitment, ProverError>;

    /// Opens the last commitment once, forgets it and gives all memory back. The opening is checked as the
    /// verifier will check it: a device that computes wrongly is found here and never sends a false
    /// transcript.
    ///
    /// # Errors
    /// If there is nothing to open, or the device computed wrongly.
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
    /// The driver said stop.
    #[error("stopped in the {}; the device is free", .0.name())]
    Stopped(Part),
    /// The device's own answer did not pass the verifier's check, so it was not sent.
    #[error("the device computed wrongly; its answer was held back")]
    Wrong(#[source] Rejection),
    /// The device has less memory or smaller buffers than this size needs.
    #[error("{device} cannot hold a proof of {bytes} bytes: {what}")]
    TooLarge {
        /// Its name.
        device: String,
        /// Bytes of memory the proof fills.
        bytes: u64,
        /// What is too small.
        what: String,
    },
    /// The device failed.
    #[error(transparent)]
    Device(#[from] crate::ProverError),
}

/// What does the work of one proof. `states` and `rows` are asked only after all parts are done.
pub(crate) trait Engine {
    /// Takes all memory and runs everything once.
    fn prepare(&mut self, params: &Params, watch: &mut Watch<'_>) -> Result<(), ProverError>;
    /// Fills the memory.
    fn fill(&mut self, params: &Params, key: &Key, watch: &mut Watch<'_>) -> Result<(), ProverError>;
    /// Runs a chain of units that start from this key; answers a leaf for each unit.
    fn chain(
        &mut self,
        params: &Params,
        part: Part,
        key: &Key,
        watch: &mut Watch<'_>,
    ) -> Result<Vec<Hash>, ProverError>;
    /// Multiplies the matrices of a step; answers a leaf for each row.
    fn multiply(&mut self, params: &Params, step: u32, key: &Key) -> Result<Vec<Hash>, ProverError>;
    /// All parts are done: gives back the memory that was filled. What can be opened stays.
    fn worked(&mut self);
    /// The states of these units of a chain, after each of their segments.
    fn states(&mut self, params: &Params, part: Part, units: &[u32]) -> Result<Vec<u32>, ProverError>;
    /// These rows of the product of a step.
    fn rows(&mut self, params: &Params, step: u32, rows: &[u32]) -> Result<Vec<i32>, ProverError>;
    /// Gives all memory back.
    fn release(&mut self);
}

/// A prover made of an engine: the same order of parts, whatever does them.
pub(crate) struct Chained<E> {
    pub(crate) engine: E,
    held: Option<Held>,
}

/// All trees, until the nonce is out.
struct Held {
    challenge: Challenge,
    commitment: Commitment,
    walk: Tree,
    alu: Tree,
    matrix: Vec<Tree>,
    last_walk: Tree,
}

impl<E: Engine> Chained<E> {
    pub(crate) fn new(engine: E) -> Self {
        Self { engine, held: None }
    }

    fn work(&mut self, challenge: &Challenge, watch: &mut Watch<'_>) -> Result<Held, ProverError> {
        let (params, engine) = (challenge.params.check()?, &mut self.engine);
        engine.prepare(&params, watch)?;
        let seed = challenge.seed();
        let mut chain = |part, before: Option<&Hash>, chain: &ChainParams, watch: &mut Watch<'_>| {
            if part == Part::Walk {
                engine.fill(&params, &part_key(&seed, Part::Fill, None), watch)?;
            }
            let leaves = engine.chain(&params, part, &part_key(&seed, part, before), watch)?;
            Ok::<Tree, ProverError>(Tree::new(chain.units, leaves))
        };
        let walk = chain(Part::Walk, None, &params.walk, watch)?;
        let alu = chain(Part::Alu, Some(&walk.root()), &params.alu, watch)?;
        let mut matrix = Vec::new();
        let mut before = Hash::default();
        if let Some(asked) = &params.matrix {
            let digest = part_hash(&seed, Part::Matrix, Some(&alu.root()));
            for step in 0..asked.steps {
                piece(watch, Part::Matrix, step, asked.steps)?;
                let leaves = self.engine.multiply(&params, step, &step_key(&digest, step, &before))?;
                let tree = Tree::new(asked.n, leaves);
                before = tree.root();
                matrix.push(tree);
            }
        } else {
            before = alu.root();
        }
        let key = part_key(&seed, Part::LastWalk, Some(&before));
        let leaves = self.engine.chain(&params, Part::LastWalk, &key, watch)?;
        let last_walk = Tree::new(params.walk.units, leaves);
        self.engine.worked();
        let commitment = Commitment {
            walk: walk.root(),
            alu: alu.root(),
            matrix: matrix.iter().map(Tree::root).collect(),
            last_walk: last_walk.root(),
        };
        Ok(Held { challenge: *challenge, commitment, walk, alu, matrix, last_walk })
    }

    fn show(&mut self, held: &Held, nonce: &Hash) -> Result<Opening, ProverError> {
        let params = &held.challenge.params;
        let seed = held.challenge.seed();
        let draw = Draw::new(&seed, &held.commitment, nonce);
        let engine = &mut self.engine;
        let mut chain = |part, chain: &ChainParams, tree: &Tree| {
            let units: Vec<u32> = draw.picks(part, chain).into_iter().map(|(unit, _)| unit).collect();
            let states = engine.states(params, part, &units)?;
            let paths = units.iter().flat_map(|unit| tree.path(*unit)).collect();
            Ok::<_, ProverError>(ChainOpening { states, paths })
        };
        let walk = chain(Part::Walk, &params.walk, &held.walk)?;
        let alu = chain(Part::Alu, &params.alu, &held.alu)?;
        let last_walk = chain(Part::LastWalk, &params.walk, &held.last_walk)?;
        let mut matrix = Vec::new();
        if let Some(asked) = &params.matrix {
            let digest = part_hash(&seed, Part::Matrix, Some(&held.commitment.alu));
            let inner = transcript::Draw::new(&digest, &held.commitment.matrix, &draw.seed);
            let mut before = Hash::default();
            let mut ys = Vec::new();
            for (step, root) in (0u32..).zip(&held.commitment.matrix) {
                // y = C r = A (B r), which takes no product and so none has to come back from the device.
                let r = inner.vector(step, asked.n);
                ys.push(product_with(&step_key(&digest, step, &before), asked.n, &r));
                before = *root;
            }
            let drawn = inner.rows(asked, ys.iter().map(Vec::as_slice));
            for (((step, y), rows), tree) in (0u32..).zip(ys).zip(drawn).zip(&held.matrix) {
                let paths = rows.iter().flat_map(|row| tree.path(*row)).collect();
                matrix.push(StepOpening { y, rows: self.engine.rows(params, step, &rows)?, paths });
            }
        }
        Ok(Opening { walk, alu, matrix, last_walk })
    }

    /// An opening for any nonce, as often as wanted.
    #[cfg(test)]
    pub(crate) fn peek(&mut self, nonce: &Hash) -> Result<Opening, ProverError> {
        let held = self.held.take().ok_or(ProverError::NothingCommitted)?;
        let opening = self.show(&held, nonce);
        self.held = Some(held);
        opening
    }

    /// The opening without the check that an honest prover makes of its own answer.
    pub(crate) fn open_unchecked(
        &mut self,
        nonce: &Hash,
    ) -> Result<(Challenge, Commitment, Opening), ProverError> {
        let held = self.held.take().ok_or(ProverError::NothingCommitted)?;
        let opening = self.show(&held, nonce);
        self.engine.release();
        Ok((held.challenge, held.commitment, opening?))
    }
}

impl<E: Engine> Prover for Chained<E> {
    fn warm_up(&mut self, params: &Params, watch: &mut Watch<'_>) -> Result<(), ProverError> {
        self.held = None;
        params.check()?;
        let ready = self.engine.prepare(params, watch);
        if ready.is_err() {
            self.engine.release();
        }
        ready
    }

    fn commit(&mut self, challenge: &Challenge, watch: &mut Watch<'_>) -> Result<Commitment, ProverError> {
        self.held = None;
        match self.work(challenge, watch) {
            Ok(held) => Ok(self.held.insert(held).commitment.clone()),
            Err(error) => {
                self.engine.release();
                Err(error)
            }
        }
    }

    fn open(&mut self, nonce: &Hash) -> Result<Opening, ProverError> {
        let (challenge, commitment, opening) = self.open_unchecked(nonce)?;
        verify(&challenge, &commitment, nonce, &opening).map_err(ProverError::Wrong)?;
        Ok(opening)
    }
}

/// Tells of a piece and asks whether to go on.
pub(crate) fn piece(watch: &mut Watch<'_>, part: Part, done: u32, of: u32) -> Result<(), ProverError> {
    match watch(Progress { part, done, of }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(ProverError::Stopped(part)),
    }
}
