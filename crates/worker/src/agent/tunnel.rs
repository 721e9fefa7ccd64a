//! The renter's way to a cluster: a connection that this machine opens to the server, over which the
//! server opens streams, each carried to the node unread.
//!
//! Knows neither Ray nor HTTP inside the streams, and listens on no port.

use std::{future::poll_fn, io, sync::Arc, time::Duration};

use futures_util::FutureExt;
use gangline_types::ClusterId;
use gangline_wire::{Endpoint, endpoints::Tunnel};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

use super::{backoff::Backoff, preflight::chain, shared::Shared};
use crate::{client::ClientError, node::mux::Opener};

/// What the connection is upgraded to.
const PROTOCOL: &str = "gangline-tunnel";
/// Open streams at a time: as many as a node takes.
const STREAMS_MAX: usize = 256;
const ANSWER_SECONDS_MAX: u64 = 30;

/// Keeps the way open until this is dropped; `shown` is told when it opens and closes.
pub(crate) async fn keep_open(shared: Arc<Shared>, cluster: ClusterId, opener: Opener, shown: impl Fn(bool)) {
    let mut backoff = Backoff::default();
    loop {
        let wait = match connect(&shared, cluster).await {
            Ok(connection) => {
                shared.reached();
                shown(true);
                tracing::info!(%cluster, "the renter's way to the cluster is open");
                let opened = tokio::time::Instant::now();
                let ended = serve(connection, || {
                    let opener = opener.clone();
                    async move { opener.open().await }
                })
                .await;
                shown(false);
                tracing::info!(%cluster, ended = ended.err().map(|e| e.to_string()).unwrap_or_default(), "the renter's way to the cluster closed");
                // One that lasted was a success; one that closes at once must not spin.
                if opened.elapsed() > Duration::from_secs(30) {
                    backoff.worked();
                }
                backoff.failed()
            }
            Err(error) => {
                shared.failed("open the renter's way to a cluster", &error);
                backoff.failed()
            }
        };
        tokio::time::sleep(wait).await;
    }
}

async fn connect(shared: &Shared, cluster: ClusterId) -> Result<reqwest::Upgraded, ClientError> {
    let path = Tunnel::path(&[&cluster]);
    let headers = [("connection", "upgrade"), ("upgrade", PROTOCOL)];
    let url = || shared.client.base().to_owned();
    // The limit is for the answer's head: the connection itself lasts as long as the cluster.
    let asked = shared.client.raw("GET", &path, "", &headers, Vec::new(), None);
    let response =
        tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), asked).await.map_err(|_| {
            ClientError::NotOurs { url: url(), what: format!("nothing within {ANSWER_SECONDS_MAX} s") }
        })??;
    if response.status().as_u16() != 101 {
        let status = response.status();
        let refused = shared.client.read_json::<serde_json::Value>(response).await.err();
        return Err(refused.unwrap_or_else(|| ClientError::NotOurs {
            url: url(),
            what: format!("{status} where it should change to {PROTOCOL}"),
        }));
    }
    response.upgrade().await.map_err(|source| ClientError::Unreachable { url: url(), source })
}

/// Carries each stream the other side opens to what `open` gives. Returns when the connection ends,
/// with every stream closed.
async fn serve<S, T, F>(socket: S, open: impl Fn() -> F) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut config = yamux::Config::default();
    config.set_max_num_streams(STREAMS_MAX);
    // 256 KiB is each stream's guaranteed part; the rest goes to the busy ones.
    config.set_max_connection_receive_window(Some(STREAMS_MAX * 256 * 1024 + 16 * 1024 * 1024));
    let mut connection = yamux::Connection::new(socket.compat(), config, yamux::Mode::Server);
    let mut copies = JoinSet::new();
    loop {
        let inbound = poll_fn(|cx| connection.poll_next_inbound(cx)).await;
        while copies.join_next().now_or_never().flatten().is_some() {}
        let stream = match inbound {
            None => return Ok(()),
            Some(Err(yamux::ConnectionError::Io(e))) => return Err(e),
            Some(Err(other)) => return Err(io::Error::other(other)),
            Some(Ok(stream)) => stream,
        };
        let opening = open();
        copies.spawn(async move {
            match opening.await {
                Ok(mut node) => {
                    // Either side may vanish in the middle; both are then closed by the drop.
                    let _ = tokio::io::copy_bidirectional(&mut stream.compat(), &mut node).await;
                }
                Err(e) => tracing::warn!(error = chain(&e), "could not carry a renter's stream to the node"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::node::mux;

    #[tokio::test]
    async fn what_the_server_opens_reaches_the_node_and_ends_with_the_connection() {
        let (worker, server) = tokio::io::duplex(1000);
        // A node that answers with what it was sent, turned round.
        let serving = tokio::spawn(serve(worker, || async {
            let (ours, mut theirs) = tokio::io::duplex(1000);
            tokio::spawn(async move {
                let mut all = Vec::new();
                theirs.read_to_end(&mut all).await.unwrap();
                all.reverse();
                theirs.write_all(&all).await.unwrap();
            });
            Ok(ours)
        }));
        let (opener, driver) = mux::client(server);
        let driver = tokio::spawn(driver);
        for text in ["first", "second"] {
            let mut stream = opener.open().await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, text.chars().rev().collect::<String>());
        }
        driver.abort();
        let _ = driver.await;
        // The connection broke or closed; either way serving ends.
        let _ = serving.await.unwrap();
    }
}
