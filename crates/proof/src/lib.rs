//! The proof that a GPU is real: its transcript, the verifier, a reference prover on the processor, and behind the feature `gpu` the prover that runs on any adapter
//! wgpu reaches. `docs/PROOF.md` is the specification.
//!
//! Knows no network, no clock and no source of randomness: beacons and nonces come in as
//! arguments, time is measured by whoever calls. Nor does it know what a proof is worth; it says
//! only whether the transcript holds.
//!
//! [`epoch`] is the proof that networks ask for: memory, random reads, arithmetic and matrices within one
//! clock. The types at the top of this crate are the matrix proof, which it contains, and which older books
//! hold on its own; both stay verifiable.
//!
//! One matrix proof in the order of its messages:
//! 1. the verifier sends a [`Challenge`];
//! 2. the prover multiplies a chain of matrices and answers with a [`Commitment`]: one Merkle root
//!    a step. Here the verifier's clock stops;
//! 3. only now the verifier reveals a nonce;
//! 4. the prover answers with an [`Opening`], and [`verify`] judges. The worker signs the whole with the [`GpuKey`]; who it
//!    is from can be told offline by [`Signed::check`].

mod chacha;
pub mod epoch;
mod field;
#[cfg(feature = "gpu")]
pub mod gpu;
mod key;
mod packed;
mod par;
mod params;
mod product;
mod prove;
mod signed;
mod transcript;
mod tree;
mod verify;

#[cfg(test)]
mod tests;

pub use key::{GpuKey, GpuPublicKey, NotTheirs, Signature};
pub use params::{MatrixParams, ParamsError};
pub use prove::{CpuProver, Prover, ProverError};
pub use signed::Signed;
pub use transcript::{Challenge, Commitment, Opening, StepOpening, binding, drawn_rows};
pub use verify::{Rejection, Verified, verify};
