//! Noticing at work: what the router saw is shown to the guard's detectors behind the answer; what they raise
//! opens incidents, freezes by rule, and goes out to people.
//!
//! Decides nothing: detectors, rules and what may be frozen are the guard's. An answer never waits for any of
//! it; what does not fit the queue is counted and let go, and the detectors see the rest.

pub mod freezes;
mod record;
mod work;

use std::sync::{Arc, Mutex, atomic::Ordering};

use gangline_guard::{
    detect::distinct::Salt,
    freeze::Target,
    notice::{Preview, Seen, Watch},
};
use gangline_store::Store;
use gangline_types::UnixSeconds;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Config, edge, metrics::Metrics};

pub use freezes::FreezeView;

/// What waits to be looked at, at most.
const QUEUE: usize = 16_384;

/// Something to look at.
#[derive(Debug)]
enum Event {
    /// A request was answered.
    Seen(Box<Seen>),
    /// A proof was judged.
    Judged { at: UnixSeconds, claims: String, failed: bool },
}

/// Takes what was seen. Cheap to clone.
#[derive(Clone)]
pub struct Noticer {
    queue: mpsc::Sender<Event>,
    watch: Arc<Mutex<Watch>>,
    freezes: FreezeView,
    metrics: Arc<Metrics>,
}

impl Noticer {
    /// A noticer and the task that works for it; the task ends when `stop` says so.
    ///
    /// # Errors
    /// When what detectors are shown is to be written into a file that cannot be made.
    pub fn start(
        config: &Config,
        store: Store,
        metrics: Arc<Metrics>,
        freezes: FreezeView,
        stop: CancellationToken,
    ) -> std::io::Result<(Self, tokio::task::JoinHandle<()>)> {
        let (queue, events) = mpsc::channel(QUEUE);
        let watch = Arc::new(Mutex::new(Watch::new(Salt::new(edge::random()))));
        let noticer =
            Self { queue, watch: watch.clone(), freezes: freezes.clone(), metrics: metrics.clone() };
        let recording = config.notice.record.as_deref().map(record::Recording::start).transpose()?;
        let work = work::Work::new(config.notice.clone(), store, metrics, freezes, watch, recording);
        Ok((noticer, tokio::spawn(work.run(events, stop))))
    }

    /// Takes a request that was answered.
    pub fn saw(&self, seen: Seen) {
        self.take(Event::Seen(Box::new(seen)));
    }
    /// Takes a verdict: `claims` is what its GPU says of itself.
    pub fn judged(&self, at: UnixSeconds, claims: String, failed: bool) {
        self.take(Event::Judged { at, claims, failed });
    }
    fn take(&self, event: Event) {
        if self.queue.try_send(event).is_err() {
            self.metrics.unnoticed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What is frozen.
    pub fn freezes(&self) -> &FreezeView {
        &self.freezes
    }
    /// What a freeze would have stopped in the last minutes, as this process saw them.
    pub fn preview(&self, target: &Target, at: UnixSeconds) -> Preview {
        let watch = self.watch.lock().unwrap_or_else(|e| e.into_inner());
        watch.recent().preview(target, at)
    }
}
