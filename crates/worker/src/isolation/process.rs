//! A backend's process and the thread that keeps it.
//!
//! The kernel ends a child with its parent *thread*, so the thread that starts a sandbox stays
//! until the sandbox is over, whatever the async runtime does with its own threads.

use std::{
    io,
    os::fd::OwnedFd,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::{
        signal::{Signal, kill},
        wait::{Id, WaitPidFlag, waitid},
    },
    unistd::Pid,
};
use tokio::sync::watch;

/// Lets children inherit this descriptor.
///
/// # Errors
/// When the kernel refuses.
pub fn inheritable(fd: &OwnedFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

/// The pipes of a started process.
#[derive(Debug)]
pub struct Pipes {
    /// To the process.
    pub stdin: ChildStdin,
    /// From the process.
    pub stdout: ChildStdout,
    /// Its log.
    pub stderr: ChildStderr,
}

/// A running process; dropping this does not end it.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// The process, while it may be signalled.
    pid: Arc<Mutex<Option<u32>>>,
    exited: watch::Receiver<Option<ExitStatus>>,
}

impl Keeper {
    /// Starts `command` with piped stdio on a thread of its own.
    ///
    /// # Errors
    /// When the thread or the process cannot be started.
    pub fn start(mut command: Command) -> io::Result<(Self, Pipes, u32)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (started_in, started_out) = std::sync::mpsc::channel();
        let (exit_in, exited) = watch::channel(None);
        let pid = Arc::new(Mutex::new(None));
        let shared = Arc::clone(&pid);
        std::thread::Builder::new().name("sandbox keeper".to_owned()).spawn(move || {
            match command.spawn() {
                Err(error) => {
                    let _ = started_in.send(Err(error));
                }
                Ok(mut child) => {
                    *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(child.id());
                    let pipes = take_pipes(&mut child);
                    drop(command);
                    let _ = started_in.send(Ok((pipes, child.id())));
                    let status = keep(&mut child, &shared);
                    let _ = exit_in.send(Some(status));
                }
            }
        })?;
        let gone = |_| io::Error::other("the keeper thread ended early");
        let (pipes, id) = started_out.recv().map_err(gone)??;
        let pipes = pipes.ok_or_else(|| io::Error::other("the process has no pipes"))?;
        Ok((Self { pid, exited }, pipes, id))
    }

    /// Kills the process itself, if it still runs.
    pub fn kill(&self) {
        // Held while signalling: the keeper reaps only after this lock, so the id is still ours.
        let pid = self.pid.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = *pid {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
        }
    }

    /// Waits for the process's end.
    pub async fn exited(&self) -> ExitStatus {
        let mut exited = self.exited.clone();
        match exited.wait_for(Option::is_some).await.map(|status| *status) {
            Ok(Some(status)) => status,
            // The keeper cannot go without saying so; a lost status is a failure.
            _ => lost(),
        }
    }

    /// Waits for the process's end on this thread.
    pub fn exited_blocking(&self, within: std::time::Duration) -> Option<ExitStatus> {
        let until = std::time::Instant::now() + within;
        loop {
            if let Some(status) = *self.exited.borrow() {
                return Some(status);
            }
            if std::time::Instant::now() > until {
                return None;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

fn lost() -> ExitStatus {
    use std::os::unix::process::ExitStatusExt;
    ExitStatus::from_raw(255 << 8)
}

fn take_pipes(child: &mut Child) -> Option<Pipes> {
    Some(Pipes { stdin: child.stdin.take()?, stdout: child.stdout.take()?, stderr: child.stderr.take()? })
}

fn keep(child: &mut Child, shared: &Mutex<Option<u32>>) -> ExitStatus {
    let pid = Pid::from_raw(child.id() as i32);
    while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::errno::Errno::EINTR) {
    }
    *shared.lock().unwrap_or_else(PoisonError::into_inner) = None;
    child.wait().unwrap_or_else(|_| lost())
}
