//! Beats where time and disk are not what they seem: clocks stepped to and fro under a real server, a disk that takes
//! long for every write, books and journal that are away for longer than anybody waits, datagrams that come twice, in
//! another order, cut short or from somebody who means harm. Acknowledged beats lost: none. Uptime credited that nobody
//! had: none.
//!
//! `GANGLINE_BEATS_AWAY_SECONDS=60` keeps books and journal away for a minute; a shorter while is enough for every day.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod live;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use gangline_types::{GpuId, Minute};
use gangline_wire::beat::{BEAT_BYTES, Beat, Outcome};
use live::{
    LIMIT, Running,
    beater::{Beater, MINUTES, socket},
    beats::{World, hold, let_go},
    gangline,
    network::{Person, Server},
    until,
};
use serde_json::Value;
use tokio::net::UdpSocket;

/// A clock that a test steps under a process, by a library that answers for the system.
struct Clock {
    file: PathBuf,
}

impl Clock {
    fn new(folder: &Path) -> Self {
        let clock = Self { file: folder.join("clock") };
        clock.step_to(0);
        clock
    }
    /// From now on the process sees the time so many seconds from the right one.
    fn step_to(&self, seconds: i64) {
        // In one step: whoever looks meanwhile sees the one or the other.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n")).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
    }
    fn under(&self, command: &mut Command) {
        let library = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
            .map(|arch| PathBuf::from(format!("/usr/lib/{arch}/faketime/libfaketime.so.1")))
            .into_iter()
            .find(|path| path.is_file())
            .expect("libfaketime is installed");
        command
            .env("LD_PRELOAD", library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
    }
}

/// Sends a beat again until the server says this about it.
async fn until_told(beater: &mut Beater, udp: &UdpSocket, n: u32, wanted: Outcome) {
    let limit = Instant::now() + LIMIT;
    loop {
        let told = beater.send(udp, n).await;
        if told == wanted {
            return;
        }
        assert!(Instant::now() < limit, "beat {n} is told {told:?} and never {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_s_clock_that_is_stepped_to_and_fro_loses_and_invents_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new(folder.path());
    let mut world = World::start_with(&[], |command| clock.under(command)).await;
    let mut beater = world.beater().await;
    let udp = socket(world.udp).await;
    // The last minute that has wholly passed: its beat is in time by the right clock alone.
    let newest = MINUTES - 1;
    for n in 0..30 {
        assert_eq!(beater.send(&udp, n).await, Outcome::Durable);
    }
    // An hour slow: what is made now has not begun yet, and what is older goes on.
    clock.step_to(-3600);
    until_told(&mut beater, &udp, newest, Outcome::TooEarly).await;
    for n in 30..60 {
        assert_eq!(beater.send(&udp, n).await, Outcome::Durable);
    }
    // An hour fast: the oldest are too late by now, those since then are not.
    clock.step_to(3600);
    until_told(&mut beater, &udp, 0, Outcome::TooLate).await;
    until_told(&mut beater, &udp, 45, Outcome::Durable).await;
    for n in 60..90 {
        assert_eq!(beater.send(&udp, n).await, Outcome::Durable);
    }
    // To and fro while it beats, then killed with a wrong clock and started with the right one.
    for n in 90..130 {
        clock.step_to([0, 1800, -1800, 60, -60][n as usize % 5]);
        assert_eq!(beater.send(&udp, n).await, Outcome::Durable);
    }
    clock.step_to(-1800);
    for n in 130..150 {
        assert_eq!(beater.send(&udp, n).await, Outcome::Durable);
    }
    world.kill();
    world.start_again();
    until_told(&mut beater, &udp, newest, Outcome::Durable).await;
    world.audit(std::slice::from_ref(&beater)).await;
    world.server.take().unwrap().stop();
}

/// Somebody who makes every wait for the disk of a running process longer.
struct SlowDisk(Child);

impl SlowDisk {
    fn under(pid: u32, wait: Duration, log: &Path) -> Self {
        let inject = format!("inject=fsync,fdatasync:delay_enter={}", wait.as_micros());
        let mut tracer = Command::new("strace")
            .args(["-f", "-p", &pid.to_string(), "-e", "trace=fsync,fdatasync", "-e", &inject, "-o"])
            .arg(log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is installed");
        until("a disk that is slow", || {
            assert!(tracer.try_wait().unwrap().is_none(), "strace ended: may it trace here?");
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            (!status.contains("TracerPid:\t0")).then_some(())
        });
        Self(tracer)
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.0.id().cast_signed()),
            nix::sys::signal::Signal::SIGTERM,
        );
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_slow_disk_answers_wait_for_it_many_share_a_wait_and_nothing_is_lost() {
    const WAIT: Duration = Duration::from_millis(400);
    let mut world = World::start(&[]).await;
    let mut beaters = Vec::new();
    for _ in 0..4 {
        beaters.push(world.beater().await);
    }
    let udp = socket(world.udp).await;
    assert_eq!(beaters[0].send(&udp, 0).await, Outcome::Durable);
    let log = world.folder.path().join("strace.log");
    let slow = SlowDisk::under(world.server().process.pid(), WAIT, &log);
    let began = Instant::now();
    assert_eq!(beaters[0].send(&udp, 1).await, Outcome::Durable);
    assert!(began.elapsed() >= WAIT, "acknowledged after {:?}, before the disk had it", began.elapsed());
    // Sixty at once for each share the disk's waits: one after the other they would take 96 seconds.
    let began = Instant::now();
    let to = world.udp;
    let all = beaters.drain(..).map(|mut beater| {
        tokio::spawn(async move {
            let udp = socket(to).await;
            beater.all(&udp, 10..70).await;
            beater
        })
    });
    for one in all.collect::<Vec<_>>() {
        beaters.push(one.await.unwrap());
    }
    let took = began.elapsed();
    assert!(took < WAIT * 120, "240 beats took {took:?} on a disk that waits {WAIT:?}");
    // Pages do not wait for beats' disk.
    assert_eq!(world.server().get("/").await.0, 200);
    world.kill();
    drop(slow);
    let waits = std::fs::read_to_string(&log).unwrap().matches("sync(").count();
    assert!(waits > 0, "no wait for the disk was made longer: the test shows nothing");
    world.start_again();
    world.audit(&beaters).await;
    world.server.take().unwrap().stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_and_journal_that_are_away_cost_no_acknowledged_beat() {
    let away = std::env::var("GANGLINE_BEATS_AWAY_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(14);
    let away = Duration::from_secs(away);
    let mut world = World::start(&[]).await;
    let mut beater = world.beater().await;
    let udp = socket(world.udp).await;
    assert_eq!(beater.send(&udp, 0).await, Outcome::Durable);
    // The books are away for longer than anybody waits for them: beats are taken all the while.
    let held = hold(&world.folder.path().join("gangline.sqlite")).await;
    let (began, mut n) = (Instant::now(), 1);
    while began.elapsed() < away {
        assert_eq!(beater.send(&udp, n).await, Outcome::Durable);
        n += 1;
        tokio::time::sleep(away / 100).await;
    }
    let_go([held]).await;
    world.audit(std::slice::from_ref(&beater)).await;
    // The journal is: beats are put off or not answered, and never acknowledged.
    let held = world.hold_journal().await;
    let began = Instant::now();
    let before = beater.acknowledged.len();
    let mut put_off = 0;
    while began.elapsed() < away {
        let told = beater.ask(&udp, n, Duration::from_millis(300)).await;
        assert_ne!(told, Some(Outcome::Durable), "acknowledged while nothing could be written");
        put_off += u32::from(told == Some(Outcome::Busy));
    }
    assert_eq!(beater.acknowledged.len(), before);
    let_go(held).await;
    until_told(&mut beater, &udp, n, Outcome::Durable).await;
    println!("put off {put_off} times in {away:?}");
    world.audit(std::slice::from_ref(&beater)).await;
    world.server.take().unwrap().stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_twice_mixed_up_cut_short_or_forged_credits_what_was_beaten_and_nothing_else() {
    let mut world = World::start(&[]).await;
    let (mut beater, mut other) = (world.beater().await, world.beater().await);
    let udp = socket(world.udp).await;
    let mut dice = 0x9e37_79b9_7f4a_7c15u64;
    println!("seed {dice}");
    let mut roll = |most: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        (dice >> 20) as usize % most
    };
    let key = beater.grant.beat_key();
    let frames: Vec<[u8; BEAT_BYTES]> = (0..100).map(|n| beater.beat(n).seal(&key)).collect();
    // Each twice, in an order of chance, and between them what is no beat of anybody.
    let mut order: Vec<usize> = (0..100).chain(0..100).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, roll(at + 1));
    }
    for n in order {
        let _ = udp.send(&frames[n]).await;
        let mut bad = frames[roll(100)].to_vec();
        match roll(5) {
            0 => bad.truncate(roll(BEAT_BYTES)),
            1 => bad[roll(BEAT_BYTES)] ^= 1 << roll(8),
            // A minute that was not beaten, under a right frame's MAC.
            2 => bad[16] = bad[16].wrapping_add(1),
            3 => bad = vec![roll(256) as u8; roll(1400)],
            _ => bad.extend_from_slice(&frames[0]),
        }
        let _ = udp.send(&bad).await;
    }
    // A right frame of the one under the key of the other.
    let Beat { minute, .. } = other.beat(5);
    let stolen = Beat { alias: other.grant.alias, minute, ..beater.beat(5) }.seal(&key);
    let _ = udp.send(&stolen).await;
    beater.all(&udp, 0..100).await;
    assert_eq!(beater.acknowledged.len(), 100);
    let others = socket(world.udp).await;
    assert_eq!(other.send(&others, 200).await, Outcome::Durable);
    world.audit(&[beater, other]).await;
    world.server.take().unwrap().stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_machine_that_beats_a_thousand_times_a_second_keeps_nobody_from_beating() {
    let mut world = World::start(&[]).await;
    let (mut loud, mut quiet) = (world.beater().await, world.beater().await);
    let udp = socket(world.udp).await;
    let flood = socket(world.udp).await;
    let key = loud.grant.beat_key();
    let mut n = 0;
    let (mut waits, mut told) = (Vec::new(), Vec::new());
    for second in 0..5 {
        let began = Instant::now();
        for piece in 0..20 {
            for _ in 0..50 {
                let beat = loud.beat(n % MINUTES);
                loud.sent.insert(beat.minute.0);
                let _ = flood.send(&beat.seal(&key)).await;
                n += 1;
            }
            let asked = Instant::now();
            assert_eq!(quiet.send(&udp, second * 20 + piece).await, Outcome::Durable);
            waits.push(asked.elapsed());
            told.extend(loud.hear(&flood, Duration::ZERO).await);
            tokio::time::sleep_until((began + Duration::from_millis(50) * (piece + 1)).into()).await;
        }
    }
    waits.sort_unstable();
    println!("{n} beats of one, the other's answered within {:?} at most", waits.last().unwrap());
    // The loud one was put off, and what was acknowledged is kept.
    told.extend(loud.hear(&flood, Duration::from_millis(500)).await);
    assert!(told.contains(&Outcome::Busy), "5,000 beats of one machine were all taken");
    world.audit(&[loud, quiet]).await;
    world.server.take().unwrap().stop();
}

/// Joins a real worker to the network.
async fn join(data: &Path, origin: &str, supplier: &Person) {
    let mut command = gangline(data);
    command.args(["worker", "--data"]).arg(data).args(["--json", "join", origin]);
    let mut joining = Running::start(&mut command);
    let code = joining.event("code");
    supplier.approve(code["user_code"].as_str().unwrap(), code["fingerprint"].as_str().unwrap()).await;
    joining.event("joined");
    assert_eq!(joining.ended(LIMIT), 0, "{}", joining.err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_s_clock_that_is_stepped_to_and_fro_credits_no_minute_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let (books, data) = (folder.path().join("server"), folder.path().join("worker"));
    let server = Server::start(&books, &["--snapshot-grace-seconds", "36000"]);
    let operator = Person::enter(&server, &server.link.clone()).await;
    let supplier = Person::enter(&server, &operator.link_for("supplier", "Ada").await).await;
    join(&data, &server.origin, &supplier).await;
    let clock = Clock::new(folder.path());
    let began = live::network::this_minute();
    let mut command = gangline(&data);
    command.args(["worker", "--data"]).arg(&data).args(["--json", "run"]);
    clock.under(&mut command);
    let mut worker = Running::start(&mut command);
    let gpu: GpuId = until("a registered GPU", || {
        let status: Value = serde_json::from_slice(&std::fs::read(data.join("status.json")).ok()?).ok()?;
        status["gpus"][0]["gpu"].as_str()?.parse().ok()
    });
    server.until_up_since(gpu, began).await;
    // Slow, fast, slow again: what it beats meanwhile is old or has not begun, and no minute counts that was not.
    for seconds in [-240, 240, -1800, 90] {
        clock.step_to(seconds);
        tokio::time::sleep(Duration::from_secs(5)).await;
        worker.assert_runs();
    }
    clock.step_to(0);
    server.until_up_since(gpu, Minute(live::network::this_minute().0 + 1)).await;
    let page: gangline_wire::api::public::UptimePage =
        server.until(&format!("/api/v1/public/gpus/{gpu}/uptime"), |_| true).await;
    // Half an hour slow it may beat for minutes in which it was not, which no server can know; never for one to come but
    // the next, since a clock may be a minute fast.
    let ends = live::network::this_minute();
    for hour in page.hours {
        for m in (0..60).filter(|m| hour.bits.has(*m)) {
            let minute = hour.hour.start().0 + u32::from(m);
            assert!(
                minute + 40 >= began.0 && minute <= ends.0 + 1,
                "minute {minute} counts, from {began:?} to {ends:?}"
            );
        }
    }
    assert_eq!(worker.stop(), 0, "{}", worker.err());
    server.stop();
}
