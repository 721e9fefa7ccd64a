//! The intake's clock: the system's, and for tests a step away from it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use gangline_types::UnixSeconds;

use crate::edge;

/// A clock that a test can step. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<AtomicI64>);

impl Clock {
    /// The time now.
    pub fn now(&self) -> UnixSeconds {
        UnixSeconds(edge::now().0.saturating_add_signed(self.0.load(Ordering::Relaxed)))
    }
    /// From now on it is so many seconds ahead of the system's clock, or behind where negative.
    pub fn step_to(&self, seconds: i64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}
