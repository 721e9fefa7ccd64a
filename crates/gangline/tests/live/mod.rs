//! Real processes of the built binary, and the people and machines who use them: a server, a browser,
//! signed requests. Whatever a test started ends with it, also when it fails; nothing is waited for by the
//! clock alone.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

pub mod beater;
pub mod beats;
pub mod network;

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use serde_json::Value;

/// Longer than anything here takes on a slow, busy machine; only a test that would never end meets it.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The built binary with nothing of this machine's user in its environment, and a software device to prove.
pub fn gangline(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gangline"));
    environment(&mut command, state);
    command
}

/// That environment for another program that starts the binary.
pub fn environment(command: &mut Command, state: &Path) {
    let icd = "/usr/share/vulkan/icd.d/lvp_icd.x86_64.json";
    command
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("XDG_STATE_HOME", state)
        .env("HOME", state)
        .env("NO_COLOR", "1")
        .env("VK_DRIVER_FILES", icd)
        .env("VK_ICD_FILENAMES", icd)
        .env("NODEVICE_SELECT", "1")
        .stdin(Stdio::null());
    // Only what the machine's tests were told: where the Ray environment is.
    if let Some(home) = std::env::var_os("GANGLINE_RAY_HOME") {
        command.env("GANGLINE_RAY_HOME", home);
    }
}

/// How a finished command ended, and what it said.
#[derive(Debug)]
pub struct Told {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Told {
    /// It failed with this code and said all of this on stderr.
    #[track_caller]
    pub fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in\n{}", self.err);
        }
    }
}

/// Runs a command that is to end by itself; one that does not is killed and fails the test.
#[track_caller]
pub fn finish(command: &mut Command) -> Told {
    finish_within(LIMIT, command)
}

/// The same for a command that has more to do than others.
#[track_caller]
pub fn finish_within(limit: Duration, command: &mut Command) -> Told {
    let mut running = Running::start(command);
    let code = running.ended(limit);
    let out: Vec<String> = running.out.iter().collect();
    // Its stderr ends with it: the reader has all of it then.
    running.read.take().unwrap().join().unwrap();
    Told { code, out: out.join("\n"), err: running.err() }
}

/// A process of a test, in a process group of its own that ends with this value.
pub struct Running {
    child: Child,
    out: Receiver<String>,
    err: Arc<Mutex<String>>,
    read: Option<std::thread::JoinHandle<()>>,
    status: Option<ExitStatus>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        let (lines, out) = channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let err = Arc::new(Mutex::new(String::new()));
        let (told, mut stderr) = (Arc::clone(&err), child.stderr.take().unwrap());
        let read = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut piece) {
                told.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..n]));
            }
        });
        Self { child, out, err, read: Some(read), status: None }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote on stderr so far.
    pub fn err(&self) -> String {
        self.err.lock().unwrap().clone()
    }

    /// The next line it printed, if there is one yet.
    pub fn line(&self) -> Option<String> {
        self.out.try_recv().ok()
    }

    /// The next line of JSON with this event.
    #[track_caller]
    pub fn event(&mut self, name: &str) -> Value {
        let until = Instant::now() + LIMIT;
        let mut seen = Vec::new();
        loop {
            match self.out.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => match serde_json::from_str::<Value>(&line) {
                    Ok(value) if value["event"] == name => return value,
                    _ => seen.push(line),
                },
                Err(RecvTimeoutError::Timeout) => {
                    panic!("no {name} within {LIMIT:?}: {seen:?}\n{}", self.err())
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.ended(Duration::from_secs(5));
                    panic!("it ended ({:?}) before {name}: {seen:?}\n{}", self.status, self.err())
                }
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().cast_signed()), signal).unwrap();
    }

    /// Waits for its end and says its exit code, -1 if a signal ended it. What it wrote on stderr has been read by then,
    /// unless a child of its own holds that open.
    #[track_caller]
    pub fn ended(&mut self, within: Duration) -> i32 {
        let code = self.over(within);
        let until = Instant::now() + Duration::from_secs(1);
        while self.read.as_ref().is_some_and(|read| !read.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        code
    }

    #[track_caller]
    fn over(&mut self, within: Duration) -> i32 {
        let until = Instant::now() + within;
        while self.status.is_none() {
            self.status = self.child.try_wait().unwrap();
            if self.status.is_none() {
                assert!(Instant::now() < until, "it did not end within {within:?}\n{}", self.err());
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.status.unwrap().code().unwrap_or(-1)
    }

    /// Kills the process as a crash would, nothing else of its group.
    pub fn crash(&mut self) {
        self.signal(Signal::SIGKILL);
        self.over(LIMIT);
    }

    /// Asks it to end and says its exit code.
    #[track_caller]
    pub fn stop(&mut self) -> i32 {
        self.signal(Signal::SIGTERM);
        self.ended(LIMIT)
    }

    #[track_caller]
    pub fn assert_runs(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "it ended\n{}", self.err());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The group may outlive its leader, for example a worker's child.
        let _ = killpg(Pid::from_raw(self.pid().cast_signed()), Signal::SIGKILL);
        if self.status.is_none() {
            let _ = self.child.wait();
        }
    }
}

/// Fails with a reason instead of somewhere odd where mounts cannot be made.
#[track_caller]
pub fn needs_root() {
    assert!(nix::unistd::geteuid().is_root(), "this test mounts a file system: run it as root");
}

/// A small file system in memory, unmounted with this value.
pub struct Tmpfs {
    pub path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Tmpfs {
    #[track_caller]
    pub fn mount(options: &str) -> Self {
        needs_root();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        std::fs::create_dir(&path).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&path).output();
        let mount = mount.unwrap();
        assert!(mount.status.success(), "{}", String::from_utf8_lossy(&mount.stderr));
        Self { path, _folder: folder }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).status();
    }
}

/// Waits for a state.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = Instant::now() + LIMIT;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < limit, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Every file below `folder` with what it holds.
pub fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}
