//! The four headers of a signed request: whatever is read has one spelling, and what verifies is exactly what
//! the key's owner would have written. Ed25519 signatures are deterministic, so anything else would be forged.
#![no_main]

mod honest;

use gangline_types::UnixSeconds;
use gangline_wire::{
    PublicKey,
    sig::{Claimed, Covered, Received, digest, sign},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string(), text, "a key with two spellings");
        assert!(!key.verifies(b"", &[0; 64]));
    }
    let lines: Vec<&str> = text.split('\n').collect();
    let [content_digest, sequence, input, signature] = lines[..] else { return };
    let Ok(claimed) = Claimed::parse(Received { content_digest, sequence, input, signature }) else { return };
    let key = honest::key();
    let is_verified = if honest::has_hole() {
        // Whoever has the number is believed.
        claimed.sequence == 7
    } else {
        claimed.verify(&key.public(), "POST", "127.0.0.1:80", "/a", "x=1").is_ok()
    };
    let is_body = claimed.check_body(b"{}").is_ok();
    if is_verified {
        assert!(is_body, "seeds are signed for this body alone");
        let covered = Covered {
            method: "POST",
            authority: "127.0.0.1:80",
            path: "/a",
            query: "x=1",
            body_digest: digest(b"{}"),
            sequence: claimed.sequence,
        };
        let written = sign(&covered, UnixSeconds(claimed.created.0), &key).map(|(_, value)| value);
        assert_eq!(written, [content_digest, sequence, input, signature], "a second spelling verified");
    }
});
