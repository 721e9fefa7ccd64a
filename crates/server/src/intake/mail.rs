//! Many datagrams with one call of the system, where it has such a call; one by one elsewhere.

use std::net::SocketAddr;

use gangline_wire::beat::{ANSWER_BYTES, OPENED_BYTES, OPENING_BYTES_MAX};
use mio::net::UdpSocket;

/// Datagrams taken or sent with one call.
pub(super) const AT_ONCE: usize = if cfg!(target_os = "linux") { 64 } else { 1 };
/// One byte more than the longest question has: what is longer is none.
const ROOM: usize = OPENING_BYTES_MAX + 1;

/// Datagrams as they came.
pub(super) struct Inbox {
    bytes: Vec<[u8; ROOM]>,
    came: Vec<(usize, SocketAddr)>,
    #[cfg(target_os = "linux")]
    heads: nix::sys::socket::MultiHeaders<nix::sys::socket::SockaddrStorage>,
}

/// An answer as it is sent: to a beat, or to a question for an epoch.
enum Answer {
    Beat([u8; ANSWER_BYTES]),
    Opened(Box<[u8; OPENED_BYTES]>),
}

impl Answer {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Beat(bytes) => bytes,
            Self::Opened(bytes) => bytes.as_slice(),
        }
    }
}

/// Answers to be sent.
#[derive(Default)]
pub(super) struct Outbox {
    answers: Vec<Answer>,
    to: Vec<SocketAddr>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![[0; ROOM]; AT_ONCE],
            came: Vec::with_capacity(AT_ONCE),
            #[cfg(target_os = "linux")]
            heads: nix::sys::socket::MultiHeaders::preallocate(AT_ONCE, None),
        }
    }

    /// The datagrams of the last [`Self::receive`].
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        self.came.iter().zip(&self.bytes).map(|((length, from), bytes)| (&bytes[..*length], *from))
    }

    /// Takes what has arrived; how many there were, and none if the socket has no more.
    #[cfg(target_os = "linux")]
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> usize {
        use std::{io::IoSliceMut, os::fd::AsRawFd};

        use nix::sys::socket::{MsgFlags, SockaddrStorage, recvmmsg};

        self.came.clear();
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            self.bytes.iter_mut().map(|bytes| [IoSliceMut::new(bytes)]).collect();
        let got =
            recvmmsg(socket.as_raw_fd(), &mut self.heads, slices.iter_mut(), MsgFlags::MSG_DONTWAIT, None);
        let Ok(got) = got else { return 0 };
        let address = |from: SockaddrStorage| -> Option<SocketAddr> {
            if let Some(v4) = from.as_sockaddr_in() {
                return Some((v4.ip(), v4.port()).into());
            }
            from.as_sockaddr_in6().map(|v6| (v6.ip(), v6.port()).into())
        };
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        for message in got {
            // From nowhere: no bytes are a frame, so it is passed over.
            let from = message.address.and_then(address);
            self.came.push((from.map_or(0, |_| message.bytes.min(ROOM)), from.unwrap_or(nowhere)));
        }
        self.came.len()
    }

    /// Takes one that has arrived.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> usize {
        self.came.clear();
        loop {
            match socket.recv_from(&mut self.bytes[0]) {
                Ok(came) => self.came.push(came),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                // A peer that is gone is told of here; it is no fault of the socket's.
                Err(_) => continue,
            }
            return self.came.len();
        }
    }
}

impl Outbox {
    pub(super) fn push(&mut self, answer: [u8; ANSWER_BYTES], to: SocketAddr) {
        self.answers.push(Answer::Beat(answer));
        self.to.push(to);
    }
    pub(super) fn push_opened(&mut self, answer: Box<[u8; OPENED_BYTES]>, to: SocketAddr) {
        self.answers.push(Answer::Opened(answer));
        self.to.push(to);
    }

    /// Sends all there are. What a full socket does not take is lost, and asked for again.
    pub(super) fn send(&mut self, socket: &UdpSocket) {
        if !self.to.is_empty() {
            self.send_all(socket);
            self.answers.clear();
            self.to.clear();
        }
    }

    #[cfg(target_os = "linux")]
    fn send_all(&self, socket: &UdpSocket) {
        use std::{io::IoSlice, os::fd::AsRawFd};

        use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg};

        let none: [ControlMessage<'_>; 0] = [];
        let mut heads = MultiHeaders::<SockaddrStorage>::preallocate(self.to.len().min(AT_ONCE), None);
        for (answers, to) in self.answers.chunks(AT_ONCE).zip(self.to.chunks(AT_ONCE)) {
            let mut from = 0;
            while from < to.len() {
                let slices: Vec<[IoSlice<'_>; 1]> =
                    answers[from..].iter().map(|a| [IoSlice::new(a.bytes())]).collect();
                let to: Vec<Option<SockaddrStorage>> =
                    to[from..].iter().map(|to| Some(SockaddrStorage::from(*to))).collect();
                let sent = sendmmsg(
                    socket.as_raw_fd(),
                    &mut heads,
                    slices.iter(),
                    &to,
                    none,
                    MsgFlags::MSG_DONTWAIT,
                );
                match sent {
                    Ok(sent) => from += sent.count().max(1),
                    Err(nix::errno::Errno::EAGAIN) => return,
                    // The first of these cannot be sent: to an address that is gone, for example.
                    Err(_) => from += 1,
                }
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn send_all(&self, socket: &UdpSocket) {
        for (answer, to) in self.answers.iter().zip(&self.to) {
            let _ = socket.send_to(answer.bytes(), *to);
        }
    }
}
