//! The way into the intake: where machines are told to send beats, and the gate that opens epochs. Starts the
//! intake with what books and journal hold.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use gangline_guard::beat::Gate;
use gangline_rules::uptime::LATE_WINDOW_SECONDS;
use gangline_store::{FoldedLink, Journal, LaneRow, Store, StoreError};
use gangline_types::{Hour, MachineId, Text, UnixSeconds};
use gangline_wire::{SigningKey, api::machine::UdpAddress, beat::Epoch};
use tokio::time::Instant;

use crate::{
    Config, ServeError,
    config::{BeatJournal, BeatUdp},
    intake::{self, Clock, Intake, Start, StartError},
};

/// A fold takes at most this part of the time: after one that took a second, the next waits twenty.
const FOLD_SHARE: u32 = 20;
/// And so many hours of GPUs a second are folded on average: with what follows in the projection each takes some 50 us,
/// so that the books of a large fleet cost a twentieth of a core.
const HOURS_PER_SECOND: u32 = 1_000;

/// What a fold costs at the very most, and more for each hour of a GPU. One that took longer waited for somebody who held
/// the books.
const FOLD_AT_MOST: Duration = Duration::from_millis(250);
const HOUR_AT_MOST: Duration = Duration::from_millis(5);

/// Another server that says it is further behind, in seconds, holds nobody up: by the pace above, 600,000 machines at one are
/// ten minutes.
const BEHIND_AT_MOST: u64 = 900;

/// When some of the books may be brought up to date by themselves, and when all of them.
#[derive(Debug)]
pub struct Pace {
    next: Instant,
    next_of_all: Instant,
    /// Machines that were heard of in this round.
    pub beating: Vec<MachineId>,
}

impl Pace {
    /// Whether a fold that nobody waits for may begin.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }
    /// How long nothing is folded after a fold of so many hours of GPUs that took so long.
    fn pause(took: Duration, hours: u32) -> Duration {
        let worked = took.min(FOLD_AT_MOST + HOUR_AT_MOST * hours);
        let for_hours = Duration::from_secs(1) * hours / HOURS_PER_SECOND;
        (worked * FOLD_SHARE).max(for_hours)
    }
    /// Whether everybody may be folded without anybody who waits for it.
    pub fn is_due_of_all(&self) -> bool {
        Instant::now() >= self.next_of_all
    }
    fn again(took: Duration, hours: usize) -> Instant {
        Instant::now() + Self::pause(took, u32::try_from(hours).unwrap_or(u32::MAX))
    }
    /// A fold of so many hours of GPUs took so long.
    pub fn folded(&mut self, took: Duration, hours: usize) {
        self.next = Self::again(took, hours);
    }
    /// That was everybody: the same again is far off, and what comes meanwhile is folded as ever.
    pub fn folded_all(&mut self, took: Duration, hours: usize) {
        (self.next, self.next_of_all) = (Instant::now(), Self::again(took, hours));
    }
}

/// The intake and the way into it.
pub struct Lanes {
    /// By how many seconds the books are behind the beats of other servers.
    others_behind: AtomicU64,
    /// The running intake.
    pub intake: Arc<Intake>,
    /// Opens epochs.
    pub gate: std::sync::Mutex<Gate>,
    /// The intake's clock.
    pub clock: Clock,
    /// Where machines send datagrams.
    pub udp: Option<UdpAddress>,
    /// Where they may post frames besides the main port.
    pub http: Option<Text<256>>,
    /// Held while a fold runs: one at a time.
    pub folding: tokio::sync::Mutex<Pace>,
}

fn named(config: &Config) -> Result<Option<UdpAddress>, ServeError> {
    let Some(text) = &config.beat_udp_public else { return Ok(None) };
    let wrong = || {
        ServeError::Config(format!(
            "the public address for beats by UDP, {text}, is not of the form host:port"
        ))
    };
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port.parse().map_err(|_| wrong())?;
    Ok(Some(UdpAddress {
        host: Some(Text::new(host).map_err(|_| wrong())?).filter(|h| !h.as_str().is_empty()),
        port,
    }))
}

fn udp_socket(config: &Config, main: SocketAddr) -> Result<Option<std::net::UdpSocket>, ServeError> {
    match config.beat_udp {
        BeatUdp::Off => Ok(None),
        BeatUdp::At(listen) => {
            intake::udp(listen).map(Some).map_err(|source| ServeError::Listen { listen, source })
        }
        // Nobody asked for this one: beats come over the main port all the same.
        BeatUdp::Beside => Ok(intake::udp(main)
            .inspect_err(|error| tracing::info!(%error, port = main.port(), "no beats are taken by UDP: the port is taken"))
            .ok()),
    }
}

/// Lanes that may still be beaten on, and how deep each chain was shown, as in the books.
///
/// # Errors
/// When they cannot be read.
pub async fn known(store: &Store, now: UnixSeconds) -> Result<(Vec<LaneRow>, Vec<FoldedLink>), StoreError> {
    // One epoch more than counts: a clock that is stepped back loses nobody their lane.
    let lanes = store.lanes(Epoch::of(now).previous().previous()).await?;
    let shown_since = Hour(now.minute().hour().0.saturating_sub(72 + (LATE_WINDOW_SECONDS / 3600) as u32));
    let mut chains: Vec<_> = lanes.iter().flat_map(|lane| lane.gpus.iter().copied()).collect();
    // Neighbours in the books together.
    chains.sort_unstable_by_key(|(gpu, _)| *gpu);
    let deepest = store.newest_links(&chains, shown_since).await?;
    Ok((lanes, deepest))
}

impl Lanes {
    /// By how many seconds the books are behind the beats that came in here at most: none where none waits.
    pub fn behind(&self) -> u64 {
        self.intake.counters().behind.load(Ordering::Relaxed)
    }
    /// Up to when the books have every beat, of all servers. In a large fleet that is some minutes ago, and who has not beaten
    /// since then may well have.
    pub fn beats_until(&self, now: UnixSeconds) -> UnixSeconds {
        let others = self.others_behind.load(Ordering::Relaxed);
        UnixSeconds(now.0.saturating_sub(self.behind().max(others)))
    }
    /// The books are so many seconds behind the beats that other servers took.
    pub fn others_are_behind(&self, seconds: u64) {
        self.others_behind.store(seconds.min(BEHIND_AT_MOST), Ordering::Relaxed);
    }

    /// Starts the intake of a server whose main listener is at `main`.
    ///
    /// # Errors
    /// When a port cannot be had, or the journal cannot be read.
    pub async fn start(
        config: &Config,
        store: &Store,
        key: &SigningKey,
        main: SocketAddr,
    ) -> Result<Self, ServeError> {
        let secret = blake3::derive_key("gangline 2026 beat secret", key.seed().as_ref());
        let clock = config.beat_clock.clone();
        let now = clock.now();
        let journal = match config.beat_journal {
            BeatJournal::Disk => Journal::open(&config.data)?,
            BeatJournal::Database => store.journal(&config.data)?,
        };
        let (lanes, deepest) = known(store, now).await?;
        let udp = udp_socket(config, main)?;
        let http = config
            .beat_listen
            .map(|listen| intake::tcp(listen).map_err(|source| ServeError::Listen { listen, source }))
            .transpose()?;
        let start = Start { udp, http, secret, clock: clock.clone(), journal, lanes, deepest };
        let intake = Intake::start(start).await.map_err(|error| match error {
            StartError::Journal(error) => ServeError::Store(error),
            StartError::System(error) => ServeError::Intake(error),
        })?;
        let udp = match named(config)? {
            Some(named) => Some(named).filter(|_| intake.udp.is_some()),
            None => intake.udp.map(|at| UdpAddress { host: None, port: at.port() }),
        };
        let too_long =
            |_| ServeError::Config("the public URL for beats is longer than 256 characters".into());
        let http = match (&config.beat_url, intake.http) {
            (Some(url), Some(_)) => Some(Text::new(url).map_err(too_long)?),
            // Without a public URL it is known to be reachable on this machine alone.
            (None, Some(at)) if at.ip().is_loopback() && config.public_url.is_none() => {
                Some(Text::lossy(&format!("http://{at}")))
            }
            _ => None,
        };
        let now = Instant::now();
        let pace = Pace { next: now, next_of_all: now, beating: Vec::new() };
        Ok(Self {
            others_behind: AtomicU64::new(0),
            intake: Arc::new(intake),
            gate: std::sync::Mutex::new(Gate::new(secret)),
            clock,
            udp,
            http,
            folding: tokio::sync::Mutex::new(pace),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fold_s_own_work_is_a_twentieth_of_the_time_and_waiting_for_the_books_is_none() {
        let check = |took_millis, hours, seconds| {
            let pause = Pace::pause(Duration::from_millis(took_millis), hours);
            assert_eq!(pause, Duration::from_secs(seconds), "{took_millis} ms for {hours} hours");
        };
        check(0, 0, 0);
        check(100, 3, 2);
        check(100, 600_000, 600);
        check(45_000, 600_000, 900);
        // Somebody held the books for ten seconds meanwhile.
        check(10_000, 0, 5);
        check(10_000, 50, 10);
    }
}
