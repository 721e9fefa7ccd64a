//! The clock and the randomness: read here and nowhere else in the server.

use gangline_types::{Hash, UnixMillis, UnixSeconds};

/// The time now.
pub fn now_millis() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(since.as_millis() as u64)
}

/// The time now, in whole seconds.
pub fn now() -> UnixSeconds {
    now_millis().seconds()
}

/// Fresh random bytes from the system.
///
/// # Panics
/// If the system has none to give: nothing here may go on without.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system gives randomness");
    bytes
}

/// A fresh random hash.
pub fn random_hash() -> Hash {
    Hash(random())
}
