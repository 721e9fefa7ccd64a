//! The intake's clock: the system's, and for tests a step away from it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU32, Ordering},
};

use gangline_types::UnixSeconds;

use crate::edge;

/// A clock that a test can step. Clones are the same clock.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Steps>);

#[derive(Debug, Default)]
struct Steps {
    seconds: AtomicI64,
    breaking: AtomicU32,
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> UnixSeconds {
        UnixSeconds(edge::now().0.saturating_add_signed(self.0.seconds.load(Ordering::Relaxed)))
    }
    /// The time at which a turn of the intake begins.
    pub(super) fn turn(&self) -> UnixSeconds {
        let left = self.0.breaking.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        assert!(left.is_err(), "a test broke this turn off");
        self.now()
    }
    /// So many turns of the intake break off, as they would by a mistake of ours.
    pub fn break_off(&self, turns: u32) {
        self.0.breaking.store(turns, Ordering::Relaxed);
    }
    /// From now on it is so many seconds ahead of the system's clock, or behind where negative.
    pub fn step_to(&self, seconds: i64) {
        self.0.seconds.store(seconds, Ordering::Relaxed);
    }
}
