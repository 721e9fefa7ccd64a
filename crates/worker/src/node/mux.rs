//! Many byte streams over one pair of pipes: yamux with the worker as the side that opens.
//!
//! Knows neither Ray nor HTTP: each stream is a TCP connection's bytes, both ways, unread.

use std::{future::poll_fn, io, task::Poll};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

/// One stream to a port inside the sandbox.
pub type NodeStream = Compat<yamux::Stream>;

/// Open streams at a time in one session: a renter's browser, log tails and jobs need tens.
const STREAMS_MAX: usize = 256;

type OpenReply = oneshot::Sender<io::Result<NodeStream>>;

/// The worker's side: asks the driver for new streams.
#[derive(Clone, Debug)]
pub struct Opener(mpsc::Sender<OpenReply>);

impl Opener {
    /// A new stream.
    ///
    /// # Errors
    /// `BrokenPipe` when the session is over, `QuotaExceeded` at [`STREAMS_MAX`] open streams.
    pub async fn open(&self) -> io::Result<NodeStream> {
        let gone = || io::Error::new(io::ErrorKind::BrokenPipe, "the node is gone");
        let (reply, answer) = oneshot::channel();
        self.0.send(reply).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn config() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(STREAMS_MAX);
    // 256 KiB is each stream's guaranteed part; the rest goes to the busy ones.
    config.set_max_connection_receive_window(Some(STREAMS_MAX * 256 * 1024 + 16 * 1024 * 1024));
    config
}

fn as_io(error: yamux::ConnectionError) -> io::Error {
    match error {
        yamux::ConnectionError::Io(error) => error,
        yamux::ConnectionError::TooManyStreams => {
            io::Error::new(io::ErrorKind::QuotaExceeded, "too many open streams to this node")
        }
        other => io::Error::other(other),
    }
}

/// The worker's side of a session over `socket`: an opener, and the driver that must be spawned.
/// The driver ends with the session; streams the node opens are dropped at once.
pub fn client<S>(socket: S) -> (Opener, impl Future<Output = io::Result<()>> + Send + use<S>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, mut requests) = mpsc::channel::<OpenReply>(16);
    let mut connection = yamux::Connection::new(socket.compat(), config(), yamux::Mode::Client);
    let mut pending: Option<OpenReply> = None;
    let driver = poll_fn(move |cx| {
        loop {
            if pending.is_none()
                && let Poll::Ready(Some(reply)) = requests.poll_recv(cx)
            {
                pending = Some(reply);
            }
            if pending.is_some()
                && let Poll::Ready(opened) = connection.poll_new_outbound(cx)
            {
                if let Some(reply) = pending.take() {
                    // A caller that no longer waits drops its stream, which closes it.
                    let _ = reply.send(opened.map(|s| s.compat()).map_err(as_io));
                }
                continue;
            }
            match connection.poll_next_inbound(cx) {
                Poll::Ready(Some(Ok(unasked))) => drop(unasked),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(as_io(error))),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    (Opener(sender), driver)
}

/// The node's side: each stream the worker opens becomes one connection to `127.0.0.1:port`.
/// Returns when the worker closes the session, with every connection closed.
///
/// # Errors
/// When the session breaks.
pub async fn serve<S>(socket: S, port: u16) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut connection = yamux::Connection::new(socket.compat(), config(), yamux::Mode::Server);
    let mut copies = JoinSet::new();
    loop {
        let inbound = poll_fn(|cx| connection.poll_next_inbound(cx)).await;
        while copies.join_next().now_or_never().flatten().is_some() {}
        let stream = match inbound {
            None => return Ok(()),
            Some(Err(error)) => return Err(as_io(error)),
            Some(Ok(stream)) => stream,
        };
        copies.spawn(async move {
            let mut stream = stream.compat();
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(mut tcp) => {
                    // Either side may vanish in the middle; both are then closed by the drop.
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut tcp).await;
                }
                Err(error) => tracing::warn!(port, %error, "could not connect a stream to the program"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    #[tokio::test]
    async fn streams_carry_bytes_both_ways_and_end_with_the_session() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut all = Vec::new();
                    tcp.read_to_end(&mut all).await.unwrap();
                    all.reverse();
                    tcp.write_all(&all).await.unwrap();
                });
            }
        });
        let (ours, theirs) = tokio::io::duplex(1000);
        let (opener, driver) = client(ours);
        let driver = tokio::spawn(driver);
        let server = tokio::spawn(serve(theirs, port));
        let mut echoes = JoinSet::new();
        for n in 0..20u8 {
            let opener = opener.clone();
            echoes.spawn(async move {
                let mut stream = opener.open().await.unwrap();
                let sent: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8 ^ n).collect();
                stream.write_all(&sent).await.unwrap();
                stream.shutdown().await.unwrap();
                let mut got = Vec::new();
                stream.read_to_end(&mut got).await.unwrap();
                got.reverse();
                assert!(got == sent, "stream {n} came back changed");
            });
        }
        while let Some(done) = echoes.join_next().await {
            done.unwrap();
        }
        driver.abort();
        let _ = driver.await;
        let _ = server.await.unwrap();
        assert_eq!(opener.open().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
