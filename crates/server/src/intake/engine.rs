//! The intake's loop: takes what has arrived, decides, gathers a batch, answers when it is on disk.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, TryRecvError},
    },
    time::{Duration, Instant},
};

use gangline_guard::beat::{Batch, Gate, Verified};
use gangline_types::{Minute, UnixSeconds};
use gangline_wire::beat::{ANSWER_BYTES, Answer, BEAT_BYTES, Epoch, Outcome};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, UdpSocket},
};
use tokio::sync::oneshot;

use super::{
    Ask, Clock, Counters,
    committer::{Commits, Done, Job},
    connections::Connection,
    ledger::{Decision, Ledger},
    mail::{AT_ONCE, Inbox, Outbox},
};

/// Wakes the loop for questions and finished commits.
pub(crate) const WAKE: Token = Token(0);
const UDP: Token = Token(1);
const LISTENER: Token = Token(2);
pub(super) const FIRST_CONNECTION: usize = 3;

/// Beats that may wait for their commit; more are put off.
const WAITING_MAX: usize = 65_536;
/// Beats in one commit.
const BATCH_MAX: usize = 4096;
/// A batch after one of at least so many waits a little for company.
const BUSY_BATCH: usize = 32;
/// So long.
const LINGER: Duration = Duration::from_millis(4);
/// Above so many beats a second the loop sleeps between looks, so that one look takes many.
const BUSY_PER_SECOND: u64 = 2000;
/// So long.
const MODERATION: Duration = Duration::from_millis(1);
/// Datagrams taken before anything else gets its turn.
const DATAGRAMS_AT_ONCE: usize = 1024;
/// What a machine is told to wait when nothing can be written, in seconds.
const WAIT_SECONDS: u16 = 5;
/// A minute counts as ours if the loop did not run for longer than this in it, in seconds. Workers beat in the
/// first 42 seconds of a minute and again after some seconds if nobody answers.
const STALL_SECONDS: u64 = 15;

/// Whom an answer goes to.
enum To {
    Udp(SocketAddr),
    /// One of several of one request.
    Gathered(usize),
}

struct Waiting {
    verified: Verified,
    to: To,
}

/// The answers to one request, until all are there.
struct Gathering {
    answers: Vec<u8>,
    left: usize,
    to: Requester,
}

pub(super) enum Requester {
    Connection(usize, u64),
    Asker(oneshot::Sender<Vec<u8>>),
}

/// What is gathered for the next commit.
#[derive(Default)]
struct Pending {
    batch: Batch,
    waiting: Vec<Waiting>,
    reports: Vec<oneshot::Sender<bool>>,
    since: Option<Instant>,
}

/// Whether this minute will count as one in which the intake was up.
struct Watch {
    minute: Minute,
    whole: bool,
    looked_at: UnixSeconds,
}

pub(crate) struct Engine {
    pub(super) poll: Poll,
    udp: Option<UdpSocket>,
    outbox: Outbox,
    pub(super) listener: Option<TcpListener>,
    pub(super) connections: Vec<Option<Connection>>,
    pub(super) free: Vec<usize>,
    pub(super) generation: u64,
    gate: Gate,
    pub(super) clock: Clock,
    ledger: Ledger,
    asked: Receiver<Ask>,
    commits: Option<Commits>,
    pub(super) counters: Arc<Counters>,
    pending: Pending,
    flying: Option<(Vec<Waiting>, Vec<oneshot::Sender<bool>>)>,
    gatherings: Vec<Option<Gathering>>,
    free_gatherings: Vec<usize>,
    last_batch: u64,
    last_size: usize,
    rate: (u64, u64),
    watch: Watch,
    failing: bool,
    /// Questions were left for the next turn.
    more: bool,
    pub(super) accept_again: Option<Instant>,
    swept_at: Instant,
    stopping: Option<oneshot::Sender<()>>,
}

impl Engine {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        poll: Poll,
        udp: Option<std::net::UdpSocket>,
        listener: Option<std::net::TcpListener>,
        secret: [u8; 32],
        clock: Clock,
        ledger: Ledger,
        asked: Receiver<Ask>,
        commits: Commits,
        counters: Arc<Counters>,
    ) -> std::io::Result<Self> {
        let mut udp = udp.map(UdpSocket::from_std);
        let mut listener = listener.map(TcpListener::from_std);
        if let Some(udp) = &mut udp {
            poll.registry().register(udp, UDP, Interest::READABLE)?;
        }
        if let Some(listener) = &mut listener {
            poll.registry().register(listener, LISTENER, Interest::READABLE)?;
        }
        let now = clock.now();
        // The minute in which it starts counts if it has barely begun.
        let whole = now.0 % 60 <= STALL_SECONDS;
        Ok(Self {
            poll,
            udp,
            outbox: Outbox::default(),
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            generation: 0,
            gate: Gate::new(secret),
            ledger,
            asked,
            commits: Some(commits),
            counters,
            pending: Pending::default(),
            flying: None,
            gatherings: Vec::new(),
            free_gatherings: Vec::new(),
            last_batch: 0,
            last_size: 0,
            rate: (0, 0),
            watch: Watch { minute: now.minute(), whole, looked_at: now },
            failing: false,
            more: false,
            accept_again: None,
            swept_at: Instant::now(),
            stopping: None,
            clock,
        })
    }

    /// Runs until it is asked to stop.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut inbox = Inbox::new();
        let mut udp_ready = false;
        loop {
            let timeout = self.timeout(udp_ready);
            if let Err(error) = self.poll.poll(&mut events, Some(timeout)) {
                if error.kind() != ErrorKind::Interrupted {
                    tracing::error!(%error, "the intake of beats cannot wait for its sockets");
                    std::thread::sleep(Duration::from_millis(100));
                }
                continue;
            }
            let now = self.clock.now();
            let mut accept = false;
            for event in &events {
                match event.token() {
                    WAKE => {}
                    UDP => udp_ready = true,
                    LISTENER => accept = true,
                    Token(n) => self.connection_ready(n - FIRST_CONNECTION, event.is_readable(), now),
                }
            }
            if self.accept_again.is_some_and(|at| at <= Instant::now()) {
                self.accept_again = None;
                accept = true;
            }
            if accept {
                self.accept();
            }
            if udp_ready {
                udp_ready = self.receive(&mut inbox, now);
            }
            self.commits_done();
            self.questions(now);
            self.tick(now);
            self.commit(now);
            if let Some(udp) = &self.udp {
                self.outbox.send(udp);
            }
            if self.stopping.is_some() && self.flying.is_none() && self.pending.since.is_none() {
                break;
            }
            if self.rate.1 >= BUSY_PER_SECOND {
                std::thread::sleep(MODERATION);
            }
        }
        // The journal's thread ends with its sender of jobs.
        self.commits = None;
        if let Some(tell) = self.stopping {
            let _ = tell.send(());
        }
    }

    fn timeout(&self, udp_ready: bool) -> Duration {
        if udp_ready || self.more {
            return Duration::ZERO;
        }
        match (self.pending.since, &self.flying) {
            (Some(since), None) => self.linger().saturating_sub(since.elapsed()),
            _ => Duration::from_secs(1),
        }
    }

    fn linger(&self) -> Duration {
        if self.last_size >= BUSY_BATCH && self.stopping.is_none() { LINGER } else { Duration::ZERO }
    }

    // -- frames ---------------------------------------------------------------------------------------

    /// Takes datagrams; `true` if there may be more.
    fn receive(&mut self, inbox: &mut Inbox, now: UnixSeconds) -> bool {
        for _ in 0..DATAGRAMS_AT_ONCE / AT_ONCE {
            let Some(udp) = &self.udp else { return false };
            if inbox.receive(udp) == 0 {
                return false;
            }
            for (bytes, from) in inbox.datagrams() {
                self.frame(bytes, || To::Udp(from), now);
            }
        }
        true
    }

    /// One frame, wherever it came from.
    fn frame(&mut self, bytes: &[u8], to: impl FnOnce() -> To, now: UnixSeconds) {
        let Ok(verified) = self.gate.check(bytes, Epoch::of(now)) else {
            Counters::add(&self.counters.unauthentic);
            return;
        };
        Counters::add(&self.counters.authentic);
        self.rate.0 += 1;
        let to = to();
        match self.ledger.decide(&verified, now) {
            Decision::Write { grant, fresh } => {
                if self.pending.waiting.len() >= WAITING_MAX {
                    Counters::add(&self.counters.shed);
                    self.say(&verified, to, Outcome::Busy, WAIT_SECONDS, now);
                } else if self.pending.batch.frame(&verified, grant, fresh) {
                    self.pending.since.get_or_insert_with(Instant::now);
                    self.pending.waiting.push(Waiting { verified, to });
                } else {
                    self.say(&verified, to, Outcome::OpenAgain, 0, now);
                }
            }
            Decision::Say(outcome, wait) => {
                Counters::add(match outcome {
                    Outcome::Durable => &self.counters.repeated,
                    Outcome::TooLate | Outcome::TooEarly => &self.counters.untimely,
                    Outcome::OpenAgain => &self.counters.reopen,
                    Outcome::Busy => &self.counters.shed,
                });
                self.say(&verified, to, outcome, wait, now);
            }
            Decision::Drop => {
                Counters::add(&self.counters.shed);
                if let To::Gathered(at) = to {
                    self.gathered(at, &[]);
                }
            }
        }
    }

    fn say(&mut self, verified: &Verified, to: To, outcome: Outcome, wait: u16, now: UnixSeconds) {
        if outcome == Outcome::Durable {
            Counters::add(&self.counters.durable);
        }
        let sealed = Answer::to(verified.beat(), outcome, wait, now).seal(verified.key());
        match to {
            To::Udp(to) => self.outbox.push(sealed, to),
            To::Gathered(at) => self.gathered(at, &sealed),
        }
    }

    /// Frames of one request, one after the other.
    pub(super) fn request(&mut self, bytes: &[u8], to: Requester, now: UnixSeconds) {
        let frames = bytes.chunks(BEAT_BYTES);
        let gathering = Gathering {
            answers: Vec::with_capacity(frames.len() * ANSWER_BYTES),
            left: frames.len() + 1,
            to,
        };
        let at = match self.free_gatherings.pop() {
            Some(at) => {
                self.gatherings[at] = Some(gathering);
                at
            }
            None => {
                self.gatherings.push(Some(gathering));
                self.gatherings.len() - 1
            }
        };
        for frame in frames {
            let mut taken = false;
            self.frame(
                frame,
                || {
                    taken = true;
                    To::Gathered(at)
                },
                now,
            );
            if !taken {
                self.gathered(at, &[]);
            }
        }
        // The one that kept it open until all frames were in.
        self.gathered(at, &[]);
    }

    fn gathered(&mut self, at: usize, sealed: &[u8]) {
        let Some(gathering) = &mut self.gatherings[at] else { return };
        gathering.answers.extend_from_slice(sealed);
        gathering.left -= 1;
        if gathering.left > 0 {
            return;
        }
        let Some(Gathering { answers, to, .. }) = self.gatherings[at].take() else { return };
        self.free_gatherings.push(at);
        match to {
            Requester::Asker(tell) => {
                let _ = tell.send(answers);
            }
            Requester::Connection(n, generation) => self.reply(n, generation, &answers),
        }
    }

    // -- commits --------------------------------------------------------------------------------------

    fn commit(&mut self, now: UnixSeconds) {
        let Some(since) = self.pending.since else { return };
        let full = self.pending.waiting.len() >= BATCH_MAX;
        if self.flying.is_some() || !(full || since.elapsed() >= self.linger()) {
            return;
        }
        let Pending { batch, waiting, reports, .. } = std::mem::take(&mut self.pending);
        self.last_size = waiting.len();
        self.flying = Some((waiting, reports));
        let sent = self
            .commits
            .as_ref()
            .is_some_and(|c| c.jobs.send(Job::Append(now.minute().hour(), batch)).is_ok());
        if !sent {
            tracing::error!("the journal of beats has ended; nothing is acknowledged any more");
            self.flying_failed();
        }
    }

    fn flying_failed(&mut self) {
        let now = self.clock.now();
        let Some((waiting, reports)) = self.flying.take() else { return };
        for report in reports {
            let _ = report.send(false);
        }
        for Waiting { verified, to } in waiting {
            Counters::add(&self.counters.shed);
            self.say(&verified, to, Outcome::Busy, WAIT_SECONDS, now);
        }
    }

    fn commits_done(&mut self) {
        let Some(Done { batch, result }) = self.commits.as_ref().and_then(|c| c.done.try_recv().ok()) else {
            return;
        };
        let now = self.clock.now();
        match result {
            Ok(number) => {
                Counters::add(&self.counters.commits);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("beats can be written down again");
                }
                self.last_batch = number;
                for line in batch.lines() {
                    self.ledger.apply(line);
                }
                self.counters.waiting.store(self.ledger.waiting() as u64, Ordering::Relaxed);
                let Some((waiting, reports)) = self.flying.take() else { return };
                for report in reports {
                    let _ = report.send(true);
                }
                for Waiting { verified, to } in waiting {
                    self.say(&verified, to, Outcome::Durable, 0, now);
                }
            }
            Err(error) => {
                Counters::add(&self.counters.commits_failed);
                // Minutes in which nothing could be written are our outage.
                self.watch.whole = false;
                if !std::mem::replace(&mut self.failing, true) {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "beats cannot be written down; machines are told to come back");
                }
                self.flying_failed();
            }
        }
    }

    // -- the rest of the server -----------------------------------------------------------------------

    fn questions(&mut self, now: UnixSeconds) {
        self.more = false;
        for _ in 0..256 {
            let ask = match self.asked.try_recv() {
                Ok(ask) => ask,
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    // Nobody is left to ask: the server is gone without a word, in a test for example.
                    let (tell, _) = oneshot::channel();
                    self.stopping.get_or_insert(tell);
                    return;
                }
            };
            match ask {
                Ask::Frames(bytes, tell) => self.request(&bytes, Requester::Asker(tell), now),
                Ask::Report(mut batch, tell) => {
                    if self.pending.waiting.len() + self.pending.reports.len() >= WAITING_MAX {
                        Counters::add(&self.counters.shed);
                        let _ = tell.send(false);
                    } else {
                        self.pending.batch.append(&mut batch);
                        self.pending.reports.push(tell);
                        self.pending.since.get_or_insert_with(Instant::now);
                    }
                }
                Ask::Open(lane, tell) => {
                    self.ledger.open(&lane, &Default::default(), now);
                    let _ = tell.send(());
                }
                Ask::Learn(lanes) => {
                    for lane in lanes {
                        if !self.ledger.knows(lane.grant.alias()) {
                            self.ledger.open(&lane, &Default::default(), now);
                        }
                    }
                }
                Ask::End(aliases) => self.ledger.end(&aliases),
                Ask::Take(tell) => {
                    let _ = tell.send((self.ledger.take(), self.last_batch));
                }
                Ask::Folded(batch) => {
                    self.ledger.folded(now.minute());
                    if let Some(commits) = &self.commits {
                        // If its queue is full, the next fold brings another.
                        let _ = commits.jobs.try_send(Job::Discard(batch, now.minute().hour()));
                    }
                }
                Ask::Stop(tell) => self.stopping = Some(tell),
            }
        }
        self.more = true;
    }

    // -- time -----------------------------------------------------------------------------------------

    fn tick(&mut self, now: UnixSeconds) {
        if now == self.watch.looked_at {
            return;
        }
        self.rate = (0, self.rate.0);
        let stalled = now.0.abs_diff(self.watch.looked_at.0) > STALL_SECONDS;
        let minute = now.minute();
        if minute != self.watch.minute {
            if self.watch.whole && !stalled && minute.0 == self.watch.minute.0 + 1 {
                self.pending.batch.up(self.watch.minute);
                self.pending.since.get_or_insert_with(Instant::now);
            }
            self.watch.minute = minute;
            self.watch.whole = now.0 % 60 <= STALL_SECONDS;
            self.ledger.forget(Epoch::of(now));
        } else if stalled {
            self.watch.whole = false;
        }
        self.watch.looked_at = now;
        self.counters.lanes.store(self.ledger.lanes() as u64, Ordering::Relaxed);
        self.counters.waiting.store(self.ledger.waiting() as u64, Ordering::Relaxed);
        if self.swept_at.elapsed() >= Duration::from_secs(2) {
            self.swept_at = Instant::now();
            self.sweep();
        }
    }
}
