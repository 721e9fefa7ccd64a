//! What every request and job shares. Cheap to clone.

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use gangline_guard::{
    Factors, Refusal,
    quota::{Bucket, Quota},
};
use gangline_store::{Group, Store, StoreError};
use gangline_types::{MachineId, UnixMillis, UnixSeconds, public::NetworkTotals};
use gangline_wire::{Good, Signed, SigningKey, verify_together};
use tokio::sync::{Notify, broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, edge,
    jobs::{
        bells::{Quiet, Rota, Tables},
        placement::Placement,
    },
    lanes::Lanes,
    live::Lives,
    metrics::Metrics,
    notice::Noticer,
    outlets::Outlets,
    paced::Paced,
    people::{Provider, passkey::Passkeys, password::Passwords},
    refusals::Recorder,
    routes::pages::Drawn,
    spool::Spools,
    tunnel::{Link, Tunnels},
    verifying::Verifying,
    witnesses::Witnesses,
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
    /// Passwords tried, by the name that is tried, and set, by account.
    Passwords,
    /// Sign-ins begun or ended, by address.
    SignIns,
    /// Logout messages of the provider, by address.
    Logouts,
    /// Rotations, by key.
    Rotations,
    /// Verdicts on appeals, by address.
    Verdicts,
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
            // Some thousand guesses a day at most, wherever they come from.
            Self::Passwords => (10, 2),
            Self::SignIns => (60, 30),
            // One provider tells of everybody.
            Self::Logouts => (1200, 600),
            Self::Rotations => (6, 1),
            Self::Verdicts => (120, 60),
            Self::Signed => (600, 600),
            Self::Ray => (3000, 3000),
        };
        Quota { burst, per_minute }
    }
}

/// More askers than so many are looked through for those that need not be told apart any more.
const ASKERS_KEPT: usize = 50_000;
/// So often, in milliseconds.
const SWEPT_EVERY_MILLIS: u64 = 60_000;
/// Signatures verified with one sum: from about a hundred on sums go another way, which costs each a quarter less, and a bad
/// one costs a few sums of its own.
const SIGNATURES_AT_ONCE: usize = 256;
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
    /// Secret of joining proofs' beacons.
    pub beacon_secret: [u8; 32],
    /// What waits to be verified.
    pub verifying: Verifying,
    /// The hours' bells, from which epochs' beacons follow.
    pub rota: Rota,
    /// Tables of calibration, as last read.
    pub tables: Tables,
    /// Machines that no bell is due for, and until when.
    pub quiet: Quiet,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Refused attempts.
    pub recorder: Recorder,
    /// What was seen, for the detectors; and what is frozen.
    pub noticer: Noticer,
    /// Who outside is told of incidents.
    pub outlets: Outlets,
    /// Who is asked to cosign the log.
    pub witnesses: Witnesses,
    /// The identity provider, where one is configured.
    pub provider: Option<Arc<Provider>>,
    /// The intake of beats and the way into it.
    pub lanes: Lanes,
    /// Tunnels to clusters.
    pub tunnels: Tunnels,
    /// Where large bodies wait.
    pub spools: Spools,
    /// The way to tunnels that end at other servers.
    pub link: Link,
    /// Where the other servers reach this one's; empty: they do not.
    pub reached_at: String,
    /// Pages that are the same for everybody.
    pub drawn: Drawn,
    /// Machines that have not left, and of them those that are connected, for the operator's console.
    pub machines: Paced<(u64, u64)>,
    /// Attempts that were refused in a day, for the same.
    pub refused: Paced<u64>,
    /// Offers in the order of choice.
    pub placement: Placement,
    /// What passkeys are for here; none where browsers have none.
    pub passkeys: Option<Passkeys>,
    /// How many factors people are asked for.
    pub factors: Factors,
    /// Passwords; none where there is something better, or the operator has not asked for them.
    pub passwords: Option<Passwords>,
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
    /// When this server last filled the projection itself, in seconds; 0: never.
    projected_at: AtomicU64,
    nudges: broadcast::Sender<MachineId>,
    clusters_changed: watch::Sender<u64>,
    /// When a write was last found to be durable.
    ready_at: tokio::sync::Mutex<Option<UnixSeconds>>,
    quotas: Mutex<Quotas>,
    signatures: Group<Signed, Option<Good>>,
}

/// What each asker has left.
struct Quotas {
    /// By a hash with a key of this process: askers are as many as there are machines.
    buckets: HashMap<u64, (Counted, Bucket)>,
    hasher: RandomState,
    /// Looked through when there are so many: twice what was left last time, so that a look costs each asker little
    /// however many there are.
    swept_at: usize,
    /// And once a minute, when there are many.
    swept: UnixMillis,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            buckets: HashMap::new(),
            hasher: RandomState::new(),
            swept_at: ASKERS_KEPT,
            swept: UnixMillis(0),
        }
    }
}

impl Quotas {
    fn bucket(&mut self, what: Counted, asker: impl Hash, now: UnixMillis) -> &mut Bucket {
        let is_due =
            self.buckets.len() > ASKERS_KEPT && now.0.saturating_sub(self.swept.0) > SWEPT_EVERY_MILLIS;
        if is_due || self.buckets.len() >= self.swept_at {
            self.buckets.retain(|_, (what, bucket)| !bucket.is_full(what.quota(), now));
            self.swept_at = ASKERS_KEPT.max(self.buckets.len() * 2);
            self.buckets.shrink_to(self.swept_at);
            self.swept = now;
        }
        let asker = self.hasher.hash_one((what, asker));
        &mut self.buckets.entry(asker).or_insert_with(|| (what, Bucket::full(what.quota(), now))).1
    }
}

/// The shared parts, counted.
pub type App = Arc<Shared>;

impl Shared {
    /// The shared parts of a server that is about to listen.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        config: Config,
        (factors, passwords): (Factors, Option<Passwords>),
        authorities: Vec<String>,
        origin: String,
        store: Store,
        key: SigningKey,
        metrics: Arc<Metrics>,
        recorder: Recorder,
        noticer: Noticer,
        outlets: Outlets,
        witnesses: Witnesses,
        provider: Option<Arc<Provider>>,
        lanes: Lanes,
        (link, reached_at): (Link, String),
        stop: CancellationToken,
    ) -> App {
        let beacon_secret = blake3::derive_key("gangline 2026 beacon secret", key.seed().as_ref());
        let verifying = Verifying::new(config.verifying_max);
        let rota = Rota::new(&beacon_secret, config.bell_pace);
        let spools = Spools::new(config.data.clone(), config.ray_spool_bytes_max);
        Arc::new(Self {
            config,
            authorities,
            passkeys: Passkeys::of(&origin),
            factors,
            passwords,
            origin,
            store,
            key,
            verifying,
            rota,
            tables: Tables::default(),
            quiet: Quiet::default(),
            beacon_secret,
            started_at: edge::now_millis(),
            metrics,
            recorder,
            noticer,
            outlets,
            witnesses,
            provider,
            lanes,
            tunnels: Tunnels::new(),
            spools,
            link,
            reached_at,
            drawn: Drawn::default(),
            machines: Paced::default(),
            refused: Paced::default(),
            placement: Placement::default(),
            lives: Lives::default(),
            events: broadcast::channel(EVENTS).0,
            totals: watch::channel(NetworkTotals::default()).0,
            stop,
            dirty: Notify::new(),
            draining: AtomicBool::new(false),
            projected_at: AtomicU64::new(0),
            nudges: broadcast::channel(EVENTS).0,
            clusters_changed: watch::channel(0).0,
            ready_at: tokio::sync::Mutex::new(None),
            quotas: Mutex::default(),
            signatures: Group::of(SIGNATURES_AT_ONCE),
        })
    }

    /// Counts one act of `asker`; too many is a refusal that says how long to wait.
    pub fn count(&self, what: Counted, asker: impl Hash) -> Result<(), Refusal> {
        let now = edge::now_millis();
        let mut quotas = self.quotas.lock().unwrap_or_else(|e| e.into_inner());
        let bucket = quotas.bucket(what, asker, now);
        bucket.take(what.quota(), now).map_err(|seconds| Refusal::TooMany { seconds })
    }

    /// Verifies signatures, together with those of others where many come at once: none for each that is not good, in
    /// their order.
    pub async fn verify_each(&self, signed: Vec<Signed>) -> Vec<Option<Good>> {
        let count = signed.len();
        let verified = self.signatures.ask_all(signed, || |all| async { verify_together(all) }).await;
        verified.unwrap_or_else(|| (0..count).map(|_| None).collect())
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
    /// This server has filled the projection, and told its watchers of it.
    pub fn projected(&self, now: UnixSeconds) {
        self.projected_at.store(now.0, Ordering::Relaxed);
    }
    /// When it last did.
    pub fn projected_at(&self) -> UnixSeconds {
        UnixSeconds(self.projected_at.load(Ordering::Relaxed))
    }
    /// There is news for a machine.
    pub fn nudge(&self, machine: MachineId) {
        self.quiet.broken(machine);
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
