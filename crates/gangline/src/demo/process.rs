//! One process of the demonstration: its own group, its log in a file, its lines as they come.
//!
//! Knows no meaning of what is said.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

use super::fleet::Fleet;

/// What to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// For people, and the name of its log.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Added to its environment.
    pub env: Vec<(String, OsString)>,
    /// Where it runs.
    pub folder: PathBuf,
    /// What it reads.
    pub stdin: Option<Vec<u8>>,
}

/// A process that was started. The fleet knows it until it has ended.
#[derive(Debug)]
pub struct Process {
    /// For people.
    pub name: String,
    /// Its id, and its group's.
    pub pid: u32,
    /// Its log.
    pub log: PathBuf,
    child: Child,
    lines: mpsc::UnboundedReceiver<(Instant, String)>,
    fleet: Arc<Fleet>,
}

/// What a process that ended said and when.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Lines of its standard output.
    pub lines: Vec<(Instant, String)>,
    /// The end of its log.
    pub tail: Vec<String>,
}

impl Ended {
    /// The first line that is JSON.
    pub fn json(&self) -> anyhow::Result<Value> {
        let found = self.lines.iter().find_map(|(_, line)| serde_json::from_str(line).ok());
        found.with_context(|| format!("it printed no JSON: {}", self.words()))
    }
    /// Its output and the end of its log in one line, for errors.
    pub fn words(&self) -> String {
        let out: Vec<&str> = self.lines.iter().map(|(_, line)| line.as_str()).rev().take(3).collect();
        let tail: Vec<&str> = self.tail.iter().map(String::as_str).rev().take(4).collect();
        let last = |lines: Vec<&str>| lines.into_iter().rev().collect::<Vec<_>>().join(" / ");
        format!("exit code {:?}; {} / {}", self.code, last(out), last(tail))
    }
    /// Demands exit code 0.
    pub fn good(self, what: &str) -> anyhow::Result<Self> {
        if self.code == Some(0) { Ok(self) } else { bail!("{what} failed: {}", self.words()) }
    }
}

impl Process {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(fleet: &Arc<Fleet>, spec: Spec) -> anyhow::Result<Self> {
        let log = fleet.logs().join(format!("{}.log", spec.name.replace([' ', '/'], "-")));
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("could not write {}", log.display()))?;
        let mut command = Command::new(&spec.program);
        command.args(&spec.args).current_dir(&spec.folder);
        // Settings of whoever started the demonstration are not these people's settings.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("RAY_") || text.starts_with("GANGLINE_") && text != "GANGLINE_LOG" {
                command.env_remove(&name);
            }
        }
        command.env("NO_COLOR", "1").envs(spec.env.iter().map(|(name, value)| (name, value)));
        command.stdin(if spec.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(file).process_group(0);
        let mut child =
            command.spawn().with_context(|| format!("could not start {}", spec.program.display()))?;
        let pid = child.id().context("it ended at once")?;
        fleet.enter(pid, &spec.name);
        if let (Some(text), Some(mut stdin)) = (spec.stdin, child.stdin.take()) {
            tokio::spawn(async move {
                // Who does not read to the end has its reasons, and tells them.
                let _ = stdin.write_all(&text).await;
            });
        }
        let stdout = child.stdout.take().context("its output was not piped")?;
        let (said, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut stdout = BufReader::new(stdout);
            let mut line = Vec::new();
            while let Ok(1..) = stdout.read_until(b'\n', &mut line).await {
                let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
                line.clear();
                if said.send((Instant::now(), text)).is_err() {
                    // Nobody listens any more; it may still want to write.
                    let _ = tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await;
                    return;
                }
            }
        });
        Ok(Self { name: spec.name, pid, log, child, lines, fleet: Arc::clone(fleet) })
    }

    /// The next line of output.
    ///
    /// # Errors
    /// When it ends or says nothing for so long.
    pub async fn line(&mut self, within: Duration) -> anyhow::Result<(Instant, String)> {
        match timeout(within, self.lines.recv()).await {
            Ok(Some(line)) => Ok(line),
            Ok(None) => {
                let status = timeout(Duration::from_secs(5), self.child.wait()).await;
                let status = status.ok().and_then(Result::ok).map_or("running".to_owned(), |s| s.to_string());
                bail!("{} ended ({status}): {}", self.name, self.tail(4).join(" / "))
            }
            Err(_) => {
                bail!("{} said nothing for {} s: {}", self.name, within.as_secs(), self.tail(4).join(" / "))
            }
        }
    }

    /// The next line that is a JSON object with this `event`.
    ///
    /// # Errors
    /// As [`Self::line`].
    pub async fn event(&mut self, event: &str, within: Duration) -> anyhow::Result<Value> {
        loop {
            let (_, line) =
                self.line(within).await.with_context(|| format!("waiting for the event {event:?}"))?;
            if let Ok(value) = serde_json::from_str::<Value>(&line)
                && value["event"] == event
            {
                return Ok(value);
            }
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn wait(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let status = timeout(within, self.child.wait()).await;
        let status =
            status.with_context(|| format!("{} did not end within {} s", self.name, within.as_secs()))??;
        self.fleet.leave(self.pid);
        Ok(status)
    }

    /// Waits for its end and gives everything it said.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub async fn finish(mut self, within: Duration) -> anyhow::Result<Ended> {
        let status = self.wait(within).await?;
        let mut lines = Vec::new();
        while let Ok(Some(line)) = timeout(Duration::from_secs(2), self.lines.recv()).await {
            lines.push(line);
        }
        Ok(Ended { code: status.code(), lines, tail: self.tail(12) })
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: Signal) {
        // Gone already is what is wanted, or is seen by whoever waits.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid.cast_signed()), signal);
    }

    /// The last lines of its log.
    pub fn tail(&self, lines: usize) -> Vec<String> {
        tail(&self.log, lines)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.fleet.has(self.pid) && matches!(self.child.try_wait(), Ok(Some(_))) {
            self.fleet.leave(self.pid);
        }
    }
}

/// The last lines of a file; none where it cannot be read.
pub fn tail(file: &Path, lines: usize) -> Vec<String> {
    let text =
        std::fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all.iter().skip(all.len().saturating_sub(lines)).map(|line| (*line).to_owned()).collect()
}
