//! The intake's loop: takes what has arrived, decides, gathers a batch, answers when it is on disk.

mod commits;
mod questions;

use std::{
    collections::HashSet,
    io::ErrorKind,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering, mpsc::Receiver},
    time::{Duration, Instant},
};

use gangline_guard::beat::{Batch, Gate, Verified};
use gangline_types::{Minute, UnixSeconds};
use gangline_wire::beat::{ANSWER_BYTES, Alias, Answer, BEAT_BYTES, Epoch, OpeningOutcome, Outcome};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, UdpSocket},
};
use tokio::sync::{
    mpsc::{self, error::TrySendError},
    oneshot,
};

use super::{
    Ask, Came, Clock, Counters,
    committer::Commits,
    connections::Connection,
    ledger::{Decision, Ledger},
    mail::{AT_ONCE, Inbox, Outbox},
};
use crate::edge;

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
const LINGER: Duration = Duration::from_millis(8);
/// Above so many datagrams a second the loop sleeps between looks, so that one look takes many. Requests do not count: each is
/// answered by a call of its own, however many are looked at.
const BUSY_PER_SECOND: u64 = 2000;
/// So long.
const MODERATION: Duration = Duration::from_millis(4);
/// Over so long it is counted.
const RATE_SPAN: Duration = Duration::from_millis(50);
/// Datagrams taken before anything else gets its turn.
const DATAGRAMS_AT_ONCE: usize = 1024;
/// What a machine is told to wait when nothing can be written, in seconds.
const WAIT_SECONDS: u16 = 5;
/// And so much longer at most, each machine its own share of it, when too many ask for an epoch.
const SPREAD_SECONDS: u16 = 30;
/// A minute counts as ours if the loop did not run for longer than this in it, in seconds. Workers beat in the
/// first 42 seconds of a minute and again after some seconds if nobody answers.
const STALL_SECONDS: u64 = 15;
/// An intake that has not come through one whole turn for so long ends, and the server with it.
const BROKEN: Duration = Duration::from_secs(10);
/// So much longer it waits after each further turn in a row that broke off.
const BROKEN_PAUSE: Duration = Duration::from_millis(10);

/// Whom an answer goes to.
enum To {
    Udp(SocketAddr),
    /// The only one of a connection's request.
    Connection(usize, u64),
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

/// Whether so many datagrams come that the loop sleeps between looks.
struct Rate {
    came: u64,
    since: Instant,
    is_busy: bool,
}

impl Rate {
    fn is_busy(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.since);
        if passed >= RATE_SPAN {
            self.is_busy = u128::from(self.came) * 1000 >= u128::from(BUSY_PER_SECOND) * passed.as_millis();
            (self.came, self.since) = (0, now);
        }
        self.is_busy
    }
}

/// How a turn ended.
enum Turn {
    /// There will be another, with datagrams that may be waiting.
    On { udp: bool },
    /// There is nothing left to do, or no way to do it.
    Over,
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
    /// Room for an answer that is written.
    pub(super) scratch: Vec<u8>,
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
    /// The last batch when the first part was taken.
    round_from: u64,
    last_size: usize,
    rate: Rate,
    watch: Watch,
    failing: bool,
    /// Questions were left for the next turn.
    more: bool,
    /// Lanes whose epoch is over are to be forgotten.
    forgetting: bool,
    pub(super) accept_again: Option<Instant>,
    /// Where questions for an epoch go.
    openings: mpsc::Sender<Came>,
    /// Lanes that have vouched for one in this second: no more than one each.
    vouched: (UnixSeconds, HashSet<Alias>),
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
        openings: mpsc::Sender<Came>,
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
            scratch: Vec::new(),
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
            round_from: 0,
            last_size: 0,
            rate: Rate { came: 0, since: Instant::now(), is_busy: false },
            watch: Watch { minute: now.minute(), whole, looked_at: now },
            failing: false,
            more: false,
            forgetting: false,
            accept_again: None,
            openings,
            vouched: Default::default(),
            swept_at: Instant::now(),
            stopping: None,
            clock,
        })
    }

    /// Runs until it is asked to stop, or cannot go on: its journal has ended, or no turn comes to its end any more.
    ///
    /// A turn that breaks off by a mistake of ours ends itself alone; machines send again what it was about.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut inbox = Inbox::new();
        let mut udp_ready = false;
        let (mut whole_at, mut in_a_row) = (Instant::now(), 0);
        loop {
            let turn =
                AssertUnwindSafe(|| self.turn(&mut events, &mut inbox, std::mem::take(&mut udp_ready)));
            match std::panic::catch_unwind(turn) {
                Ok(Turn::On { udp }) => {
                    udp_ready = udp;
                    (whole_at, in_a_row) = (Instant::now(), 0);
                }
                Ok(Turn::Over) => break,
                Err(_) if whole_at.elapsed() < BROKEN => {
                    self.broke_off();
                    udp_ready = true;
                    std::thread::sleep(BROKEN_PAUSE * in_a_row);
                    in_a_row = (in_a_row + 1).min(50);
                }
                Err(_) => {
                    tracing::error!("the intake of beats cannot go on");
                    break;
                }
            }
        }
        // The journal's thread ends with its sender of jobs.
        self.commits = None;
        if let Some(tell) = self.stopping {
            let _ = tell.send(());
        }
    }

    /// Waits for something, and does what there is.
    fn turn(&mut self, events: &mut Events, inbox: &mut Inbox, mut udp_ready: bool) -> Turn {
        let timeout = self.timeout(udp_ready);
        if let Err(error) = self.poll.poll(events, Some(timeout)) {
            if error.kind() != ErrorKind::Interrupted {
                tracing::error!(%error, "the intake of beats cannot wait for its sockets");
                std::thread::sleep(Duration::from_millis(100));
            }
            return Turn::On { udp: udp_ready };
        }
        let now = self.clock.turn();
        let mut accept = false;
        for event in events.iter() {
            match event.token() {
                WAKE => {}
                UDP => udp_ready = true,
                LISTENER => accept = true,
                Token(n) => self.connection_ready(n - FIRST_CONNECTION, event, now),
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
            udp_ready = self.receive(inbox, now);
        }
        if !self.commits_done() {
            return Turn::Over;
        }
        self.questions(now);
        self.tick(now);
        self.commit(now);
        if let Some(udp) = &self.udp {
            self.outbox.send(udp);
        }
        if self.stopping.is_some() && self.flying.is_none() && self.pending.since.is_none() {
            return Turn::Over;
        }
        if self.rate.is_busy(Instant::now()) {
            std::thread::sleep(MODERATION);
        }
        Turn::On { udp: udp_ready }
    }

    /// After a turn that broke off: nobody knows which answers it still owed, so whoever waits for one over a connection
    /// is let go and asks again, and the minute is not counted as one in which all was well.
    fn broke_off(&mut self) {
        Counters::add(&self.counters.broke_off);
        self.watch.whole = false;
        let waiting = self.flying.iter_mut().map(|(waiting, _)| waiting).chain([&mut self.pending.waiting]);
        waiting.for_each(|waiting| waiting.retain(|one| matches!(one.to, To::Udp(_))));
        self.gatherings.clear();
        self.free_gatherings.clear();
        self.close_busy();
        // What was ready is not told of twice.
        self.accept_again = Some(Instant::now());
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
            let got = inbox.receive(udp);
            self.rate.came += got as u64;
            for (bytes, from) in inbox.datagrams() {
                if bytes.len() <= BEAT_BYTES {
                    self.frame(bytes, || To::Udp(from), now);
                } else {
                    self.opening(bytes, from, now);
                }
            }
            // Fewer than there is room for: there were no more.
            if got < AT_ONCE {
                return false;
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
        let to = to();
        match self.ledger.decide(&verified, now) {
            Decision::Write(granted) => {
                if self.pending.waiting.len() >= WAITING_MAX {
                    Counters::add(&self.counters.shed);
                    self.say(&verified, to, Outcome::Busy, WAIT_SECONDS, now);
                } else if self.pending.batch.frame(&verified, granted) {
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
                self.tell(to, &[]);
            }
        }
    }

    /// A question for an epoch: handed on if a lane of this network vouches for it, at most once a second for each.
    fn opening(&mut self, bytes: &[u8], from: SocketAddr, now: UnixSeconds) {
        let Ok(admitted) = self.gate.admit(bytes, Epoch::of(now)) else {
            Counters::add(&self.counters.unauthentic);
            return;
        };
        Counters::add(&self.counters.openings);
        if self.vouched.0 != now {
            self.vouched = (now, HashSet::new());
        }
        if !self.vouched.1.insert(admitted.alias()) {
            Counters::add(&self.counters.shed);
            return;
        }
        let (came, outcome) = match self.openings.try_send(Came { admitted, from }) {
            Ok(()) => return,
            Err(TrySendError::Full(came)) => {
                let share = came.admitted.alias().0 % u64::from(SPREAD_SECONDS);
                (came, OpeningOutcome::Busy(WAIT_SECONDS + share as u16))
            }
            Err(TrySendError::Closed(came)) => (came, OpeningOutcome::AskByHttp),
        };
        Counters::add(&self.counters.shed);
        let answer = came.admitted.answer(outcome, now, &edge::random());
        self.outbox.push_opened(Box::new(answer), from);
    }

    fn say(&mut self, verified: &Verified, to: To, outcome: Outcome, wait: u16, now: UnixSeconds) {
        if outcome == Outcome::Durable {
            Counters::add(&self.counters.durable);
        }
        let sealed = Answer::to(verified.beat(), outcome, wait, now).seal(verified.key());
        match to {
            To::Udp(to) => self.outbox.push(sealed, to),
            to => self.tell(to, &sealed),
        }
    }

    /// Answers what came in a request, or says that there is no answer to it.
    fn tell(&mut self, to: To, answer: &[u8]) {
        match to {
            To::Udp(_) => {}
            To::Connection(n, generation) => self.reply(n, generation, answer),
            To::Gathered(at) => self.gathered(at, answer),
        }
    }

    /// Frames of one request, one after the other.
    pub(super) fn request(&mut self, bytes: &[u8], to: Requester, now: UnixSeconds) {
        if let Requester::Connection(n, generation) = to
            && bytes.len() == BEAT_BYTES
        {
            let mut taken = false;
            let to = || {
                taken = true;
                To::Connection(n, generation)
            };
            self.frame(bytes, to, now);
            if !taken {
                self.reply(n, generation, &[]);
            }
            return;
        }
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

    // -- time -----------------------------------------------------------------------------------------

    fn tick(&mut self, now: UnixSeconds) {
        if now == self.watch.looked_at {
            return;
        }
        let stalled = now.0.abs_diff(self.watch.looked_at.0) > STALL_SECONDS;
        let minute = now.minute();
        if minute != self.watch.minute {
            if self.watch.whole && !stalled && minute.0 == self.watch.minute.0 + 1 {
                self.pending.batch.up(self.watch.minute);
                self.pending.since.get_or_insert_with(Instant::now);
            }
            self.watch.minute = minute;
            self.watch.whole = now.0 % 60 <= STALL_SECONDS;
            self.forgetting = true;
        } else if stalled {
            self.watch.whole = false;
        }
        self.watch.looked_at = now;
        self.counters.lanes.store(self.ledger.lanes() as u64, Ordering::Relaxed);
        self.counters.waiting.store(self.ledger.waiting() as u64, Ordering::Relaxed);
        let behind = self.ledger.waits_for(Instant::now()).map_or(0, |waits| waits.as_secs() + 1);
        self.counters.behind.store(behind, Ordering::Relaxed);
        if self.swept_at.elapsed() >= Duration::from_secs(2) {
            self.swept_at = Instant::now();
            self.sweep();
        }
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
