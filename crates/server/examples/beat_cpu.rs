//! What a beat costs the intake: its processor time for each acknowledged beat, by UDP and by HTTP on kept
//! connections, with the journal on disk as in a server. The intake runs in a process of its own, so that the load's
//! cost is not counted.
//!
//! `cargo run --release -p gangline-server --example beat_cpu -- [beats] [folder]`

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use gangline_guard::beat::Grant;
use gangline_server::intake::{Clock, Intake, Start, tcp, udp};
use gangline_store::{Journal, LaneRow};
use gangline_types::{AccountId, GpuId, KeyId, MachineId, Minute};
use gangline_wire::beat::{
    ANSWER_BYTES, Alias, BEAT_BYTES, Beat, BeatKey, Chain, ClaimedAnswer, Epoch, EpochMaster, Link, Outcome,
    Preimage, WorkerVersion,
};

const SECRET: [u8; 32] = [42; 32];
const LANES: u64 = 4_000;
/// Beats on their way at once.
const WINDOW: usize = 256;
/// Minutes back that a lane's beats are for.
const BACK: u32 = 340;

fn lanes(epoch: Epoch) -> impl Iterator<Item = (MachineId, GpuId, Alias, BeatKey)> {
    let master = EpochMaster::of(&SECRET, epoch);
    let tip = chain().tip();
    (0..LANES).map(move |n| {
        let mut id = [7; 16];
        id[..8].copy_from_slice(&n.to_le_bytes());
        let machine = MachineId::from_bytes(id);
        let alias = master.alias(machine, tip);
        (machine, GpuId::from_bytes(id), alias, master.key(alias))
    })
}

fn chain() -> Chain {
    Chain::from_seed([9; 32])
}

/// The intake, until its standard input ends.
fn intake(folder: &std::path::Path) -> anyhow::Result<()> {
    let clock = Clock::default();
    let epoch = Epoch::of(clock.now());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let journal = Journal::open(folder)?;
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let lanes = lanes(epoch).map(|(machine, gpu, alias, _)| LaneRow {
        grant: Grant::kept(alias, epoch, machine, AccountId::from_bytes([1; 16]), KeyId::from_bytes([1; 16])),
        gpus: vec![(gpu, chain().tip())],
    });
    let lanes = lanes.collect();
    let start = Start {
        udp: Some(udp(any)?),
        http: Some(tcp(any)?),
        secret: SECRET,
        clock,
        journal,
        lanes,
        deepest: vec![],
    };
    let intake = runtime.block_on(Intake::start(start))?;
    println!("{} {}", intake.udp.context("no UDP")?, intake.http.context("no HTTP")?);
    std::io::stdin().read_to_end(&mut Vec::new())?;
    runtime.block_on(intake.stop());
    let mut counters = String::new();
    intake.counters().render(&mut counters);
    for line in counters.lines().filter(|l| !l.starts_with('#')) {
        eprintln!("  {line}");
    }
    Ok(())
}

/// Processor time of a process so far, user and system.
fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

struct Load {
    lanes: Vec<(Alias, BeatKey)>,
    values: Vec<Preimage>,
    epoch: Epoch,
    newest: Minute,
    next: u64,
}

impl Load {
    /// The next beat, each for another minute of its lane.
    fn next(&mut self) -> (usize, [u8; BEAT_BYTES]) {
        let n = (self.next % LANES) as usize;
        let turn = (self.next / LANES) as u32;
        self.next += 1;
        let (alias, key) = &self.lanes[n];
        let count = turn as u16 + 1;
        let link = Link { slot: 0, count, preimage: self.values[usize::from(count)] };
        let minute = Minute(self.newest.0 - BACK + turn);
        let beat = Beat { epoch: self.epoch, alias: *alias, minute, worker: WorkerVersion(0), gpus: 1, link };
        (n, beat.seal(key))
    }
    fn is_durable(&self, n: usize, bytes: &[u8]) -> bool {
        ClaimedAnswer::read(bytes)
            .is_ok_and(|a| matches!(a.verify(&self.lanes[n].1), Ok(Ok(a)) if a.outcome == Outcome::Durable))
    }
}

fn by_udp(load: &mut Load, to: SocketAddr, beats: usize) -> anyhow::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    // Room for a window of answers: what this end drops is not the intake's loss.
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20)?;
    let mut known: std::collections::HashMap<u64, usize> = Default::default();
    for (n, (alias, _)) in load.lanes.iter().enumerate() {
        known.insert(alias.0, n);
    }
    let (mut sent, mut heard) = (0, 0);
    let mut bytes = [0; 100];
    while heard < beats {
        while sent < beats && sent - heard < WINDOW {
            let (_, frame) = load.next();
            socket.send(&frame)?;
            sent += 1;
        }
        let length = socket.recv(&mut bytes).context("an answer is missing")?;
        let claimed = ClaimedAnswer::read(&bytes[..length])?;
        let n = known[&claimed.alias().0];
        ensure!(load.is_durable(n, &bytes[..length]), "not durable");
        heard += 1;
    }
    Ok(())
}

fn by_http(load: &mut Load, to: SocketAddr, beats: usize) -> anyhow::Result<()> {
    let mut streams = (0..WINDOW).map(|_| TcpStream::connect(to)).collect::<Result<Vec<_>, _>>()?;
    for stream in &streams {
        stream.set_nodelay(true)?;
    }
    let rounds = beats / WINDOW;
    for _ in 0..rounds {
        let mut lanes = Vec::with_capacity(WINDOW);
        for stream in &mut streams {
            let (n, frame) = load.next();
            let mut request =
                b"POST /api/v1/beat HTTP/1.1\r\nhost: gangline\r\ncontent-length: 64\r\n\r\n".to_vec();
            request.extend_from_slice(&frame);
            stream.write_all(&request)?;
            lanes.push(n);
        }
        for (stream, n) in streams.iter_mut().zip(lanes) {
            let mut bytes = vec![0; 1024];
            let mut length = 0;
            loop {
                length += stream.read(&mut bytes[length..])?;
                let head = bytes[..length].windows(4).position(|w| w == b"\r\n\r\n");
                if head.is_some_and(|head| length >= head + 4 + ANSWER_BYTES) {
                    break;
                }
            }
            ensure!(load.is_durable(n, &bytes[length - ANSWER_BYTES..length]), "not durable");
        }
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|a| a == "intake") {
        return intake(std::path::Path::new(&args[2]));
    }
    let beats: usize = args.get(1).map_or(Ok(400_000), |n| n.parse())?;
    ensure!(beats as u64 <= LANES * u64::from(BACK) / 4, "at most {} beats", LANES * u64::from(BACK) / 4);
    let folder = match args.get(2) {
        Some(folder) => std::path::PathBuf::from(folder),
        None => std::env::temp_dir().join(format!("beat-cpu-{}", std::process::id())),
    };
    std::fs::create_dir_all(&folder)?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("intake")
        .arg(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
    let (udp_at, http_at) = line.trim().split_once(' ').context("no addresses")?;
    let (udp_at, http_at): (SocketAddr, SocketAddr) = (udp_at.parse()?, http_at.parse()?);
    let epoch = Epoch::of(Clock::default().now());
    let values = (0..=BACK as u16 + 1).map(|count| chain().value(count)).collect();
    let lanes = lanes(epoch).map(|(_, _, alias, key)| (alias, key)).collect();
    let mut load = Load { lanes, values, epoch, newest: Clock::default().now().minute(), next: 0 };
    for round in 0..2 {
        for (name, by, at) in [
            ("UDP", by_udp as fn(&mut Load, SocketAddr, usize) -> anyhow::Result<()>, udp_at),
            ("HTTP", by_http, http_at),
        ] {
            let (before, began) = (cpu(child.id())?, Instant::now());
            let beats = beats / WINDOW * WINDOW;
            by(&mut load, at, beats)?;
            let (used, took) = (cpu(child.id())? - before, began.elapsed());
            println!(
                "round {round}: {name}: {:.1} us of CPU a beat, {:.0} beats/s, {beats} beats",
                used.as_secs_f64() * 1e6 / beats as f64,
                beats as f64 / took.as_secs_f64()
            );
        }
    }
    let mut bytes = 0;
    for entry in std::fs::read_dir(&folder)? {
        bytes += entry?.metadata()?.len();
    }
    println!("journal: {bytes} bytes on disk, {:.0} a beat", bytes as f64 / load.next as f64);
    drop(child.stdin.take());
    child.wait()?;
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}
