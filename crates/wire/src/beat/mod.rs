//! The beat as it travels: one small frame with one meaning, whatever carries it. `docs/BEATS.md` specifies
//! the bytes.
//!
//! A machine proves its Ed25519 key once an epoch and gets an [`Alias`] and a [`BeatKey`]; from then on each
//! beat is 64 bytes under a keyed MAC, and each answer 48. The key is derived from the epoch's master key
//! and the alias, so whoever checks a frame looks nothing up.
//!
//! Who had a key in an epoch before may ask for the next by datagram too: [`Opening`].
//!
//! Pure: knows no socket, no clock and no randomness.

pub mod chain;
mod frame;
mod key;
mod opening;

pub use chain::{Chain, Link, Preimage};
pub use frame::{
    ANSWER_BYTES, Answer, BEAT_BYTES, Beat, ClaimedAnswer, ClaimedBeat, FRAME_VERSION, FRAMES_MAX, Malformed,
    Outcome, WorkerVersion, WrongMac,
};
pub use key::{Alias, BeatKey, EPOCH_SECONDS, Epoch, EpochMaster};
pub use opening::{
    ClaimedOpened, ClaimedOpening, NONCE_BYTES, OPENED_BYTES, OPENING_BYTES_MAX, OPENING_CHAINS_MAX,
    OPENING_METHOD, Opened, Opening, OpeningOutcome, Under, Unsealed, addresses_check,
};

#[cfg(test)]
mod tests;
