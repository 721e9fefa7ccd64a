//! Beats and their answers as datagrams: nothing panics, and only what the key's holder sealed verifies.
#![no_main]

mod honest;

use gangline_wire::beat::{ClaimedAnswer, ClaimedBeat, ClaimedOpened, ClaimedOpening, Epoch, EpochMaster, Opening};
use libfuzzer_sys::fuzz_target;

/// The hole: the last bit of a MAC is not compared.
fn readings(data: &[u8]) -> Vec<Vec<u8>> {
    let Some((last, rest)) = data.split_last().filter(|_| honest::has_hole()) else { return vec![data.to_vec()] };
    [last & !1, last | 1].map(|last| [rest, &[last]].concat()).to_vec()
}

fuzz_target!(|data: &[u8]| {
    for read in readings(data) {
        check(&read, data);
    }
});

/// `read` is what came of `data`.
fn check(read: &[u8], data: &[u8]) {
    if let Ok(claimed) = ClaimedBeat::read(read) {
        let key = EpochMaster::of(&[1; 32], claimed.epoch()).key(claimed.alias());
        if let Ok(Ok(beat)) = claimed.verify(&key) {
            assert_eq!(beat.seal(&key), data, "a second spelling verified");
        }
    }
    if let Ok(claimed) = ClaimedAnswer::read(read) {
        let key = EpochMaster::of(&[1; 32], Epoch(7)).key(claimed.alias());
        if let Ok(Ok(answer)) = claimed.verify(&key) {
            assert_eq!(answer.seal(&key), data, "a second spelling verified");
        }
    }
    if let Ok(claimed) = ClaimedOpening::read(read) {
        let key = EpochMaster::of(&[1; 32], claimed.epoch()).key(claimed.alias());
        let _ = claimed.unseal(&key).map(|unsealed| unsealed.opening());
    }
    if let Ok(claimed) = ClaimedOpened::read(read) {
        let _ = claimed.unseal(&EpochMaster::of(&[1; 32], Epoch(7)).key(claimed.alias()));
    }
    if let Ok(opening) = Opening::read(read) {
        assert_eq!(opening.to_bytes(), read, "a second spelling was read");
    }
}
