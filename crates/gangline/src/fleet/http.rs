//! Beats over kept HTTP connections, one frame a request, each connection for machines of its own.

use std::{
    io::{BufReader, Write},
    net::TcpStream,
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::Context;
use gangline_types::Minute;
use gangline_wire::{
    Endpoint,
    beat::{BEAT_BYTES, ClaimedAnswer, Outcome},
    endpoints::BeatFrames,
};

use super::{
    book::Book,
    crew::{Crew, Lane, connect, read_answer},
    udp::Round,
};

/// Pause between the pieces of a slow sender's request.
const SLOW_MILLIS: u64 = 20;
/// A beat that nobody answers is tried so often.
const TRIES: u32 = 5;

/// One beat of each of these machines for `minute`, over `connections` kept connections, as fast as they answer;
/// ends at `until`. Of a thousand connections, `slow` send their requests in small pieces.
///
/// # Errors
/// When the book cannot be written.
#[allow(clippy::too_many_arguments)]
pub fn round(
    crew: &mut Crew,
    door: &str,
    machines: std::ops::Range<u32>,
    minute: Minute,
    connections: usize,
    until: Option<Instant>,
    slow: u32,
    book: &mut Book,
) -> anyhow::Result<Round> {
    let links = crew.links();
    let lanes = &mut crew.lanes[machines.start as usize..machines.end as usize];
    let each = lanes.len().div_ceil(connections.max(1)).max(1);
    let (total, book) = (Mutex::new(Round::default()), Mutex::new(book));
    let outcome: anyhow::Result<()> = std::thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .chunks_mut(each)
            .enumerate()
            .map(|(at, lanes)| {
                let (total, book) = (&total, &book);
                let first = machines.start + (at * each) as u32;
                let is_slow = (at as u32 * 7919) % 1000 < slow;
                let work = move || -> anyhow::Result<()> {
                    let mut line = Line { door, stream: None, is_slow };
                    let mut round = Round::default();
                    let mut durable = Vec::new();
                    for (offset, lane) in lanes.iter_mut().enumerate() {
                        if until.is_some_and(|until| Instant::now() >= until) {
                            break;
                        }
                        let Some(lane) = lane else { continue };
                        if line.beat(lane, minute, links, &mut round)? {
                            durable.push(first + offset as u32);
                        }
                    }
                    let mut book = book.lock().unwrap_or_else(|e| e.into_inner());
                    for n in durable {
                        book.acknowledged(n, minute)?;
                    }
                    total.lock().unwrap_or_else(|e| e.into_inner()).add(round);
                    Ok(())
                };
                std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, work)
            })
            .collect();
        for thread in threads {
            let thread = thread.context("could not start a thread")?;
            thread.join().map_err(|_| anyhow::anyhow!("a thread of the fleet broke off"))??;
        }
        Ok(())
    });
    outcome?;
    book.into_inner().unwrap_or_else(|e| e.into_inner()).flush()?;
    Ok(total.into_inner().unwrap_or_else(|e| e.into_inner()))
}

struct Line<'a> {
    door: &'a str,
    stream: Option<BufReader<TcpStream>>,
    is_slow: bool,
}

impl Line<'_> {
    /// Sends one beat until it is answered; whether it is durable.
    fn beat(
        &mut self,
        lane: &mut Lane,
        minute: Minute,
        links: u16,
        round: &mut Round,
    ) -> anyhow::Result<bool> {
        let Some(beat) = lane.beat(minute, links) else { return Ok(false) };
        let frame = beat.seal(&lane.key);
        let began = Instant::now();
        for _ in 0..TRIES {
            round.sent += 1;
            let Ok((200, answer)) = self.post(&frame) else {
                self.stream = None;
                std::thread::sleep(Duration::from_millis(100));
                continue;
            };
            let answer = ClaimedAnswer::read(&answer).ok().and_then(|claimed| claimed.verify(&lane.key).ok());
            match answer
                .and_then(Result::ok)
                .filter(|answer| answer.answers(&beat))
                .map(|answer| answer.outcome)
            {
                Some(Outcome::Durable) => {
                    round.durable += 1;
                    round.waits.push(began.elapsed());
                    return Ok(true);
                }
                Some(Outcome::Busy) | None => std::thread::sleep(Duration::from_millis(200)),
                Some(_) => {
                    round.refused += 1;
                    return Ok(false);
                }
            }
        }
        round.unanswered += 1;
        Ok(false)
    }

    fn post(&mut self, frame: &[u8; BEAT_BYTES]) -> anyhow::Result<(u16, Vec<u8>)> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::with_capacity(1024, connect(self.door)?),
        };
        let mut request = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-length: {BEAT_BYTES}\r\n\r\n",
            BeatFrames::SPEC.path,
            self.door
        )
        .into_bytes();
        request.extend_from_slice(frame);
        if self.is_slow {
            for piece in request.chunks(16) {
                stream.get_mut().write_all(piece)?;
                std::thread::sleep(Duration::from_millis(SLOW_MILLIS));
            }
        } else {
            stream.get_mut().write_all(&request)?;
        }
        let answer = read_answer(&mut stream)?;
        self.stream = Some(stream);
        Ok(answer)
    }
}
