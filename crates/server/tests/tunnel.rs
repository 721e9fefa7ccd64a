//! Tunnels through a real server: a worker that upgrades and speaks yamux, a Ray that wants its token,
//! a renter with plain requests and WebSockets.

#![allow(clippy::unwrap_used)]

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::Response,
    routing::{any, get},
};
use futures_util::{SinkExt, StreamExt};
use gangline_server::live::Live;
use gangline_server::tunnel::{Limits, Link, PROTOCOL, TunnelError, Tunnels};
use gangline_types::ClusterId;
use gangline_wire::ErrorBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::{body::Frame, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

/// Longer than anything here takes; reached only where a test fails.
const PATIENCE: Duration = Duration::from_secs(30);
const TOKEN: &str = "token-of-this-cluster";

fn cluster() -> ClusterId {
    ClusterId::from_bytes([7; 16])
}

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    addr
}

/// A way to another server, and where that is.
type By = Option<(Link, String)>;

async fn server(tunnels: &Tunnels) -> SocketAddr {
    server_by(tunnels, None).await
}

/// A server that does what the real one does once it has decided who may, and found where the tunnel ends.
async fn server_by(tunnels: &Tunnels, by: By) -> SocketAddr {
    async fn tunnel(
        State((tunnels, _)): State<(Tunnels, By)>,
        Path(id): Path<String>,
        mut request: Request,
    ) -> Response {
        tunnels.accept(id.parse().unwrap(), &mut request, Live::of_nobody())
    }
    async fn ray(
        State((tunnels, by)): State<(Tunnels, By)>,
        Path((id, path)): Path<(String, String)>,
        request: Request,
    ) -> Response {
        let query = request.uri().query().map(|q| format!("?{q}")).unwrap_or_default();
        let path = format!("/{path}{query}");
        let cluster = id.parse().unwrap();
        let there = match by {
            Some((link, address)) => link.open(&address, cluster).await.ok(),
            None => None,
        };
        tunnels.forward(cluster, TOKEN, request, &path, &Live::of_nobody(), there).await
    }
    let router =
        Router::new().route("/tunnel/{cluster}", get(tunnel)).route("/ray/{cluster}/{*path}", any(ray));
    serve(router.with_state((tunnels.clone(), by))).await
}

/// Asks for the tunnel and gives the upgraded connection.
async fn upgrade(server: SocketAddr) -> hyper::upgrade::Upgraded {
    let request = hyper::Request::get(format!("/tunnel/{}", cluster()))
        .header(header::HOST, server.to_string())
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, PROTOCOL);
    let response = send(server, request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()[header::UPGRADE], PROTOCOL);
    hyper::upgrade::on(response).await.unwrap()
}

/// A worker that joins every stream to `ray`; aborting it ends all of it at once.
fn worker(server: SocketAddr, ray: SocketAddr) -> JoinHandle<()> {
    tokio::spawn(async move {
        let io = TokioIo::new(upgrade(server).await).compat();
        let mut connection = yamux::Connection::new(io, yamux::Config::default(), yamux::Mode::Server);
        let mut pipes = JoinSet::new();
        while let Some(Ok(stream)) = std::future::poll_fn(|cx| connection.poll_next_inbound(cx)).await {
            pipes.spawn(async move {
                let mut stream = stream.compat();
                if let Ok(mut ray) = TcpStream::connect(ray).await {
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut ray).await;
                }
            });
        }
    })
}

async fn send(server: SocketAddr, request: hyper::Request<Body>) -> hyper::Result<hyper::Response<Incoming>> {
    let stream = TcpStream::connect(server).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection.with_upgrades());
    within(sender.send_request(request)).await
}

fn ask(method: Method, path: &str, body: impl Into<Body>) -> hyper::Request<Body> {
    let uri = format!("/ray/{}/{path}", cluster());
    hyper::Request::builder()
        .method(method)
        .uri(uri)
        .header(header::HOST, "gangline")
        .body(body.into())
        .unwrap()
}

async fn text(response: hyper::Response<Incoming>) -> String {
    String::from_utf8(within(response.into_body().collect()).await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn refused(server: SocketAddr, request: hyper::Request<Body>, status: u16, code: &str) {
    let response = send(server, request).await.unwrap();
    assert_eq!(response.status().as_u16(), status);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    let body: ErrorBody = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(body.code, code, "{body}");
}

/// A dashboard that wants its token, as Ray's does.
async fn ray() -> SocketAddr {
    async fn guarded(request: Request, next: axum::middleware::Next) -> Response {
        let authorization = request.headers().get_all(header::AUTHORIZATION).iter().collect::<Vec<_>>();
        if authorization == [&format!("Bearer {TOKEN}")] {
            next.run(request).await
        } else {
            Response::builder().status(401).body(Body::empty()).unwrap()
        }
    }
    async fn seen(method: Method, uri: axum::http::Uri, headers: HeaderMap, body: Bytes) -> Response {
        let mut names: Vec<&str> = headers.keys().map(|n| n.as_str()).collect();
        names.sort_unstable();
        let host = headers[header::HOST].to_str().unwrap();
        let answer = format!("{method} {uri} {host} [{}] {} bytes", names.join(" "), body.len());
        let response = Response::builder().header(header::SET_COOKIE, "a=b").header("x-ray", "1");
        response.header(header::CONTENT_SECURITY_POLICY, "script-src *").body(answer.into()).unwrap()
    }
    async fn tail() -> Response {
        let first = futures_util::stream::once(async {
            Ok::<_, Infallible>(Frame::data(Bytes::from("first line\n")))
        });
        Response::new(Body::new(StreamBody::new(first.chain(futures_util::stream::pending()))))
    }
    async fn large() -> Bytes {
        Bytes::from(vec![b'r'; 8 << 20])
    }
    async fn echo(mut request: Request) -> Response {
        let key = derive_accept_key(request.headers()["sec-websocket-key"].as_bytes());
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let io = TokioIo::new(upgrade.await.unwrap());
            let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
            while let Some(Ok(message)) = socket.next().await {
                if message.is_text() && socket.send(message).await.is_err() {
                    return;
                }
            }
        });
        let response = Response::builder().status(101).header("sec-websocket-accept", key);
        let response = response.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "websocket");
        response.body(Body::empty()).unwrap()
    }
    let router = Router::new()
        .route("/seen", any(seen).layer(axum::extract::DefaultBodyLimit::disable()))
        .route("/tail", get(tail))
        .route("/large", get(large))
        .route("/echo", get(echo))
        .layer(axum::middleware::from_fn(guarded));
    serve(router).await
}

/// A Ray that reads a request's head and then writes `answer` and nothing more.
async fn rude_ray(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            assert_ne!(stream.read(&mut head).await.unwrap(), 0);
            stream.write_all(answer).await.unwrap();
            held.push(stream);
        }
    });
    addr
}

/// Server, worker and tunnel, ready.
async fn joined(limits: Limits, ray: SocketAddr) -> (Tunnels, SocketAddr, JoinHandle<()>) {
    let tunnels = Tunnels::with_limits(limits);
    let server = server(&tunnels).await;
    let worker = worker(server, ray);
    assert!(tunnels.wait_open(cluster(), PATIENCE).await, "the tunnel opens");
    (tunnels, server, worker)
}

async fn closed(tunnels: &Tunnels) {
    within(async {
        while tunnels.is_open(cluster()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Waits until the cluster takes another connection.
async fn free(tunnels: &Tunnels) {
    within(async {
        while tunnels.open(cluster()).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_reaches_ray_with_its_token_and_without_ours() {
    let (_tunnels, server, _worker) = joined(Limits::default(), ray().await).await;
    let mut request = ask(Method::GET, "seen?a=%2F&b", Body::empty());
    for name in [
        "signature",
        "signature-input",
        "gangline-sequence",
        "content-digest",
        "cookie",
        "authorization",
        "x-forwarded-for",
        "forwarded",
        "te",
        "accept",
    ] {
        request.headers_mut().insert(name, "x".parse().unwrap());
    }
    let response = send(server, request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers();
    assert!(!headers.contains_key(header::SET_COOKIE));
    assert_eq!(headers["x-ray"], "1");
    let policies: Vec<_> = headers.get_all(header::CONTENT_SECURITY_POLICY).iter().collect();
    assert_eq!(policies, ["sandbox"]);
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(text(response).await, "GET /seen?a=%2F&b 127.0.0.1:8265 [accept authorization host] 0 bytes");
}

#[tokio::test]
async fn bodies_pass_both_ways_whole() {
    let (_tunnels, server, _worker) = joined(Limits::default(), ray().await).await;
    let package = Bytes::from(vec![b'p'; 5 << 20]);
    let answer = text(send(server, ask(Method::PUT, "seen", package)).await.unwrap()).await;
    assert_eq!(
        answer, "PUT /seen 127.0.0.1:8265 [authorization content-length host] 5242880 bytes",
        "a whole body keeps its length"
    );
    let response = send(server, ask(Method::GET, "large", Body::empty())).await.unwrap();
    assert_eq!(text(response).await.len(), 8 << 20);
    let response = send(server, ask(Method::HEAD, "large", Body::empty())).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_LENGTH], (8 << 20).to_string());
}

#[tokio::test]
async fn many_requests_share_a_tunnel() {
    let (_tunnels, server, _worker) = joined(Limits::default(), ray().await).await;
    let mut asked = JoinSet::new();
    for n in 0..60 {
        asked.spawn(async move {
            text(send(server, ask(Method::GET, &format!("seen?{n}"), "")).await.unwrap()).await
        });
    }
    let answers = within(asked.join_all()).await;
    assert!(answers.iter().all(|a| a.starts_with("GET /seen?")), "{answers:?}");
}

#[tokio::test]
async fn an_answer_streams_and_breaks_off_with_an_error_when_the_worker_dies() {
    let (tunnels, server, worker) = joined(Limits::default(), ray().await).await;
    let mut body = send(server, ask(Method::GET, "tail", "")).await.unwrap().into_body();
    let first = within(body.frame()).await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, "first line\n");
    worker.abort();
    assert!(within(body.frame()).await.unwrap().is_err(), "cut off, and not ended");
    closed(&tunnels).await;
    refused(server, ask(Method::GET, "seen", ""), 503, "cluster_not_reachable").await;
}

#[tokio::test]
async fn an_answer_without_a_length_that_is_cut_off_is_not_taken_for_whole() {
    let ray = rude_ray(b"HTTP/1.1 200 OK\r\n\r\nhalf").await;
    let (_tunnels, server, worker) = joined(Limits::default(), ray).await;
    let mut body = send(server, ask(Method::GET, "x", "")).await.unwrap().into_body();
    assert_eq!(within(body.frame()).await.unwrap().unwrap().into_data().unwrap(), "half");
    worker.abort();
    assert!(within(body.frame()).await.unwrap().is_err());
}

fn websocket() -> hyper::Request<Body> {
    let mut request = ask(Method::GET, "echo", "");
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    request
}

#[tokio::test]
async fn a_websocket_is_joined_and_ends_with_the_worker() {
    let (_tunnels, server, worker) = joined(Limits::default(), ray().await).await;
    let response = send(server, websocket()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
    for line in ["one", "two"] {
        socket.send(Message::text(line)).await.unwrap();
        assert_eq!(within(socket.next()).await.unwrap().unwrap(), Message::text(line));
    }
    worker.abort();
    assert!(within(socket.next()).await.is_none_or(|m| m.is_err()));
}

#[tokio::test]
async fn a_websocket_that_the_renter_ends_gives_its_place_back() {
    let limits = Limits { streams_per_cluster: 1, ..Limits::default() };
    let (tunnels, server, _worker) = joined(limits, ray().await).await;
    let response = send(server, websocket()).await.unwrap();
    let upgraded = hyper::upgrade::on(response).await.unwrap();
    refused(server, ask(Method::GET, "seen", ""), 503, "cluster_busy").await;
    drop(upgraded);
    free(&tunnels).await;
}

#[tokio::test]
async fn a_renter_that_goes_away_gives_its_place_back() {
    let limits = Limits { streams_per_cluster: 1, ..Limits::default() };
    let (tunnels, server, _worker) = joined(limits, ray().await).await;
    let body = send(server, ask(Method::GET, "tail", "")).await.unwrap().into_body();
    drop(body);
    free(&tunnels).await;

    let ray = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (tunnels, server, _worker) = joined(limits, ray.local_addr().unwrap()).await;
    let mut waiting = TcpStream::connect(server).await.unwrap();
    let head = format!("GET /ray/{}/x HTTP/1.1\r\nhost: x\r\n\r\n", cluster());
    waiting.write_all(head.as_bytes()).await.unwrap();
    let (mut unanswered, _) = within(ray.accept()).await.unwrap();
    assert_ne!(within(unanswered.read(&mut [0; 4096])).await.unwrap(), 0);
    drop(waiting);
    free(&tunnels).await;
}

#[tokio::test]
async fn what_ray_does_not_upgrade_is_an_answer() {
    let (_tunnels, server, _worker) = joined(Limits::default(), ray().await).await;
    let mut request = websocket();
    *request.uri_mut() = format!("/ray/{}/seen", cluster()).parse().unwrap();
    assert_eq!(send(server, request).await.unwrap().status(), StatusCode::OK);
    let mut request = websocket();
    request.headers_mut().insert(header::UPGRADE, "h2c".parse().unwrap());
    *request.uri_mut() = format!("/ray/{}/seen", cluster()).parse().unwrap();
    let seen = text(send(server, request).await.unwrap()).await;
    assert!(!seen.contains("upgrade") && !seen.contains("connection"), "{seen}");
}

#[tokio::test]
async fn a_newer_tunnel_takes_the_place_of_the_older() {
    let (tunnels, server, first) =
        joined(Limits::default(), rude_ray(b"HTTP/1.1 200 OK\r\n\r\nold").await).await;
    let mut old = send(server, ask(Method::GET, "x", "")).await.unwrap().into_body();
    within(old.frame()).await.unwrap().unwrap();
    let _second = worker(server, ray().await);
    assert!(within(old.frame()).await.unwrap().is_err(), "the older one's connections end");
    within(first).await.unwrap();
    assert!(tunnels.is_open(cluster()));
    assert_eq!(tunnels.open_count(), 1);
    assert!(text(send(server, ask(Method::GET, "seen", "")).await.unwrap()).await.starts_with("GET /seen"));
}

#[tokio::test]
async fn closing_ends_tunnel_and_answers() {
    let (tunnels, server, worker) = joined(Limits::default(), ray().await).await;
    let mut body = send(server, ask(Method::GET, "tail", "")).await.unwrap().into_body();
    within(body.frame()).await.unwrap().unwrap();
    tunnels.close(cluster());
    assert!(!tunnels.is_open(cluster()));
    assert_eq!(tunnels.open(cluster()).await.unwrap_err(), TunnelError::NotOpen(cluster()));
    assert!(within(body.frame()).await.unwrap().is_err());
    within(worker).await.unwrap();
    assert!(!tunnels.wait_open(cluster(), Duration::from_millis(1)).await);
}

#[tokio::test]
async fn no_more_streams_than_the_limit() {
    let limits = Limits { streams_per_cluster: 2, ..Limits::default() };
    let (tunnels, server, _worker) = joined(limits, ray().await).await;
    let first = tunnels.open(cluster()).await.unwrap();
    let _second = tunnels.open(cluster()).await.unwrap();
    let full = TunnelError::TooManyStreams { cluster: cluster(), limit: 2 };
    assert_eq!(tunnels.open(cluster()).await.unwrap_err(), full);
    refused(server, ask(Method::GET, "seen", ""), 503, "cluster_busy").await;
    drop(first);
    assert_eq!(send(server, ask(Method::GET, "seen", "")).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn each_failure_is_told_apart() {
    let tunnels = Tunnels::new();
    let alone = server(&tunnels).await;
    refused(alone, ask(Method::GET, "seen", ""), 503, "cluster_not_reachable").await;
    let plain = hyper::Request::get(format!("/tunnel/{}", cluster())).header(header::HOST, "x");
    refused(alone, plain.body(Body::empty()).unwrap(), 426, "upgrade_required").await;

    let limits = Limits { first_byte_timeout: Duration::from_millis(200), ..Limits::default() };
    let (_t, silent, _w) = joined(limits, rude_ray(b"").await).await;
    refused(silent, ask(Method::GET, "x", ""), 504, "cluster_timeout").await;

    let (_t, garbled, _w) = joined(Limits::default(), rude_ray(b"not HTTP at all\r\n\r\n").await).await;
    refused(garbled, ask(Method::GET, "x", ""), 502, "cluster_answer_malformed").await;
    refused(garbled, ask(Method::TRACE, "x", ""), 405, "method_not_forwarded").await;

    let unasked = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let (_t, switching, _w) = joined(Limits::default(), rude_ray(unasked).await).await;
    refused(switching, ask(Method::GET, "x", ""), 502, "cluster_answer_malformed").await;

    // Bound and not listening: nobody else gets the port.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let (_t, starting, _w) = joined(Limits::default(), nobody.local_addr().unwrap()).await;
    refused(starting, ask(Method::GET, "x", ""), 502, "cluster_refused").await;
}

#[tokio::test]
async fn a_worker_that_falls_silent_is_given_up() {
    let limits = Limits { tick: Duration::from_millis(50), silent_ticks_max: 3, ..Limits::default() };
    let tunnels = Tunnels::with_limits(limits);
    let server = server(&tunnels).await;
    let (open, mut opened) = watch::channel(false);
    let _mute = tokio::spawn(async move {
        let _unread = upgrade(server).await;
        open.send_replace(true);
        std::future::pending::<()>().await;
    });
    within(opened.wait_for(|o| *o)).await.unwrap();
    closed(&tunnels).await;
    refused(server, ask(Method::GET, "x", ""), 503, "cluster_not_reachable").await;
}

#[tokio::test]
async fn a_worker_that_does_not_speak_yamux_or_opens_streams_harms_nobody() {
    let (tunnels, server, _worker) = joined(Limits::default(), ray().await).await;
    let mut babbling = TokioIo::new(upgrade(server).await);
    babbling.write_all(&[0xff; 64]).await.unwrap();
    let mut rest = Vec::new();
    let _ = within(babbling.read_to_end(&mut rest)).await;
    closed(&tunnels).await;

    let io = TokioIo::new(upgrade(server).await).compat();
    let mut connection = yamux::Connection::new(io, yamux::Config::default(), yamux::Mode::Server);
    assert!(tunnels.wait_open(cluster(), PATIENCE).await);
    let stream = std::future::poll_fn(|cx| connection.poll_new_outbound(cx)).await.unwrap();
    let _moving = tokio::spawn(async move {
        while let Some(Ok(_)) = std::future::poll_fn(|cx| connection.poll_next_inbound(cx)).await {}
    });
    let mut stream = stream.compat();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(within(stream.read(&mut [0; 1])).await.unwrap(), 0, "reset");
    assert!(tunnels.is_open(cluster()));
}

#[tokio::test]
async fn a_cluster_whose_tunnel_ends_at_another_server_is_reached_by_way_of_that() {
    let (tunnels, _, worker) = joined(Limits::default(), ray().await).await;
    let link = Link::new(&[7; 32]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let stop = tokio_util::sync::CancellationToken::new();
    tokio::spawn(link.clone().serve(listener, tunnels.clone(), stop.clone()));
    let here = server_by(&Tunnels::new(), Some((link.clone(), address.clone()))).await;

    let response = send(here, ask(Method::POST, "seen", vec![b'x'; 3 << 20])).await.unwrap();
    assert!(text(response).await.ends_with(" 3145728 bytes"));
    let response = send(here, ask(Method::GET, "large", Body::empty())).await.unwrap();
    assert_eq!(text(response).await.len(), 8 << 20);
    let mut tail = send(here, ask(Method::GET, "tail", Body::empty())).await.unwrap().into_body();
    assert_eq!(within(tail.frame()).await.unwrap().unwrap().into_data().unwrap(), "first line\n");

    // Whoever has another key reaches nothing, and neither does one without TLS.
    let stranger = Link::new(&[8; 32]).unwrap();
    let refused = within(stranger.open(&address, cluster())).await;
    assert_eq!(refused.err(), Some(TunnelError::NotOpen(cluster())));
    let mut plain = TcpStream::connect(&address).await.unwrap();
    plain.write_all(cluster().as_bytes()).await.unwrap();
    plain.write_all(&[0; 64]).await.unwrap();
    let mut heard = Vec::new();
    let _ = within(plain.read_to_end(&mut heard)).await;
    assert!(heard.first() != Some(&0), "an answer without a handshake");
    // Nor does a server of this network reach what is not there.
    let other = ClusterId::from_bytes([9; 16]);
    assert_eq!(within(link.open(&address, other)).await.err(), Some(TunnelError::NotOpen(other)));

    // What breaks there breaks here, and is not taken for an end.
    worker.abort();
    assert!(within(tail.frame()).await.unwrap().is_err());
    closed(&tunnels).await;
    refused_by_way(here).await;
    stop.cancel();
}

/// Without a tunnel anywhere a renter hears of none.
async fn refused_by_way(server: SocketAddr) {
    refused(server, ask(Method::GET, "seen", Body::empty()), 503, "cluster_not_reachable").await;
}
