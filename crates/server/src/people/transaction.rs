//! One sign-in, from the button to the way back: a short-lived cookie, sealed by this server, from which state,
//! nonce and PKCE verifier are derived. The server keeps nothing of a sign-in that was only begun, so beginning
//! many fills nothing; one that ended well is written down as used.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gangline_types::{Hash, UnixSeconds};

/// How long a sign-in may take, in seconds: ten minutes, for people with a second factor in another room.
pub const SIGN_IN_SECONDS: u64 = 600;
/// Longest address to come back to, in bytes; a longer one is left out.
const BACK_BYTES_MAX: usize = 512;
const SECRET: usize = 32;
const TIME: usize = 8;
const SEAL: usize = 32;

/// One sign-in that a browser has begun.
#[derive(Clone)]
pub struct Transaction {
    key: [u8; 32],
    secret: [u8; SECRET],
    began_at: UnixSeconds,
    /// Whether the provider is to ask anew, although somebody is signed in there.
    again: bool,
    back: String,
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a sign-in begun at {} [redacted]", self.began_at)
    }
}

impl Transaction {
    /// A new one. `key` is the server's, `random` is fresh, `again` wants the provider to ask anew, `back` is the path to go to in the end.
    pub fn begin(key: [u8; 32], random: [u8; SECRET], now: UnixSeconds, again: bool, back: &str) -> Self {
        let back = if back.len() <= BACK_BYTES_MAX { back } else { "" };
        Self { key, secret: random, began_at: now, again, back: back.to_owned() }
    }

    /// The one that a cookie holds, if this server sealed it and it is not too old.
    pub fn open(key: [u8; 32], cookie: &str, now: UnixSeconds) -> Option<Self> {
        if cookie.len() > (SECRET + TIME + 1 + BACK_BYTES_MAX + SEAL).div_ceil(3) * 4 {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let (content, seal) = bytes.split_at_checked(bytes.len().checked_sub(SEAL)?)?;
        let expected = sealed(&key, content);
        // blake3 compares its hashes in constant time.
        if blake3::Hash::from_bytes(seal.try_into().ok()?) != expected {
            return None;
        }
        let (secret, rest) = content.split_first_chunk::<SECRET>()?;
        let (began_at, rest) = rest.split_first_chunk::<TIME>()?;
        let (again, back) = rest.split_first()?;
        let began_at = UnixSeconds(u64::from_le_bytes(*began_at));
        let is_fresh = began_at <= now && now.since(began_at) <= SIGN_IN_SECONDS;
        let back = String::from_utf8(back.to_vec()).ok()?;
        is_fresh.then_some(Self { key, secret: *secret, began_at, again: *again == 1, back })
    }

    /// The cookie's value.
    pub fn seal(&self) -> String {
        let mut content = self.secret.to_vec();
        content.extend_from_slice(&self.began_at.0.to_le_bytes());
        content.push(u8::from(self.again));
        content.extend_from_slice(self.back.as_bytes());
        let seal = sealed(&self.key, &content);
        content.extend_from_slice(seal.as_bytes());
        URL_SAFE_NO_PAD.encode(content)
    }

    fn derived(&self, what: &str) -> Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(what.as_bytes()).update(&self.secret);
        Hash(*hasher.finalize().as_bytes())
    }
    /// What the provider is to give back with its answer: 64 hex digits.
    pub fn state(&self) -> String {
        self.derived("state").to_string()
    }
    /// Whether `shown` is this sign-in's state, in constant time.
    pub fn is_state(&self, shown: &str) -> bool {
        blake3::hash(shown.as_bytes()) == blake3::hash(self.state().as_bytes())
    }
    /// What the ID token must repeat: 64 hex digits.
    pub fn nonce(&self) -> String {
        self.derived("nonce").to_string()
    }
    /// PKCE's `code_verifier`: 64 hex digits, which RFC 7636 takes.
    pub fn verifier(&self) -> String {
        self.derived("code verifier").to_string()
    }
    /// What is written down once it was used.
    pub fn used(&self) -> Hash {
        self.derived("used")
    }
    /// Until when it could be shown again.
    pub fn expires_at(&self) -> UnixSeconds {
        self.began_at.plus(SIGN_IN_SECONDS + 1)
    }
    /// Whether the provider is to ask anew.
    pub fn again(&self) -> bool {
        self.again
    }
    /// When it began.
    pub fn began_at(&self) -> UnixSeconds {
        self.began_at
    }
    /// The path to go to in the end; may be empty.
    pub fn back(&self) -> &str {
        &self.back
    }
}

fn sealed(key: &[u8; 32], content: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(b"seal").update(content);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

    fn begun() -> Transaction {
        Transaction::begin([1; 32], [2; 32], NOW, true, "/approve?code=ABCD")
    }

    #[test]
    fn a_cookie_opens_for_ten_minutes_and_only_as_it_was_sealed() {
        let cookie = begun().seal();
        let opened = Transaction::open([1; 32], &cookie, NOW.plus(SIGN_IN_SECONDS)).unwrap();
        assert_eq!((opened.state(), opened.back()), (begun().state(), "/approve?code=ABCD"));
        assert!(opened.again());
        assert!(Transaction::open([1; 32], &cookie, NOW.plus(SIGN_IN_SECONDS + 1)).is_none(), "too old");
        assert!(Transaction::open([1; 32], &cookie, UnixSeconds(NOW.0 - 1)).is_none(), "from the future");
        assert!(Transaction::open([9; 32], &cookie, NOW).is_none(), "another server's");
        let content = URL_SAFE_NO_PAD.decode(&cookie).unwrap();
        for at in 0..content.len() {
            let mut other = content.clone();
            other[at] ^= 1;
            let other = URL_SAFE_NO_PAD.encode(other);
            assert!(Transaction::open([1; 32], &other, NOW).is_none(), "byte {at} can be changed");
        }
        for cut in ["", "AAAA", &cookie[..40], &"A".repeat(5000)] {
            assert!(Transaction::open([1; 32], cut, NOW).is_none());
        }
    }

    #[test]
    fn what_is_derived_differs_and_fits_pkce() {
        let t = begun();
        let all = [t.state(), t.nonce(), t.verifier(), t.used().to_string()];
        for (n, one) in all.iter().enumerate() {
            assert!((43..=128).contains(&one.len()) && !all[n + 1..].contains(one));
        }
        assert!(t.is_state(&t.state()) && !t.is_state(&t.nonce()) && !t.is_state(""));
        let other = Transaction::begin([1; 32], [3; 32], NOW, false, "");
        assert_ne!(other.state(), t.state());
        assert_eq!(Transaction::begin([1; 32], [2; 32], NOW, false, &"x".repeat(600)).back(), "");
    }
}
