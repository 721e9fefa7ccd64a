//! Carries frames to the server and their answers back: by UDP where that works, and else by a request that always
//! does. Finds out by itself which, and comes back to UDP after a while.
//!
//! Knows nothing of what a beat means; an answer counts only if its MAC is right.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use gangline_wire::beat::{ANSWER_BYTES, Answer, BeatKey, ClaimedAnswer, FRAMES_MAX};
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
/// How long a posted request may take.
const POST_WAIT: Duration = Duration::from_secs(30);

/// What came back for frames.
pub(crate) struct Carried {
    /// Answers that are authentic, in any order.
    pub answers: Vec<Answer>,
    /// The server knows none of these frames.
    pub unknown: bool,
}

/// The ways to the server.
#[derive(Default)]
pub(crate) struct Carrier {
    socket: Option<(SocketAddr, UdpSocket)>,
    rest: Option<(Instant, Duration)>,
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

    async fn by_udp(&mut self, to: SocketAddr, key: &BeatKey, frames: &[Frame], answers: &mut Vec<Answer>) {
        if self.socket.as_ref().is_none_or(|(known, _)| *known != to) {
            let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
            let Ok(socket) = UdpSocket::bind(any).await else { return };
            if socket.connect(to).await.is_err() {
                return;
            }
            self.socket = Some((to, socket));
        }
        let Some((_, socket)) = &self.socket else { return };
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
