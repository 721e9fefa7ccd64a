//! Beats through everything that can befall the server that takes them: SIGKILL under load, a full disk, a journal
//! that stalls, books that somebody holds, ten thousand connections that say nothing. Acknowledged beats lost: none.
//!
//! `GANGLINE_BEATS_KILLS=100` kills a hundred times; a few times are enough for every day.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod live;

use std::{
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gangline_wire::beat::Outcome;
use live::{
    LIMIT,
    beater::{MINUTES, socket},
    beats::{World, hold, let_go},
    network::this_minute,
};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_under_load_it_has_lost_nothing_that_it_acknowledged() {
    let kills: u32 = std::env::var("GANGLINE_BEATS_KILLS").ok().and_then(|k| k.parse().ok()).unwrap_or(6);
    let mut seed = u64::from_le_bytes(std::array::from_fn(|i| (this_minute().0 >> (4 * i.min(7))) as u8));
    println!("seed {seed}, {kills} kills");
    let mut world = World::start(&[]).await;
    let mut beaters = Vec::new();
    for _ in 0..6 {
        beaters.push(world.beater().await);
    }
    for round in 0..kills {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let patience = Duration::from_millis(30 + (seed >> 33) % 900);
        let (from, until) = (MINUTES * round / kills, MINUTES * (round + 1) / kills);
        let stop = Arc::new(Mutex::new(false));
        let udp = world.udp;
        let loads: Vec<_> = beaters
            .drain(..)
            .map(|mut beater| {
                let stop = Arc::clone(&stop);
                tokio::spawn(async move {
                    beater.load(udp, from, until, stop).await;
                    beater
                })
            })
            .collect();
        tokio::time::sleep(patience).await;
        world.kill();
        *stop.lock().unwrap() = true;
        for load in loads {
            beaters.push(load.await.unwrap());
        }
        world.start_again();
    }
    let acknowledged: usize = beaters.iter().map(|b| b.acknowledged.len()).sum();
    println!("{acknowledged} acknowledged");
    assert!(acknowledged > 100, "too few beats for the test to say anything: {acknowledged}");
    world.audit(&beaters).await;
    // After an orderly end too.
    world.server.take().unwrap().stop();
    world.start_again();
    world.audit(&beaters).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_books_and_a_stalled_journal_lose_nothing() {
    let mut world = World::start(&[]).await;
    let mut beater = world.beater().await;
    let udp = socket(world.udp).await;
    assert_eq!(beater.send(&udp, 0).await, Outcome::Durable);
    // Somebody holds the books: beats do not notice.
    let held = hold(&world.folder.path().join("gangline.sqlite")).await;
    for n in 1..40 {
        assert_eq!(beater.send(&udp, n).await, Outcome::Durable);
    }
    // Killed meanwhile, they are in the journal alone.
    world.kill();
    let_go([held]).await;
    world.start_again();
    world.audit(std::slice::from_ref(&beater)).await;

    // The journal itself stalls: no answer until it is written, and pages are served all the same.
    assert_eq!(beater.send(&udp, 40).await, Outcome::Durable);
    let held = world.hold_journal().await;
    let beat = beater.beat(41);
    udp.send(&beat.seal(&beater.grant.beat_key())).await.unwrap();
    let mut bytes = [0; 100];
    let early = tokio::time::timeout(Duration::from_secs(2), udp.recv(&mut bytes)).await;
    assert!(early.is_err(), "a beat was acknowledged before it was written");
    assert_eq!(world.server().get("/").await.0, 200);
    let_go(held).await;
    beater.send_until_durable(&udp, 41).await;
    world.audit(std::slice::from_ref(&beater)).await;
    world.server.take().unwrap().stop();
}

/// A small disk of its own, gone with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new(size: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(folder.path())
            .output()
            .expect("mount");
        assert!(mounted.status.success(), "no small disk: {}", String::from_utf8_lossy(&mounted.stderr));
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).output();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_nothing_is_acknowledged_that_is_not_kept() {
    let disk = SmallDisk::new("64m");
    let data = tempfile::tempdir_in(disk.0.path()).unwrap();
    let mut world = World::start_in(data, &[]).await;
    let mut beater = world.beater().await;
    let udp = socket(world.udp).await;
    for n in 0..10 {
        assert_eq!(beater.send(&udp, n).await, Outcome::Durable);
    }
    let filler = disk.0.path().join("filler");
    let mut n = 10;
    let mut size = 64 << 20;
    // Full to the last page; SQLite's own files keep what they have.
    let mut file = std::fs::File::create(&filler).unwrap();
    while size >= 512 {
        match std::io::Write::write(&mut file, &vec![0; size]) {
            Ok(0) | Err(_) => size /= 2,
            Ok(_) => {}
        }
    }
    let mut busy = 0;
    while busy < 3 && n < MINUTES - 20 {
        match beater.send(&udp, n).await {
            Outcome::Durable => n += 1,
            Outcome::Busy => busy += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(busy, 3, "a full disk took {n} beats");
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    let limit = Instant::now() + LIMIT;
    while beater.send(&udp, n).await != Outcome::Durable {
        assert!(Instant::now() < limit, "beats are not taken again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    world.kill();
    world.start_again();
    world.audit(std::slice::from_ref(&beater)).await;
    world.server.take().unwrap().stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_silent_connections_do_no_harm() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    assert!(most >= 12_000, "a limit of {most} open files is too low for this test");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let mut world = World::start(&["--beat-listen", "127.0.0.1:0"]).await;
    let at = world.server().beat_http.unwrap();
    let mut silent = Vec::new();
    for _ in 0..10_000 {
        silent.push(TcpStream::connect(at).await.unwrap());
    }
    let mut beater = world.beater().await;
    let udp = socket(world.udp).await;
    for n in 0..20 {
        assert_eq!(beater.send(&udp, n).await, Outcome::Durable);
        // By the same door as the silent ones.
        let beat = beater.beat(n);
        let body = beat.seal(&beater.grant.beat_key()).to_vec();
        let limit = Instant::now() + LIMIT;
        let answered = loop {
            let asked = world.server().http.post(format!("http://{at}/api/v1/beat")).body(body.clone());
            match asked.send().await {
                Ok(response) => break response.bytes().await.unwrap(),
                Err(e) => assert!(Instant::now() < limit, "{e}"),
            }
        };
        assert_eq!(beater.read(&answered).outcome, Outcome::Durable);
    }
    drop(silent);
    world.audit(std::slice::from_ref(&beater)).await;
    world.server.take().unwrap().stop();
}
