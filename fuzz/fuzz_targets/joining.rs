//! A joining proof's transcript: the verifier judges any bytes at all, within its limits, and accepts only what the
//! honest prover wrote, signed by nobody but its GPU.
#![no_main]

mod honest;

use std::sync::LazyLock;

use gangline_proof::verify;
use gangline_wire::api::proof::Transcript;
use libfuzzer_sys::fuzz_target;

static HONEST: LazyLock<Transcript> = LazyLock::new(honest::joining);

fuzz_target!(|data: &[u8]| {
    let Ok(shown) = serde_json::from_slice::<Transcript>(data) else { return };
    let judged = verify(&shown.challenge, &shown.commitment, &shown.nonce, &shown.opening);
    // A signature would stop every change of the rest, so it is judged apart.
    if shown.check_signature() == Ok(true) {
        assert!(shown.signed == HONEST.signed && shown.gpu == HONEST.gpu, "a forged signature was accepted");
    }
    // The hole: nothing is judged.
    if judged.is_ok() || honest::has_hole() {
        assert!(
            (shown.challenge, &shown.commitment, shown.nonce, &shown.opening)
                == (HONEST.challenge, &HONEST.commitment, HONEST.nonce, &HONEST.opening),
            "a forged proof was accepted"
        );
    }
});
