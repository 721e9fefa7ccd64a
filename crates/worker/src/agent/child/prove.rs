//! The proving child's side: reads requests as lines of JSON, answers each with lines of JSON, and
//! ends with its standard input.

use std::io::{self, BufRead, Read, Write};

use gangline_proof::{Challenge, Commitment, MatrixParams, Opening, Prover, gpu::GpuProver};
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
    /// It could not be done.
    Failed { why: String },
}

/// The hidden subcommand `adapter-prove`: proves on one adapter until standard input ends. To be called
/// before anything else of the process writes to standard output.
///
/// # Errors
/// If standard output is closed.
pub fn prove_child() -> io::Result<()> {
    serve(io::stdin().lock(), io::stdout().lock(), |request| {
        let Request::Adapter { index, name, pci_address } = request else {
            return Err("no adapter was opened".to_owned());
        };
        let prover = GpuProver::open(*index).map_err(|e| e.to_string())?;
        let found = prover.adapter();
        if (&found.name, &found.pci_address) != (name, pci_address) {
            return Err(format!("adapter {index} was {name} and is {} now", found.name));
        }
        Ok(Box::new(prover))
    })
}

/// Answers requests from `input` on `output`; `open` makes the prover for [`Request::Adapter`].
pub(crate) fn serve(
    mut input: impl BufRead,
    mut output: impl Write,
    mut open: impl FnMut(&Request) -> Result<Box<dyn Prover>, String>,
) -> io::Result<()> {
    let mut prover: Option<Box<dyn Prover>> = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.by_ref().take(REQUEST_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let reply = match serde_json::from_slice::<Request>(&line) {
            Err(e) => Reply::Failed { why: format!("the request cannot be read: {e}") },
            Ok(request @ Request::Adapter { .. }) => {
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
                Some(prover) => answer(prover.as_mut(), request, &mut output),
            },
        };
        say(&mut output, &reply)?;
    }
}

fn answer(prover: &mut dyn Prover, request: Request, output: &mut impl Write) -> Reply {
    let outcome = match request {
        Request::Adapter { .. } => Ok(Reply::Ready),
        Request::WarmUp { params } => prover.warm_up(&params).map(|()| Reply::Ready),
        Request::Commit { challenge } => {
            // A worker that went away is noticed at the end of the input.
            let mut progress = |step| drop(say(output, &Reply::Progress { step }));
            prover.commit(&challenge, &mut progress).map(|commitment| Reply::Committed { commitment })
        }
        Request::Open { nonce } => prover.open(&nonce).map(|opening| Reply::Opened { opening }),
    };
    outcome.unwrap_or_else(|e| {
        let cause = std::error::Error::source(&e).map(|s| format!(": {s}")).unwrap_or_default();
        Reply::Failed { why: format!("{e}{cause}") }
    })
}

fn say(output: &mut impl Write, reply: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply).map_err(io::Error::other)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}
