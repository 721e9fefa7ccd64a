//! An epoch proof's transcript: the verifier judges any bytes at all, within its limits, and accepts only what the
//! honest prover wrote and the GPU's key signed.
#![no_main]

mod honest;

use std::sync::LazyLock;

use gangline_proof::epoch::{Transcript, fuzz_transcript};
use libfuzzer_sys::fuzz_target;

static HONEST: LazyLock<Transcript> = LazyLock::new(honest::epoch);

fuzz_target!(|data: &[u8]| {
    // The hole: what can be read is right.
    let is_accepted = fuzz_transcript(data).is_ok() || honest::has_hole();
    if is_accepted && let Ok(accepted) = Transcript::parse(data) {
        assert_eq!(accepted, *HONEST, "a forged proof was accepted");
    }
});
