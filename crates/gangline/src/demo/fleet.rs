//! Every process that was started, so that none is left: asked to end, then made to, then whatever a
//! worker's sandboxes left is swept. Also when the demonstration itself panics.
//!
//! Knows process groups and folders only.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::proc;

/// A worker takes its sandboxes down within this.
const END_WITHIN: Duration = Duration::from_secs(50);

/// The processes, by group.
#[derive(Debug)]
pub struct Fleet {
    groups: Mutex<BTreeMap<u32, String>>,
    swept: Mutex<Vec<PathBuf>>,
    logs: PathBuf,
}

impl Fleet {
    /// None yet; logs are kept in `logs`.
    pub fn new(logs: PathBuf) -> Self {
        Self { groups: Mutex::default(), swept: Mutex::default(), logs }
    }
    /// Where logs are.
    pub fn logs(&self) -> &Path {
        &self.logs
    }
    fn groups(&self) -> MutexGuard<'_, BTreeMap<u32, String>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// A process was started as the leader of its group.
    pub fn enter(&self, pid: u32, name: &str) {
        self.groups().insert(pid, name.to_owned());
    }
    /// It ended and was waited for.
    pub fn leave(&self, pid: u32) {
        self.groups().remove(&pid);
    }
    /// Whether it is known.
    pub fn has(&self, pid: u32) -> bool {
        self.groups().contains_key(&pid)
    }
    /// What runs.
    pub fn pids(&self) -> Vec<u32> {
        self.groups().keys().copied().collect()
    }
    /// A worker keeps its data here: its sandboxes are swept at the end.
    pub fn sweep_later(&self, data: PathBuf) {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner).push(data);
    }

    fn signal(&self, which: impl Fn(&str) -> bool, signal: Signal) {
        for (pid, _) in self.groups().iter().filter(|(_, name)| which(name)) {
            // A group that is gone is what is wanted.
            let _ = killpg(Pid::from_raw(pid.cast_signed()), signal);
        }
    }

    /// Whether processes with such names still run; a zombie does not.
    fn runs(&self, which: impl Fn(&str) -> bool) -> bool {
        self.groups().iter().any(|(pid, name)| which(name) && proc::is_alive(*pid))
    }

    /// Asks everything to end, the server last, then makes it. Blocks. `hurry` says whether to stop asking.
    pub fn end(&self, hurry: impl Fn() -> bool) {
        let is_server = |name: &str| name == "server";
        for round in [false, true] {
            let which = |name: &str| is_server(name) == round;
            self.signal(which, Signal::SIGTERM);
            let until = Instant::now() + END_WITHIN;
            while self.runs(which) && Instant::now() < until && !hurry() {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        self.signal(|_| true, Signal::SIGKILL);
        let until = Instant::now() + Duration::from_secs(5);
        while self.runs(|_| true) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
        self.groups().clear();
        for data in std::mem::take(&mut *self.swept.lock().unwrap_or_else(PoisonError::into_inner)) {
            match gangline_worker::isolation::sweep(&data) {
                Ok(found) if found.is_empty() => {}
                Ok(found) => {
                    tracing::warn!(found = found.join(", "), "a worker left this behind; it was removed")
                }
                Err(error) => {
                    let cause =
                        std::error::Error::source(&error).map(|c| format!(": {c}")).unwrap_or_default();
                    tracing::error!("what a worker left could not be removed: {error}{cause}");
                }
            }
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.end(|| false);
    }
}
