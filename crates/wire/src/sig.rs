//! HTTP message signatures (RFC 9421, Ed25519), one profile of them and no other: the signature covers
//! method, authority, path, query, the body's digest (RFC 9530) and a sequence number, and names the
//! key and the time it was made. A second spelling of the same thing is refused: a verifier rebuilds
//! the header it expects and compares.

use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_types::{KeyId, UnixSeconds};
use sha2::{Digest, Sha256};

use crate::key::{Good, PublicKey, Signed, SigningKey};

/// Header that carries the sequence number, one more for each request of a key.
pub const SEQUENCE_HEADER: &str = "gangline-sequence";
const LABEL: &str = "gl";
const COMPONENTS: &str = r#"("@method" "@authority" "@path" "@query" "content-digest" "gangline-sequence")"#;
/// Longest `Signature-Input` we read, in bytes.
const INPUT_BYTES_MAX: usize = 320;

/// The parts of a request that a signature covers. `body_digest` is the SHA-256 of the whole body.
#[derive(Clone, Copy, Debug)]
pub struct Covered<'a> {
    /// Upper-case method.
    pub method: &'a str,
    /// Host and port as the client addressed them.
    pub authority: &'a str,
    /// Path, percent-encoded as sent.
    pub path: &'a str,
    /// Query without its question mark; empty if none.
    pub query: &'a str,
    /// SHA-256 of the body.
    pub body_digest: [u8; 32],
    /// The key's sequence number of this request.
    pub sequence: u64,
}

/// SHA-256 of a body.
pub fn digest(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

/// The SHA-256 of a body that comes in parts.
#[derive(Clone, Default)]
pub struct Digesting(Sha256);

impl Digesting {
    /// The next part.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }
    /// Of all parts: what [`digest`] gives for the whole.
    pub fn finish(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

/// Value of a `Content-Digest` header.
pub fn digest_header(digest: &[u8; 32]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest))
}

fn params(created: UnixSeconds, key: KeyId) -> String {
    format!("{COMPONENTS};created={created};keyid=\"{key}\";alg=\"ed25519\"")
}

/// The signature base of RFC 9421 section 2.5.
pub fn signature_base(covered: &Covered<'_>, created: UnixSeconds, key: KeyId) -> String {
    format!(
        "\"@method\": {}\n\"@authority\": {}\n\"@path\": {}\n\"@query\": ?{}\n\"content-digest\": {}\n\"gangline-sequence\": {}\n\"@signature-params\": {}",
        covered.method,
        covered.authority.to_ascii_lowercase(),
        covered.path,
        covered.query,
        digest_header(&covered.body_digest),
        covered.sequence,
        params(created, key),
    )
}

/// The four headers that make a request a signed one, as (name, value).
pub fn sign(covered: &Covered<'_>, created: UnixSeconds, key: &SigningKey) -> [(&'static str, String); 4] {
    let id = key.public().id();
    let signature = key.sign(signature_base(covered, created, id).as_bytes());
    [
        ("content-digest", digest_header(&covered.body_digest)),
        (SEQUENCE_HEADER, covered.sequence.to_string()),
        ("signature-input", format!("{LABEL}={}", params(created, id))),
        ("signature", format!("{LABEL}=:{}:", STANDARD.encode(signature))),
    ]
}

/// The signature headers as received.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// `Content-Digest`.
    pub content_digest: &'a str,
    /// `Gangline-Sequence`.
    pub sequence: &'a str,
    /// `Signature-Input`.
    pub input: &'a str,
    /// `Signature`.
    pub signature: &'a str,
}

/// What the headers claim, before anything is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The key that is said to have signed.
    pub key: KeyId,
    /// When it is said to have been signed.
    pub created: UnixSeconds,
    /// The sequence number.
    pub sequence: u64,
    signature: Vec<u8>,
    body_digest: [u8; 32],
}

/// Why signature headers were refused.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SigError {
    /// Not this profile's form.
    #[error("the {0} header is not in the form this network takes")]
    Malformed(&'static str),
    /// The body is not the one that was digested.
    #[error("the content digest does not match the body")]
    Digest,
    /// The signature does not verify.
    #[error("the signature does not verify")]
    Signature,
}

/// Decimal without sign, leading zero or spaces.
fn decimal(text: &str) -> Option<u64> {
    let ok = !text.is_empty()
        && text.bytes().all(|c| c.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    if ok { text.parse().ok() } else { None }
}

impl Claimed {
    /// What came in another form than headers, in which every field has one spelling; nothing is verified yet.
    pub(crate) fn of(
        key: KeyId,
        created: UnixSeconds,
        sequence: u64,
        signature: [u8; 64],
        body_digest: [u8; 32],
    ) -> Self {
        Self { key, created, sequence, signature: signature.to_vec(), body_digest }
    }

    /// Reads the headers; nothing is verified yet.
    pub fn parse(headers: Received<'_>) -> Result<Self, SigError> {
        let bad_input = SigError::Malformed("signature-input");
        if headers.input.len() > INPUT_BYTES_MAX {
            return Err(bad_input);
        }
        let read = || {
            let rest =
                headers.input.strip_prefix("gl=")?.strip_prefix(COMPONENTS)?.strip_prefix(";created=")?;
            let (created, rest) = rest.split_once(";keyid=\"")?;
            let (key, rest) = rest.split_once('"')?;
            (rest == ";alg=\"ed25519\"").then_some(())?;
            Some((UnixSeconds(decimal(created)?), key.parse::<KeyId>().ok()?))
        };
        let (created, key) = read().ok_or(bad_input)?;
        let sequence = decimal(headers.sequence).ok_or(SigError::Malformed(SEQUENCE_HEADER))?;
        let signature = headers
            .signature
            .strip_prefix("gl=:")
            .and_then(|s| s.strip_suffix(':'))
            .and_then(|s| STANDARD.decode(s).ok())
            .filter(|s| s.len() == 64)
            .ok_or(SigError::Malformed("signature"))?;
        let body_digest = headers
            .content_digest
            .strip_prefix("sha-256=:")
            .and_then(|d| d.strip_suffix(':'))
            .and_then(|d| STANDARD.decode(d).ok())
            .and_then(|d| d.try_into().ok())
            .ok_or(SigError::Malformed("content-digest"))?;
        Ok(Self { key, created, sequence, signature, body_digest })
    }

    /// Verifies that the signature is over these parts as received, and the digest as claimed, by this
    /// key. It says nothing of the body yet, so that a body is read only for who has signed for one:
    /// [`Self::check_body`] does the rest.
    pub fn verify(
        &self,
        key: &PublicKey,
        method: &str,
        authority: &str,
        path: &str,
        query: &str,
    ) -> Result<(), SigError> {
        let body_digest = self.body_digest;
        let covered = Covered { method, authority, path, query, body_digest, sequence: self.sequence };
        let base = signature_base(&covered, self.created, self.key);
        if self.key == key.id() && key.verifies(base.as_bytes(), &self.signature) {
            Ok(())
        } else {
            Err(SigError::Signature)
        }
    }

    /// The signature with what it is over, these parts as received, to be verified together with others'.
    pub fn signed(&self, key: &PublicKey, method: &str, authority: &str, path: &str, query: &str) -> Signed {
        let body_digest = self.body_digest;
        let covered = Covered { method, authority, path, query, body_digest, sequence: self.sequence };
        let message = signature_base(&covered, self.created, self.key).into_bytes();
        // What is no signature is none of anything.
        let signature = self.signature.as_slice().try_into().unwrap_or([0; 64]);
        Signed { key: *key, message, signature }
    }

    /// Like [`Self::verify`], given that `good` was found so.
    pub fn verify_by(
        &self,
        good: &Good,
        key: &PublicKey,
        method: &str,
        authority: &str,
        path: &str,
        query: &str,
    ) -> Result<(), SigError> {
        let signed = self.signed(key, method, authority, path, query);
        if self.key == key.id() && good.is(key, &signed.message, &self.signature) {
            Ok(())
        } else {
            Err(SigError::Signature)
        }
    }

    /// Whether `body` as received is the one that was signed for.
    pub fn check_body(&self, body: &[u8]) -> Result<(), SigError> {
        self.check_digest(&digest(body))
    }

    /// The same for a body that was hashed as it came.
    pub fn check_digest(&self, digest: &[u8; 32]) -> Result<(), SigError> {
        if *digest == self.body_digest { Ok(()) } else { Err(SigError::Digest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([n; 32]))
    }
    fn covered(body: &[u8]) -> Covered<'static> {
        Covered {
            method: "POST",
            authority: "127.0.0.1:80",
            path: "/a",
            query: "x=1",
            body_digest: digest(body),
            sequence: 7,
        }
    }
    fn claimed(headers: &[(&str, String); 4]) -> Result<Claimed, SigError> {
        Claimed::parse(Received {
            content_digest: &headers[0].1,
            sequence: &headers[1].1,
            input: &headers[2].1,
            signature: &headers[3].1,
        })
    }

    #[test]
    fn what_was_signed_verifies_and_nothing_else() {
        let k = key(1);
        let h = sign(&covered(b"{}"), UnixSeconds(1_700_000_000), &k);
        let c = claimed(&h).unwrap();
        assert_eq!(c.verify(&k.public(), "POST", "127.0.0.1:80", "/a", "x=1"), Ok(()));
        for (what, got) in [
            ("method", c.verify(&k.public(), "PUT", "127.0.0.1:80", "/a", "x=1")),
            ("authority", c.verify(&k.public(), "POST", "127.0.0.1:81", "/a", "x=1")),
            ("path", c.verify(&k.public(), "POST", "127.0.0.1:80", "/b", "x=1")),
            ("query", c.verify(&k.public(), "POST", "127.0.0.1:80", "/a", "x=2")),
            ("key", c.verify(&key(2).public(), "POST", "127.0.0.1:80", "/a", "x=1")),
        ] {
            assert_eq!(got, Err(SigError::Signature), "{what} is not covered");
        }
        assert_eq!(c.check_body(b"{ }"), Err(SigError::Digest));
        assert_eq!(c.check_body(b"{}"), Ok(()));
        let mut other_digest = h.clone();
        other_digest[0].1 = digest_header(&digest(b"{ }"));
        assert_eq!(
            claimed(&other_digest).unwrap().verify(&k.public(), "POST", "127.0.0.1:80", "/a", "x=1"),
            Err(SigError::Signature)
        );
        let mut later = h.clone();
        later[1].1 = "8".into();
        assert_eq!(
            claimed(&later).unwrap().verify(&k.public(), "POST", "127.0.0.1:80", "/a", "x=1"),
            Err(SigError::Signature)
        );
        let mut redated = h;
        redated[2].1 = redated[2].1.replace("1700000000", "1700000001");
        assert_eq!(
            claimed(&redated).unwrap().verify(&k.public(), "POST", "127.0.0.1:80", "/a", "x=1"),
            Err(SigError::Signature)
        );
    }

    #[test]
    fn only_one_spelling_is_read() {
        let h = sign(&covered(b""), UnixSeconds(1_700_000_000), &key(1));
        for (i, from, to) in [
            (1, "7", "07"),
            (1, "7", "+7"),
            (1, "7", " 7"),
            (2, "gl=", "gl2="),
            (2, "\"@query\" ", ""),
            (2, "ed25519", "hmac-sha256"),
            (2, "created=1", "created=01"),
            (0, "sha-256", "sha-512"),
            (0, "=:", "="),
            (3, "gl=:", "gl="),
            (3, "==:", ":"),
        ] {
            let mut bad = h.clone();
            bad[i].1 = bad[i].1.replacen(from, to, 1);
            assert_ne!(bad[i].1, h[i].1, "the case changes nothing: {from} -> {to}");
            assert!(claimed(&bad).is_err(), "read {:?}", bad[i]);
        }
    }

    /// The base of RFC 9421 for our profile, written out by hand.
    #[test]
    fn the_base_is_that_of_the_rfc() {
        let k = key(3);
        let base =
            signature_base(&Covered { query: "", ..covered(b"hello") }, UnixSeconds(5), k.public().id());
        assert_eq!(
            base,
            format!(
                "\"@method\": POST\n\"@authority\": 127.0.0.1:80\n\"@path\": /a\n\"@query\": ?\n\"content-digest\": sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:\n\"gangline-sequence\": 7\n\"@signature-params\": (\"@method\" \"@authority\" \"@path\" \"@query\" \"content-digest\" \"gangline-sequence\");created=5;keyid=\"{}\";alg=\"ed25519\"",
                k.public().id()
            )
        );
    }
}
