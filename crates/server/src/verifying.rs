//! Verifying proofs: tens of milliseconds of a core each, so not on the threads that answer requests, as many at once as
//! there are cores, and with a bound on how many wait.
//!
//! Whoever finds the queue full loses nothing: its clock stopped with its roots, and an opening is waited for much longer
//! than the queue is.

use std::{
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::http::StatusCode;
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// The queue of what is to be verified.
pub struct Verifying {
    cores: Arc<Semaphore>,
    /// In the queue or being verified.
    inside: AtomicUsize,
    inside_max: usize,
}

/// One place in the queue, given back when it is dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Verifying {
    /// A queue in which so many wait at most.
    pub fn new(waiting_max: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            cores: Arc::new(Semaphore::new(cores)),
            inside: AtomicUsize::new(0),
            inside_max: waiting_max.saturating_add(cores),
        }
    }

    /// How many wait or are being verified.
    pub fn inside(&self) -> usize {
        self.inside.load(Ordering::Relaxed)
    }

    /// Verifies when it is this one's turn.
    ///
    /// # Errors
    /// `verifier_busy` if too many wait already, `verifier_failed` if the verifier broke down: nothing was judged.
    pub async fn run<T: Send + 'static>(
        &self,
        verify: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let before = self.inside.fetch_add(1, Ordering::Relaxed);
        let _place = Place(&self.inside);
        if before >= self.inside_max {
            return Err(ApiError::Busy { waiting: before });
        }
        let failed = || {
            ApiError::bad(
                StatusCode::INTERNAL_SERVER_ERROR,
                "verifier_failed",
                "the verifier broke down; nothing was judged",
            )
        };
        let core = Arc::clone(&self.cores).acquire_owned().await.map_err(|_| failed())?;
        let verified = tokio::task::spawn_blocking(move || {
            let verified = verify();
            drop(core);
            verified
        });
        verified.await.map_err(|_| failed())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn as_many_wait_as_may_and_the_next_is_told_to_come_again() {
        let queue = Arc::new(Verifying::new(2));
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let mut running = vec![];
        let mut ends = vec![];
        for n in 0..cores + 2 {
            let (end, ended) = mpsc::channel::<()>();
            ends.push(end);
            let queue = Arc::clone(&queue);
            running
                .push(tokio::spawn(async move { queue.run(move || ended.recv().map_or(n, |()| n)).await }));
        }
        while queue.inside() < cores + 2 {
            tokio::task::yield_now().await;
        }
        let refused = queue.run(|| 0).await.expect_err("the queue is full");
        assert_eq!((refused.status().as_u16(), refused.body().code.as_str()), (503, "verifier_busy"));
        assert!(refused.retry_after_seconds().is_some());
        ends.clear();
        for (n, one) in running.into_iter().enumerate() {
            assert_eq!(one.await.unwrap().unwrap(), n);
        }
        assert_eq!(queue.run(|| 7).await.unwrap(), 7);
        assert_eq!(queue.inside(), 0);
    }
}
