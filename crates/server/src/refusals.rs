//! Writing refused attempts down: batched, bounded for each asker so that a flood cannot drown the rest,
//! and never in the way of the answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::Ordering},
};

use gangline_guard::{
    audit::RefusedAttempt,
    quota::{Bucket, Quota},
};
use gangline_store::Store;
use tokio::sync::mpsc;

use crate::{edge, metrics::Metrics};

/// Attempts of one asker that are written down.
const QUOTA: Quota = Quota { burst: 200, per_minute: 60 };
/// Askers that are told apart at once.
const ASKERS_MAX: usize = 10_000;
const QUEUE: usize = 4096;
const BATCH: usize = 256;
/// Longest text of one field that is kept.
const FIELD_CHARS_MAX: usize = 300;

/// Takes refused attempts. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<RefusedAttempt>,
    askers: Arc<Mutex<HashMap<String, Bucket>>>,
    metrics: Arc<Metrics>,
}

/// Text from outside as it may be written down: cut, and with no control characters.
pub fn inert(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(FIELD_CHARS_MAX).collect()
}

impl Recorder {
    /// A recorder and the task that writes; the task ends when all recorders are gone.
    pub fn start(store: Store, metrics: Arc<Metrics>) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, mut attempts) = mpsc::channel(QUEUE);
        let counters = metrics.clone();
        let task = tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            while attempts.recv_many(&mut batch, BATCH).await > 0 {
                if let Err(error) = store.refused(&batch).await {
                    counters.refusals_unrecorded.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    tracing::warn!(%error, attempts = batch.len(), "refused attempts could not be written down");
                }
                batch.clear();
            }
        });
        (Self { queue, askers: Arc::default(), metrics }, task)
    }

    /// Takes one attempt of `asker` (a key, or an address where no key was established).
    pub fn record(&self, asker: &str, attempt: RefusedAttempt) {
        self.metrics.refused(&attempt.code);
        tracing::info!(actor = %attempt.actor, action = %attempt.action, request = %attempt.request, address = %attempt.address, code = %attempt.code, "refused");
        let now = edge::now_millis();
        let within = {
            let mut askers = self.askers.lock().unwrap_or_else(|e| e.into_inner());
            if askers.len() >= ASKERS_MAX {
                askers.retain(|_, b| !b.is_full(QUOTA, now));
            }
            if askers.len() >= ASKERS_MAX {
                false
            } else {
                askers
                    .entry(asker.to_owned())
                    .or_insert_with(|| Bucket::full(QUOTA, now))
                    .take(QUOTA, now)
                    .is_ok()
            }
        };
        if !within || self.queue.try_send(attempt).is_err() {
            self.metrics.refusals_unrecorded.fetch_add(1, Ordering::Relaxed);
        }
    }
}
