//! The first process of a process namespace: it starts the node again as its child, reaps what
//! the kernel hands it, and ends with that child, whereupon the kernel ends everything else.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use anyhow::Context;
use nix::{
    errno::Errno,
    sys::wait::{WaitStatus, wait},
    unistd::Pid,
};

/// The exit code a shell would give: 128 and the signal's number for a signal.
pub fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Starts this program again with the same arguments and waits for it.
///
/// # Errors
/// When it cannot be started.
pub fn run_as_first_process() -> anyhow::Result<i32> {
    let child = std::process::Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .spawn()
        .context("could not start the node's own process")?;
    let child = Pid::from_raw(child.id() as i32);
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => return Ok(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => return Ok(128 + signal as i32),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("could not wait for the node's own process"),
        }
    }
}
