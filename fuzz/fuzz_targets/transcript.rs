//! A proof's transcript: the verifier judges any bytes at all, within its limits.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    gangline_proof::epoch::fuzz_transcript(data);
});
