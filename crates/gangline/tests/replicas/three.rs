//! Three servers on one database: any takes any request, and when one is killed or paused the others go on.

use std::time::{Duration, Instant};

use gangline_types::{ClusterId, Seconds};
use gangline_wire::{
    Nothing,
    api::{cluster::HireRequest, machine::SyncReport},
    endpoints::{ClusterById, ClusterRelease, Clusters, HireCluster, Sync},
    sig,
};
use gangline_worker::client::{ClientError, now};
use nix::sys::signal::Signal;
use sqlx::PgConnection;

use crate::{
    live::{
        LIMIT,
        beater::{Beater, MINUTES, socket},
        network::{Server, call},
    },
    postgres,
    world::{World, distinct, holds},
};

/// How soon the others go on with what one did.
const TAKEN_OVER: Duration = Duration::from_secs(10);

/// A signed request with a number of our choice; status and code.
async fn numbered(server: &Server, key: &gangline_wire::SigningKey, sequence: u64) -> (u16, String) {
    let authority = server.origin.strip_prefix("http://").unwrap();
    let (path, query, body) = ("/api/v1/clusters", "", b"");
    let covered =
        sig::Covered { method: "GET", authority, path, query, body_digest: sig::digest(body), sequence };
    let mut request = server.http.get(format!("{}{path}", server.origin));
    for (name, value) in sig::sign(&covered, now().seconds(), key) {
        request = request.header(name, value);
    }
    crate::live::network::told(request.send().await.unwrap()).await
}

/// Who holds the leases, each with its generation.
async fn leases(database: &mut PgConnection) -> Vec<(String, String, i64)> {
    let held = "SELECT name, encode(holder, 'hex'), generation FROM gangline.lease WHERE name <> 'setup' AND until > clock_timestamp()";
    sqlx::query_as(held).fetch_all(database).await.unwrap()
}

/// Waits until every job that `replica` did is done by another, and says how long that took.
async fn taken_over(database: &mut PgConnection, replica: &str, jobs: &[String]) -> Duration {
    let began = Instant::now();
    loop {
        let held = leases(database).await;
        let by_another = |job: &String| held.iter().any(|(name, holder, _)| name == job && holder != replica);
        if jobs.iter().all(by_another) {
            return began.elapsed();
        }
        assert!(began.elapsed() < LIMIT, "{jobs:?} are not taken over: {held:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The jobs that look each second: the others' leases need not be renewed for an hour.
fn of_each_second(held: &[(String, String, i64)], replica: &str) -> Vec<String> {
    held.iter()
        .filter(|(name, holder, _)| holder == replica && !["sweeper", "packer"].contains(&name.as_str()))
        .map(|(name, ..)| name.clone())
        .collect()
}

/// The holder of a lease.
pub async fn holder(database: &mut PgConnection, job: &str) -> String {
    let limit = Instant::now() + LIMIT;
    loop {
        if let Some((_, holder, _)) = leases(database).await.into_iter().find(|(name, ..)| name == job) {
            return holder;
        }
        assert!(Instant::now() < limit, "nobody does {job}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn any_takes_any_request(world: &World, renter: &gangline_wire::SigningKey) {
    for at in 0..3 {
        assert_eq!(world.operator.at(world.at(at)).page("/console").await.0, 200, "the session at {at}");
    }
    let sequence = now().0 * 1000;
    assert_eq!(numbered(world.at(0), renter, sequence).await.0, 200);
    let (status, told) = numbered(world.at(1), renter, sequence).await;
    assert_eq!(status, 401, "a number counts once, wherever: {told}");
    assert_eq!(numbered(world.at(2), renter, sequence + 1).await.0, 200);
}

/// Everybody hires at once, at every server.
async fn hires(world: &World, renter: &gangline_wire::SigningKey, how_many: usize) -> Vec<ClusterId> {
    let up: Vec<usize> = (0..world.servers.len()).filter(|at| world.servers[*at].is_some()).collect();
    let asking: Vec<_> = (0..how_many)
        .map(|n| {
            let client = world.client(up[n % up.len()], renter);
            tokio::spawn(async move { call::<HireCluster>(&client, &HireRequest::default()).await })
        })
        .collect();
    let mut hired = Vec::new();
    for one in asking {
        match one.await.unwrap() {
            Ok(cluster) => hired.push(cluster),
            // Somebody else was a moment faster.
            Err(ClientError::Refused { status: 409, .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(!hired.is_empty(), "nobody got anything");
    assert_eq!(distinct(hired.iter().map(|cluster| cluster.gpu)), hired.len(), "one GPU for two");
    hired.iter().map(|cluster| cluster.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_takes_any_request_and_one_killed_or_paused_costs_nothing() {
    let postgres = postgres::Server::new(&[]);
    let mut world = World::start(postgres.url(&postgres.database().await), 3).await;
    let mut database = world.database().await;
    let mut beaters = world.beaters().await;
    world.until_rentable(2, 3).await;
    let renter = world.renter().await;
    any_takes_any_request(&world, &renter).await;
    let hired = hires(&world, &renter, 6).await;

    // A machine that beats at one server hears of its cluster at another, and its renter sees what it says at a third.
    let seen =
        world.client(1, &renter).call::<ClusterById>(&[&hired[0]], &Default::default(), &Nothing {}).await;
    let cluster = seen.unwrap();
    let (key, _) = beaters.iter().find(|(_, beater)| beater.gpu == cluster.gpu).unwrap();
    let machine = world.client(2, key);
    let report = SyncReport { paused: false, offers: vec![], clusters: vec![], wait: Seconds(0) };
    let orders = call::<Sync>(&machine, &report).await.unwrap();
    assert_eq!(orders.clusters.iter().map(|order| order.cluster).collect::<Vec<_>>(), [cluster.id]);
    let released =
        world.client(0, &renter).call::<ClusterRelease>(&[&cluster.id], &Nothing {}, &Nothing {}).await;
    released.unwrap();
    let mine = call::<Clusters>(&world.client(2, &renter), &Nothing {}).await.unwrap();
    assert!(mine.iter().any(|one| one.id == cluster.id && one.ended_at.is_some()), "{mine:?}");

    // The one that does the accountant's job is killed with beats that nobody has folded, and its disk is gone.
    let replica = holder(&mut database, "accountant").await;
    let victim = world.place_of(&replica).unwrap();
    let jobs = of_each_second(&leases(&mut database).await, &replica);
    let udp = socket(world.at(victim).beat_udp.unwrap()).await;
    for (_, beater) in beaters.iter_mut().take(4) {
        for n in 200..220 {
            beater.send_until_durable(&udp, n).await;
        }
    }
    let mut killed = world.servers[victim].take().unwrap();
    killed.process.crash();
    std::fs::remove_dir_all(world.work.path().join(format!("{victim}"))).unwrap();
    std::fs::create_dir_all(world.work.path().join("0")).unwrap();
    let took = taken_over(&mut database, &replica, &jobs).await;
    println!("killed: {jobs:?} are done by others after {took:?}");
    assert!(took < TAKEN_OVER, "{took:?}");
    let other = (victim + 1) % 3;
    for (_, beater) in beaters.iter().take(4) {
        world.at(other).until_up(beater.gpu, &beater.minutes()).await;
    }
    hires(&world, &renter, 2).await;

    // Another takes its place, with an empty folder but for the key.
    if victim == 0 {
        std::fs::copy(
            world.work.path().join(format!("{other}/network.key")),
            world.work.path().join("0/network.key"),
        )
        .unwrap();
    }
    world.start_again(victim);

    // Whoever does the reconciler's job is paused for longer than its leases, three times, and goes on where it was.
    for round in 0..3 {
        let replica = holder(&mut database, "reconciler").await;
        let paused = world.place_of(&replica).unwrap();
        let jobs = of_each_second(&leases(&mut database).await, &replica);
        world.at(paused).process.signal(Signal::SIGSTOP);
        let took = taken_over(&mut database, &replica, &jobs).await;
        println!("paused: {jobs:?} are done by others after {took:?}");
        assert!(took < TAKEN_OVER, "{took:?}");
        let goes_on = (paused + 1) % 3;
        let udp = socket(world.at(goes_on).beat_udp.unwrap()).await;
        for (_, beater) in beaters.iter_mut().skip(4).take(4) {
            for n in 220 + round * 10..230 + round * 10 {
                beater.send_until_durable(&udp, n).await;
            }
        }
        let before = leases(&mut database).await;
        world.at(paused).process.signal(Signal::SIGCONT);
        // It finds that it has been followed, and takes requests again.
        let again = world.client(paused, &renter);
        call::<Clusters>(&again, &Nothing {}).await.unwrap();
        let udp = socket(world.at(paused).beat_udp.unwrap()).await;
        for (_, beater) in beaters.iter_mut().skip(8).take(2) {
            beater.send_until_durable(&udp, 220 + round).await;
        }
        let after = leases(&mut database).await;
        for (job, holder, generation) in before {
            let now = after.iter().find(|(name, ..)| *name == job);
            assert!(now.is_none_or(|(_, _, now)| *now >= generation), "{job} went back");
            assert!(
                now.is_none_or(|(_, by, now)| *now > generation || *by == holder),
                "{job} has another holder in the same generation"
            );
        }
    }
    let seen: Vec<&Beater> = beaters.iter().map(|(_, beater)| beater).collect();
    assert!(seen.iter().all(|beater| beater.acknowledged.contains(&(beater.starts.0 + MINUTES))));
    for at in 0..3 {
        world.audit(at, &seen[..12]).await;
    }
    let mine = call::<Clusters>(&world.client(1, &renter), &Nothing {}).await.unwrap();
    let held: Vec<_> = mine.iter().filter(|one| holds(one.state)).map(|one| one.gpu).collect();
    assert_eq!(distinct(held.clone()), held.len());
    for server in world.servers.drain(..).flatten() {
        server.stop();
    }
}
