//! The epoch proof: a resource vector that nobody can fake cheaply. Video memory, the rate at which it is
//! read at random, the rate of plain arithmetic, and in some epochs the matrix rate, all within one clock.
//! `docs/PROOF.md` is the specification.
//!
//! Knows no network, no clock and no source of randomness. How a caller uses it:
//!
//! 1. The server writes down a [`Challenge`]: [`Params`] for what the GPU claims, the epoch's beacon, and the
//!    [`binding`] of the GPU's key. The worker has called [`Prover::warm_up`] with the same `Params` before.
//! 2. The bell: the challenge goes out and the server's clock starts. The prover works
//!    ([`Prover::commit`]) and answers with a [`Commitment`], all roots at once. The clock stops.
//! 3. The server draws a nonce, writes it down with the time, and only then sends it.
//! 4. The prover answers with an [`Opening`] ([`Prover::open`]); the worker signs the whole with the
//!    [`GpuKey`].
//! 5. [`verify()`] judges. What it shows is divided by the time that the server measured; a [`Transcript`]
//!    keeps all of it for anyone to check again, offline.
//!
//! ```
//! use std::ops::ControlFlow;
//! use gangline_proof::epoch::{ChainParams, Challenge, CpuProver, GpuKey, MemoryParams, Params, Prover, Transcript, verify};
//! use gangline_types::{GpuId, Hash};
//!
//! let gpu = GpuId::from_bytes([2; 16]);
//! let key = GpuKey::derive(&[1; 32], gpu);
//! let chain = ChainParams { units: 64, segments: 2, steps: 16, opened: 8 };
//! let params = Params { memory: MemoryParams::whole(1024, 8), walk: chain, alu: chain, matrix: None };
//! let challenge = Challenge { params: params.check()?, beacon: Hash([3; 32]), binding: key.binding() };
//! let mut prover = CpuProver::new();
//! let mut watch = |_| ControlFlow::Continue(());
//! prover.warm_up(&params, &mut watch)?;
//! let commitment = prover.commit(&challenge, &mut watch)?; // the clock stops when this is in
//! let nonce = Hash([4; 32]); // random, and unknown until now
//! let opening = prover.open(&nonce)?;
//! let shown = verify(&challenge, &commitment, &nonce, &opening)?;
//! assert_eq!(shown.memory_bytes, 64 * 1024);
//! let signature = key.sign(&challenge, &commitment, &nonce, &opening);
//! let transcript = Transcript::new(gpu, key.public(), challenge, commitment, nonce, opening, signature);
//! assert_eq!(transcript.check()?, shown);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod budget;
pub(crate) mod chain;
pub(crate) mod cpu;
mod messages;
mod params;
pub(crate) mod prove;
mod signed;
mod sizes;
mod verify;

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod tests;

pub use crate::key::{GpuKey, GpuPublicKey, Signature};
pub use budget::{Budget, OverBudget};
pub use cpu::CpuProver;
pub(crate) use messages::Draw;
pub use messages::{ChainOpening, Challenge, Commitment, Opening, Part, binding};
pub use params::{ChainParams, MemoryParams, Params, ParamsError, Stretch};
pub use prove::{Progress, Prover, ProverError, Watch};
pub use signed::{Faulty, Transcript, fuzz_transcript};
pub use sizes::SIZES;
pub use verify::{Rejection, Verified, verify};
