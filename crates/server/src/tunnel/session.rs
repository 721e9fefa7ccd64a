//! One tunnel: a task that keeps its yamux connection moving, and the streams that were opened on it.
//! Knows nothing of HTTP.

use std::{
    fmt, io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use gangline_types::ClusterId;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::MissedTickBehavior,
};
use tokio_util::{
    compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt},
    sync::CancellationToken,
};

use super::{Limits, TunnelError};

/// Streams of which yamux may know at once. Past this it gives the connection up, so it is twice ours.
const YAMUX_STREAMS_MAX: usize = 2 * Limits::STREAMS_MAX;
/// What a worker can make us hold unread for all of a tunnel's streams together: the least yamux takes,
/// 512 streams of 256 KiB, 128 MiB.
const RECEIVE_WINDOW_BYTES_MAX: usize = YAMUX_STREAMS_MAX * yamux::DEFAULT_CREDIT as usize;
/// Requests for a stream that may wait for the driver; more wait in line for a place.
const ORDERS_MAX: usize = 32;

/// Somebody waits for a stream.
type Order = oneshot::Sender<yamux::Stream>;

/// The side of a tunnel by which streams are asked for.
pub(super) struct Session {
    cluster: ClusterId,
    orders: mpsc::Sender<Order>,
    streams: Arc<Semaphore>,
    ended: CancellationToken,
}

impl Session {
    pub(super) fn is_alive(&self) -> bool {
        !self.ended.is_cancelled()
    }

    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    pub(super) async fn open(&self, limits: Limits) -> Result<TunnelStream, TunnelError> {
        let cluster = self.cluster;
        let limit = limits.streams_per_cluster;
        let permit = self.streams.clone().try_acquire_owned();
        let permit = permit.map_err(|_| TunnelError::TooManyStreams { cluster, limit })?;
        let (order, reply) = oneshot::channel();
        let opened = async {
            self.orders.send(order).await.ok()?;
            reply.await.ok()
        };
        match tokio::time::timeout(limits.open_timeout, opened).await {
            Ok(Some(stream)) => Ok(TunnelStream {
                inner: stream.compat(),
                ended: self.ended.clone(),
                bytes_read: 0,
                bytes_written: Arc::default(),
                shut: false,
                _permit: permit,
            }),
            Ok(None) => Err(TunnelError::Closed(cluster)),
            Err(_) => Err(TunnelError::OpenTimeout(cluster)),
        }
    }
}

/// Why a tunnel ended.
#[derive(Debug)]
pub(super) enum End {
    /// We closed it, or a newer one took its place.
    Ours,
    /// The worker closed it.
    Theirs,
    /// What the worker showed when it opened it has ended.
    Revoked,
    /// Nothing came from the worker for too long.
    Silent,
    /// The connection failed, or what came was not yamux.
    Broken(yamux::ConnectionError),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => f.write_str("closed by the server"),
            Self::Theirs => f.write_str("closed by the worker"),
            Self::Revoked => f.write_str("what it was opened under has ended"),
            Self::Silent => f.write_str("the worker fell silent"),
            Self::Broken(error) => write!(f, "broken: {error}"),
        }
    }
}

/// The side of a tunnel that keeps it moving.
pub(super) struct Driver {
    limits: Limits,
    io: Heard<TokioIo<Upgraded>>,
    orders: mpsc::Receiver<Order>,
    ended: CancellationToken,
}

impl Driver {
    /// Both sides of a tunnel over `upgraded`; it ends when `ended` is cancelled.
    pub(super) fn new(
        cluster: ClusterId,
        limits: Limits,
        upgraded: Upgraded,
        ended: CancellationToken,
    ) -> (Arc<Session>, Self) {
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        let streams = Arc::new(Semaphore::new(limits.streams_per_cluster));
        let session = Session { cluster, orders: sender, streams, ended: ended.clone() };
        let io = Heard { inner: TokioIo::new(upgraded), bytes: Arc::default() };
        (Arc::new(session), Self { limits, io, orders, ended })
    }

    /// Moves the connection until it ends. All its streams then fail: yamux wakes them when the
    /// connection is dropped, and only then, so it is never closed politely.
    pub(super) async fn run(self) -> End {
        let Self { limits, io, mut orders, ended } = self;
        let heard = io.bytes.clone();
        let mut config = yamux::Config::default();
        config.set_max_num_streams(YAMUX_STREAMS_MAX);
        config.set_max_connection_receive_window(Some(RECEIVE_WINDOW_BYTES_MAX));
        let mut connection = yamux::Connection::new(io.compat(), config, yamux::Mode::Client);
        // Declared after the connection, so dropped before it: a stream that wakes finds the tunnel ended.
        let _ended = ended.clone().drop_guard();

        let mut tick = tokio::time::interval(limits.tick);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silence = Silence::new(limits.silent_ticks_max);
        let mut order: Option<Order> = None;
        let moving = std::future::poll_fn(|cx| {
            loop {
                match connection.poll_next_inbound(cx) {
                    // Streams are opened from here alone: one of the worker's is reset.
                    Poll::Ready(Some(Ok(_refused))) => continue,
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(End::Broken(error)),
                    Poll::Ready(None) => return Poll::Ready(End::Theirs),
                    Poll::Pending => {}
                }
                if order.as_ref().is_none_or(oneshot::Sender::is_closed) {
                    order = match orders.poll_recv(cx) {
                        Poll::Ready(Some(next)) => Some(next),
                        Poll::Ready(None) => return Poll::Ready(End::Ours),
                        Poll::Pending => None,
                    };
                }
                if order.is_some() {
                    match connection.poll_new_outbound(cx) {
                        Poll::Ready(Ok(stream)) => {
                            if let Some(order) = order.take() {
                                // Whoever gave up waiting leaves a stream that is dropped unused.
                                let _ = order.send(stream);
                            }
                            continue;
                        }
                        Poll::Ready(Err(error)) => return Poll::Ready(End::Broken(error)),
                        Poll::Pending => {}
                    }
                }
                // Polling the connection each tick is also what makes yamux send its ping.
                if tick.poll_tick(cx).is_ready() {
                    if silence.is_over_long(heard.load(Ordering::Relaxed)) {
                        return Poll::Ready(End::Silent);
                    }
                    continue;
                }
                return Poll::Pending;
            }
        });
        tokio::select! {
            biased;
            () = ended.cancelled() => End::Ours,
            end = moving => end,
        }
    }
}

/// Counts ticks without a byte. Ticks, not time: a server that was itself suspended blames nobody.
struct Silence {
    bytes_heard: u64,
    ticks: u32,
    ticks_max: u32,
}

impl Silence {
    fn new(ticks_max: u32) -> Self {
        Self { bytes_heard: 0, ticks: 0, ticks_max }
    }

    fn is_over_long(&mut self, bytes_heard: u64) -> bool {
        self.ticks = if bytes_heard == self.bytes_heard { self.ticks + 1 } else { 0 };
        self.bytes_heard = bytes_heard;
        self.ticks > self.ticks_max
    }
}

/// A connection that counts what arrives.
struct Heard<T> {
    inner: T,
    bytes: Arc<AtomicU64>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        self.bytes.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// One connection to a cluster's Ray dashboard, with its place among those the cluster may have.
///
/// A read ends cleanly only where the other side closed in order. A stream that was reset, or whose tunnel
/// is gone, fails: with `ConnectionRefused` if the worker dropped it before a byte came back, else with
/// `ConnectionReset`. So an answer that was cut off is never taken for a whole one.
pub struct TunnelStream {
    inner: Compat<yamux::Stream>,
    ended: CancellationToken,
    bytes_read: u64,
    bytes_written: Arc<AtomicU64>,
    /// Whether we closed our half, after which an end in order and a reset look alike.
    shut: bool,
    _permit: OwnedSemaphorePermit,
}

impl TunnelStream {
    /// Bytes accepted for sending so far; it goes on counting for whoever holds it.
    pub(super) fn bytes_written(&self) -> Arc<AtomicU64> {
        self.bytes_written.clone()
    }

    fn lost(&self) -> io::Error {
        if self.ended.is_cancelled() {
            io::Error::new(io::ErrorKind::ConnectionReset, "the tunnel closed")
        } else if self.bytes_read == 0 {
            io::Error::new(io::ErrorKind::ConnectionRefused, "the worker refused the connection")
        } else {
            io::Error::new(io::ErrorKind::ConnectionReset, "the worker dropped the connection")
        }
    }
}

impl fmt::Debug for TunnelStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelStream").field("bytes_read", &self.bytes_read).finish_non_exhaustive()
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let room = buf.remaining();
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        let bytes = buf.filled().len() - before;
        self.bytes_read += bytes as u64;
        let at_end = read.is_ok() && bytes == 0 && room > 0;
        if read.is_err() || (at_end && self.inner.get_ref().is_closed() && !self.shut) {
            return Poll::Ready(Err(self.lost()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf)).map_err(|_| self.lost())?;
        self.bytes_written.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        Poll::Ready(flushed.map_err(|_| self.lost()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
        self.shut = true;
        Poll::Ready(shut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ticks_in_a_row_without_a_byte_count() {
        let mut silence = Silence::new(2);
        let verdicts: Vec<bool> =
            [0, 0, 5, 5, 5, 9, 9, 9, 9].into_iter().map(|n| silence.is_over_long(n)).collect();
        assert_eq!(verdicts, [false, false, false, false, false, false, false, false, true]);
    }
}
