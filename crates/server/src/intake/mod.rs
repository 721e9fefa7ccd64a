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
mod turned;

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

use gangline_guard::beat::{Admitted, Batch, Line};
use gangline_store::{Fold, FoldedLink, Group, Journal, LaneRow, StoreError};
use gangline_types::{GpuId, Hour, UnixSeconds, UptimeHour};
use gangline_wire::beat::{Alias, OPENED_BYTES};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use clock::Clock;
pub use counters::Counters;
pub use ledger::{PARTS, Taken};
pub use socket::{tcp, udp};
pub use turned::Turned;

/// Questions of the rest of the server that may wait at once.
const ASKS_MAX: usize = 4096;
/// Lanes of one question.
const LANES_AT_ONCE: usize = 256;
/// Questions for an epoch by datagram that may wait for the rest of the server; whoever comes then is put off. About as
/// many as are answered in half a second.
const OPENINGS_MAX: usize = 8192;

/// A question for an epoch that came by datagram, sealed under a lane of this network, and where from.
#[derive(Debug)]
pub struct Came {
    /// What is asked.
    pub admitted: Admitted,
    /// Where the answer goes.
    pub from: SocketAddr,
}

/// What is answered to such a question: the lane, if it got one, where the answer goes, and its datagram.
pub type OpeningAnswer = (Option<LaneRow>, SocketAddr, Box<[u8; OPENED_BYTES]>);

/// What the rest of the server asks of the intake.
pub(crate) enum Ask {
    /// Frames that came over the main router; the answers, one after the other, for those that are authentic.
    Frames(Vec<u8>, oneshot::Sender<Vec<u8>>),
    /// A signed report's minutes; `true` once they are on disk, `false` if they will not be.
    Report(Batch, oneshot::Sender<bool>),
    /// Machines opened an epoch here.
    Open(Vec<LaneRow>, oneshot::Sender<()>),
    /// Questions by datagram are answered; a lane first, where there is one.
    AnswerOpenings(Vec<OpeningAnswer>),
    /// Machines opened epochs, perhaps at another server of this network.
    Learn(Vec<LaneRow>),
    /// Keys ended.
    End(Vec<Alias>),
    /// What is to be folded, of so many hours of GPUs or a little more, and if that ends a round, the batch up to which the
    /// books then have everything.
    Take(usize, oneshot::Sender<(Taken, Option<u64>)>),
    /// Who came and who fell silent, at most so many.
    Turned(usize, oneshot::Sender<Turned>),
    /// The books have what was taken last, and everything up to this batch.
    Folded(Option<u64>),
    /// Finish what was taken in, answer it, and end.
    Stop(oneshot::Sender<()>),
}

/// Why the intake did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] StoreError),
    /// The system gives no threads or no readiness queue.
    #[error(transparent)]
    System(#[from] io::Error),
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
    /// Open lanes.
    pub lanes: Vec<LaneRow>,
    /// The deepest values of their chains that the books have.
    pub deepest: Vec<FoldedLink>,
}

/// The way in for questions. Cheap to clone.
#[derive(Clone)]
struct Door {
    asks: SyncSender<Ask>,
    waker: Arc<mio::Waker>,
}

impl Door {
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
}

/// A running intake, for the rest of the server.
pub struct Intake {
    door: Door,
    opens: Group<LaneRow, Result<(), IntakeError>>,
    openings: Mutex<Option<mpsc::Receiver<Came>>>,
    counters: Arc<Counters>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    ended: CancellationToken,
    /// Where it takes UDP.
    pub udp: Option<SocketAddr>,
    /// Where it takes HTTP of its own.
    pub http: Option<SocketAddr>,
}

impl Intake {
    /// Takes in what the journal holds, and starts both threads.
    ///
    /// # Errors
    /// When the journal cannot be read, or the system gives no threads.
    pub async fn start(start: Start) -> Result<Self, StartError> {
        let Start { udp, http, secret, clock, journal, lanes, deepest } = start;
        let mut ledger = ledger_of(&lanes, &deepest, clock.now());
        drop((lanes, deepest));
        let mut lines = 0u64;
        let each = |line: &Line| {
            lines += 1;
            ledger.apply(line);
        };
        journal.replay(each).await?;
        tell_unknown(&ledger);
        if lines > 0 {
            tracing::info!(lines, "beats that were acknowledged and not folded yet are here again");
        }
        let counters = Arc::new(Counters::default());
        let (came, openings) = mpsc::channel(OPENINGS_MAX);
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
            came,
        )?;
        let ended = CancellationToken::new();
        let ending = ended.clone().drop_guard();
        let thread = std::thread::Builder::new().name("beats".into()).spawn(move || {
            let _ending = ending;
            engine.run();
        })?;
        Ok(Self {
            door: Door { asks, waker },
            opens: Group::of(LANES_AT_ONCE),
            openings: Mutex::new(Some(openings)),
            counters,
            threads: Mutex::new(vec![thread, committer]),
            ended,
            udp: udp_at,
            http: http_at,
        })
    }

    /// Its counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes frames that came some other way; gives the answers to those that are authentic, in order.
    pub async fn frames(&self, bytes: Vec<u8>) -> Result<Vec<u8>, IntakeError> {
        self.door.asked(|tell| Ask::Frames(bytes, tell)).await
    }
    /// Writes a signed report's minutes down; returns once they are on disk.
    pub async fn report(&self, batch: Batch) -> Result<(), IntakeError> {
        if self.door.asked(|tell| Ask::Report(batch, tell)).await? { Ok(()) } else { Err(IntakeError::Busy) }
    }
    /// A machine opened an epoch: its frames count from now on.
    pub async fn open(&self, lane: LaneRow) -> Result<(), IntakeError> {
        let together = || {
            let door = self.door.clone();
            move |lanes: Vec<LaneRow>| {
                let door = door.clone();
                async move {
                    let count = lanes.len();
                    vec![door.asked(|tell| Ask::Open(lanes, tell)).await; count]
                }
            }
        };
        self.opens.ask(lane, together).await.unwrap_or(Err(IntakeError::Ended))
    }
    /// Questions for epochs that come by datagram; once, for whoever answers them. Before that they wait, and when nobody
    /// listens any more they are told to go by HTTP.
    pub fn openings(&self) -> Option<mpsc::Receiver<Came>> {
        self.openings.lock().unwrap_or_else(|e| e.into_inner()).take()
    }
    /// Answers such questions. A lane, where there is one, is known before its answer leaves.
    pub fn answer_openings(&self, answers: Vec<OpeningAnswer>) -> Result<(), IntakeError> {
        self.door.ask(Ask::AnswerOpenings(answers))
    }
    /// These lanes were opened, perhaps at another server; those known already stay as they are.
    pub fn learn(&self, lanes: Vec<LaneRow>) -> Result<(), IntakeError> {
        self.door.ask(Ask::Learn(lanes))
    }
    /// These aliases' keys have ended: nothing of theirs counts from now on.
    pub fn end(&self, aliases: Vec<Alias>) -> Result<(), IntakeError> {
        self.door.ask(Ask::End(aliases))
    }
    /// What the books do not have yet of the next parts, of so many hours of GPUs or a little more. When all parts were taken,
    /// the batch up to which the books have everything then: for [`Self::folded`].
    pub async fn take(&self, at_most: usize) -> Result<(Taken, Option<u64>), IntakeError> {
        self.door.asked(|tell| Ask::Take(at_most, tell)).await
    }
    /// Who came and who fell silent since what the books were last told, at most so many.
    pub async fn turned(&self, at_most: usize) -> Result<Turned, IntakeError> {
        self.door.asked(|tell| Ask::Turned(at_most, tell)).await
    }
    /// The books have what was taken last, and all up to this batch.
    pub fn folded(&self, until: Option<u64>) -> Result<(), IntakeError> {
        self.door.ask(Ask::Folded(until))
    }
    /// Comes when it takes no beats any more, asked to or not.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
    /// Answers what was taken in, and ends. Returns when both threads have.
    pub async fn stop(&self) {
        let _ = self.door.asked(Ask::Stop).await;
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(|e| e.into_inner()));
        let _ = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
        })
        .await;
    }
}

/// A ledger that knows these lanes.
fn ledger_of(lanes: &[LaneRow], deepest: &[FoldedLink], now: UnixSeconds) -> ledger::Ledger {
    let mut ledger = ledger::Ledger::default();
    ledger.reserve(lanes.len());
    let deepest: HashMap<_, _> = deepest.iter().map(|l| (l.tip, (l.count, l.preimage))).collect();
    for lane in lanes {
        ledger.open(lane, &deepest, now);
    }
    ledger.loaded();
    ledger
}

fn tell_unknown(ledger: &ledger::Ledger) {
    if ledger.unknown() > 0 {
        tracing::error!(
            lines = ledger.unknown(),
            "the journal holds beats of lanes that the books do not know; they cannot be credited"
        );
    }
}

/// What lines of a journal come to: for those that another intake wrote and cannot fold any more.
pub fn fold_of(lanes: &[LaneRow], deepest: &[FoldedLink], lines: &[Line], now: UnixSeconds) -> Fold {
    let mut ledger = ledger_of(lanes, deepest, now);
    lines.iter().for_each(|line| ledger.apply(line));
    tell_unknown(&ledger);
    ledger.take(usize::MAX, now, std::time::Instant::now()).fold
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
