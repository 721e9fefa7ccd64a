//! One-time links, sessions and form tokens: 32 random bytes outside, a hash inside. The random bytes
//! come in as an argument.

use gangline_types::Hash;
use subtle::ConstantTimeEq;

/// A secret as its holder has it: 64 hex digits. Prints as `[redacted]`.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// From fresh randomness.
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// From what somebody showed.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<Hash>().ok().map(|h| Self(h.0))
    }
    /// To be handed to its holder once.
    pub fn reveal(&self) -> String {
        Hash(self.0).to_string()
    }
    /// What the store keeps: nobody who reads it can enter.
    pub fn stored(&self) -> Hash {
        Hash(blake3::derive_key("gangline 2026 stored secret", &self.0))
    }
    /// The form token of the session with this secret.
    pub fn form_token(&self) -> String {
        Hash(blake3::derive_key("gangline 2026 form token", &self.0)).to_string()
    }
    /// Whether `shown` is this session's form token, in constant time.
    pub fn is_form_token(&self, shown: &str) -> bool {
        self.form_token().as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Letters and digits of a code that a person types: none that look alike.
const CODE_ALPHABET: &[u8; 32] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZ";

/// A short code `XXXX-XXXX` of 40 bits.
pub fn user_code(random: [u8; 5]) -> String {
    let n = random.iter().fold(0u64, |n, b| n << 8 | *b as u64);
    let mut out: String = (0..8).rev().map(|i| CODE_ALPHABET[(n >> (5 * i)) as usize & 31] as char).collect();
    out.insert(4, '-');
    out
}

/// A typed code as it was shown: case, spaces and the dash forgiven.
pub fn normalise_code(typed: &str) -> Option<String> {
    let letters: String =
        typed.chars().filter(|c| !c.is_whitespace() && *c != '-').map(|c| c.to_ascii_uppercase()).collect();
    let ok = letters.len() == 8 && letters.bytes().all(|b| CODE_ALPHABET.contains(&b));
    ok.then(|| format!("{}-{}", &letters[..4], &letters[4..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_does_not_let_anyone_in() {
        let s = Secret::from_random([7; 32]);
        assert_ne!(s.stored().to_string(), s.reveal());
        assert!(Secret::parse(&s.stored().to_string()).is_some_and(|t| t.stored() != s.stored()));
        assert!(s.is_form_token(&s.form_token()) && !s.is_form_token("") && !s.is_form_token(&s.reveal()));
        assert_eq!(format!("{s:?}"), "[redacted]");
    }

    #[test]
    fn codes_forgive_how_people_type() {
        let code = user_code([1, 2, 3, 4, 5]);
        assert_eq!(normalise_code(&code.to_lowercase().replace('-', " ")), Some(code));
        assert_eq!(normalise_code("0000-0000"), None);
        assert_eq!(normalise_code(""), None);
    }
}
