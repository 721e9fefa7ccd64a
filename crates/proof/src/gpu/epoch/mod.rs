//! The prover of epoch proofs on one adapter.
//!
//! Knows no clock but the device's watchdog. Work is handed over in dispatches short enough that no operating
//! system takes the device away and a prover that is told to stop does so within one or two of them.

mod engine;
mod kernels;
mod matrix;

use gangline_types::Hash;

use super::{Adapter, device::Device, listed};
use crate::epoch::{Challenge, Commitment, Opening, Params, Prover, ProverError, Watch, prove::Chained};
use engine::Engine;
pub use matrix::Route;

/// A prover of epoch proofs on one adapter. It holds memory from [`warm_up`](Prover::warm_up) until it has
/// committed, was stopped or failed, and until it has opened the little that opening takes.
pub struct EpochProver(Chained<Engine>);

impl EpochProver {
    /// Opens the adapter with this index among [`adapters`](super::adapters) and compiles the kernels.
    ///
    /// # Errors
    /// If there is no such adapter, or its driver fails.
    pub fn open(index: usize) -> Result<Self, ProverError> {
        let mut all = listed();
        if index >= all.len() {
            return Err(crate::ProverError::NoAdapter { index, found: all.len() }.into());
        }
        let (adapter, found) = all.swap_remove(index);
        Ok(Self(Chained::new(Engine::new(Device::open(adapter, &found)?)?)))
    }

    /// The adapter it runs on.
    pub fn adapter(&self) -> &Adapter {
        self.0.engine.adapter()
    }

    /// Takes memory in buffers of at most this many bytes, where a driver promises larger ones than it gives.
    pub fn set_buffer_bytes_max(&mut self, bytes: u64) {
        self.0.engine.set_buffer_bytes_max(bytes);
    }

    /// Puts the last so many buffers of memory into the host's from the next warm-up on, as a cheat would who claims
    /// more than the device has: the bits are the same, and this is there to measure what it costs. False, and
    /// nothing changes, on a device whose kernels cannot read host memory.
    pub fn spill(&mut self, buffers: u32) -> bool {
        self.0.engine.spill(buffers)
    }

    /// Buffers that memory is split into while it is held, else 0.
    pub fn buffers(&self) -> usize {
        self.0.engine.buffers()
    }

    /// How matrices are multiplied; the bits are the same either way.
    pub fn route(&self) -> Route {
        self.0.engine.route
    }

    /// Sets how matrices are multiplied.
    pub fn set_route(&mut self, route: Route) {
        self.0.engine.route = route;
    }

    /// Multiplies once by each route and keeps the faster. `now_micros` is the caller's clock.
    ///
    /// # Errors
    /// If the device fails.
    pub fn choose_route(&mut self, now_micros: &mut dyn FnMut() -> u64) -> Result<Route, ProverError> {
        self.0.engine.choose_route(now_micros)
    }

    /// Bytes of memory that are taken now, for the fill alone.
    pub fn held_bytes(&self) -> u64 {
        self.0.engine.held_bytes()
    }
}

impl Prover for EpochProver {
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
