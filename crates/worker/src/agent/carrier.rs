//! Carries frames to the server and their answers back: by UDP where that works, and else by a request that always
//! does. Finds out by itself which, and comes back to UDP after a while.
//!
//! Knows nothing of what a beat means; an answer counts only if its MAC is right.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use gangline_types::UnixMillis;
use gangline_wire::{
    api::machine::{EpochGrant, EpochRequest},
    beat::{
        ANSWER_BYTES, Answer, BeatKey, ClaimedAnswer, ClaimedOpened, FRAMES_MAX, NONCE_BYTES, OPENED_BYTES,
        Opened, OpeningOutcome,
    },
};
use tokio::net::UdpSocket;

use super::lane::{Frame, Lane};
use crate::client::{Client, ClientError};

/// How long one try by UDP waits for answers.
const UDP_WAIT: Duration = Duration::from_millis(1500);
/// Tries by UDP before the frames go the other way.
const UDP_TRIES: u32 = 3;
/// UDP is left alone for so long after it failed; twice as long each time, up to the limit.
const UDP_REST: Duration = Duration::from_secs(60);
const UDP_REST_MAX: Duration = Duration::from_secs(3600);
/// A question for an epoch that was put off so often by datagram is asked by HTTP.
const PUT_OFF_MAX: u32 = 5;
/// How long a posted request may take.
const POST_WAIT: Duration = Duration::from_secs(30);

/// What came back for frames.
pub(crate) struct Carried {
    /// Answers that are authentic, in any order.
    pub answers: Vec<Answer>,
    /// The server knows none of these frames.
    pub unknown: bool,
}

/// What came of a question for an epoch by datagram.
pub(crate) enum Asked {
    /// The epoch is open.
    Granted(Box<EpochGrant>),
    /// The server is busy: ask again after this.
    Wait(Duration),
    /// Nobody answered, or it said to ask by HTTP.
    Unheard,
}

/// The ways to the server.
#[derive(Default)]
pub(crate) struct Carrier {
    socket: Option<(SocketAddr, UdpSocket)>,
    rest: Option<(Instant, Duration)>,
    /// How often in a row a question for an epoch was put off.
    put_off: u32,
}

fn answer(bytes: &[u8], key: &BeatKey) -> Option<Answer> {
    ClaimedAnswer::read(bytes).ok()?.verify(key).ok()?.ok()
}

impl Carrier {
    /// Sends frames, at most [`FRAMES_MAX`] of them, and waits for their answers.
    ///
    /// # Errors
    /// When no way leads to the server.
    pub(crate) async fn carry(
        &mut self,
        client: &Client,
        lane: &Lane,
        frames: &[Frame],
    ) -> Result<Carried, ClientError> {
        debug_assert!(frames.len() <= FRAMES_MAX);
        let key = lane.key();
        let mut answers = Vec::with_capacity(frames.len());
        if self.rest.is_none_or(|(until, _)| Instant::now() >= until)
            && let Some(to) = address(client, lane).await
        {
            self.by_udp(to, &key, frames, &mut answers).await;
            let all = frames.iter().all(|f| answers.iter().any(|a| a.answers(&f.beat)));
            if all {
                if self.rest.take().is_some() {
                    tracing::info!("beats go by UDP again");
                }
                return Ok(Carried { answers, unknown: false });
            }
            let rest = self.rest.map_or(UDP_REST, |(_, before)| (before * 2).min(UDP_REST_MAX));
            if self.rest.is_none() {
                tracing::info!(seconds = rest.as_secs(), "no answer by UDP; beats go over HTTP for a while");
            }
            self.rest = Some((Instant::now() + rest, rest));
        }
        let left: Vec<u8> = frames
            .iter()
            .filter(|f| !answers.iter().any(|a| a.answers(&f.beat)))
            .flat_map(|f| f.bytes)
            .collect();
        let (status, body) = post(client, lane, left).await?;
        let unknown = status == 401;
        if status != 200 && !unknown {
            return Err(client.unexpected(format!("status {status} for beats")));
        }
        answers.extend(body.chunks(ANSWER_BYTES).filter_map(|bytes| answer(bytes, &key)));
        Ok(Carried { answers, unknown })
    }

    /// Asks for an epoch by datagram; the lane that is left vouches for it, and beats go where they went under that.
    pub(crate) async fn open(&mut self, client: &Client, before: &Lane, request: &EpochRequest) -> Asked {
        if self.rest.is_some_and(|(until, _)| Instant::now() < until) || self.put_off >= PUT_OFF_MAX {
            self.put_off = 0;
            return Asked::Unheard;
        }
        let Some(to) = address(client, before).await else { return Asked::Unheard };
        let key = before.key();
        for _ in 0..UDP_TRIES {
            let Some(socket) = self.socket_to(to).await else { return Asked::Unheard };
            // A new question each time: the number of one that was lost on its way back has been used.
            let Some(opening) = client.opening(request) else { return Asked::Unheard };
            let mut nonce = [0; NONCE_BYTES];
            getrandom::fill(&mut nonce).expect("the system gives randomness");
            if socket.send(&opening.seal(before.under(&key), &nonce)).await.is_err() {
                self.socket = None;
                return Asked::Unheard;
            }
            let heard = tokio::time::timeout(UDP_WAIT, opened(socket, &key, opening.claimed.sequence)).await;
            let Some(Opened { outcome, server_time, .. }) = heard.ok().flatten() else { continue };
            self.put_off = if matches!(outcome, OpeningOutcome::Busy(_)) { self.put_off + 1 } else { 0 };
            return match outcome {
                // Beats are taken elsewhere by now: where, the same question by HTTP tells.
                OpeningOutcome::Opened { addresses, .. } if addresses != before.addresses_check() => {
                    Asked::Unheard
                }
                OpeningOutcome::Opened { epoch, alias, key, .. } => {
                    let mut gpus: Vec<_> = request.chains.iter().map(|chain| chain.gpu).collect();
                    gpus.sort_unstable();
                    Asked::Granted(Box::new(EpochGrant {
                        epoch,
                        alias,
                        key: gangline_types::Hash(*key.as_bytes()),
                        gpus,
                        udp: before.udp.clone(),
                        http: before.http.clone(),
                        server_time: UnixMillis(server_time.0 * 1000),
                    }))
                }
                OpeningOutcome::AskByHttp => Asked::Unheard,
                OpeningOutcome::Busy(seconds) => {
                    Asked::Wait(Duration::from_secs(u64::from(seconds.clamp(1, 600))))
                }
            };
        }
        tracing::info!("no answer by UDP to the question for another lane; it is asked over HTTP");
        Asked::Unheard
    }

    /// The socket that reaches this address.
    async fn socket_to(&mut self, to: SocketAddr) -> Option<&UdpSocket> {
        if self.socket.as_ref().is_none_or(|(known, _)| *known != to) {
            let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
            let socket = UdpSocket::bind(any).await.ok()?;
            socket.connect(to).await.ok()?;
            self.socket = Some((to, socket));
        }
        self.socket.as_ref().map(|(_, socket)| socket)
    }

    async fn by_udp(&mut self, to: SocketAddr, key: &BeatKey, frames: &[Frame], answers: &mut Vec<Answer>) {
        let Some(socket) = self.socket_to(to).await else { return };
        for _ in 0..UDP_TRIES {
            let waiting: Vec<&Frame> =
                frames.iter().filter(|f| !answers.iter().any(|a| a.answers(&f.beat))).collect();
            if waiting.is_empty() {
                return;
            }
            for frame in &waiting {
                if socket.send(&frame.bytes).await.is_err() {
                    // Nobody listens there, or the way is gone.
                    self.socket = None;
                    return;
                }
            }
            let mut left = waiting.len();
            let hear = async {
                let mut bytes = [0; ANSWER_BYTES + 1];
                while left > 0 {
                    let Ok(length) = socket.recv(&mut bytes).await else { return false };
                    let Some(heard) = answer(&bytes[..length], key) else { continue };
                    let new = !answers.contains(&heard) && waiting.iter().any(|f| heard.answers(&f.beat));
                    if new {
                        left -= 1;
                        answers.push(heard);
                    }
                }
                true
            };
            if let Ok(false) = tokio::time::timeout(UDP_WAIT, hear).await {
                self.socket = None;
                return;
            }
        }
    }
}

/// The answer to the question of this number, once it comes; none where the socket is of no use.
async fn opened(socket: &UdpSocket, key: &BeatKey, sequence: u64) -> Option<Opened> {
    let mut bytes = [0; OPENED_BYTES + 1];
    loop {
        let length = socket.recv(&mut bytes).await.ok()?;
        let answer = ClaimedOpened::read(&bytes[..length]).ok().and_then(|claimed| claimed.unseal(key).ok());
        if let Some(Ok(answer)) = answer
            && answer.sequence == sequence
        {
            return Some(answer);
        }
    }
}

/// Where datagrams go, if anywhere.
async fn address(client: &Client, lane: &Lane) -> Option<SocketAddr> {
    let udp = lane.udp.as_ref()?;
    let host = match &udp.host {
        Some(host) => host.as_str().to_owned(),
        None => client.host(),
    };
    tokio::net::lookup_host((host.as_str(), udp.port)).await.ok()?.next()
}

/// Posts frames where the server said they may go, or else to the server itself.
async fn post(client: &Client, lane: &Lane, frames: Vec<u8>) -> Result<(u16, Vec<u8>), ClientError> {
    if let Some(url) = &lane.http {
        match client.post_bytes(Some(url.as_str()), "/api/v1/beat", frames.clone(), POST_WAIT).await {
            Ok((status, body)) if status < 500 => return Ok((status, body)),
            _ => tracing::debug!(
                url = url.as_str(),
                "no answer from the intake's own port; asking the main one"
            ),
        }
    }
    client.post_bytes(None, "/api/v1/beat", frames, POST_WAIT).await
}
