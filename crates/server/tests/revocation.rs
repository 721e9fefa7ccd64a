//! What was opened under a key, a session or a machine is cut when that ends: tunnels, requests that wait,
//! WebSockets and streaming answers of Ray, the console's events. How long it took is printed; run it with
//! `--nocapture` to see.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod net;

use std::{
    convert::Infallible,
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::Request,
    http::header,
    response::Response,
    routing::get,
};
use futures_util::{SinkExt, StreamExt};
use gangline_server::{Config, tunnel::PROTOCOL};
use gangline_types::{AdapterKind, ClusterId, MicroCredits, Seconds, Text, cluster::ClusterState};
use gangline_wire::{
    SigningKey,
    api::{cluster::*, enrol::KeyKind, machine::*},
};
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use net::{Browser, Net, Signed};
use sqlx::sqlite::SqliteConnectOptions;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

/// Longer than anything here takes on a busy machine; what is asked for is two seconds, which is measured.
const PATIENCE: Duration = Duration::from_secs(60);
/// Keys that are revoked, half of them behind the server's back as another server of the same books would.
const TRIALS: usize = 60;

async fn within<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("it goes on: {what}"))
}

/// A dashboard that sends a line and goes on for ever, or echoes what a WebSocket says.
async fn ray() -> SocketAddr {
    async fn tail() -> Response {
        let first = futures_util::stream::once(async { Ok::<_, Infallible>(Bytes::from("first line\n")) });
        Response::new(Body::from_stream(first.chain(futures_util::stream::pending())))
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
    /// How much came, and its digest.
    async fn upload(request: Request) -> String {
        let (mut bytes, mut digesting) = (0, gangline_wire::sig::Digesting::default());
        let mut body = request.into_body();
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap_or_default();
            bytes += data.len();
            digesting.update(&data);
        }
        format!("{bytes} {}", gangline_wire::sig::digest_header(&digesting.finish()))
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/tail", get(tail)).route("/echo", get(echo));
    let router = router.route("/upload", axum::routing::put(upload));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

async fn send(net: &Net, signed: &Signed, more: &[(&str, &str)]) -> hyper::Response<Incoming> {
    let mut request = hyper::Request::builder().method(signed.method.as_str()).uri(&signed.path);
    request = request.header(header::HOST, net.address.to_string());
    for (name, value) in &signed.headers {
        request = request.header(name, value);
    }
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    let stream = TcpStream::connect(net.address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let body = Body::from(signed.body.clone());
    within("an answer's head", sender.send_request(request.body(body).unwrap())).await.unwrap()
}

/// A network with one machine that runs a cluster.
struct World {
    net: Net,
    supplier: Browser,
    renter: Browser,
    machine: SigningKey,
    cluster: ClusterId,
    offer: Offer,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { silent_seconds: 3600, ..net::quick_config(folder.path()) };
        let net = Net::start_in(folder, config).await;
        let supplier = net.invite("supplier", "Ada").await;
        let (machine, gpu) = net.machine(&supplier, "llvmpipe", AdapterKind::Software).await;
        net.beat(&machine, gpu).await;
        for _ in 0..3 {
            assert!(net.prove_once(&machine, gpu).await.accepted);
        }
        let price_per_hour = MicroCredits(3_600_000);
        let offer = Offer { gpu, price_per_hour, hours_max: 2, memory_bytes: 1 << 30, cpus_millis: 1000 };
        let renter = net.invite("renter", "Rae").await;
        let cluster = ClusterId::from_bytes([0; 16]);
        let mut world = Self { net, supplier, renter, machine, cluster, offer };
        world.sync(vec![]).await;
        let cli = world.net.enrol(&world.renter, KeyKind::CommandLine).await;
        let view = world.net.hire(&cli, gpu).await;
        world.cluster = view.id;
        world.sync(vec![world.running()]).await;
        let path = format!("/api/v1/clusters/{}", view.id);
        let view: ClusterView = world.net.call(&cli, "GET", &path, &()).await.json();
        assert_eq!(view.state, ClusterState::Running);
        world
    }

    fn running(&self) -> ObservedCluster {
        let (detail, evidence, receipt_signature) = (Text::default(), None, None);
        ObservedCluster {
            cluster: self.cluster,
            state: Observed::Running,
            detail,
            evidence,
            receipt_signature,
        }
    }

    fn report(&self, clusters: Vec<ObservedCluster>, wait: u64) -> SyncReport {
        SyncReport { paused: false, offers: vec![self.offer.clone()], clusters, wait: Seconds(wait) }
    }

    async fn sync(&self, clusters: Vec<ObservedCluster>) {
        let report = self.report(clusters, 0);
        self.net.call(&self.machine, "POST", "/api/v1/machine/sync", &report).await.json::<SyncOrders>();
    }

    /// Opens the cluster's tunnel by the machine's key; every stream is joined to `ray`. Ends when the server cuts.
    async fn tunnel(&self, ray: SocketAddr) -> tokio::task::JoinHandle<()> {
        let path = format!("/api/v1/machine/clusters/{}/tunnel", self.cluster);
        let signed = self.net.sign_bytes(&self.machine, "GET", &path, Vec::new(), net::now());
        let response = send(&self.net, &signed, &[("connection", "upgrade"), ("upgrade", PROTOCOL)]).await;
        assert_eq!(response.status(), 101);
        let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap()).compat();
        tokio::spawn(async move {
            let mut connection = yamux::Connection::new(io, yamux::Config::default(), yamux::Mode::Server);
            while let Some(Ok(stream)) = std::future::poll_fn(|cx| connection.poll_next_inbound(cx)).await {
                tokio::spawn(async move {
                    let mut stream = stream.compat();
                    if let Ok(mut ray) = TcpStream::connect(ray).await {
                        let _ = tokio::io::copy_bidirectional(&mut stream, &mut ray).await;
                    }
                });
            }
        })
    }

    fn ray_path(&self, path: &str) -> String {
        format!("/api/v1/clusters/{}/ray/{path}", self.cluster)
    }

    /// An answer of Ray's that streams, with its first line read.
    async fn tail(&self, key: &SigningKey) -> Incoming {
        loop {
            let signed = self.net.sign_bytes(key, "GET", &self.ray_path("tail"), Vec::new(), net::now());
            let response = send(&self.net, &signed, &[]).await;
            if response.status() != 200 {
                // The tunnel is still being upgraded.
                assert_eq!(response.status(), 503);
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            let mut body = response.into_body();
            let first = within("the first line", body.frame()).await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(first, "first line\n");
            return body;
        }
    }

    /// A WebSocket to Ray that has echoed.
    async fn websocket(&self, key: &SigningKey) -> WebSocketStream<TokioIo<hyper::upgrade::Upgraded>> {
        let signed = self.net.sign_bytes(key, "GET", &self.ray_path("echo"), Vec::new(), net::now());
        let upgrade = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let response = send(&self.net, &signed, &upgrade).await;
        assert_eq!(response.status(), 101);
        let io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Client, None).await;
        socket.send(Message::text("one")).await.unwrap();
        assert_eq!(within("an echo", socket.next()).await.unwrap().unwrap(), Message::text("one"));
        socket
    }
}

/// The largest of the smallest `percent` of `sorted`.
fn percentile(sorted: &[Duration], percent: usize) -> u128 {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1].as_millis()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_under_a_key_is_cut_when_it_is_revoked() {
    let world = World::start().await;
    let net = &world.net;
    let tunnel = world.tunnel(ray().await).await;
    let bystander = net.enrol(&world.renter, KeyKind::CommandLine).await;
    let mut untouched = world.websocket_when_open(&bystander).await;
    let options = SqliteConnectOptions::new().filename(net.folder.path().join("gangline.sqlite"));
    let books = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let (mut here, mut elsewhere) = (Vec::new(), Vec::new());
    for trial in 0..TRIALS {
        // So many codes nobody may look up in a minute: the key is put beside one that was approved.
        let key = net::new_key();
        let made = sqlx::query("INSERT INTO key (id, public_key, kind, account, machine, host, created_at) SELECT ?, ?, kind, account, machine, host, created_at FROM key WHERE id = ?")
            .bind(key.public().id().as_bytes().to_vec())
            .bind(key.public().as_bytes().to_vec())
            .bind(bystander.public().id().as_bytes().to_vec())
            .execute(&books);
        assert_eq!(made.await.unwrap().rows_affected(), 1);
        let (mut tail, mut socket) = (world.tail(&key).await, world.websocket(&key).await);
        let began = Instant::now();
        if trial % 2 == 0 {
            let path = format!("/console/keys/{}/revoke", key.public().id());
            assert_eq!(net.form(&world.renter, &path, &[]).await.status, 303);
        } else {
            let revoked = sqlx::query("UPDATE key SET revoked_at = 1 WHERE id = ?")
                .bind(key.public().id().as_bytes().to_vec())
                .execute(&books);
            assert_eq!(revoked.await.unwrap().rows_affected(), 1);
        }
        let refused = net.call(&key, "GET", "/api/v1/me", &()).await;
        assert_eq!(refused.error().code, "revoked_key", "a request was not refused at once");
        assert!(
            within("a streaming answer", tail.frame()).await.unwrap().is_err(),
            "it ended as if it were whole"
        );
        let told = within("a WebSocket", socket.next()).await;
        assert!(told.is_none_or(|message| message.is_err()));
        if trial % 2 == 0 { here.push(began.elapsed()) } else { elsewhere.push(began.elapsed()) }
    }
    untouched.send(Message::text("two")).await.unwrap();
    assert_eq!(within("an echo", untouched.next()).await.unwrap().unwrap(), Message::text("two"));
    assert!(!tunnel.is_finished(), "the machine's tunnel was cut with a renter's key");
    for (name, mut took) in [("by this server", here), ("by another server", elsewhere)] {
        took.sort_unstable();
        println!(
            "revoked {name}: {} trials, p50 {} ms, p99 {} ms, longest {} ms until both streams were cut",
            took.len(),
            percentile(&took, 50),
            percentile(&took, 99),
            percentile(&took, 100),
        );
    }
    books.close().await;
    world.net.stop().await;
}

impl World {
    /// As [`Self::websocket`], once the tunnel is open.
    async fn websocket_when_open(
        &self,
        key: &SigningKey,
    ) -> WebSocketStream<TokioIo<hyper::upgrade::Upgraded>> {
        drop(self.tail(key).await);
        self.websocket(key).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_under_a_machine_is_cut_when_its_key_is_revoked() {
    let world = World::start().await;
    let net = &world.net;
    let tunnel = world.tunnel(ray().await).await;
    let cli = net.enrol(&world.renter, KeyKind::CommandLine).await;
    let (mut tail, mut socket) = (world.tail(&cli).await, world.websocket(&cli).await);
    // A request that waits for news for as long as may be.
    let report = world.report(vec![world.running()], 30);
    let waiting = net.sign(&world.machine, "POST", "/api/v1/machine/sync", &report);
    let mut waits = Box::pin(net.send(&waiting));
    assert!(
        tokio::time::timeout(Duration::from_millis(300), &mut waits).await.is_err(),
        "it was answered at once, so nothing waits"
    );
    let began = Instant::now();
    let path = format!("/console/keys/{}/revoke", world.machine.public().id());
    assert_eq!(net.form(&world.supplier, &path, &[]).await.status, 303);
    assert_eq!(within("a request that waits", waits).await.error().code, "revoked_key");
    within("the tunnel", tunnel).await.unwrap();
    assert!(within("a streaming answer", tail.frame()).await.unwrap().is_err());
    assert!(within("a WebSocket", socket.next()).await.is_none_or(|message| message.is_err()));
    println!("a machine's key: everything was cut after {} ms", began.elapsed().as_millis());
    world.net.stop().await;
}

/// A value of this process's memory, in MiB: `VmRSS` now, `VmHWM` at most.
fn memory_mib(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_wait_outside_of_memory_and_only_whole_ones_go_on() {
    const PART: &[u8] = &[7; 64 << 10];
    const PARTS: usize = 1536;
    const UPLOADS: usize = 4;
    let world = World::start().await;
    let net = &world.net;
    let _tunnel = world.tunnel(ray().await).await;
    let cli = net.enrol(&world.renter, KeyKind::CommandLine).await;
    drop(world.tail(&cli).await);
    let mut digesting = gangline_wire::sig::Digesting::default();
    (0..PARTS).for_each(|_| digesting.update(PART));
    let digest = digesting.finish();
    let put = async |key: &SigningKey, parts: usize| {
        let path = world.ray_path("upload");
        let covered = gangline_wire::sig::Covered {
            method: "PUT",
            authority: &net.address.to_string(),
            path: &path,
            query: "",
            body_digest: digest,
            sequence: net::now().0 * 1_000_000 + net::NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        };
        let mut request = net.http.put(format!("{}{path}", net.origin));
        for (name, value) in gangline_wire::sig::sign(&covered, net::now(), key) {
            request = request.header(name, value);
        }
        // The same bytes again and again: what grows is the server's.
        let answer = request.header("content-length", parts * PART.len());
        let parts =
            futures_util::stream::iter((0..parts).map(|_| Ok::<_, Infallible>(Bytes::from_static(PART))));
        net::Answer::of(answer.body(reqwest::Body::wrap_stream(parts)).send().await.unwrap()).await
    };
    let before = memory_mib("VmRSS");
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let began = Instant::now();
    let all = futures_util::future::join_all((0..UPLOADS).map(|_| put(&cli, PARTS))).await;
    let grew = memory_mib("VmHWM").saturating_sub(before);
    let mib = (UPLOADS * PARTS * PART.len()) >> 20;
    println!(
        "{UPLOADS} bodies, {mib} MiB in all, at once: {grew} MiB more memory, {} ms",
        began.elapsed().as_millis()
    );
    let expected = format!("{} {}", PARTS * PART.len(), gangline_wire::sig::digest_header(&digest));
    for answer in &all {
        assert_eq!((answer.status, answer.text()), (200, expected.clone()));
    }
    assert!(grew < 64, "{mib} MiB of bodies took {grew} MiB of memory");
    // Signed for more than comes: nothing of it reaches Ray, and the refusal is no answer of Ray's.
    let short = put(&cli, PARTS - 1).await;
    assert_eq!((short.status, short.error().code.as_str()), (401, "wrong_digest"));
    let left = std::fs::read_dir(net.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with(".tmp")).collect();
    assert!(left.is_empty(), "files were left behind: {left:?}");
    world.net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_events_of_a_console_end_with_its_session() {
    let net = Net::start().await;
    let watch = async |who: &Browser| {
        let request = net.http.get(format!("{}/events", net.origin)).header("cookie", &who.cookie);
        let mut response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        within("the first event", response.chunk()).await.unwrap().unwrap();
        response
    };
    let (ada, bob) = (net.invite("supplier", "Ada").await, net.invite("renter", "Bob").await);
    let (mut hers, mut his) = (watch(&ada).await, watch(&bob).await);
    net.form(&ada, "/leave", &[]).await;
    within("the events of a session that ended", async { while let Ok(Some(_)) = hers.chunk().await {} })
        .await;
    // The other one goes on: it gets the next sign of life.
    assert!(within("the events of another", his.chunk()).await.unwrap().is_some());
    net.stop().await;
}
