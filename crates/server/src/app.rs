//! What every request and job shares. Cheap to clone.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use gangline_guard::{
    Refusal,
    quota::{Bucket, Quota},
};
use gangline_store::{Store, StoreError};
use gangline_types::{MachineId, UnixMillis, UnixSeconds, public::NetworkTotals};
use gangline_wire::SigningKey;
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, edge,
    jobs::placement::Placement,
    lanes::Lanes,
    live::Lives,
    metrics::Metrics,
    notice::Noticer,
    people::{Provider, passkey::Passkeys},
    refusals::Recorder,
    routes::pages::Drawn,
    tunnel::Tunnels,
};

/// Things that are counted apart, with how often each may happen for one asker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Counted {
    /// Requests to be enrolled, by address.
    Enrolments,
    /// Polls of an enrolment, by key.
    EnrolmentPolls,
    /// Epochs opened for beats, by key: one a day is needed.
    Epochs,
    /// Codes looked up, by account: 40 bits must not be guessed.
    Codes,
    /// One-time links tried, by address.
    Links,
    /// Sign-ins begun or ended, by address.
    SignIns,
    /// Logout messages of the provider, by address.
    Logouts,
    /// Rotations, by key.
    Rotations,
    /// Signed requests, by key.
    Signed,
    /// Signed requests to a cluster's Ray, by key.
    Ray,
}

impl Counted {
    fn quota(self) -> Quota {
        let (burst, per_minute) = match self {
            Self::Enrolments => (60, 30),
            Self::EnrolmentPolls => (30, 60),
            Self::Epochs => (30, 1),
            Self::Codes => (20, 10),
            Self::Links => (30, 20),
            Self::SignIns => (60, 30),
            // One provider tells of everybody.
            Self::Logouts => (1200, 600),
            Self::Rotations => (6, 1),
            Self::Signed => (600, 600),
            Self::Ray => (3000, 3000),
        };
        Quota { burst, per_minute }
    }
}

/// Askers told apart at once.
const ASKERS_MAX: usize = 50_000;
/// Changes of GPUs that a slow watcher may lag behind.
const EVENTS: usize = 256;

/// A change for the explorer's watchers: event name and JSON.
pub type Event = (&'static str, String);

/// The shared parts.
pub struct Shared {
    /// Configuration.
    pub config: Config,
    /// Authorities this server answers to, in lower case.
    pub authorities: Vec<String>,
    /// Origin for links, for example `https://gangline.example`.
    pub origin: String,
    /// The books.
    pub store: Store,
    /// The network's key.
    pub key: SigningKey,
    /// When this server started.
    pub started_at: UnixMillis,
    /// Secret of beacons.
    pub beacon_secret: [u8; 32],
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Refused attempts.
    pub recorder: Recorder,
    /// What was seen, for the detectors; and what is frozen.
    pub noticer: Noticer,
    /// The identity provider, where one is configured.
    pub provider: Option<Arc<Provider>>,
    /// The intake of beats and the way into it.
    pub lanes: Lanes,
    /// Tunnels to clusters.
    pub tunnels: Tunnels,
    /// Pages that are the same for everybody.
    pub drawn: Drawn,
    /// Offers in the order of choice.
    pub placement: Placement,
    /// What passkeys are for here; none where browsers have none.
    pub passkeys: Option<Passkeys>,
    /// What is open, and under what.
    pub lives: Lives,
    /// Totals and GPU changes for watchers.
    pub events: broadcast::Sender<Event>,
    /// The newest totals.
    pub totals: watch::Sender<NetworkTotals>,
    /// Ends everything.
    pub stop: CancellationToken,
    /// Something public changed: project soon.
    dirty: Notify,
    draining: AtomicBool,
    nudges: broadcast::Sender<MachineId>,
    clusters_changed: watch::Sender<u64>,
    /// When a write was last found to be durable.
    ready_at: tokio::sync::Mutex<Option<UnixSeconds>>,
    quotas: Mutex<HashMap<(Counted, String), Bucket>>,
}

/// The shared parts, counted.
pub type App = Arc<Shared>;

impl Shared {
    /// The shared parts of a server that is about to listen.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        config: Config,
        authorities: Vec<String>,
        origin: String,
        store: Store,
        key: SigningKey,
        metrics: Arc<Metrics>,
        recorder: Recorder,
        noticer: Noticer,
        provider: Option<Arc<Provider>>,
        lanes: Lanes,
        stop: CancellationToken,
    ) -> App {
        let beacon_secret = blake3::derive_key("gangline 2026 beacon secret", key.seed().as_ref());
        Arc::new(Self {
            config,
            authorities,
            passkeys: Passkeys::of(&origin),
            origin,
            store,
            key,
            beacon_secret,
            started_at: edge::now_millis(),
            metrics,
            recorder,
            noticer,
            provider,
            lanes,
            tunnels: Tunnels::new(),
            drawn: Drawn::default(),
            placement: Placement::default(),
            lives: Lives::default(),
            events: broadcast::channel(EVENTS).0,
            totals: watch::channel(NetworkTotals::default()).0,
            stop,
            dirty: Notify::new(),
            draining: AtomicBool::new(false),
            nudges: broadcast::channel(EVENTS).0,
            clusters_changed: watch::channel(0).0,
            ready_at: tokio::sync::Mutex::new(None),
            quotas: Mutex::default(),
        })
    }

    /// Counts one act of `asker`; too many is a refusal that says how long to wait.
    pub fn count(&self, what: Counted, asker: &str) -> Result<(), Refusal> {
        let (now, quota) = (edge::now_millis(), what.quota());
        let mut quotas = self.quotas.lock().unwrap_or_else(|e| e.into_inner());
        if quotas.len() >= ASKERS_MAX {
            quotas.retain(|(what, _), bucket| !bucket.is_full(what.quota(), now));
        }
        let bucket = quotas.entry((what, asker.to_owned())).or_insert_with(|| Bucket::full(quota, now));
        bucket.take(quota, now).map_err(|seconds| Refusal::TooMany { seconds })
    }

    /// Whether a write would be durable now. Tried at most once a second however many ask: anybody may.
    pub async fn check_ready(&self) -> Result<(), StoreError> {
        let mut ready_at = self.ready_at.lock().await;
        if *ready_at != Some(edge::now()) {
            self.store.is_writable().await?;
            *ready_at = Some(edge::now());
        }
        Ok(())
    }

    /// What is public has changed.
    pub fn changed(&self) {
        self.dirty.notify_one();
    }
    /// Waits until it has.
    pub async fn wait_changed(&self) {
        self.dirty.notified().await;
    }
    /// There is news for a machine.
    pub fn nudge(&self, machine: MachineId) {
        let _ = self.nudges.send(machine);
    }
    /// To hear of news for machines.
    pub fn nudges(&self) -> broadcast::Receiver<MachineId> {
        self.nudges.subscribe()
    }
    /// A cluster changed.
    pub fn cluster_changed(&self) {
        self.clusters_changed.send_modify(|n| *n += 1);
    }
    /// To hear of changed clusters.
    pub fn clusters(&self) -> watch::Receiver<u64> {
        self.clusters_changed.subscribe()
    }
    /// From now on `/readyz` says no.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }
    /// Whether it does.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
