//! Beats: one bit a minute and GPU. Returned means on disk.

use gangline_guard::{Permit, act};
use gangline_wire::api::machine::{MinuteBeat, RefusedBeat};

use crate::{Store, StoreError, books::answered};

/// What became of a report of beats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credited {
    /// Minutes of GPUs that are on disk.
    pub credited: u32,
    /// What was not credited, and why.
    pub refused: Vec<RefusedBeat>,
}

answered! { Store,
    /// Credits beats to GPUs of the permit's machine, and of no other. Repeats are the same bits.
    async fn credit(&self, permit: Permit<act::Beat>, beats: &[MinuteBeat]) -> Result<Credited, StoreError>;
}
