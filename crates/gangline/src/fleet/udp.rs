//! Beats by UDP: at a pace or as fast as so many may be under way, each again until it is answered.

use std::{
    collections::{HashMap, VecDeque},
    net::UdpSocket,
    os::fd::AsRawFd,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use gangline_types::Minute;
use gangline_wire::beat::{ANSWER_BYTES, Alias, BEAT_BYTES, ClaimedAnswer, Outcome};
use nix::sys::socket::{MsgFlags, recv};

use super::{book::Book, crew::Crew, weather::Weather};

/// A beat without an answer is sent again after this.
const AGAIN_MILLIS: u64 = 1500;
/// And so often at most, in one round.
const TRIES: u8 = 20;

/// What became of one round: a beat of every machine for one minute.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Beats that are durable.
    pub durable: u64,
    /// Datagrams sent, those again too.
    pub sent: u64,
    /// Beats that were put off or not taken, by their machine's clock or chain.
    pub refused: u64,
    /// Beats that nobody answered.
    pub unanswered: u64,
    /// Answers to what should have none.
    pub answered_hostile: u64,
    /// From a beat's first datagram to its answer.
    pub waits: Vec<Duration>,
}

impl Round {
    /// Both together.
    pub fn add(&mut self, mut other: Round) {
        self.durable += other.durable;
        self.sent += other.sent;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.answered_hostile += other.answered_hostile;
        self.waits.append(&mut other.waits);
    }
}

/// Datagrams that come within this time of the first are told of with it, as network cards do: otherwise a server on the same
/// machine is charged for waking whoever it answers, for each answer.
const TOLD_TOGETHER: Duration = Duration::from_micros(300);

/// Waits a moment for a datagram, and takes every other that comes about then; how many there were.
///
/// # Errors
/// Those of `take`.
pub fn heard(socket: &UdpSocket, mut take: impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<usize> {
    let mut bytes = [0; 256];
    let Ok(mut length) = socket.recv(&mut bytes) else { return Ok(0) };
    std::thread::sleep(TOLD_TOGETHER);
    let mut taken = 0;
    loop {
        take(&bytes[..length.min(bytes.len())])?;
        taken += 1;
        match recv(socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(more) => length = more,
            Err(_) => return Ok(taken),
        }
    }
}

struct Flying {
    n: u32,
    minute: Minute,
    first: Instant,
    bytes: [u8; BEAT_BYTES],
    tries: u8,
}

/// Sends beats and hears answers, on one socket.
pub struct Pump {
    socket: Arc<UdpSocket>,
    by_alias: HashMap<Alias, u32>,
    flying: HashMap<Alias, Flying>,
    again: VecDeque<(Instant, Alias)>,
}

impl Pump {
    /// A pump to a server's door.
    ///
    /// # Errors
    /// When there is no way there.
    pub fn new(door: &str, crew: &Crew) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("0.0.0.0:0").context("could not open a socket")?;
        socket.connect(door).with_context(|| format!("there is no way to {door}"))?;
        socket.set_read_timeout(Some(Duration::from_millis(1)))?;
        // As much as the kernel allows: answers come in bursts.
        let _ = nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &(4 << 20));
        let by_alias = crew
            .lanes
            .iter()
            .enumerate()
            .filter_map(|(n, lane)| Some((lane.as_ref()?.alias, n as u32)))
            .collect();
        Ok(Self { socket: Arc::new(socket), by_alias, flying: HashMap::new(), again: VecDeque::new() })
    }

    /// One beat of each of these machines for `minute`, spread over `over` (as fast as it goes where that is
    /// nothing) with at most `window` under way; ends when all are answered or given up, or at `until`.
    ///
    /// # Errors
    /// When the book cannot be written.
    #[allow(clippy::too_many_arguments)]
    pub fn round(
        &mut self,
        crew: &mut Crew,
        machines: std::ops::Range<u32>,
        minute: Minute,
        over: Duration,
        window: usize,
        until: Option<Instant>,
        weather: &mut Weather,
        book: &mut Book,
    ) -> anyhow::Result<Round> {
        let (mut round, began) = (Round::default(), Instant::now());
        let (count, links) = (machines.len() as u64, crew.links());
        let mut due = machines.clone();
        loop {
            let now = Instant::now();
            let is_over = until.is_some_and(|until| now >= until);
            let may_have_sent = if over.is_zero() {
                count
            } else {
                (count as f64 * now.duration_since(began).as_secs_f64() / over.as_secs_f64()) as u64 + 1
            };
            while !is_over
                && self.flying.len() < window
                && ((due.start - machines.start) as u64) < may_have_sent.min(count)
                && let Some(n) = due.next()
            {
                let minute = weather.minute_of(n, minute);
                let Some(lane) = crew.lanes[n as usize].as_mut() else { continue };
                let Some(beat) = lane.beat(minute, links) else { continue };
                let bytes = beat.seal(&lane.key);
                let alias = lane.alias;
                if weather.sends_garbage(n) {
                    self.send(&mut round, &weather.garbage(&bytes));
                    continue;
                }
                self.flying.insert(alias, Flying { n, minute, first: now, bytes, tries: 1 });
                self.again.push_back((now + Duration::from_millis(AGAIN_MILLIS), alias));
                if weather.lets_through() {
                    self.send(&mut round, &bytes);
                }
            }
            self.hear(&mut round, crew, weather, book)?;
            self.send_again(&mut round, weather);
            let all_sent = due.is_empty();
            if is_over || (all_sent && self.flying.is_empty()) {
                round.unanswered += self.flying.len() as u64;
                self.flying.clear();
                self.again.clear();
                book.flush()?;
                return Ok(round);
            }
        }
    }

    fn send(&self, round: &mut Round, bytes: &[u8]) {
        round.sent += 1;
        // A full socket or a server that is away: it is sent again like one that was lost.
        let _ = self.socket.send(bytes);
    }

    fn hear(
        &mut self,
        round: &mut Round,
        crew: &Crew,
        weather: &mut Weather,
        book: &mut Book,
    ) -> anyhow::Result<()> {
        let socket = Arc::clone(&self.socket);
        heard(&socket, |answer| {
            if weather.lets_through() {
                self.take(round, crew, answer, book)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    fn take(&mut self, round: &mut Round, crew: &Crew, bytes: &[u8], book: &mut Book) -> anyhow::Result<()> {
        if bytes.len() != ANSWER_BYTES {
            round.answered_hostile += 1;
            return Ok(());
        }
        let Ok(claimed) = ClaimedAnswer::read(bytes) else { return Ok(()) };
        let alias = claimed.alias();
        let Some(lane) = self.by_alias.get(&alias).and_then(|n| crew.lanes[*n as usize].as_ref()) else {
            return Ok(());
        };
        let Ok(Ok(answer)) = claimed.verify(&lane.key) else { return Ok(()) };
        let Some(flying) = self.flying.get(&alias).filter(|flying| flying.minute == answer.minute) else {
            return Ok(());
        };
        match answer.outcome {
            Outcome::Durable => {
                round.durable += 1;
                round.waits.push(flying.first.elapsed());
                book.acknowledged(flying.n, flying.minute)?;
            }
            // It is sent again by itself.
            Outcome::Busy => return Ok(()),
            Outcome::TooLate | Outcome::TooEarly | Outcome::OpenAgain => round.refused += 1,
        }
        self.flying.remove(&alias);
        Ok(())
    }

    fn send_again(&mut self, round: &mut Round, weather: &mut Weather) {
        let now = Instant::now();
        while let Some((_, alias)) = self.again.pop_front_if(|(at, _)| *at <= now) {
            let Some(flying) = self.flying.get_mut(&alias) else { continue };
            if flying.tries >= TRIES {
                self.flying.remove(&alias);
                round.unanswered += 1;
                continue;
            }
            flying.tries += 1;
            let bytes = flying.bytes;
            self.again.push_back((now + Duration::from_millis(AGAIN_MILLIS), alias));
            if weather.lets_through() {
                self.send(round, &bytes);
            }
        }
    }
}
