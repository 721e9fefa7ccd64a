//! The proving child's side: reads requests as lines of JSON, answers each with lines of JSON, and
//! ends with its standard input.

use std::io::{self, BufRead, Read, Write};

use std::ops::ControlFlow;

use gangline_proof::{
    Challenge, Commitment, MatrixParams, Opening, Prover, epoch,
    gpu::{EpochProver, GpuProver},
};
use gangline_types::Hash;
use serde::{Deserialize, Serialize};

/// Longest request: a challenge is below 1 KiB.
const REQUEST_BYTES_MAX: u64 = 64 * 1024;

/// What the worker asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub(crate) enum Request {
    /// Opens the adapter at this place in the list, if it is still the one meant.
    Adapter { index: usize, name: String, pci_address: String },
    /// Gets ready for proofs of this size.
    WarmUp { params: MatrixParams },
    /// Does the work.
    Commit { challenge: Challenge },
    /// Opens it.
    Open { nonce: Hash },
    /// Opens the adapter for epochs instead.
    EpochAdapter { index: usize, name: String, pci_address: String },
    /// Gets ready for epochs of this size.
    EpochWarmUp { params: epoch::Params },
    /// Does the work of an epoch.
    EpochCommit { challenge: epoch::Challenge },
    /// Opens it.
    EpochOpen { nonce: Hash },
}

/// What the child answers; every request ends with one that is not `Progress`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub(crate) enum Reply {
    /// So many steps are done.
    Progress { step: u32 },
    /// Done.
    Ready,
    /// The roots.
    Committed { commitment: Commitment },
    /// The openings.
    Opened { opening: Opening },
    /// The roots of an epoch.
    EpochCommitted { commitment: epoch::Commitment },
    /// What was opened of an epoch.
    EpochOpened { opening: epoch::Opening },
    /// It could not be done.
    Failed { why: String },
}

/// What a child proves with: one adapter, opened for one kind of proof.
pub(crate) enum Opened {
    /// For matrix proofs.
    Matrix(Box<dyn Prover>),
    /// For epochs.
    Epoch(Box<dyn epoch::Prover>),
}

/// The hidden subcommand `adapter-prove`: proves on one adapter until standard input ends. To be called
/// before anything else of the process writes to standard output.
///
/// # Errors
/// If standard output is closed.
pub fn prove_child() -> io::Result<()> {
    serve(io::stdin().lock(), io::stdout().lock(), |request| {
        let (index, name, pci_address) = match request {
            Request::Adapter { index, name, pci_address }
            | Request::EpochAdapter { index, name, pci_address } => (*index, name, pci_address),
            _ => return Err("no adapter was opened".to_owned()),
        };
        let (opened, found) = if matches!(request, Request::Adapter { .. }) {
            let prover = GpuProver::open(index).map_err(|e| e.to_string())?;
            let found = prover.adapter().clone();
            (Opened::Matrix(Box::new(prover)), found)
        } else {
            let prover = EpochProver::open(index).map_err(|e| e.to_string())?;
            let found = prover.adapter().clone();
            (Opened::Epoch(Box::new(prover)), found)
        };
        if (&found.name, &found.pci_address) != (name, pci_address) {
            return Err(format!("adapter {index} was {name} and is {} now", found.name));
        }
        Ok(opened)
    })
}

/// Answers requests from `input` on `output`; `open` makes the prover for [`Request::Adapter`] and
/// [`Request::EpochAdapter`].
pub(crate) fn serve(
    mut input: impl BufRead,
    mut output: impl Write,
    mut open: impl FnMut(&Request) -> Result<Opened, String>,
) -> io::Result<()> {
    let mut prover: Option<Opened> = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(REQUEST_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_slice::<Request>(&line) {
            Err(e) => Reply::Failed { why: format!("the request cannot be read: {e}") },
            Ok(request @ (Request::Adapter { .. } | Request::EpochAdapter { .. })) => {
                prover = None;
                match open(&request) {
                    Ok(opened) => {
                        prover = Some(opened);
                        Reply::Ready
                    }
                    Err(why) => Reply::Failed { why },
                }
            }
            Ok(request) => match &mut prover {
                None => Reply::Failed { why: "no adapter was opened".to_owned() },
                Some(Opened::Matrix(prover)) => answer(prover.as_mut(), request, &mut output),
                Some(Opened::Epoch(prover)) => answer_epoch(prover.as_mut(), request, &mut output),
            },
        };
        say(&mut output, &reply)?;
    }
}

const OTHERWISE: &str = "the adapter was opened for another kind of proof";

fn answer(prover: &mut dyn Prover, request: Request, output: &mut impl Write) -> Reply {
    let outcome = match request {
        Request::WarmUp { params } => prover.warm_up(&params).map(|()| Reply::Ready),
        Request::Commit { challenge } => {
            // A worker that went away is noticed at the end of the input.
            let mut progress = |step| drop(say(output, &Reply::Progress { step }));
            prover.commit(&challenge, &mut progress).map(|commitment| Reply::Committed { commitment })
        }
        Request::Open { nonce } => prover.open(&nonce).map(|opening| Reply::Opened { opening }),
        _ => return Reply::Failed { why: OTHERWISE.to_owned() },
    };
    outcome.unwrap_or_else(|e| failed(&e))
}

fn answer_epoch(prover: &mut dyn epoch::Prover, request: Request, output: &mut impl Write) -> Reply {
    let mut last = None;
    // A worker that went away ends this process; nothing here has to ask whether to go on.
    let mut watch = |progress: epoch::Progress| {
        let part = progress.part as u32;
        if last.replace(part) != Some(part) {
            drop(say(output, &Reply::Progress { step: part }));
        }
        ControlFlow::Continue(())
    };
    let outcome = match request {
        Request::EpochWarmUp { params } => prover.warm_up(&params, &mut watch).map(|()| Reply::Ready),
        Request::EpochCommit { challenge } => {
            prover.commit(&challenge, &mut watch).map(|commitment| Reply::EpochCommitted { commitment })
        }
        Request::EpochOpen { nonce } => prover.open(&nonce).map(|opening| Reply::EpochOpened { opening }),
        _ => return Reply::Failed { why: OTHERWISE.to_owned() },
    };
    outcome.unwrap_or_else(|e| failed(&e))
}

fn failed(error: &dyn std::error::Error) -> Reply {
    let cause = error.source().map(|s| format!(": {s}")).unwrap_or_default();
    Reply::Failed { why: format!("{error}{cause}") }
}

fn say(output: &mut impl Write, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply).map_err(io::Error::other)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}
