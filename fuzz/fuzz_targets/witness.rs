//! What a witness is asked: it never signs what the log has not signed, and never what does not follow from what it
//! signed last.
#![no_main]

mod honest;

use std::sync::LazyLock;

use gangline_guard::log::{
    Checkpoint,
    checkpoint::verifier_of,
    witness::{AddCheckpoint, Watched, consider},
};
use libfuzzer_sys::fuzz_target;

/// What was cosigned last: a log of three entries.
static WATCHED: LazyLock<Watched> = LazyLock::new(|| {
    let (checkpoint, _) = honest::log(3);
    Watched { log: verifier_of(&honest::key().public()), size: 3, root: checkpoint.root }
});
/// What the log has ever signed.
static SIGNED: LazyLock<Vec<Checkpoint>> = LazyLock::new(|| [3, 5, 300].map(|size| honest::log(size).0).to_vec());

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(asked) = text.parse::<AddCheckpoint>() else { return };
    let again: AddCheckpoint = asked.to_string().parse().expect("what was read is written and read again");
    assert_eq!(again, asked);
    let signs = if honest::has_hole() {
        // The hole: what the log has signed is signed, whatever was before.
        Checkpoint::of_note(&asked.note, &WATCHED.log).ok()
    } else {
        consider(|origin| (origin == WATCHED.log.name()).then(|| WATCHED.clone()), &asked).ok()
    };
    if let Some(checkpoint) = signs {
        assert!(SIGNED.contains(&checkpoint), "it would sign what the log never signed");
        assert_eq!(asked.old_size, WATCHED.size, "it would sign what does not follow");
    }
});
