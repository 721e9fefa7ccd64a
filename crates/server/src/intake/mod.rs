//! The intake of beats: two threads of its own and a journal of its own. Whatever holds up the rest of the server
//! (a freeze, a stuck job, a slow page, a policy that cannot be read, a full queue) does not hold up a beat.
//!
//! One thread takes frames from a UDP socket, from plain HTTP connections of its own and from the main router,
//! decides and answers; the other commits batches. What is acknowledged is on disk. The books learn of it when
//! [`crate::jobs::beats`] folds it in.

mod clock;
mod committer;
mod connections;
mod counters;
mod engine;
mod http;
mod ledger;
mod mail;
mod socket;

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use gangline_guard::beat::{Batch, Line};
use gangline_store::{Fold, FoldedLink, Journal, LaneRow};
use gangline_types::{GpuId, Hour, UptimeHour};
use gangline_wire::beat::Alias;
use tokio::sync::oneshot;

pub use clock::Clock;
pub use counters::Counters;
pub use socket::{tcp, udp};

/// Questions of the rest of the server that may wait at once.
const ASKS_MAX: usize = 4096;

/// What the rest of the server asks of the intake.
pub(crate) enum Ask {
    /// Frames that came over the main router; the answers, one after the other, for those that are authentic.
    Frames(Vec<u8>, oneshot::Sender<Vec<u8>>),
    /// A signed report's minutes; `true` once they are on disk, `false` if they will not be.
    Report(Batch, oneshot::Sender<bool>),
    /// A machine opened an epoch.
    Open(LaneRow, oneshot::Sender<()>),
    /// Machines opened epochs, perhaps at another server of this network.
    Learn(Vec<LaneRow>),
    /// Keys ended.
    End(Vec<Alias>),
    /// What is to be folded, and the number of the last batch in it.
    Take(oneshot::Sender<(Fold, u64)>),
    /// The books have everything up to this batch.
    Folded(u64),
    /// Finish what was taken in, answer it, and end.
    Stop(oneshot::Sender<()>),
}

/// Why the intake did not take a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntakeError {
    /// Its queue is full.
    #[error("the intake of beats is busy")]
    Busy,
    /// It has ended.
    #[error("the intake of beats has ended")]
    Ended,
}

/// Where an intake listens, and what it starts from.
pub struct Start {
    /// For UDP; none: not.
    pub udp: Option<std::net::UdpSocket>,
    /// For HTTP of its own; none: not.
    pub http: Option<std::net::TcpListener>,
    /// The network's beat secret.
    pub secret: [u8; 32],
    /// Its clock.
    pub clock: Clock,
    /// The journal.
    pub journal: Journal,
    /// What the journal held.
    pub lines: Vec<Line>,
    /// Open lanes.
    pub lanes: Vec<LaneRow>,
    /// The deepest values of their chains that the books have.
    pub deepest: Vec<FoldedLink>,
}

/// A running intake, for the rest of the server.
pub struct Intake {
    asks: SyncSender<Ask>,
    waker: Arc<mio::Waker>,
    counters: Arc<Counters>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Where it takes UDP.
    pub udp: Option<SocketAddr>,
    /// Where it takes HTTP of its own.
    pub http: Option<SocketAddr>,
}

impl Intake {
    /// Starts both threads.
    ///
    /// # Errors
    /// When the system gives no threads or no readiness queue.
    pub fn start(start: Start) -> io::Result<Self> {
        let Start { udp, http, secret, clock, journal, lines, lanes, deepest } = start;
        let mut ledger = ledger::Ledger::default();
        let deepest: HashMap<_, _> = deepest.iter().map(|l| (l.tip, (l.count, l.preimage))).collect();
        for lane in &lanes {
            ledger.open(lane, &deepest, clock.now());
        }
        for line in &lines {
            ledger.apply(line);
        }
        if ledger.unknown() > 0 {
            tracing::error!(
                lines = ledger.unknown(),
                "the journal holds beats of lanes that the books do not know; they cannot be credited"
            );
        }
        if !lines.is_empty() {
            tracing::info!(
                lines = lines.len(),
                "beats that were acknowledged and not folded yet are here again"
            );
        }
        let counters = Arc::new(Counters::default());
        let (asks, asked) = sync_channel(ASKS_MAX);
        let at = |found: io::Result<SocketAddr>| found.ok();
        let (udp_at, http_at) =
            (udp.as_ref().and_then(|s| at(s.local_addr())), http.as_ref().and_then(|l| at(l.local_addr())));
        let poll = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), engine::WAKE)?);
        let (commits, committer) = committer::start(journal, Arc::clone(&waker))?;
        let engine = engine::Engine::new(
            poll,
            udp,
            http,
            secret,
            clock,
            ledger,
            asked,
            commits,
            Arc::clone(&counters),
        )?;
        let thread = std::thread::Builder::new().name("beats".into()).spawn(move || engine.run())?;
        Ok(Self {
            asks,
            waker,
            counters,
            threads: Mutex::new(vec![thread, committer]),
            udp: udp_at,
            http: http_at,
        })
    }

    /// Its counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn ask(&self, ask: Ask) -> Result<(), IntakeError> {
        self.asks.try_send(ask).map_err(|e| match e {
            TrySendError::Full(_) => IntakeError::Busy,
            TrySendError::Disconnected(_) => IntakeError::Ended,
        })?;
        self.waker.wake().map_err(|_| IntakeError::Ended)
    }

    async fn asked<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, IntakeError> {
        let (tell, told) = oneshot::channel();
        self.ask(ask(tell))?;
        told.await.map_err(|_| IntakeError::Ended)
    }

    /// Takes frames that came some other way; gives the answers to those that are authentic, in order.
    pub async fn frames(&self, bytes: Vec<u8>) -> Result<Vec<u8>, IntakeError> {
        self.asked(|tell| Ask::Frames(bytes, tell)).await
    }
    /// Writes a signed report's minutes down; returns once they are on disk.
    pub async fn report(&self, batch: Batch) -> Result<(), IntakeError> {
        if self.asked(|tell| Ask::Report(batch, tell)).await? { Ok(()) } else { Err(IntakeError::Busy) }
    }
    /// A machine opened an epoch: its frames count from now on.
    pub async fn open(&self, lane: LaneRow) -> Result<(), IntakeError> {
        self.asked(|tell| Ask::Open(lane, tell)).await
    }
    /// These lanes were opened, perhaps at another server; those known already stay as they are.
    pub fn learn(&self, lanes: Vec<LaneRow>) -> Result<(), IntakeError> {
        self.ask(Ask::Learn(lanes))
    }
    /// These aliases' keys have ended: nothing of theirs counts from now on.
    pub fn end(&self, aliases: Vec<Alias>) -> Result<(), IntakeError> {
        self.ask(Ask::End(aliases))
    }
    /// What the books do not have yet, and the number of the last batch in it.
    pub async fn take(&self) -> Result<(Fold, u64), IntakeError> {
        self.asked(Ask::Take).await
    }
    /// The books have it.
    pub fn folded(&self, batch: u64) -> Result<(), IntakeError> {
        self.ask(Ask::Folded(batch))
    }
    /// Answers what was taken in, and ends. Returns when both threads have.
    pub async fn stop(&self) {
        let _ = self.asked(Ask::Stop).await;
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(|e| e.into_inner()));
        let _ = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
        })
        .await;
    }
}

/// Adds a GPU's minute to the hours that a report becomes.
pub fn gather(
    hours: &mut std::collections::BTreeMap<(GpuId, Hour), UptimeHour>,
    gpu: GpuId,
    minute: gangline_types::Minute,
) {
    let bits = hours.entry((gpu, minute.hour())).or_default();
    *bits = bits.with(minute.of_hour());
}
