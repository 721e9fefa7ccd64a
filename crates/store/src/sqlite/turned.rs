//! Who came and who fell silent, as the intake knows it before the books have everybody's beats: kept in memory for the
//! projector. What is lost with it is found again once the books are up to date.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use gangline_types::{GpuId, UnixSeconds};

/// GPUs that turned.
#[derive(Clone, Default)]
pub(crate) struct Turned(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// To be looked at.
    look: Vec<GpuId>,
    /// Of these nothing later came up to then.
    silent: HashMap<GpuId, UnixSeconds>,
}

impl Turned {
    /// These turned by then.
    pub(super) fn note(&self, came: &[GpuId], silent: &[GpuId], until: UnixSeconds) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.look.extend(came.iter().chain(silent));
        for gpu in came {
            inner.silent.remove(gpu);
        }
        inner.silent.extend(silent.iter().map(|gpu| (*gpu, until)));
    }

    /// Takes whom to look at, at most so many. Where the books have everybody's beats up to a moment, they know as much as was
    /// known before it.
    pub(super) fn take(&self, beats_until: UnixSeconds, at_most: usize) -> Vec<GpuId> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.silent.retain(|_, until| *until > beats_until);
        let kept = inner.look.len().saturating_sub(at_most);
        inner.look.split_off(kept)
    }

    /// Whether more wait to be looked at.
    pub(super) fn more(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).look.is_empty()
    }

    /// Up to when it is known what came of a GPU: later than the books say for those that fell silent since.
    pub(super) fn known_until(&self, gpu: GpuId, beats_until: UnixSeconds) -> UnixSeconds {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.silent.get(&gpu).copied().unwrap_or_default().max(beats_until)
    }
}
