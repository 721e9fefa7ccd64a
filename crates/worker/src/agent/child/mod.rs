//! Child processes that open graphics adapters, so that drivers' memory and crashes stay out of the
//! worker: one that lists adapters, one that proves on an adapter. JSON over their standard streams.
//!
//! Knows no network and no key.

mod probe;
mod prove;
mod prover;

use std::path::PathBuf;

pub use probe::probe_child;
pub(crate) use probe::{FoundAdapter, NvidiaDevice, Probe, probe};
pub use prove::prove_child;
pub(crate) use prover::ProverChild;

/// The program whose hidden subcommands `adapter-probe`, `adapter-prove` and `node` are called.
#[derive(Clone, Debug)]
pub struct Executable(PathBuf);

impl Executable {
    /// This very program.
    ///
    /// # Errors
    /// If the system does not say where it is.
    pub fn current() -> Result<Self, ChildError> {
        let path = std::env::current_exe().map_err(|source| ChildError::Start {
            subcommand: "adapter-probe",
            program: PathBuf::new(),
            source,
        })?;
        Ok(Self(path))
    }
    /// Another program with the same subcommands.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }
    /// Its path.
    pub fn path(&self) -> &std::path::Path {
        &self.0
    }

    fn command(&self, subcommand: &'static str) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.0);
        command.arg(subcommand).kill_on_drop(true);
        command
    }
}

/// Why a child has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It did not start.
    #[error("could not start {program} {subcommand}", program = program.display())]
    Start {
        /// What was asked of it.
        subcommand: &'static str,
        /// The program.
        program: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It ended without an answer, as a crashing driver makes it.
    #[error("the {subcommand} process ended without an answer{}{}", status.map(|s| format!(" ({s})")).unwrap_or_default(), last_words(stderr))]
    Ended {
        /// What was asked of it.
        subcommand: &'static str,
        /// How it ended, if it did.
        status: Option<std::process::ExitStatus>,
        /// The end of what it said.
        stderr: String,
    },
    /// It took too long and was ended.
    #[error("the {subcommand} process gave no answer within {seconds} s; the driver may hang")]
    Silent {
        /// What was asked of it.
        subcommand: &'static str,
        /// How long it was given.
        seconds: u64,
    },
    /// It said no.
    #[error("{0}")]
    Failed(String),
}

fn last_words(stderr: &str) -> String {
    match stderr.lines().rev().find(|l| !l.trim().is_empty()) {
        Some(line) => format!("; its last words: {}", line.trim()),
        None => String::new(),
    }
}

/// What a child said on its standard error, at most this many bytes of its end.
const STDERR_BYTES_MAX: usize = 4096;

/// Reads a child's standard error to its end and keeps the last of it.
async fn read_end(mut from: impl tokio::io::AsyncRead + Unpin) -> String {
    use tokio::io::AsyncReadExt;
    let mut kept = Vec::new();
    let mut chunk = [0; 1024];
    while let Ok(n @ 1..) = from.read(&mut chunk).await {
        kept.extend_from_slice(&chunk[..n]);
        if kept.len() > 2 * STDERR_BYTES_MAX {
            kept.drain(..kept.len() - STDERR_BYTES_MAX);
        }
    }
    let text = String::from_utf8_lossy(&kept);
    text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}
