//! The way by which a renter's requests reach a cluster: the worker opens a connection to the server and
//! asks to upgrade it to [`PROTOCOL`]; from then on the server is the yamux client on it, and each stream
//! that it opens is one connection to the cluster's Ray dashboard. So no Ray port ever listens where
//! anybody else could reach it, and a worker behind NAT needs no open port.
//!
//! Knows no store, no guard and no signature: who may open a tunnel, who may use it, and whether the
//! cluster still runs is decided before anything here is called. Keeps no state on disk: after a restart
//! workers open their tunnels anew.

mod forward;
mod headers;
mod link;
mod session;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderValue, Request, StatusCode, header},
    response::Response,
};
use gangline_types::ClusterId;
use gangline_wire::ErrorBody;
use tokio::sync::Notify;

use tokio_util::sync::CancellationToken;

use crate::live::Live;

pub use link::{Link, LinkStream};
pub use session::TunnelStream;
use session::{Driver, End, Session};

/// Value of the `Upgrade` header by which a worker asks for a tunnel.
pub const PROTOCOL: &str = "gangline-tunnel";

/// What bounds a tunnel and the requests that pass through it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections open at once to one cluster; at most [`Limits::STREAMS_MAX`], more is cut to that.
    pub streams_per_cluster: usize,
    /// How long opening a stream may take.
    pub open_timeout: Duration,
    /// How long the upgrade of an accepted tunnel may take.
    pub upgrade_timeout: Duration,
    /// How long Ray may let us wait for the head of its answer after the last byte of the request went
    /// out. The body that follows may take as long as it likes: logs are tailed for hours.
    pub first_byte_timeout: Duration,
    /// How often a tunnel is looked at. Each look may send yamux's ping, which goes out ten seconds after the
    /// last was answered at the earliest.
    pub tick: Duration,
    /// After how many ticks in which nothing arrived, no answer to a ping either, a tunnel counts as dead;
    /// together they must be well over ten seconds for an idle tunnel to live.
    pub silent_ticks_max: u32,
}

impl Limits {
    /// The most connections that one tunnel carries, whatever is configured: half of what yamux is told,
    /// so that streams that are closed here and not yet cleared away there never exhaust it.
    pub const STREAMS_MAX: usize = 256;
}

impl Default for Limits {
    /// 128 streams; 10 s to open, 20 s to upgrade, 120 s to the first byte; dead after a silent minute.
    fn default() -> Self {
        Self {
            streams_per_cluster: 128,
            open_timeout: Duration::from_secs(10),
            upgrade_timeout: Duration::from_secs(20),
            first_byte_timeout: Duration::from_secs(120),
            tick: Duration::from_secs(10),
            silent_ticks_max: 6,
        }
    }
}

/// Why no stream to a cluster was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TunnelError {
    /// The worker has no tunnel open for this cluster.
    #[error("cluster {0} has no tunnel open")]
    NotOpen(ClusterId),
    /// The tunnel ended while we asked.
    #[error("the tunnel of cluster {0} closed")]
    Closed(ClusterId),
    /// As many connections as may be are open.
    #[error("cluster {cluster} has {limit} connections open, as many as it may")]
    TooManyStreams {
        /// The cluster.
        cluster: ClusterId,
        /// Connections it may have.
        limit: usize,
    },
    /// The tunnel did not give a stream in time.
    #[error("the tunnel of cluster {0} gave no stream in time")]
    OpenTimeout(ClusterId),
}

/// All tunnels of this server. A clone is another handle to the same ones.
#[derive(Clone, Default)]
pub struct Tunnels {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    limits: Limits,
    slots: Mutex<HashMap<ClusterId, Arc<Slot>>>,
    tickets: AtomicU64,
    opened: Notify,
    /// Something opened or closed since somebody last looked.
    changed: Notify,
}

/// One cluster's place: its tunnel, and what ends that and every one still upgrading.
struct Slot {
    closed: CancellationToken,
    current: Mutex<Option<(u64, Arc<Session>)>>,
}

impl Slot {
    fn session(&self) -> Option<Arc<Session>> {
        lock(&self.current).as_ref().map(|(_, s)| s.clone()).filter(|s| s.is_alive())
    }
}

/// A lock whose holder panicked is taken all the same: no state here is ever half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tunnels {
    /// With the limits a server has.
    pub fn new() -> Self {
        Self::default()
    }

    /// With limits of one's own.
    pub fn with_limits(limits: Limits) -> Self {
        let streams_per_cluster = limits.streams_per_cluster.clamp(1, Limits::STREAMS_MAX);
        let limits = Limits { streams_per_cluster, ..limits };
        Self { shared: Arc::new(Shared { limits, ..Shared::default() }) }
    }

    /// Answers a worker that asks for `cluster`'s tunnel: 101, and once the connection is upgraded the
    /// tunnel takes the place of an older one of the same cluster, whose connections end. The caller has
    /// already made sure that this worker runs this cluster. Refuses with 426 what is not a request to
    /// upgrade to [`PROTOCOL`]. Must be called within a tokio runtime.
    ///
    /// The tunnel ends with `live`: what the worker showed when it asked for it.
    pub fn accept<B>(&self, cluster: ClusterId, request: &mut Request<B>, live: Live) -> Response {
        if !headers::asks_to_upgrade(request.headers(), PROTOCOL) {
            let mut response = refusal(
                StatusCode::UPGRADE_REQUIRED,
                "upgrade_required",
                "a tunnel is opened by upgrading the connection".to_owned(),
                Some("send `Connection: upgrade` and `Upgrade: gangline-tunnel`"),
            );
            response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
            return response;
        }
        let upgrade = hyper::upgrade::on(request);
        let ticket = self.shared.tickets.fetch_add(1, Ordering::Relaxed);
        let slot = self.slot(cluster);
        let tunnels = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = slot.closed.cancelled() => {}
                () = live.over() => {}
                upgraded = tokio::time::timeout(tunnels.shared.limits.upgrade_timeout, upgrade) => match upgraded {
                    Ok(Ok(upgraded)) => tunnels.carry(cluster, ticket, &slot, upgraded, &live).await,
                    Ok(Err(error)) => {
                        tracing::warn!(%cluster, error = &error as &dyn std::error::Error, "upgrading a tunnel failed");
                    }
                    Err(_) => tracing::warn!(%cluster, "upgrading a tunnel took too long"),
                },
            }
            tunnels.vacate(cluster, slot);
        });
        headers::switching(&HeaderValue::from_static(PROTOCOL))
    }

    fn slot(&self, cluster: ClusterId) -> Arc<Slot> {
        let fresh = || Arc::new(Slot { closed: CancellationToken::new(), current: Mutex::new(None) });
        lock(&self.shared.slots).entry(cluster).or_insert_with(fresh).clone()
    }

    /// Gives the cluster's place up if nobody else holds it.
    fn vacate(&self, cluster: ClusterId, slot: Arc<Slot>) {
        let mut slots = lock(&self.shared.slots);
        // Two holders are the map and this call.
        if slots.get(&cluster).is_some_and(|held| Arc::ptr_eq(held, &slot)) && Arc::strong_count(&slot) == 2 {
            slots.remove(&cluster);
        }
    }

    /// Registers the tunnel and keeps it moving until it ends.
    async fn carry(
        &self,
        cluster: ClusterId,
        ticket: u64,
        slot: &Slot,
        upgraded: hyper::upgrade::Upgraded,
        live: &Live,
    ) {
        let (session, driver) = Driver::new(cluster, self.shared.limits, upgraded, slot.closed.child_token());
        {
            let mut current = lock(&slot.current);
            match &*current {
                Some((newer, _)) if *newer > ticket => return,
                Some((_, older)) => older.end(),
                None => {}
            }
            *current = Some((ticket, session));
        }
        tracing::info!(%cluster, "tunnel open");
        self.shared.opened.notify_waiters();
        self.shared.changed.notify_one();
        let end = tokio::select! {
            end = driver.run() => end,
            // Dropping the driver ends every connection through it.
            () = live.over() => End::Revoked,
        };
        tracing::info!(%cluster, reason = %end, "tunnel closed");
        let mut current = lock(&slot.current);
        if current.as_ref().is_some_and(|(mine, _)| *mine == ticket) {
            *current = None;
        }
        self.shared.changed.notify_one();
    }

    fn session(&self, cluster: ClusterId) -> Option<Arc<Session>> {
        lock(&self.shared.slots).get(&cluster).and_then(|slot| slot.session())
    }

    /// Whether `cluster` can be reached now.
    pub fn is_open(&self, cluster: ClusterId) -> bool {
        self.session(cluster).is_some()
    }

    /// The clusters that can be reached now.
    pub fn held(&self) -> BTreeSet<ClusterId> {
        let slots = lock(&self.shared.slots);
        slots.iter().filter(|(_, slot)| slot.session().is_some()).map(|(cluster, _)| *cluster).collect()
    }

    /// Waits until these may be others than they were when one last waited; for one who waits.
    pub async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// How many clusters can be reached now.
    pub fn open_count(&self) -> usize {
        lock(&self.shared.slots).values().filter(|slot| slot.session().is_some()).count()
    }

    /// Ends `cluster`'s tunnel, one that is still upgrading too, and all connections through it.
    pub fn close(&self, cluster: ClusterId) {
        if let Some(slot) = lock(&self.shared.slots).remove(&cluster) {
            slot.closed.cancel();
        }
    }

    /// Ends every tunnel; for a server that stops.
    pub fn close_all(&self) {
        for (_, slot) in lock(&self.shared.slots).drain() {
            slot.closed.cancel();
        }
    }

    /// Waits until `cluster` can be reached; false if that took longer than `timeout`.
    pub async fn wait_open(&self, cluster: ClusterId, timeout: Duration) -> bool {
        let open = async {
            loop {
                let opened = self.shared.opened.notified();
                tokio::pin!(opened);
                // Enlisted before looking, so that a tunnel that opens in between is not missed.
                opened.as_mut().enable();
                if self.is_open(cluster) {
                    return;
                }
                opened.await;
            }
        };
        tokio::time::timeout(timeout, open).await.is_ok()
    }

    /// Opens a connection to `cluster`'s Ray dashboard. The worker learns of it with the first byte
    /// written. Fails at once where no tunnel is or the limit of streams is reached.
    pub async fn open(&self, cluster: ClusterId) -> Result<TunnelStream, TunnelError> {
        let session = self.session(cluster).ok_or(TunnelError::NotOpen(cluster))?;
        session.open(self.shared.limits).await
    }
}

/// A response that is not a success, in the form all of this API's have.
fn refusal(status: StatusCode, code: &str, message: String, hint: Option<&str>) -> Response {
    let body =
        ErrorBody { code: code.to_owned(), message, hint: hint.map(str::to_owned), ..ErrorBody::default() };
    let json = serde_json::to_vec(&body).expect("three texts are always JSON");
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
