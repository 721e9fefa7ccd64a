//! Beats and their answers as datagrams: nothing panics, and only what the key's holder sealed verifies.
#![no_main]

use gangline_wire::beat::{ClaimedAnswer, ClaimedBeat, Epoch, EpochMaster};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(claimed) = ClaimedBeat::read(data) {
        let key = EpochMaster::of(&[1; 32], claimed.epoch()).key(claimed.alias());
        if let Ok(Ok(beat)) = claimed.verify(&key) {
            assert_eq!(beat.seal(&key), data, "a second spelling verified");
        }
    }
    if let Ok(claimed) = ClaimedAnswer::read(data) {
        let key = EpochMaster::of(&[1; 32], Epoch(7)).key(claimed.alias());
        if let Ok(Ok(answer)) = claimed.verify(&key) {
            assert_eq!(answer.seal(&key), data, "a second spelling verified");
        }
    }
});
