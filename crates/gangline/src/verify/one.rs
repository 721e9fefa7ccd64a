//! `gangline verify proof`: one transcript, from a file or a network, judged here and now.
//!
//! From a file it asks nobody. Judges epoch proofs and joining (matrix) proofs with their signature. Matrix proofs of older
//! books have none, which is said.

use std::{io::Read, path::Path};

use anyhow::Context;
use gangline_proof::epoch;
use gangline_types::{GpuId, ProofId};
use gangline_wire::api::proof::Transcript;
use serde::Serialize;
use serde_json::Value;

use super::{Stopped, fetch::Public};
use crate::{
    inert::inert_line,
    problem::{Problem, USAGE},
};

/// The largest transcript: a matrix proof's opening of 16 MiB as text, and then some.
const BYTES_MAX: u64 = 24 << 20;

/// Where there are transcripts.
const DOWNLOAD: &str = "download one from the page of a GPU, or with --from URL and a proof's id";

/// What `verify proof` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A transcript's file, `-` for standard input, or with --from a proof's id.
    #[arg(value_name = "FILE")]
    what: String,
    /// The server to fetch the transcript from, for example `http://127.0.0.1:7700`.
    #[arg(long, value_name = "URL")]
    from: Option<String>,
    /// Print the verdict as JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// The verdict.
#[derive(Debug, Serialize)]
struct Judged {
    /// `epoch` or `matrix`.
    kind: &'static str,
    /// The GPU.
    gpu: GpuId,
    /// Whether all of it holds.
    holds: bool,
    /// A code for what is wrong.
    code: Option<&'static str>,
    /// What is wrong, in words.
    why: Option<String>,
    /// Whether the transcript carries a signature, which then was checked.
    signed: bool,
    /// What it shows; zeros if it does not hold.
    #[serde(flatten)]
    shown: Shown,
}

/// What a transcript shows.
#[derive(Debug, Default, Serialize)]
struct Shown {
    memory_bytes: u64,
    reads: u64,
    alu_steps: u64,
    macs: u64,
    segments_opened: u32,
    rows_opened: u32,
}

/// Judges a transcript.
///
/// # Errors
/// When it does not hold (exit code 1), or cannot be had or read (exit code 2).
pub fn main(args: &Args) -> anyhow::Result<()> {
    let value = match &args.from {
        Some(url) => fetched(url, &args.what)?,
        None => {
            let text = read(Path::new(&args.what))?;
            // Some editors put a mark at the start of what they save.
            let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
            serde_json::from_slice(text).map_err(|e| {
                Problem::usage(format!("{} is no transcript: {e}", inert_line(&args.what))).hint(DOWNLOAD)
            })?
        }
    };
    let judged = judge(value)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&judged)?);
    } else if judged.holds {
        print!("{}", text(&judged));
    }
    match judged.why {
        None => Ok(()),
        Some(why) => Err(Problem::new(format!(
            "the {} proof of {} does not hold: {} ({})",
            judged.kind,
            judged.gpu,
            inert_line(&why),
            judged.code.unwrap_or_default()
        ))
        .into()),
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let what = || format!("could not read {}", path.display());
    let mut text = Vec::new();
    let mut read = |from: &mut dyn Read| from.take(BYTES_MAX + 1).read_to_end(&mut text);
    if path == Path::new("-") {
        read(&mut std::io::stdin().lock()).with_context(|| Problem::usage(what()))?;
    } else {
        let mut file = std::fs::File::open(path).with_context(|| Problem::usage(what()))?;
        read(&mut file).with_context(|| Problem::usage(what()))?;
    }
    if text.len() as u64 > BYTES_MAX {
        return Err(Problem::usage(format!("{} is larger than any transcript", path.display())).into());
    }
    Ok(text)
}

fn fetched(url: &str, id: &str) -> anyhow::Result<Value> {
    let proof: ProofId =
        id.parse().map_err(|_| Problem::usage(format!("{} is no id of a proof", inert_line(id))))?;
    let public = Public::new(url)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let found = runtime.block_on(async {
        // Ids do not say which kind of proof they name: epochs are the many.
        if let Some(transcript) = public.epoch_transcript(proof).await? {
            return Ok(Some(serde_json::to_value(transcript)));
        }
        Ok(public.transcript(proof).await?.map(serde_json::to_value))
    });
    match found {
        Ok(Some(transcript)) => Ok(transcript?),
        Ok(None) => Err(Problem::usage(format!("{} has no transcript of {proof}", public.base())).into()),
        Err(Stopped::CouldNotAsk(why)) => Err(why.context(Problem::new("could not ask for it").code(USAGE))),
        Err(Stopped::Differs(found)) => {
            Err(Problem::new(format!("{} contradicts itself: {}", public.base(), inert_line(&found.name)))
                .into())
        }
    }
}

/// Judges whichever kind it is. A network's answer may hold an epoch transcript in the field `transcript`.
fn judge(mut value: Value) -> anyhow::Result<Judged> {
    if let Some(inner) = value.get_mut("transcript").filter(|inner| inner.get("format").is_some()) {
        value = inner.take();
    }
    if value.get("format").is_some() {
        let parsed = epoch::Transcript::parse(&serde_json::to_vec(&value)?);
        let transcript = parsed.map_err(|faulty| match faulty {
            epoch::Faulty::Unreadable(why) => unreadable(why),
            other => unreadable(other),
        })?;
        return Ok(epoch_judged(&transcript));
    }
    let transcript: Transcript = serde_json::from_value(value).map_err(unreadable)?;
    Ok(matrix_judged(&transcript))
}

fn unreadable(why: impl std::fmt::Display) -> anyhow::Error {
    Problem::usage(format!("this cannot be read as a transcript: {}", inert_line(&why.to_string())))
        .hint(DOWNLOAD)
        .into()
}

fn epoch_judged(transcript: &epoch::Transcript) -> Judged {
    let result = transcript.check();
    let shown = result.as_ref().map_or_else(
        |_| Shown::default(),
        |shown| Shown {
            memory_bytes: shown.memory_bytes,
            reads: shown.reads,
            alu_steps: shown.alu_steps,
            macs: shown.macs,
            segments_opened: shown.segments_opened,
            rows_opened: shown.rows_opened,
        },
    );
    let fault = result.err();
    Judged {
        kind: "epoch",
        gpu: transcript.gpu,
        holds: fault.is_none(),
        code: fault.as_ref().map(epoch::Faulty::code),
        why: fault.map(|fault| fault.to_string()),
        signed: true,
        shown,
    }
}

fn matrix_judged(transcript: &Transcript) -> Judged {
    let Transcript { challenge, commitment, nonce, opening, .. } = transcript;
    let judged = |shown, fault: Option<(&'static str, String)>| Judged {
        kind: "matrix",
        gpu: transcript.gpu,
        holds: fault.is_none(),
        code: fault.as_ref().map(|(code, _)| *code),
        why: fault.map(|(_, why)| why),
        signed: transcript.signed.is_some(),
        shown,
    };
    if let Err(why) = transcript.check_signature() {
        return judged(Shown::default(), Some((why.code(), why.to_string())));
    }
    match gangline_proof::verify(challenge, commitment, nonce, opening) {
        Err(why) => judged(Shown::default(), Some((why.code(), why.to_string()))),
        Ok(shown) => {
            let (memory_bytes, macs, rows_opened) = (shown.memory_bytes, shown.macs, shown.rows_opened);
            judged(Shown { memory_bytes, macs, rows_opened, ..Shown::default() }, None)
        }
    }
}

fn text(judged: &Judged) -> String {
    let shown = &judged.shown;
    let mut out = format!("The {} proof of {} holds", judged.kind, judged.gpu);
    out += if judged.signed {
        " and is signed by this GPU's key.\n"
    } else {
        "; it carries no signature, so whose it is, is the network's word.\n"
    };
    if judged.kind == "epoch" {
        out += &format!(
            "  {} bytes of memory held to the end, {} blocks of 64 bytes read one after another\n  {} steps of arithmetic on four words\n",
            shown.memory_bytes, shown.reads, shown.alu_steps
        );
    }
    if shown.macs > 0 {
        out += &format!("  {} exact int8 multiply-adds\n", shown.macs);
    }
    out += &format!(
        "  recomputed here: {} segments, {} rows. How fast it was is the network's word; its log holds it.\n",
        shown.segments_opened, shown.rows_opened
    );
    out
}
