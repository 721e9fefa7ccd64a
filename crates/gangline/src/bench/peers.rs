//! The contenders that beats are compared with: a bare UDP echo, Redis without durability, etcd. Each is driven
//! with so many questions under way at once, and answers how many it answered.

use std::{
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};

use super::procs::{Server, find, free_port, wait_for};
use crate::fleet::udp::heard;

/// Questions under way at once, for every contender.
pub const WINDOW: usize = 256;

/// `gangline bench-echo`: sends every datagram back, and does nothing else.
///
/// # Errors
/// When it cannot listen.
pub fn echo() -> anyhow::Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    println!("{}", socket.local_addr()?);
    let mut bytes = [0; 2048];
    loop {
        let (length, from) = socket.recv_from(&mut bytes)?;
        let _ = socket.send_to(&bytes[..length], from);
    }
}

/// A bare UDP echo in a process of its own.
pub struct Echo {
    /// Its process.
    pub server: Server,
    door: String,
}

impl Echo {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> anyhow::Result<Self> {
        let (server, line) = Server::ours(&["bench-echo"])?;
        Ok(Self { server, door: line.trim().to_owned() })
    }
    /// Sends beats' sixty-four bytes for so long; how many came back.
    ///
    /// # Errors
    /// When there is no way there.
    pub fn drive(&self, seconds: f64) -> anyhow::Result<u64> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(&self.door)?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let (bytes, mut answers) = ([7; 64], 0);
        let until = Instant::now() + Duration::from_secs_f64(seconds);
        let mut flying = 0usize;
        while Instant::now() < until {
            while flying < WINDOW && socket.send(&bytes).is_ok() {
                flying += 1;
            }
            let came = heard(&socket, |_| Ok(()))?;
            answers += came as u64;
            // What was lost is lost.
            flying = if came == 0 { 0 } else { flying.saturating_sub(came) };
        }
        Ok(answers)
    }
}

/// Redis as a cache: nothing on disk, no password.
pub struct Redis {
    /// Its process.
    pub server: Server,
    port: u16,
}

impl Redis {
    /// Starts it, if it is installed.
    ///
    /// # Errors
    /// When it is and does not start.
    pub fn start() -> anyhow::Result<Option<Self>> {
        let Some(program) = find("redis-server") else { return Ok(None) };
        let port = free_port()?;
        let text = port.to_string();
        let server = Server::start(
            program,
            &["--port", &text, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        )?;
        wait_for(port)?;
        Ok(Some(Self { server, port }))
    }
    /// `SETEX` over kept connections, one question under way on each, for so long; how many were answered.
    ///
    /// # Errors
    /// When it answers something else.
    pub fn drive(&self, seconds: f64) -> anyhow::Result<u64> {
        let port = self.port;
        let turn = move |stream: &mut TcpStream, n: u64| -> anyhow::Result<()> {
            let key = format!("machine:{:012}", n % 600_000);
            let ask = format!("*4\r\n$5\r\nSETEX\r\n${}\r\n{key}\r\n$3\r\n180\r\n$1\r\n1\r\n", key.len());
            stream.write_all(ask.as_bytes())?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer)?;
            ensure!(&answer == b"+OK\r\n", "Redis answered {}", String::from_utf8_lossy(&answer));
            Ok(())
        };
        on_connections(port, seconds, turn)
    }
}

/// One question after the other on each of so many connections.
fn on_connections(
    port: u16,
    seconds: f64,
    turn: impl Fn(&mut TcpStream, u64) -> anyhow::Result<()> + Copy + Send + Sync,
) -> anyhow::Result<u64> {
    let answered = AtomicU64::new(0);
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let outcome: anyhow::Result<()> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WINDOW as u64)
            .map(|c| {
                let answered = &answered;
                let work = move || -> anyhow::Result<()> {
                    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
                    stream.set_nodelay(true)?;
                    let mut n = c;
                    while Instant::now() < until {
                        turn(&mut stream, n)?;
                        n += WINDOW as u64;
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                };
                std::thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, work)
            })
            .collect();
        for thread in threads {
            let thread = thread.context("could not start a thread")?;
            thread.join().map_err(|_| anyhow::anyhow!("a thread broke off"))??;
        }
        Ok(())
    });
    outcome?;
    Ok(answered.load(Ordering::Relaxed))
}

/// etcd, one member.
pub struct Etcd {
    /// Its process.
    pub server: Server,
    port: u16,
}

impl Etcd {
    /// Starts it in a folder, if it is installed.
    ///
    /// # Errors
    /// When it is and does not start.
    pub fn start(folder: &std::path::Path) -> anyhow::Result<Option<Self>> {
        let Some(program) = find("etcd") else { return Ok(None) };
        let (port, peers) = (free_port()?, free_port()?);
        let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peers}"));
        let data = folder.join("etcd");
        let server = Server::start(
            program,
            &[
                "--name",
                "bench",
                "--data-dir",
                data.to_str().context("a folder with a strange name")?,
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
                "--initial-cluster",
                &format!("bench={peer}"),
                "--log-level",
                "error",
            ],
        )?;
        wait_for(port)?;
        Ok(Some(Self { server, port }))
    }
    /// `Put` by gRPC over eight connections, with so many under way in all, for so long; how many were answered.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn drive(&self, seconds: f64) -> anyhow::Result<u64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(puts(self.port, seconds))
    }
}

/// The message of a put: field 1 the key, field 2 the value, both bytes.
fn put(key: &str) -> bytes::Bytes {
    let mut message = vec![0x0a, key.len() as u8];
    message.extend_from_slice(key.as_bytes());
    message.extend_from_slice(&[0x12, 1, b'1']);
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend(message);
    framed.into()
}

async fn puts(port: u16, seconds: f64) -> anyhow::Result<u64> {
    const CONNECTIONS: usize = 8;
    let until = tokio::time::Instant::now() + Duration::from_secs_f64(seconds);
    let mut tasks = tokio::task::JoinSet::new();
    for c in 0..CONNECTIONS {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let (client, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(connection);
        for w in 0..WINDOW / CONNECTIONS {
            let mut client = client.clone().ready().await?;
            tasks.spawn(async move {
                let (mut n, mut answered) = (c * 100 + w, 0u64);
                while tokio::time::Instant::now() < until {
                    let request = http::Request::post(format!("http://127.0.0.1:{port}/etcdserverpb.KV/Put"))
                        .header("content-type", "application/grpc")
                        .header("te", "trailers")
                        .body(())?;
                    let (answer, mut out) = client.send_request(request, false)?;
                    out.send_data(put(&format!("machine:{:012}", n % 600_000)), true)?;
                    let mut body = answer.await?.into_body();
                    while let Some(part) = body.data().await {
                        let _ = body.flow_control().release_capacity(part?.len());
                    }
                    let trailers = body.trailers().await?;
                    let ok = trailers.is_some_and(|t| t.get("grpc-status").is_some_and(|s| s == "0"));
                    ensure!(ok, "etcd refused a put");
                    answered += 1;
                    n += 1000;
                    client = client.ready().await?;
                }
                anyhow::Ok(answered)
            });
        }
    }
    let mut answered = 0;
    while let Some(task) = tasks.join_next().await {
        answered += task??;
    }
    Ok(answered)
}
