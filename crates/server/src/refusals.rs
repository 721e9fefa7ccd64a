//! Writing refused attempts down: every one, batched, and never in the way of the answer. So many a minute of
//! one asker stand by themselves; those beyond are counted with others that are alike, so that a flood neither
//! drowns the rest nor goes uncounted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use gangline_guard::{
    audit::RefusedAttempt,
    notice::Block,
    quota::{Bucket, Quota},
};
use gangline_store::Store;
use gangline_types::KeyId;
use gangline_wire::Action;
use tokio::sync::mpsc;

use crate::{edge, metrics::Metrics};

/// Attempts of one asker that are written down one by one.
const QUOTA: Quota = Quota { burst: 200, per_minute: 60 };
/// Askers that are told apart at once.
const ASKERS_MAX: usize = 10_000;
const QUEUE: usize = 4096;
const BATCH: usize = 256;
/// How often what was counted together is written down.
const FOLD_MILLIS: u64 = 500;
/// Longest text of one field that is kept.
const FIELD_CHARS_MAX: usize = 300;

/// Takes refused attempts. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<RefusedAttempt>,
    askers: Arc<Mutex<HashMap<String, Bucket>>>,
    folded: Arc<Folded>,
    metrics: Arc<Metrics>,
}

/// Text from outside as it may be written down: cut, and with no control characters.
pub fn inert(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(FIELD_CHARS_MAX).collect()
}

/// What is alike in attempts that are written down together.
type Alike = (String, Option<KeyId>, Action, String);

/// Attempts beyond what one asker may have written down one by one, counted by what is alike in them.
#[derive(Debug, Default)]
struct Folded(Mutex<HashMap<Alike, RefusedAttempt>>);

impl Folded {
    /// Counts an attempt; where there is no room for another kind, with all others from its block of addresses.
    fn add(&self, asker: &str, attempt: RefusedAttempt) {
        let mut alike = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let of = (asker.to_owned(), attempt.key, attempt.action, attempt.code.clone());
        if let Some(known) = alike.get_mut(&of) {
            known.count += attempt.count;
        } else if alike.len() < ASKERS_MAX {
            alike.insert(of, attempt);
        } else {
            let block = attempt.address.parse().map_or(String::new(), |ip| Block::of(ip).to_string());
            let several = RefusedAttempt {
                actor: "several askers".to_owned(),
                key: None,
                account: None,
                count: 0,
                request: "several".to_owned(),
                address: block.clone(),
                ..attempt.clone()
            };
            let of = (block, None, attempt.action, attempt.code);
            alike.entry(of).or_insert(several).count += attempt.count;
        }
    }
    fn take(&self) -> Vec<RefusedAttempt> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(|e| e.into_inner())).into_values().collect()
    }
}

impl Recorder {
    /// A recorder and the task that writes; the task ends when all recorders are gone.
    pub fn start(store: Store, metrics: Arc<Metrics>) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, mut attempts) = mpsc::channel(QUEUE);
        let counters = metrics.clone();
        let folded = Arc::new(Folded::default());
        let counted = folded.clone();
        let task = tokio::spawn(async move {
            let mut batch = Vec::with_capacity(BATCH);
            let mut tick = tokio::time::interval(Duration::from_millis(FOLD_MILLIS));
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let over = tokio::select! {
                    taken = attempts.recv_many(&mut batch, BATCH) => taken == 0,
                    _ = tick.tick() => false,
                };
                // Those alike come at most a second later than the first of them.
                if over || batch.is_empty() {
                    batch.extend(counted.take());
                }
                if !batch.is_empty()
                    && let Err(error) = store.refused(&batch).await
                {
                    let lost: u64 = batch.iter().map(|attempt| attempt.count).sum();
                    counters.refusals_unrecorded.fetch_add(lost, Ordering::Relaxed);
                    tracing::warn!(%error, attempts = lost, "refused attempts could not be written down");
                }
                batch.clear();
                if over {
                    return;
                }
            }
        });
        (Self { queue, askers: Arc::default(), folded, metrics }, task)
    }

    /// Takes one attempt of `asker` (a key, or an address where no key was established). Each is written down:
    /// so many a minute by themselves, the rest counted with those that are alike.
    pub fn record(&self, asker: &str, attempt: RefusedAttempt) {
        self.metrics.refused(&attempt.code);
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
        if !within {
            return self.folded.add(asker, attempt);
        }
        tracing::info!(actor = %attempt.actor, action = %attempt.action, request = %attempt.request, address = %attempt.address, code = %attempt.code, "refused");
        if let Err(full) = self.queue.try_send(attempt) {
            self.folded.add(asker, full.into_inner());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(key: u64, address: &str) -> RefusedAttempt {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&key.to_le_bytes());
        RefusedAttempt {
            at: gangline_types::UnixSeconds(1),
            actor: "x".into(),
            key: Some(KeyId::from_bytes(bytes)),
            account: None,
            count: 1,
            action: Action::LabelGpu,
            request: String::new(),
            address: address.into(),
            code: "not_found".into(),
            message: String::new(),
        }
    }

    #[test]
    fn a_flood_is_counted_to_the_last_attempt_in_bounded_room() {
        let folded = Folded::default();
        for n in 0..30_000u64 {
            folded.add("k", attempt(n % 20_000, "192.0.2.7"));
        }
        let rows = folded.take();
        assert!(rows.len() <= ASKERS_MAX + 1, "{}", rows.len());
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 30_000);
        assert!(rows.iter().any(|row| row.address == "192.0.2.0/24" && row.key.is_none()));
        assert!(folded.take().is_empty());
    }
}
