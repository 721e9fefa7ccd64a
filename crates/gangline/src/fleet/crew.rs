//! The simulated machines of one run: their keys, and what they beat with once they have proven those.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpStream, ToSocketAddrs, UdpSocket},
    sync::{
        Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use gangline_server::simulate::Seed;
use gangline_types::{Minute, UnixSeconds};
use gangline_wire::{
    Endpoint, ErrorBody, SigningKey,
    api::machine::{ChainStart, EpochGrant, EpochRequest},
    beat::{
        Alias, Beat, BeatKey, ClaimedOpened, Epoch, Link, NONCE_BYTES, OPENED_BYTES, Opening, OpeningOutcome,
        Preimage, Under, WorkerVersion, chain,
    },
    endpoints::BeatEpoch,
    sig,
};
use gangline_worker::client::{ClientError, now};

use crate::problem::Problem;

/// Longest wait for one answer to an opening.
const ANSWER_SECONDS_MAX: u64 = 60;
/// Longest wait for an answer by datagram before it is asked for again, in milliseconds.
const OPENED_MILLIS_MAX: u64 = 1500;
/// How often an opening is tried before the run ends.
const TRIES: u32 = 8;

/// What one machine beats with.
#[derive(Clone)]
pub struct Lane {
    /// Its name on the wire.
    pub alias: Alias,
    epoch: Epoch,
    /// Key of its frames and of the answers.
    pub key: BeatKey,
    /// Its chain's last value that will ever be shown, and how many of its values were.
    last: Preimage,
    shown: u16,
}

/// A crew: machines `0..machines` of a seed.
pub struct Crew {
    seed: Seed,
    /// Values of each machine's chain: beats that it can make before it has to prove its key again. A worker makes
    /// longer chains; a shorter one is cheaper to walk along.
    links: u16,
    /// What each machine beats with.
    pub lanes: Vec<Option<Lane>>,
}

/// How opening an epoch went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Joined {
    /// Machines that proved their key.
    pub machines: u32,
    /// From the first to the last, in seconds.
    pub seconds: f64,
    /// 99th percentile of one machine's wait, in milliseconds.
    pub p99_millis: f64,
}

impl Lane {
    /// Proves the key for another lane by datagram, vouched for by this one; a new question each time it is asked.
    fn open_again(
        &self,
        socket: &UdpSocket,
        authority: &str,
        request: &EpochRequest,
        key: &SigningKey,
        sequence: &AtomicU64,
    ) -> anyhow::Result<(Epoch, Alias, BeatKey)> {
        let under = Under { epoch: self.epoch, alias: self.alias, key: &self.key };
        let mut bytes = [0; OPENED_BYTES + 1];
        for _ in 0..TRIES {
            let number = sequence.fetch_add(1, Ordering::Relaxed);
            let created = UnixSeconds(now().0 / 1000);
            let mut nonce = [0; NONCE_BYTES];
            getrandom::fill(&mut nonce)
                .map_err(|why| anyhow::anyhow!("the system gives no randomness: {why}"))?;
            let opening = Opening::sign(request.clone(), authority, number, created, key)
                .context("the question does not fit into a datagram")?;
            socket.send(&opening.seal(under, &nonce))?;
            while let Ok(length) = socket.recv(&mut bytes) {
                let answer = ClaimedOpened::read(&bytes[..length])
                    .ok()
                    .and_then(|claimed| claimed.unseal(&self.key).ok());
                let Some(Ok(answer)) = answer.filter(|a| a.as_ref().is_ok_and(|a| a.sequence == number))
                else {
                    continue;
                };
                match answer.outcome {
                    OpeningOutcome::Opened { epoch, alias, key, .. } => return Ok((epoch, alias, key)),
                    OpeningOutcome::AskByHttp => bail!("a machine was refused by datagram"),
                    OpeningOutcome::Busy(seconds) => {
                        std::thread::sleep(Duration::from_secs(seconds.into()));
                        break;
                    }
                }
            }
        }
        bail!("nobody answered a machine by datagram")
    }

    /// The next beat for a minute, sealed; none once the chain is used up.
    pub fn beat(&mut self, minute: Minute, links: u16) -> Option<Beat> {
        if self.shown >= links {
            return None;
        }
        self.shown += 1;
        let link = Link { slot: 0, count: self.shown, preimage: self.last.back(links - self.shown) };
        let worker = WorkerVersion::of(env!("CARGO_PKG_VERSION"));
        Some(Beat { epoch: self.epoch, alias: self.alias, minute, worker, gpus: 1, link })
    }
}

impl Crew {
    /// A crew that has not opened an epoch yet.
    pub fn new(seed: Seed, machines: u32, links: u16) -> Self {
        Self { seed, links, lanes: vec![None; machines as usize] }
    }
    /// Values of each machine's chain.
    pub fn links(&self) -> u16 {
        self.links
    }
    /// Machines in it.
    pub fn len(&self) -> u32 {
        self.lanes.len() as u32
    }

    fn request(&self, n: u32, starts: Minute) -> (SigningKey, Preimage, EpochRequest) {
        let identity = self.seed.identity(n);
        // Another chain for another first minute, so that opening again is not the same chain with other beats.
        let secret = self.seed.secret(n, &format!("chain from {}", starts.0));
        let last = Preimage(std::array::from_fn(|at| secret[at]));
        let tip = last.back(self.links);
        let uptime = SigningKey::from_seed(&chain::uptime_seed(&identity.key.seed(), identity.gpu));
        let signature = uptime.sign(&chain::signed_bytes(identity.gpu, starts, tip));
        let signature: String = signature.iter().map(|b| format!("{b:02x}")).collect();
        let signature = gangline_types::Text::lossy(&signature);
        let chains = vec![ChainStart { gpu: identity.gpu, tip, uptime_key: uptime.public(), signature }];
        (identity.key, last, EpochRequest { starts, chains })
    }

    /// Every machine proves its key, over so many kept connections at once; answers where frames go by UDP and,
    /// if the intake has a listener of its own, by HTTP.
    ///
    /// # Errors
    /// When a machine is refused or nobody answers.
    pub fn join(&mut self, url: &str, starts: Minute, connections: usize) -> anyhow::Result<(Joined, Doors)> {
        let authority = authority_of(url)?;
        let sequence = first_sequence();
        let doors: Mutex<Option<Doors>> = Mutex::default();
        let joined = self.everybody(
            connections,
            || Ok(Connection::to(&authority)),
            |crew, line, n| {
                let (key, last, request) = crew.request(n, starts);
                let grant = line.open(&key, &request, &sequence)?;
                doors
                    .lock()
                    .expect("no other thread failed")
                    .get_or_insert_with(|| Doors::of(&grant, &authority));
                Ok(Lane { alias: grant.alias, epoch: grant.epoch, key: grant.beat_key(), last, shown: 0 })
            },
        )?;
        let doors = doors.into_inner().unwrap_or_else(|e| e.into_inner());
        Ok((joined, doors.context("no machine got an address to beat at")?))
    }

    /// Every machine proves its key again, by datagrams under the lane that it has: so many at once, each from a socket of
    /// its own.
    ///
    /// # Errors
    /// When a machine is refused or nobody answers.
    pub fn come_back(
        &mut self,
        url: &str,
        doors: &Doors,
        starts: Minute,
        sockets: usize,
    ) -> anyhow::Result<Joined> {
        let authority = authority_of(url)?;
        let sequence = first_sequence();
        let door = doors.udp.as_deref().context("the network takes no datagrams")?;
        let socket = || -> anyhow::Result<UdpSocket> {
            let socket = UdpSocket::bind("0.0.0.0:0").context("could not open a socket")?;
            socket.connect(door).with_context(|| format!("there is no way to {door}"))?;
            socket.set_read_timeout(Some(Duration::from_millis(OPENED_MILLIS_MAX)))?;
            Ok(socket)
        };
        self.everybody(sockets, socket, |crew, socket, n| {
            let before = crew.lanes[n as usize].as_ref().context("a machine without a lane")?;
            let (key, last, request) = crew.request(n, starts);
            let (epoch, alias, key) = before.open_again(socket, &authority, &request, &key, &sequence)?;
            Ok(Lane { alias, epoch, key, last, shown: 0 })
        })
    }

    /// Lets every machine get a lane, each thread over a line of its own.
    fn everybody<L>(
        &mut self,
        threads: usize,
        line: impl Fn() -> anyhow::Result<L> + Sync,
        open: impl Fn(&Self, &mut L, u32) -> anyhow::Result<Lane> + Sync,
    ) -> anyhow::Result<Joined> {
        let (next, began) = (AtomicU32::new(0), Instant::now());
        let done: Mutex<Vec<(u32, Lane, Duration)>> = Mutex::default();
        let crew = &*self;
        let outcome: anyhow::Result<()> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..threads.clamp(1, 1024))
                .map(|_| {
                    let work = || -> anyhow::Result<()> {
                        let mut line = line()?;
                        let mut mine = Vec::new();
                        loop {
                            let n = next.fetch_add(1, Ordering::Relaxed);
                            if n >= crew.len() {
                                break;
                            }
                            let asked = Instant::now();
                            mine.push((n, open(crew, &mut line, n)?, asked.elapsed()));
                        }
                        done.lock().expect("no other thread failed").append(&mut mine);
                        Ok(())
                    };
                    std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, work)
                })
                .collect();
            for thread in threads {
                let thread = thread.context("could not start a thread")?;
                thread.join().map_err(|_| anyhow::anyhow!("a thread of the fleet broke off"))??;
            }
            Ok(())
        });
        outcome?;
        let done = done.into_inner().unwrap_or_else(|e| e.into_inner());
        let mut waits: Vec<Duration> = done.iter().map(|(_, _, wait)| *wait).collect();
        let joined = Joined {
            machines: done.len() as u32,
            seconds: began.elapsed().as_secs_f64(),
            p99_millis: super::percentile(&mut waits, 99).as_secs_f64() * 1000.0,
        };
        for (n, lane, _) in done {
            self.lanes[n as usize] = Some(lane);
        }
        Ok(joined)
    }
}

/// Host and port of a server's URL.
fn authority_of(url: &str) -> anyhow::Result<String> {
    let authority = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/').to_owned());
    authority.ok_or_else(|| {
        Problem::usage(format!("{url} is no address that a fleet can beat at"))
            .hint("give http://host:port")
            .into()
    })
}

/// Where a run's sequence numbers begin.
fn first_sequence() -> AtomicU64 {
    AtomicU64::new(now().0 * 1000)
}

/// Where frames are taken.
#[derive(Clone, Debug)]
pub struct Doors {
    /// Host and port for datagrams, if there are any.
    pub udp: Option<String>,
    /// Host and port for HTTP.
    pub http: String,
}

impl Doors {
    fn of(grant: &EpochGrant, authority: &str) -> Self {
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let udp = grant.udp.as_ref().map(|udp| {
            let host = udp.host.as_ref().map_or(host, |host| host.as_str());
            format!("{host}:{}", udp.port)
        });
        let own = grant.http.as_ref().and_then(|url| url.as_str().strip_prefix("http://"));
        Self { udp, http: own.unwrap_or(authority).trim_end_matches('/').to_owned() }
    }
}

/// One kept connection for signed requests.
struct Connection {
    authority: String,
    stream: Option<BufReader<TcpStream>>,
}

/// What a machine that was refused makes of it.
fn refused(status: u16, answer: &[u8]) -> anyhow::Error {
    let Ok(body) = serde_json::from_slice::<Box<ErrorBody>>(answer) else {
        let said = String::from_utf8_lossy(answer);
        return Problem::new(format!("a machine was refused: {status} {said}")).into();
    };
    let problem = Problem::new("a machine was refused");
    let problem = match body.code.as_str() {
        "unknown_key" => problem.hint(
            "the network has fewer simulated machines, or of another --seed: stop its server, and fill its data folder \
             with gangline fleet seed",
        ),
        _ => problem,
    };
    anyhow::Error::new(ClientError::Refused { status, body }).context(problem)
}

/// A connection to `authority`, with an end to waiting.
///
/// # Errors
/// When nobody is there.
pub fn connect(authority: &str) -> anyhow::Result<TcpStream> {
    let address = authority.to_socket_addrs()?.next().context("the host has no address")?;
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(ANSWER_SECONDS_MAX)))?;
    stream.set_write_timeout(Some(Duration::from_secs(ANSWER_SECONDS_MAX)))?;
    Ok(stream)
}

impl Connection {
    fn to(authority: &str) -> Self {
        Self { authority: authority.to_owned(), stream: None }
    }

    fn open(
        &mut self,
        key: &SigningKey,
        request: &EpochRequest,
        sequence: &AtomicU64,
    ) -> anyhow::Result<EpochGrant> {
        let body = serde_json::to_vec(request)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let number = sequence.fetch_add(1, Ordering::Relaxed);
            match self.ask(key, &body, number) {
                Ok((200, answer)) => return Ok(serde_json::from_slice(&answer)?),
                Ok((status, answer)) if tries >= TRIES || !(status == 429 || status >= 500) => {
                    return Err(refused(status, &answer));
                }
                Err(error) if tries >= TRIES => {
                    let nobody = Problem::new(format!("nobody answers a machine at {}", self.authority));
                    return Err(error.context(nobody.hint("start the server, or check the address")));
                }
                _ => std::thread::sleep(Duration::from_millis(200 << tries.min(5))),
            }
        }
    }

    fn ask(&mut self, key: &SigningKey, body: &[u8], sequence: u64) -> anyhow::Result<(u16, Vec<u8>)> {
        let path = BeatEpoch::SPEC.path;
        let covered = sig::Covered {
            method: "POST",
            authority: &self.authority,
            path,
            query: "",
            body_digest: sig::digest(body),
            sequence,
        };
        let created = UnixSeconds(now().0 / 1000);
        let headers: String = sig::sign(&covered, created, key)
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n",
            self.authority,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(connect(&self.authority)?),
        };
        stream.get_mut().write_all(&request)?;
        let answer = read_answer(&mut stream)?;
        self.stream = Some(stream);
        Ok(answer)
    }
}

/// Status and body of one answer with a length.
///
/// # Errors
/// When it is none.
pub fn read_answer(stream: &mut impl BufRead) -> anyhow::Result<(u16, Vec<u8>)> {
    let (mut line, mut status, mut length) = (String::new(), 0, 0usize);
    loop {
        line.clear();
        ensure!(stream.read_line(&mut line)? > 0, "the connection ended");
        let text = line.trim_end();
        if status == 0 {
            status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
        } else if text.is_empty() {
            break;
        } else if let Some((name, value)) = text.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().context("no length")?;
        }
    }
    ensure!(length < 1 << 20, "an answer of {length} bytes");
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((status, body))
}
