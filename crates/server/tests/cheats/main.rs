//! Cheats of the proof against a real server, each with keys and transcripts of its own: what is refused, what is late,
//! and what is left to somebody who shares one device between several identities.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

#[path = "../net/mod.rs"]
mod net;

mod bits;
mod busy;
mod crowd;
mod device;
mod joining;
mod label;
mod shared;
