//! Processes that are measured: started by us, asked of /proc, and ended with us.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// How long a server may take until it answers.
const START_SECONDS_MAX: u64 = 120;

/// A process that is killed when this is dropped.
pub struct Server {
    child: Child,
}

impl Server {
    /// Starts a program, and keeps what it says to itself.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(program: impl AsRef<OsStr>, args: &[&str]) -> anyhow::Result<Self> {
        let program = program.as_ref();
        let child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("could not start {}", program.to_string_lossy()))?;
        Ok(Self { child })
    }

    /// Starts ourselves with these arguments and reads the first line that comes.
    ///
    /// # Errors
    /// When it does not start or says nothing.
    pub fn ours(args: &[&str]) -> anyhow::Result<(Self, String)> {
        let program = std::env::current_exe().context("could not find our own program")?;
        let mut command = Command::new(program);
        command.args(args).env("GANGLINE_LOG", "error").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context("could not start ourselves")?;
        let out = child.stdout.take().context("no output")?;
        let mut server = Self { child };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).context("could not hear ourselves")?;
        if line.is_empty() {
            let _ = server.child.wait();
            bail!("`gangline {}` ended without a word", args.join(" "));
        }
        Ok((server, line))
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
    /// Processor time so far of those of its threads whose names begin like this, in microseconds, as the scheduler counted
    /// it.
    fn threads_micros(&self, name_of_all: &str) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).into_iter().flatten().flatten();
        let nanos = tasks.filter_map(|task| {
            let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
            let counted = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            let wanted = name.starts_with(name_of_all);
            counted.split(' ').next()?.parse::<f64>().ok().filter(|_| wanted)
        });
        nanos.sum::<f64>() / 1e3
    }
    /// Processor time of all its threads that run now, in microseconds: none may end between two looks.
    pub fn live_micros(&self) -> f64 {
        self.threads_micros("")
    }
    /// Processor time of a Gangline server's intake: from the socket to the disk and back.
    pub fn intake_micros(&self) -> f64 {
        self.threads_micros("beats")
    }
    /// Processor time of all its threads so far, in microseconds: of the clock's 100 a second.
    pub fn cpu_micros(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The name may hold spaces and ends with the last bracket; user and system time are 14th and 15th.
        let after = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let ticks: f64 = after.split(' ').skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum();
        ticks * 10_000.0
    }
    /// Memory that is resident now, in MiB.
    pub fn rss_mib(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
        kib.unwrap_or_default() / 1024.0
    }
    /// Ends it at once, as a power cut would end it.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
    /// Asks it to end and waits until it has.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.pid())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)
            .context("could not ask a server to end")?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A Gangline server, where it listens, and how long it took until it did.
pub struct Gangline {
    /// Its process.
    pub server: Server,
    /// Its address, as http://host:port.
    pub url: String,
    /// From start to answer.
    pub took: Duration,
    /// The operator's one-time link, if the books are new.
    pub operator_link: Option<String>,
}

impl Gangline {
    /// Serves a data folder for tests.
    ///
    /// # Errors
    /// When it does not start.
    pub fn serve(data: &Path) -> anyhow::Result<Self> {
        Self::serve_at(data, None)
    }
    /// The same with datagrams taken at this address, as a server before it did.
    ///
    /// # Errors
    /// When it does not start.
    pub fn serve_at(data: &Path, udp: Option<&str>) -> anyhow::Result<Self> {
        let began = Instant::now();
        let data = data.to_str().context("a folder with a strange name")?;
        let (server, line) = Server::ours(&[
            "serve",
            "--json",
            "--allow-simulated",
            "--listen",
            "127.0.0.1:0",
            "--beat-listen",
            "127.0.0.1:0",
            "--beat-udp-listen",
            udp.unwrap_or("127.0.0.1:0"),
            "--data",
            data,
        ])?;
        let said: serde_json::Value = serde_json::from_str(&line).context("a server said something else")?;
        let address = said["address"].as_str().context("a server without an address")?;
        let operator_link = said["operator_link"].as_str().map(str::to_owned);
        Ok(Self { server, url: format!("http://{address}"), took: began.elapsed(), operator_link })
    }
}

/// The program's path, if it is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"].map(PathBuf::from);
    std::env::split_paths(&paths).chain(more).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// A port that nobody has, and that the system gives nobody who asks for any (it has those from 32768 on): a peer is told of its
/// port before it listens there.
///
/// # Errors
/// When there is none.
pub fn free_port() -> anyhow::Result<u16> {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let of_process = std::process::id().wrapping_mul(41);
    let next = || 10_000 + (of_process.wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed)) % 20_000) as u16;
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(next).take(20_000).find(is_free).context("no port between 10000 and 30000 is free")
}

/// Waits until somebody takes connections there.
///
/// # Errors
/// When nobody does in good time.
pub fn wait_for(port: u16) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(START_SECONDS_MAX) {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    bail!("nobody listens on port {port} after {START_SECONDS_MAX} s")
}

/// Bytes of the files in a folder whose names begin so.
pub fn bytes_in(folder: &Path, start: &str) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let ours = files.filter(|file| file.file_name().to_string_lossy().starts_with(start));
    ours.filter_map(|file| file.metadata().ok()).map(|facts| facts.len()).sum()
}
