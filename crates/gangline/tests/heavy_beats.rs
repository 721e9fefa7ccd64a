//! Beats through everything that can befall the server that takes them: SIGKILL under load, a full disk, a journal
//! that stalls, books that somebody holds, ten thousand connections that say nothing. Acknowledged beats lost: none.
//!
//! `GANGLINE_BEATS_KILLS=100` kills a hundred times; a few times are enough for every day.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod live;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use gangline_types::{GpuId, Minute, Text};
use gangline_wire::{
    SigningKey,
    api::{
        machine::{ChainStart, EpochGrant, EpochRequest},
        public::UptimePage,
    },
    beat::{ANSWER_BYTES, Answer, Beat, Chain, ClaimedAnswer, Link, Outcome, WorkerVersion, chain},
    endpoints::BeatEpoch,
};
use live::{
    LIMIT,
    network::{Machine, Person, Server, call, this_minute},
};
use nix::sys::signal::Signal;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::net::{TcpStream, UdpSocket};

/// Minutes that a machine here can still beat for.
const MINUTES: u32 = 330;

/// A machine that beats by datagrams and keeps an account of what was acknowledged.
struct Beater {
    gpu: GpuId,
    grant: EpochGrant,
    chain: Chain,
    starts: Minute,
    count: u16,
    sent: BTreeSet<u32>,
    acknowledged: BTreeSet<u32>,
}

impl Beater {
    async fn open(machine: &Machine) -> Self {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).unwrap();
        let chain = Chain::from_seed(seed);
        let starts = Minute(this_minute().0 - MINUTES);
        let uptime_key = SigningKey::from_seed(&chain::uptime_seed(&machine.key.seed(), machine.gpu));
        let signature = uptime_key.sign(&chain::signed_bytes(machine.gpu, starts, chain.tip()));
        let hex: String = signature.iter().map(|b| format!("{b:02x}")).collect();
        let start = ChainStart {
            gpu: machine.gpu,
            tip: chain.tip(),
            uptime_key: uptime_key.public(),
            signature: Text::new(&hex).unwrap(),
        };
        let request = EpochRequest { starts, chains: vec![start] };
        let grant = call::<BeatEpoch>(&machine.client, &request).await.unwrap();
        let (sent, acknowledged) = Default::default();
        Self { gpu: machine.gpu, grant, chain, starts, count: 0, sent, acknowledged }
    }

    /// The frame of the n-th minute since the start; made in order.
    fn beat(&mut self, n: u32) -> Beat {
        self.count = self.count.max(n as u16 + 1);
        let count = n as u16 + 1;
        let link = Link { slot: 0, count, preimage: self.chain.value(count) };
        let (epoch, alias) = (self.grant.epoch, self.grant.alias);
        let minute = Minute(self.starts.0 + n);
        Beat { epoch, alias, minute, worker: WorkerVersion::of("0.1.0"), gpus: 1, link }
    }

    fn read(&self, bytes: &[u8]) -> Answer {
        assert_eq!(bytes.len(), ANSWER_BYTES);
        ClaimedAnswer::read(bytes).unwrap().verify(&self.grant.beat_key()).unwrap().unwrap()
    }

    /// Sends one beat until it is answered; what the answer was.
    async fn send(&mut self, socket: &UdpSocket, n: u32) -> Outcome {
        let beat = self.beat(n);
        self.sent.insert(beat.minute.0);
        let limit = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < limit, "no answer to a beat");
            let _ = socket.send(&beat.seal(&self.grant.beat_key())).await;
            let mut bytes = [0; 100];
            let heard = tokio::time::timeout(Duration::from_millis(500), socket.recv(&mut bytes)).await;
            let Ok(Ok(length)) = heard else { continue };
            let answer = self.read(&bytes[..length]);
            if !answer.answers(&beat) {
                continue;
            }
            if answer.outcome == Outcome::Durable {
                self.acknowledged.insert(beat.minute.0);
            }
            return answer.outcome;
        }
    }

    /// Keeps `window` frames on their way from the n-th minute on until told to stop.
    async fn load(&mut self, to: SocketAddr, from: u32, until: u32, stop: Arc<Mutex<bool>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(to).await.unwrap();
        let mut n = from;
        while !*stop.lock().unwrap() {
            for at in n..(n + 16).min(until) {
                let beat = self.beat(at);
                self.sent.insert(beat.minute.0);
                let _ = socket.send(&beat.seal(&self.grant.beat_key())).await;
            }
            let mut bytes = [0; 100];
            while let Ok(Ok(length)) =
                tokio::time::timeout(Duration::from_millis(20), socket.recv(&mut bytes)).await
            {
                let answer = self.read(&bytes[..length]);
                if answer.outcome == Outcome::Durable {
                    self.acknowledged.insert(answer.minute.0);
                }
            }
            while n < until && self.acknowledged.contains(&(self.starts.0 + n)) {
                n += 1;
            }
            if n >= until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

struct World {
    folder: tempfile::TempDir,
    server: Option<Server>,
    listen: String,
    udp: SocketAddr,
    operator: Person,
}

const MORE: &[&str] = &["--snapshot-grace-seconds", "36000"];

impl World {
    async fn start(more: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), more).await
    }

    async fn start_in(folder: tempfile::TempDir, more: &[&str]) -> Self {
        let server = Server::start(folder.path(), &[MORE, more].concat());
        let operator = Person::enter(&server, &server.link.clone()).await;
        let (listen, udp) = (server.address.to_string(), server.beat_udp.expect("beats are taken by UDP"));
        Self { folder, server: Some(server), listen, udp, operator }
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    async fn beater(&self) -> Beater {
        Beater::open(&Machine::join(self.server(), &self.operator).await).await
    }

    fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.process.signal(Signal::SIGKILL);
        server.process.ended(LIMIT);
    }

    fn start_again(&mut self) {
        let udp = self.udp.to_string();
        let server = Server::start_at(
            self.folder.path(),
            &self.listen,
            &[MORE, &["--beat-udp-listen", &udp]].concat(),
        );
        self.server = Some(server);
    }

    /// What was acknowledged is public, and nothing is that was not sent.
    async fn audit(&self, beaters: &[Beater]) {
        for beater in beaters {
            let expected: Vec<Minute> = beater.acknowledged.iter().copied().map(Minute).collect();
            self.server().until_up(beater.gpu, &expected).await;
            let path = format!("/api/v1/public/gpus/{}/uptime", beater.gpu);
            let page: UptimePage = self.server().until(&path, |_| true).await;
            for hour in page.hours {
                for m in (0..60).filter(|m| hour.bits.has(*m)) {
                    let minute = hour.hour.start().0 + u32::from(m);
                    assert!(beater.sent.contains(&minute), "minute {minute} was credited and never sent");
                }
            }
        }
        // And anybody can see that each stands on a chain.
        let mut verify = live::gangline(self.folder.path());
        let told = verify.args(["verify", "uptime", &self.server().origin]).output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    }
}

async fn socket(to: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(to).await.unwrap();
    socket
}

async fn hold(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(30));
    let mut held = SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut held).await.unwrap();
    held
}

async fn let_go(mut held: SqliteConnection) {
    sqlx::query("ROLLBACK").execute(&mut held).await.unwrap();
    held.close().await.unwrap();
}

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
    let_go(held).await;
    world.start_again();
    world.audit(std::slice::from_ref(&beater)).await;

    // The journal itself stalls: no answer until it is written, and pages are served all the same.
    assert_eq!(beater.send(&udp, 40).await, Outcome::Durable);
    let journal = std::fs::read_dir(world.folder.path())
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "sqlite") && p.to_string_lossy().contains("journal-"))
        .max()
        .expect("a journal");
    let held = hold(&journal).await;
    let beat = beater.beat(41);
    udp.send(&beat.seal(&beater.grant.beat_key())).await.unwrap();
    let mut bytes = [0; 100];
    let early = tokio::time::timeout(Duration::from_secs(2), udp.recv(&mut bytes)).await;
    assert!(early.is_err(), "a beat was acknowledged before it was written");
    assert_eq!(world.server().get("/").await.0, 200);
    let_go(held).await;
    assert_eq!(beater.send(&udp, 41).await, Outcome::Durable);
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
