//! The intake's own HTTP connections: who may stay, what they sent, what they get. Knows nothing of what a frame says.

use std::{
    io::{ErrorKind, Read, Write},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use gangline_types::UnixSeconds;
use mio::{Interest, Token, event::Event, net::TcpStream};

use super::{
    engine::{Engine, FIRST_CONNECTION, Requester},
    http::{Parsed, answer, parse},
};

/// Connections at once. With what the rest of the server needs, this fits a limit of 20,000 files.
const CONNECTIONS_MAX: usize = 16_384;
/// A connection that has shown no authentic frame is closed after so many seconds...
const STRANGER_SECONDS: u64 = 10;
/// ...and one that has, after so many without another: a beat comes every sixty.
const IDLE_SECONDS: u64 = 200;
/// Bytes of requests and answers kept for one connection.
const CONNECTION_BYTES_MAX: usize = 16 * 1024;

/// One kept connection.
pub(super) struct Connection {
    stream: TcpStream,
    generation: u64,
    read: Vec<u8>,
    write: Vec<u8>,
    /// A request of it is being answered; the next one waits.
    busy: bool,
    known: bool,
    closing: bool,
    heard_at: Instant,
}

impl Engine {
    pub(super) fn accept(&mut self) {
        loop {
            let Some(listener) = &self.listener else { return };
            let open = self.connections.len() - self.free.len();
            if open >= CONNECTIONS_MAX {
                self.accept_again = Some(Instant::now() + Duration::from_secs(1));
                return;
            }
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == ErrorKind::Interrupted || e.kind() == ErrorKind::ConnectionAborted => {
                    continue;
                }
                Err(_) => {
                    // No more files for this process: those there are go on; look again when some may be free.
                    self.accept_again = Some(Instant::now() + Duration::from_secs(1));
                    return;
                }
            };
            let n = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let _ = stream.set_nodelay(true);
            let interest = Interest::READABLE | Interest::WRITABLE;
            if self.poll.registry().register(&mut stream, Token(n + FIRST_CONNECTION), interest).is_err() {
                self.free.push(n);
                continue;
            }
            self.generation += 1;
            self.connections[n] = Some(Connection {
                stream,
                generation: self.generation,
                read: Vec::new(),
                write: Vec::new(),
                busy: false,
                known: false,
                closing: false,
                heard_at: Instant::now(),
            });
            self.counters.connections.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn close(&mut self, n: usize) {
        if let Some(mut connection) = self.connections[n].take() {
            let _ = self.poll.registry().deregister(&mut connection.stream);
            self.free.push(n);
            self.counters.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Lets everybody go who waits for an answer.
    pub(super) fn close_busy(&mut self) {
        for n in 0..self.connections.len() {
            if self.connections[n].as_ref().is_some_and(|connection| connection.busy) {
                self.close(n);
            }
        }
    }

    pub(super) fn sweep(&mut self) {
        for n in 0..self.connections.len() {
            let Some(connection) = &self.connections[n] else { continue };
            let seconds = if connection.known { IDLE_SECONDS } else { STRANGER_SECONDS };
            if !connection.busy && connection.heard_at.elapsed() > Duration::from_secs(seconds) {
                self.close(n);
            }
        }
    }

    pub(super) fn connection_ready(&mut self, n: usize, event: &Event, now: UnixSeconds) {
        let Some(Some(connection)) = self.connections.get_mut(n) else { return };
        if !flush(connection) {
            return self.close(n);
        }
        if !event.is_readable() {
            return;
        }
        let is_ending = event.is_read_closed();
        let mut bytes = [0; 4096];
        loop {
            match connection.stream.read(&mut bytes) {
                Ok(0) => {
                    if connection.busy {
                        // Its answer may still be wanted; closing follows it.
                        connection.closing = true;
                        break;
                    }
                    return self.close(n);
                }
                Ok(length) => {
                    // There was no more; what comes later is told of again, but the end was told of now.
                    let is_all = length < bytes.len() && !is_ending;
                    // The usual case: one whole request and nothing before it or after it.
                    if is_all
                        && connection.read.is_empty()
                        && !connection.busy
                        && let Parsed::Frames(range) = parse(&bytes[..length])
                        && range.end == length
                    {
                        connection.busy = true;
                        let to = Requester::Connection(n, connection.generation);
                        return self.request(&bytes[range], to, now);
                    }
                    connection.read.extend_from_slice(&bytes[..length]);
                    if connection.read.len() > CONNECTION_BYTES_MAX {
                        return self.close(n);
                    }
                    if is_all {
                        break;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.close(n),
            }
        }
        self.requests(n, now);
    }

    /// Takes the next request of a connection, if none of it is being answered.
    fn requests(&mut self, n: usize, now: UnixSeconds) {
        loop {
            let Some(Some(connection)) = self.connections.get_mut(n) else { return };
            if connection.busy || connection.closing {
                return;
            }
            match parse(&connection.read) {
                Parsed::Partial => {
                    if connection.read.is_empty() {
                        connection.read = Vec::new();
                    }
                    return;
                }
                Parsed::Frames(range) => {
                    let frames = connection.read[range.clone()].to_vec();
                    connection.read.drain(..range.end);
                    connection.busy = true;
                    let to = Requester::Connection(n, connection.generation);
                    self.request(&frames, to, now);
                }
                Parsed::Healthz(end) => {
                    connection.read.drain(..end);
                    answer(200, b"", false, &mut connection.write);
                    if !flush(connection) {
                        return self.close(n);
                    }
                }
                Parsed::Refused(status) => {
                    answer(status, b"", true, &mut connection.write);
                    flush(connection);
                    return self.close(n);
                }
            }
        }
    }

    pub(super) fn reply(&mut self, n: usize, generation: u64, answers: &[u8]) {
        let Some(Some(connection)) = self.connections.get_mut(n) else { return };
        if connection.generation != generation {
            return;
        }
        connection.busy = false;
        let refused = answers.is_empty();
        if !refused {
            connection.known = true;
            connection.heard_at = Instant::now();
        }
        let close = refused || connection.closing;
        self.scratch.clear();
        answer(if refused { 401 } else { 200 }, answers, close, &mut self.scratch);
        let written =
            if connection.write.is_empty() { connection.stream.write(&self.scratch).unwrap_or(0) } else { 0 };
        // What could not be written at once, or why not.
        connection.write.extend_from_slice(&self.scratch[written..]);
        if !flush(connection) || close {
            return self.close(n);
        }
        // What it sent meanwhile.
        if !connection.read.is_empty() {
            let now = self.clock.now();
            self.requests(n, now);
        }
    }
}

/// Writes what is to be written; `false` if the connection is of no use any more.
fn flush(connection: &mut Connection) -> bool {
    if connection.write.is_empty() {
        return true;
    }
    while !connection.write.is_empty() {
        match connection.stream.write(&connection.write) {
            Ok(0) => return false,
            Ok(length) => {
                connection.write.drain(..length);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                return connection.write.len() <= CONNECTION_BYTES_MAX;
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    connection.write = Vec::new();
    true
}
