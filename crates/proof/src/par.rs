//! Sharing a slice's bands among the processor's cores.
//!
//! Knows nothing of what is computed.

use std::{
    num::NonZero,
    sync::{Mutex, PoisonError},
    thread,
};

/// Calls `f(index, band)` for every band of `band_len` items, on as many threads as there are cores.
pub fn bands<T: Send>(items: &mut [T], band_len: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    let count = items.len().div_ceil(band_len);
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(count);
    if threads <= 1 {
        items.chunks_mut(band_len).enumerate().for_each(|(i, band)| f(i, band));
        return;
    }
    let queue = Mutex::new(items.chunks_mut(band_len).enumerate());
    let work = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            match next {
                Some((i, band)) => f(i, band),
                None => return,
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}
