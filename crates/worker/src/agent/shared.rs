//! What the tasks of a running worker share: the client, what is known of the GPUs, and the status that
//! is shown. Every answer and failure of the server passes through here once.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use gangline_types::{GpuId, UnixSeconds};
use gangline_wire::api::epoch::EpochNotice;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    child::Executable,
    data::DataDir,
    inventory::LocalGpu,
    preflight::chain,
    progress::Bars,
    settings::{Settings, Share},
    status::{Connection, Status},
};
use crate::client::{self, Client, ClientError};

/// Why a running worker ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Somebody asked the process to.
    Asked,
    /// The machine left the network.
    Left,
    /// The network does not take its key any more.
    KeyEnded(String),
}

/// The running worker.
pub(crate) struct Shared {
    /// Signs with the machine key.
    pub client: Client,
    /// Where everything is kept.
    pub data: DataDir,
    /// The owner's settings.
    pub settings: Settings,
    /// For the children.
    pub executable: Executable,
    /// Progress on a terminal.
    pub bars: Bars,
    /// Ends every task.
    pub stop: CancellationToken,
    inner: Mutex<Inner>,
    news: watch::Sender<u64>,
    epochs: watch::Sender<Option<EpochNotice>>,
    verdicts: AtomicU64,
}

#[derive(Default)]
struct Inner {
    status: Status,
    gpus: Vec<(GpuId, LocalGpu)>,
    end: Option<End>,
}

/// The clock in whole seconds.
pub(crate) fn now() -> UnixSeconds {
    client::now().seconds()
}

impl Shared {
    pub(crate) fn new(
        client: Client,
        data: DataDir,
        settings: Settings,
        executable: Executable,
        bars: Bars,
        status: Status,
    ) -> Self {
        Self {
            client,
            data,
            settings,
            executable,
            bars,
            stop: CancellationToken::new(),
            inner: Mutex::new(Inner { status, ..Inner::default() }),
            news: watch::Sender::new(0),
            epochs: watch::Sender::new(None),
            verdicts: AtomicU64::new(0),
        }
    }

    /// A proof was judged: what was said before about which proofs are wanted is out of date.
    pub(crate) fn judged(&self) {
        self.verdicts.fetch_add(1, Ordering::Relaxed);
    }

    /// How many proofs were judged since the start.
    pub(crate) fn verdicts(&self) -> u64 {
        self.verdicts.load(Ordering::Relaxed)
    }

    /// The bell that the server told of, if any.
    pub(crate) fn epochs(&self) -> watch::Receiver<Option<EpochNotice>> {
        self.epochs.subscribe()
    }

    /// Another bell is told of, or none.
    pub(crate) fn expect_epoch(&self, notice: Option<EpochNotice>) {
        self.epochs.send_if_modified(|known| {
            let differs = *known != notice;
            *known = notice;
            differs
        });
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes when anything of the status does.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// The status as it is.
    pub(crate) fn status(&self) -> Status {
        self.inner().status.clone()
    }

    /// Reads from the status.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Status) -> T) -> T {
        read(&self.inner().status)
    }

    /// Changes the status; whoever watches is told if that made a difference.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Status)) {
        let mut inner = self.inner();
        let before = inner.status.clone();
        change(&mut inner.status);
        let differs = before != inner.status;
        drop(inner);
        if differs {
            self.news.send_modify(|n| *n += 1);
        }
    }

    /// This machine's GPUs with their public ids.
    pub(crate) fn gpus(&self) -> Vec<(GpuId, LocalGpu)> {
        self.inner().gpus.clone()
    }

    /// Another set of GPUs.
    pub(crate) fn set_gpus(&self, gpus: Vec<(GpuId, LocalGpu)>) {
        self.inner().gpus = gpus;
    }

    /// What one cluster may have.
    pub(crate) fn share(&self) -> Share {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let gpus = self.inner().gpus.len();
        self.settings.rent.share(super::host::memory_bytes_usable(), cores, gpus)
    }

    /// The server answered.
    pub(crate) fn reached(&self) {
        self.update(|s| {
            if let Connection::Away { since, .. } = s.connection {
                tracing::info!(away_seconds = now().since(since), "the server is back");
            }
            if !matches!(s.connection, Connection::Connected { .. }) {
                s.connection = Connection::Connected { since: now() };
            }
            s.clock_problem = None;
        });
    }

    /// The server did not answer, or refused. Told in the log once for each spell, and ends the worker
    /// where no later try can help.
    pub(crate) fn failed(&self, doing: &'static str, error: &ClientError) {
        let why = chain(error);
        match error.code() {
            Some("revoked_key" | "ended_key" | "unknown_key") => {
                tracing::error!(doing, why, "the network does not take this machine's key any more");
                self.end(End::KeyEnded(why));
            }
            Some("skewed_clock") => self.update(|s| {
                if s.clock_problem.as_ref() != Some(&why) {
                    tracing::error!(doing, why, "the server refuses this machine's clock");
                }
                s.clock_problem = Some(why);
            }),
            _ if error.is_passing() => self.update(|s| {
                if let Connection::Away { why: known, .. } = &mut s.connection {
                    *known = why;
                } else {
                    tracing::warn!(doing, why, "the server is away; beats are kept until it is back");
                    s.connection = Connection::Away { since: now(), why };
                }
            }),
            _ => tracing::error!(doing, why, "the server refused"),
        }
    }

    /// Ends the worker; the first reason stays.
    pub(crate) fn end(&self, why: End) {
        self.inner().end.get_or_insert(why);
        self.stop.cancel();
    }

    /// Why it ended.
    pub(crate) fn ended(&self) -> Option<End> {
        self.inner().end.clone()
    }
}
