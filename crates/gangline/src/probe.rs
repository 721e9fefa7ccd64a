//! `gangline probe`: asks a network's intake of beats from outside, again and again, and writes down what it saw,
//! signed with a key of its own. What a network says of its own outages can be held against that.
//!
//! Has no account and no machine: it shows a frame that is nobody's, which an intake that works refuses at once.

use std::{
    io::Write,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use gangline_wire::{PublicKey, SigningKey, beat::BEAT_BYTES};
use gangline_worker::client::{Client, now};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// What `probe` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The server, for example `https://gangline.example`.
    #[arg(value_name = "URL")]
    url: String,
    /// Seconds from one question to the next.
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
    /// Stop after so many questions; exit code 1 if one of them was not answered [default: go on].
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// File with this probe's key; made if it is not there.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Add the lines to this file as well.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// One question and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// When it was asked, in seconds since 1970-01-01 UTC.
    at: u64,
    /// Whom.
    url: String,
    /// Whether the intake answered.
    up: bool,
    /// How long that took, in milliseconds.
    millis: u64,
    /// What came instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

/// A line of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    seen: Seen,
    key: PublicKey,
    /// Over the bytes of `seen` as JSON, in hex.
    signature: String,
}

impl Line {
    fn of(seen: Seen, key: &SigningKey) -> anyhow::Result<Self> {
        let signature = key.sign(&serde_json::to_vec(&seen)?);
        let signature = signature.iter().map(|b| format!("{b:02x}")).collect();
        Ok(Self { seen, key: key.public(), signature })
    }
}

async fn ask(client: &Client) -> (bool, Option<String>) {
    // The frame's form without anybody's MAC: a refusal can only come from the intake itself.
    let mut frame = vec![0; BEAT_BYTES];
    frame[0] = b'G';
    match client.post_bytes(None, "/api/v1/beat", frame, Duration::from_secs(10)).await {
        Ok((401, _)) => (true, None),
        Ok((status, _)) => (false, Some(format!("status {status}"))),
        Err(error) => (false, Some(format!("{:#}", anyhow::Error::new(error)))),
    }
}

/// Asks until told to stop.
///
/// # Errors
/// When the URL or a file cannot be used, or, with a count, when a question was not answered.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let client = Client::new(&args.url, None)?;
    let key = match &args.key {
        Some(path) => gangline_worker::enrol::load_or_make_key(path)?.0,
        None => {
            let mut seed = zeroize::Zeroizing::new([0; 32]);
            getrandom::fill(seed.as_mut_slice()).context("the system gives no randomness")?;
            SigningKey::from_seed(&seed)
        }
    };
    let mut out = match &args.out {
        Some(path) => {
            let opened = std::fs::OpenOptions::new().append(true).create(true).open(path);
            Some(opened.with_context(|| format!("could not write {}", path.display()))?)
        }
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut down = 0;
    let mut asked = 0;
    loop {
        let (at, began) = (now().seconds().0, Instant::now());
        let (up, why) = runtime.block_on(ask(&client));
        let millis = began.elapsed().as_millis() as u64;
        let seen = Seen { at, url: client.base().to_owned(), up, millis, why };
        let line = serde_json::to_string(&Line::of(seen, &key)?)?;
        println!("{line}");
        if let Some(out) = &mut out {
            writeln!(out, "{line}")?;
        }
        down += u64::from(!up);
        asked += 1;
        if args.count.is_some_and(|count| asked >= count) {
            break;
        }
        std::thread::sleep(Duration::from_secs(args.every).saturating_sub(began.elapsed()));
    }
    if down > 0 {
        return Err(Problem::new(format!("{down} of {asked} questions were not answered")).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_signed_over_what_it_says() {
        let key = SigningKey::from_seed(&zeroize::Zeroizing::new([1; 32]));
        let seen = Seen { at: 1, url: "http://127.0.0.1:1".into(), up: true, millis: 2, why: None };
        let line = Line::of(seen, &key).unwrap();
        let again: Line = serde_json::from_str(&serde_json::to_string(&line).unwrap()).unwrap();
        let signature: Vec<u8> =
            (0..64).map(|i| u8::from_str_radix(&again.signature[2 * i..2 * i + 2], 16).unwrap()).collect();
        assert!(again.key.verifies(&serde_json::to_vec(&again.seen).unwrap(), &signature));
        let lie = Seen { up: false, ..again.seen };
        assert!(!again.key.verifies(&serde_json::to_vec(&lie).unwrap(), &signature));
    }
}
