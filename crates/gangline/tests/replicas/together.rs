//! What happens at one server is felt at the others: a hire by the machine that waits elsewhere, a renter's request by
//! the cluster whose tunnel ends elsewhere, a revocation by what is open elsewhere, a change by watchers elsewhere.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gangline_types::{ClusterId, GpuId, MicroCredits, Seconds, Text, cluster::ClusterState};
use gangline_wire::{
    Endpoint,
    api::{
        cluster::HireRequest,
        machine::{Observed, ObservedCluster, Offer, SyncReport},
    },
    endpoints::{ClusterById, HireCluster, RayProxy, Sync, Tunnel},
};
use gangline_worker::client::Client;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

use crate::{
    live::{
        LIMIT,
        beater::{Beater, socket},
        finish, gangline,
        network::{Machine, Server, call},
    },
    postgres,
    world::World,
};

/// How soon what ended is over everywhere.
const FELT: Duration = Duration::from_secs(2);

/// Collects what a server tells its watchers.
fn watch(server: &Server) -> Arc<Mutex<String>> {
    let heard = Arc::<Mutex<String>>::default();
    let (url, http, to) = (format!("{}/events", server.origin), server.http.clone(), Arc::clone(&heard));
    tokio::spawn(async move {
        let mut stream = http.get(url).send().await.unwrap();
        while let Ok(Some(piece)) = stream.chunk().await {
            to.lock().unwrap().push_str(&String::from_utf8_lossy(&piece));
        }
    });
    heard
}

fn report(gpu: GpuId, cluster: Option<(ClusterId, Observed)>, wait: u64) -> SyncReport {
    let clusters = cluster.map(|(cluster, state)| ObservedCluster {
        cluster,
        state,
        detail: Text::lossy("as the test has it"),
        evidence: Some(Text::lossy("{}")),
        receipt_signature: None,
    });
    SyncReport {
        paused: false,
        offers: vec![Offer {
            gpu,
            price_per_hour: MicroCredits(1_000),
            memory_bytes: 1 << 30,
            cpus_millis: 1_000,
            hours_max: 24,
        }],
        clusters: clusters.into_iter().collect(),
        wait: Seconds(wait),
    }
}

/// Opens a cluster's tunnel, and answers each request through it like a Ray that has one thing to say.
async fn node(machine: &Client, cluster: ClusterId) {
    let headers = [("connection", "upgrade"), ("upgrade", "gangline-tunnel")];
    let path = Tunnel::path(&[&cluster]);
    let answer = machine.raw("GET", &path, "", &headers, Vec::new(), None).await.unwrap();
    assert_eq!(answer.status().as_u16(), 101);
    let io = answer.upgrade().await.unwrap().compat();
    let mut connection = yamux::Connection::new(io, yamux::Config::default(), yamux::Mode::Server);
    tokio::spawn(async move {
        while let Some(Ok(stream)) = std::future::poll_fn(|cx| connection.poll_next_inbound(cx)).await {
            tokio::spawn(async move {
                let (mut stream, mut head) = (stream.compat(), [0; 4096]);
                let length = stream.read(&mut head).await.unwrap_or(0);
                assert!(head[..length].starts_with(b"GET /api/version HTTP/1.1\r\n"));
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nhere").await;
                let _ = stream.shutdown().await;
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_at_one_server_is_felt_at_the_others() {
    let postgres = postgres::Server::new(&[]);
    let mut world = World::start(postgres.url(&postgres.database().await), 2).await;
    let watchers = [watch(world.at(0)), watch(world.at(1))];
    let beaters = world.beaters().await;
    let rentable = world.until_rentable(0, 1).await;
    let (renter, person) = world.renter_and_person().await;

    // The machine waits for news at one server, and its GPU is hired at the other.
    let gpu = rentable[0];
    let (key, _) = beaters.iter().find(|(_, beater)| beater.gpu == gpu).unwrap();
    let machine = world.client(1, key);
    let waiting = tokio::spawn(async move {
        loop {
            let orders = call::<Sync>(&machine, &report(gpu, None, 30)).await.unwrap();
            if let Some(order) = orders.clusters.first() {
                return (order.cluster, Instant::now(), machine);
            }
        }
    });
    let wish = HireRequest { gpu: Some(gpu), ..HireRequest::default() };
    let hired = call::<HireCluster>(&world.client(0, &renter), &wish).await.unwrap();
    let asked = Instant::now();
    let (ordered, heard, machine) = waiting.await.unwrap();
    assert_eq!(ordered, hired.id);
    println!("the machine heard of it {:?} later", heard.saturating_duration_since(asked));

    // Its tunnel ends at that server, and the renter asks at the other.
    call::<Sync>(&machine, &report(gpu, Some((hired.id, Observed::Running)), 0)).await.unwrap();
    node(&machine, hired.id).await;
    let path = RayProxy::path(&[&hired.id, &"api/version"]);
    let limit = Instant::now() + LIMIT;
    for at in [1, 0] {
        loop {
            let answer =
                world.client(at, &renter).raw("GET", &path, "", &[], Vec::new(), None).await.unwrap();
            let (status, text) = crate::live::network::told(answer).await;
            if status == 200 {
                assert_eq!(text, "here");
                break;
            }
            assert!(status == 503 && Instant::now() < limit, "at {at}: {status} {text}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    // The renter's key is revoked at one server while a request of theirs waits at the other.
    let client = world.client(0, &renter);
    let (path, query) = (ClusterById::path(&[&hired.id]), format!("unless={}", ClusterState::Running));
    let open = tokio::spawn(async move {
        let answer = client.raw("GET", &path, &query, &[], Vec::new(), None).await;
        (answer.map(|answer| answer.status().as_u16()).ok(), Instant::now())
    });
    // By the time others that were sent later are answered, it waits.
    for _ in 0..5 {
        let later = world.client(0, &renter).raw("GET", "/api/v1/clusters", "", &[], Vec::new(), None).await;
        assert_eq!(later.unwrap().status().as_u16(), 200);
    }
    assert!(!open.is_finished(), "it does not wait");
    let id = renter.public().id();
    let (status, page) = person.at(world.at(1)).form(&format!("/console/keys/{id}/revoke"), &[]).await;
    assert!(status < 400, "{status} {page}");
    let revoked = Instant::now();
    let (status, over) = open.await.unwrap();
    let felt = over.saturating_duration_since(revoked);
    println!("what was open under a revoked key was over {felt:?} later, with {status:?}");
    assert!(felt < FELT && status != Some(200), "{felt:?} {status:?}");
    let refused = world.client(0, &renter).raw("GET", "/api/v1/clusters", "", &[], Vec::new(), None).await;
    assert_eq!(refused.unwrap().status().as_u16(), 401);

    // A GPU that comes is seen by watchers at both.
    let newcomer = Machine::join(world.at(0), &world.operator).await;
    let limit = Instant::now() + LIMIT;
    for heard in &watchers {
        while !heard.lock().unwrap().contains(&newcomer.gpu.to_string()) {
            assert!(Instant::now() < limit, "a watcher never hears of it: {}", heard.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    // A machine shows one value of its chain to both, for more minutes than a turn may be behind: each takes it, and anybody
    // finds out.
    let (key, beater) = &beaters[0];
    let mut twice = Beater::open_for(&world.client(0, key), key, beater.gpu).await;
    for n in 0..80 {
        twice.shown.insert(n, 1);
        let udp = socket(world.at(n as usize % 2).beat_udp.unwrap()).await;
        twice.send_until_durable(&udp, n).await;
    }
    world.at(0).until_up(twice.gpu, &twice.minutes()).await;
    let told = finish(gangline(world.work.path()).args(["verify", "uptime", &world.at(0).origin]));
    let named = format!("uptime was credited that nobody beat for: {}", twice.gpu);
    assert!(told.code == 1 && told.err.contains(&named), "{} {}{}", told.code, told.out, told.err);
    world.servers.clear();
}
