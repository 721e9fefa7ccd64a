//! Connections: how many, from where, how long they may take to say something and to take the answer. Every
//! limit is here; what is said on them is the router's business.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{
    Request,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_io_timeout::TimeoutWriter;
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

use gangline_guard::forwarded::Proxies;

use crate::{config::Connections, panics, tls::ACME_TLS};

/// How long TLS may take to come about.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the first request's head may take.
const FIRST_HEAD: Duration = Duration::from_secs(15);
/// How long the next request's head may take, from the end of the answer before: more than the minute between
/// two beats, which then share a connection.
const NEXT_HEAD: Duration = Duration::from_secs(75);
/// How long we wait for the other side to take any of what we send.
const WRITE: Duration = Duration::from_secs(120);
/// Longest head of a request, in bytes.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Most header fields of a request: hyper's own limit. A browser sends about twenty, a signed request fewer.
pub const HEADERS_MAX: usize = 100;
/// What is read ahead of a body, in bytes.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// How long we wait when the system has no more connections to give.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Counters of connections.
#[derive(Debug, Default)]
pub struct Counters {
    /// Open now.
    pub open: AtomicU64,
    /// Closed at once, for a limit.
    pub turned_away: AtomicU64,
    /// Whose TLS did not come about.
    pub handshakes_failed: AtomicU64,
}

/// Whom a connection counts for: an address, or a network of 64 bits, which one customer has.
fn neighbourhood(ip: IpAddr) -> Option<IpAddr> {
    let ip = ip.to_canonical();
    match ip {
        _ if ip.is_loopback() => None,
        IpAddr::V4(_) => Some(ip),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Some(IpAddr::from([a, b, c, d, 0, 0, 0, 0]))
        }
    }
}

/// Holds the numbers of open connections.
#[derive(Debug, Default)]
struct Places {
    taken: Mutex<(u32, HashMap<IpAddr, u32>)>,
}

/// One connection's place, given back when dropped.
struct Place {
    places: Arc<Places>,
    near: Option<IpAddr>,
}

impl Places {
    fn take(self: &Arc<Self>, limits: Connections, proxies: &Proxies, from: IpAddr) -> Option<Place> {
        let near = neighbourhood(from).filter(|_| !proxies.hold(from));
        let mut taken = self.taken.lock().unwrap_or_else(|e| e.into_inner());
        let (all, by_address) = &mut *taken;
        if *all >= limits.max {
            return None;
        }
        if let Some(near) = near {
            let here = by_address.entry(near).or_default();
            if *here >= limits.per_address_max {
                return None;
            }
            *here += 1;
        }
        *all += 1;
        Some(Place { places: self.clone(), near })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(|e| e.into_inner());
        taken.0 -= 1;
        if let Some(near) = self.near
            && let Some(here) = taken.1.get_mut(&near)
        {
            *here -= 1;
            if *here == 0 {
                taken.1.remove(&near);
            }
        }
    }
}

/// What connections are served with.
#[derive(Clone)]
pub struct Serving {
    /// Answers requests.
    pub router: Router,
    /// TLS; none: plain HTTP.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// How many.
    pub connections: Connections,
    /// Whose connections are not counted by address, for they are everybody's.
    pub proxies: Arc<Proxies>,
    /// Counters.
    pub counters: Arc<Counters>,
    /// From now on no connection is taken, and those that are open end after the request that runs.
    pub stop: CancellationToken,
}

impl Serving {
    /// Takes connections until asked to stop, then waits for those that are open, for at most `drain`. `false`
    /// if some had to be cut off.
    pub async fn serve(self, listener: TcpListener, drain: Duration) -> bool {
        let (places, tracker, cut) = (Arc::<Places>::default(), TaskTracker::new(), CancellationToken::new());
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // One that went away is its own matter; no more descriptors is everybody's.
                    if !matches!(
                        error.kind(),
                        std::io::ErrorKind::ConnectionAborted | std::io::ErrorKind::ConnectionReset
                    ) {
                        tracing::warn!(%error, "a connection could not be taken");
                        tokio::time::sleep(EXHAUSTED).await;
                    }
                    continue;
                }
            };
            let Some(place) = places.take(self.connections, &self.proxies, peer.ip()) else {
                self.counters.turned_away.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let (serving, cut) = (self.clone(), cut.clone());
            tracker.spawn(async move {
                serving.counters.open.fetch_add(1, Ordering::Relaxed);
                tokio::select! {
                    // Caught here too, so that a connection is always counted out.
                    _ = panics::caught(serving.connection(stream, peer)) => {}
                    () = cut.cancelled() => {}
                }
                serving.counters.open.fetch_sub(1, Ordering::Relaxed);
                drop(place);
            });
        }
        drop(listener);
        tracker.close();
        let ended = tokio::time::timeout(drain, tracker.wait()).await.is_ok();
        cut.cancel();
        ended
    }

    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.requests(stream, peer).await };
        let handshake = TlsAcceptor::from(tls.clone()).accept(stream);
        let handshake = tokio::select! {
            done = tokio::time::timeout(HANDSHAKE, handshake) => done,
            () = self.stop.cancelled() => return,
        };
        match handshake {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(ACME_TLS) => {
                // The certificate was the answer; nothing more is said.
                tracing::debug!(%peer, "an authority has looked at the answer to its challenge");
            }
            Ok(Ok(stream)) => self.requests(stream, peer).await,
            Ok(Err(error)) => {
                self.counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%peer, %error, "TLS did not come about");
            }
            Err(_) => {
                self.counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn requests(&self, stream: impl AsyncRead + AsyncWrite + Send + 'static, peer: SocketAddr) {
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(WRITE));
        let spoken = Arc::new(AtomicBool::new(false));
        let (router, heard) = (self.router.clone(), spoken.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            heard.store(true, Ordering::Relaxed);
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let router = router.clone();
            // A length beside it is passed over (RFC 9112 section 6.3), and whoever stands in front of this server may
            // have counted by that: what follows on this connection is not read as a request.
            let is_coded = request.headers().contains_key(header::TRANSFER_ENCODING);
            async move {
                let answered = panics::caught(router.oneshot(request)).await;
                let mut answer = match answered {
                    Ok(answered) => answered.unwrap_or_else(|never| match never {}),
                    Err(broke_off) => {
                        tracing::error!(%peer, error = &broke_off as &dyn std::error::Error, "a request was not answered as it should");
                        panics::answer()
                    }
                };
                if is_coded {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(NEXT_HEAD)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
            .with_upgrades();
        tokio::pin!(connection);
        let first = tokio::time::sleep(FIRST_HEAD);
        tokio::pin!(first);
        let mut is_early = true;
        let mut is_stopping = false;
        loop {
            tokio::select! {
                ended = &mut connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, %error, "a connection broke off");
                    }
                    return;
                }
                () = &mut first, if is_early => {
                    is_early = false;
                    if !spoken.load(Ordering::Relaxed) {
                        return;
                    }
                }
                () = self.stop.cancelled(), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_breaks_off_ends_nothing_but_itself() {
        use axum::routing::get;
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        async fn breaks() -> &'static str {
            panic!("a mistake of ours")
        }
        let router = Router::new().route("/breaks", get(breaks)).route("/works", get(async || "it works"));
        let (stop, counters) = (CancellationToken::new(), Arc::<Counters>::default());
        let serving = Serving {
            router,
            tls: None,
            connections: Connections::default(),
            proxies: Arc::default(),
            counters: counters.clone(),
            stop: stop.clone(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(serving.serve(listener, Duration::from_secs(60)));
        let ask = async |stream: &mut TcpStream, path: &str, until: &str| {
            stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes()).await.unwrap();
            let mut text = Vec::new();
            while !String::from_utf8_lossy(&text).contains(until) {
                assert!(stream.read_buf(&mut text).await.unwrap() > 0, "{}", String::from_utf8_lossy(&text));
            }
            String::from_utf8(text).unwrap()
        };
        let mut beside = TcpStream::connect(address).await.unwrap();
        ask(&mut beside, "/works", "it works").await;
        let mut one = TcpStream::connect(address).await.unwrap();
        let told = ask(&mut one, "/breaks", "}").await;
        assert!(told.starts_with("HTTP/1.1 500") && told.contains("\"internal\""), "{told}");
        assert!(!told.contains("a mistake of ours"), "the cause was told: {told}");
        assert_eq!(one.read(&mut [0; 1]).await.unwrap(), 0, "its connection goes on");
        // Whoever was there before, and whoever comes next, notices nothing.
        ask(&mut beside, "/works", "it works").await;
        ask(&mut TcpStream::connect(address).await.unwrap(), "/works", "it works").await;
        drop(beside);
        stop.cancel();
        assert!(served.await.unwrap());
        assert_eq!(counters.open.load(Ordering::Relaxed), 0, "a connection was never counted out");
    }

    #[test]
    fn places_are_counted_in_all_and_by_neighbourhood() {
        let places = Arc::<Places>::default();
        let limits = Connections { max: 4, per_address_max: 2 };
        let proxies = Proxies::of(["10.0.0.0/8"]).unwrap();
        let take = |ip: &str| places.take(limits, &proxies, ip.parse().unwrap());
        let first = take("2a00:1:2:3::1");
        let _second = take("2a00:1:2:3:ffff::2");
        assert!(first.is_some() && take("2a00:1:2:3::9").is_none(), "one network has two places");
        let _other = take("::ffff:9.9.9.9");
        assert!(take("9.9.9.9").is_some_and(|_| true), "and another address two of its own");
        drop(first);
        let _again = take("2a00:1:2:3::9");
        let last = take("127.0.0.1");
        assert!(last.is_some() && take("127.0.0.1").is_none() && take("8.8.8.8").is_none(), "four in all");
        drop(last);
        assert!(take("127.0.0.1").is_some());
        assert_eq!(places.taken.lock().unwrap().1.len(), 2, "who has none is not remembered");
        let roomy = Connections { max: 99, ..limits };
        let through: Vec<_> =
            (0..5).map(|_| places.take(roomy, &proxies, "10.0.0.2".parse().unwrap())).collect();
        assert!(through.iter().all(Option::is_some), "a proxy of ours has everybody's connections");
    }
}
