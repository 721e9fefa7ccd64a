//! Signed notes (c2sp.org/signed-note): a text that people can read, and under it lines with signatures. Two
//! kinds of Ed25519 key are known: a log's, and a witness's, which says when it signed
//! (c2sp.org/tlog-cosignature). Signatures by keys that are not asked for are no matter of ours.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_types::UnixSeconds;
use gangline_wire::{PublicKey, SigningKey};
use sha2::{Digest, Sha256};

/// Bytes of a note at most.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// Signatures of a note at most.
pub const SIGNATURES_MAX: usize = 100;

const DASH: &str = "\u{2014} ";

/// Why something is no note, or is not signed as it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not of the form.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// Not a verifier key.
    #[error(
        "not a verifier key: expected name, eight hex digits and base64 with + between, their hash being right"
    )]
    Key,
    /// The key's signature is not there.
    #[error("it carries no signature by {0}")]
    Unsigned(String),
    /// It is there and is not by that key.
    #[error("the signature that bears the name {0} was not made with its key")]
    Forged(String),
}

/// What a key's signature says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUse {
    /// A log: this is my tree.
    Log,
    /// A witness: this follows from what I saw before, as of a time.
    Witness,
}

impl KeyUse {
    const fn byte(self) -> u8 {
        match self {
            Self::Log => 1,
            Self::Witness => 4,
        }
    }
}

/// Whether a text can name a key: not empty, no space, no plus, nothing that is not shown.
pub fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 200
        && !text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// A key that verifies, with its name: `name+hash+key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    is_for: KeyUse,
    key: PublicKey,
}

impl VerifierKey {
    /// A key under a name; none if the text cannot be a name.
    pub fn new(name: &str, is_for: KeyUse, key: PublicKey) -> Option<Self> {
        is_name(name).then(|| Self { name: name.to_owned(), is_for, key })
    }
    /// Its name; a log's is the origin of its checkpoints.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// What it is for.
    pub fn is_for(&self) -> KeyUse {
        self.is_for
    }
    /// The first four bytes of SHA-256 over name, newline, use and key.
    fn hash(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', self.is_for.byte()])
            .chain_update(self.key.as_bytes())
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let material = [&[self.is_for.byte()], &self.key.as_bytes()[..]].concat();
        write!(f, "{}+{:08x}+{}", self.name, u32::from_be_bytes(self.hash()), STANDARD.encode(material))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;
    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let material: [u8; 33] =
            STANDARD.decode(key).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(NoteError::Key)?;
        let (is_for, key) = match material.split_first() {
            Some((1, key)) => (KeyUse::Log, key),
            Some((4, key)) => (KeyUse::Witness, key),
            _ => return Err(NoteError::Key),
        };
        let bytes: &[u8; 32] = key.try_into().map_err(|_| NoteError::Key)?;
        let key = PublicKey::from_bytes(bytes).map_err(|_| NoteError::Key)?;
        let found = Self::new(name, is_for, key).ok_or(NoteError::Key)?;
        if format!("{:08x}", u32::from_be_bytes(found.hash())) == hash {
            Ok(found)
        } else {
            Err(NoteError::Key)
        }
    }
}

/// One line under a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureLine {
    name: String,
    hash: [u8; 4],
    signature: Vec<u8>,
}

impl fmt::Display for SignatureLine {
    /// With its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.hash[..], &self.signature].concat();
        writeln!(f, "{DASH}{} {}", self.name, STANDARD.encode(bytes))
    }
}

impl FromStr for SignatureLine {
    type Err = NoteError;
    /// A line without its newline.
    fn from_str(line: &str) -> Result<Self, NoteError> {
        let malformed = NoteError::Malformed("a signature line is not a dash, a name and base64");
        let parts = line.strip_prefix(DASH).and_then(|rest| rest.split_once(' '));
        let (name, base64) = parts.ok_or(malformed.clone())?;
        let bytes = STANDARD.decode(base64).map_err(|_| malformed.clone())?;
        match bytes.split_first_chunk::<4>() {
            Some((hash, signature)) if is_name(name) && !signature.is_empty() => {
                Ok(Self { name: name.to_owned(), hash: *hash, signature: signature.to_vec() })
            }
            _ => Err(malformed),
        }
    }
}

/// A text and its signatures; none of them is believed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

impl Note {
    /// A note that nobody has signed; `text` ends with a newline.
    pub fn unsigned(text: String) -> Self {
        Self { text, signatures: Vec::new() }
    }
    /// What is signed, with its last newline.
    pub fn text(&self) -> &str {
        &self.text
    }
    /// Adds a line, unless it is there.
    pub fn add(&mut self, line: SignatureLine) {
        if !self.signatures.contains(&line) && self.signatures.len() < SIGNATURES_MAX {
            self.signatures.push(line);
        }
    }
    /// Its lines.
    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    /// Signs as a log.
    pub fn sign(&mut self, name: &str, key: &SigningKey) {
        let Some(verifier) = VerifierKey::new(name, KeyUse::Log, key.public()) else { return };
        let signature = key.sign(self.text.as_bytes()).to_vec();
        self.add(SignatureLine { name: name.to_owned(), hash: verifier.hash(), signature });
    }

    /// A witness's line for this note, at a time.
    pub fn cosignature(&self, name: &str, key: &SigningKey, at: UnixSeconds) -> Option<SignatureLine> {
        let verifier = VerifierKey::new(name, KeyUse::Witness, key.public())?;
        let signature = key.sign(&cosigned(&self.text, at));
        let signature = [&at.0.to_be_bytes()[..], &signature].concat();
        Some(SignatureLine { name: name.to_owned(), hash: verifier.hash(), signature })
    }

    /// Checks the signature by one key; a witness's answers with its time, a log's with none.
    ///
    /// # Errors
    /// When it is not there, or was not made with that key.
    pub fn verify(&self, key: &VerifierKey) -> Result<Option<UnixSeconds>, NoteError> {
        let hash = key.hash();
        let line = self
            .signatures
            .iter()
            .find(|line| line.name == key.name && line.hash == hash)
            .ok_or_else(|| NoteError::Unsigned(key.name.clone()))?;
        let forged = || NoteError::Forged(key.name.clone());
        match key.is_for {
            KeyUse::Log if key.key.verifies(self.text.as_bytes(), &line.signature) => Ok(None),
            KeyUse::Log => Err(forged()),
            KeyUse::Witness => {
                let (time, signature) = line.signature.split_first_chunk::<8>().ok_or_else(forged)?;
                let at = UnixSeconds(u64::from_be_bytes(*time));
                if at.0 < 1 << 63 && key.key.verifies(&cosigned(&self.text, at), signature) {
                    Ok(Some(at))
                } else {
                    Err(forged())
                }
            }
        }
    }
}

fn cosigned(text: &str, at: UnixSeconds) -> Vec<u8> {
    format!("cosignature/v1\ntime {}\n{text}", at.0).into_bytes()
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|line| line.fmt(f))
    }
}

impl FromStr for Note {
    type Err = NoteError;
    fn from_str(whole: &str) -> Result<Self, NoteError> {
        if whole.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Malformed("it is too long"));
        }
        if whole.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Malformed("it holds control characters"));
        }
        let end = whole.rfind("\n\n").ok_or(NoteError::Malformed("it has no signatures"))?;
        let (text, lines) = (&whole[..end + 1], &whole[end + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Malformed("its last line does not end"))?;
        let signatures: Vec<SignatureLine> = lines.split('\n').map(str::parse).collect::<Result<_, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(NoteError::Malformed("it has too many signatures"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    /// The example of the format's first implementation.
    const EXAMPLE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    const EXAMPLE_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([n; 32]))
    }

    #[test]
    fn the_known_example_verifies() {
        let note: Note = EXAMPLE.parse().unwrap();
        let key: VerifierKey = EXAMPLE_KEY.parse().unwrap();
        assert_eq!((note.to_string().as_str(), key.to_string().as_str()), (EXAMPLE, EXAMPLE_KEY));
        assert_eq!(note.verify(&key), Ok(None));
        let other: Note = EXAMPLE.replace("answer", "Answer").parse().unwrap();
        assert_eq!(other.verify(&key), Err(NoteError::Forged("PeterNeumann".into())));
    }

    #[test]
    fn a_witness_says_when_and_is_told_from_a_log() {
        let mut note = Note::unsigned("a\n1\nb\n".into());
        note.sign("a", &key(1));
        let at = UnixSeconds(1_679_315_147);
        note.add(note.cosignature("w", &key(2), at).unwrap());
        let back: Note = note.to_string().parse().unwrap();
        let verifier = |name, is_for, n| VerifierKey::new(name, is_for, key(n).public()).unwrap();
        assert_eq!(back.verify(&verifier("a", KeyUse::Log, 1)), Ok(None));
        assert_eq!(back.verify(&verifier("w", KeyUse::Witness, 2)), Ok(Some(at)));
        for stranger in [
            verifier("w", KeyUse::Log, 2),
            verifier("a", KeyUse::Witness, 1),
            verifier("w", KeyUse::Witness, 3),
            verifier("v", KeyUse::Witness, 2),
        ] {
            assert_eq!(back.verify(&stranger), Err(NoteError::Unsigned(stranger.name().into())));
        }
        // The time is signed too.
        let mut later = back.clone();
        later.signatures[1].signature[7] ^= 1;
        assert_eq!(later.verify(&verifier("w", KeyUse::Witness, 2)), Err(NoteError::Forged("w".into())));
    }

    #[test]
    fn what_is_no_note_or_key_is_refused() {
        for refused in [
            "",
            "a\n",
            "a\n\n",
            "a\n\nb\n",
            "a\n\n\u{2014} a b\n",
            "a\n\n\u{2014} a AAAAAAA=",
            "a\n\n\u{2014} a AAAAAAA=",
            "a\n\n\u{2014}  AAAAAAA=\n",
            "a\n\n\u{2014} a AAAAAA==\n",
            "a\tb\n\n\u{2014} a AAAAAAA=\n",
            "a\n\n- a AAAAAAA=\n",
        ] {
            assert!(refused.parse::<Note>().is_err(), "{refused:?}");
        }
        let good = VerifierKey::new("a", KeyUse::Log, key(1).public()).unwrap().to_string();
        assert!(good.parse::<VerifierKey>().is_ok());
        for refused in
            ["", "a", "a+00000000+AQ==", &good.replace("a+", "b+"), &good[1..], &format!("{good}A")]
        {
            assert_eq!(refused.parse::<VerifierKey>(), Err(NoteError::Key), "{refused}");
        }
        assert!(VerifierKey::new("a b", KeyUse::Log, key(1).public()).is_none());
    }

    /// Keys of logs and of witnesses come in this form alone, by settings, by arguments and from a log itself.
    #[test]
    fn a_weak_key_is_nobody_s() {
        let check = |is_for: KeyUse, bytes: &[u8; 32], is_sound: bool| {
            let hash = Sha256::new()
                .chain_update(b"a\n")
                .chain_update([is_for.byte()])
                .chain_update(bytes)
                .finalize();
            let hash: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
            let text = format!("a+{hash}+{}", STANDARD.encode([&[is_for.byte()], &bytes[..]].concat()));
            assert_eq!(text.parse::<VerifierKey>().is_ok(), is_sound, "{text}");
        };
        for is_for in [KeyUse::Log, KeyUse::Witness] {
            check(is_for, key(1).public().as_bytes(), true);
            let weak = include_str!("../../../wire/tests/weak_keys.txt");
            for weak in weak.lines() {
                let byte = |i: usize| u8::from_str_radix(&weak[2 * i..2 * i + 2], 16).unwrap();
                check(is_for, &std::array::from_fn(byte), false);
            }
        }
    }
}
