//! The way into the intake: where machines are told to send beats, and the gate that opens epochs. Starts the
//! intake with what books and journal hold.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use gangline_guard::beat::Gate;
use gangline_rules::uptime::LATE_WINDOW_SECONDS;
use gangline_store::{Journal, Store};
use gangline_types::{Hour, Text};
use gangline_wire::{SigningKey, api::machine::UdpAddress, beat::Epoch};
use tokio::time::Instant;

use crate::{
    Config, ServeError,
    config::BeatUdp,
    intake::{self, Clock, Intake, Start},
};

/// A fold takes at most this part of the time: after one that took a second, the next waits twenty.
const FOLD_SHARE: u32 = 20;

/// When the books were last brought up to date, and when that may happen again by itself.
#[derive(Debug)]
pub struct Pace {
    next: Instant,
}

impl Pace {
    /// Whether a fold that nobody waits for may begin.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }
    /// A fold took so long.
    pub fn folded(&mut self, took: Duration) {
        self.next = Instant::now() + took * FOLD_SHARE;
    }
}

/// The intake and the way into it.
pub struct Lanes {
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

impl Lanes {
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
        let (journal, lines) = Journal::open(&config.data).await?;
        // One epoch more than counts: a clock that is stepped back loses nobody their lane.
        let lanes = store.lanes(Epoch::of(now).previous().previous()).await?;
        let shown_since =
            Hour(now.minute().hour().0.saturating_sub(72 + (LATE_WINDOW_SECONDS / 3600) as u32));
        let deepest = store.deepest_links(shown_since).await?;
        let udp = udp_socket(config, main)?;
        let http = config
            .beat_listen
            .map(|listen| intake::tcp(listen).map_err(|source| ServeError::Listen { listen, source }))
            .transpose()?;
        let start = Start { udp, http, secret, clock: clock.clone(), journal, lines, lanes, deepest };
        let intake = Intake::start(start).map_err(ServeError::Intake)?;
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
        let pace = Pace { next: Instant::now() };
        Ok(Self {
            intake: Arc::new(intake),
            gate: std::sync::Mutex::new(Gate::new(secret)),
            clock,
            udp,
            http,
            folding: tokio::sync::Mutex::new(pace),
        })
    }
}
