//! Checkpoints (c2sp.org/tlog-checkpoint): a tree's name, size and root, as the text of a signed note.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_types::Hash;
use gangline_wire::{PublicKey, SigningKey};

use super::note::{KeyUse, Note, NoteError, VerifierKey, is_name};

/// A tree at one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// How many entries.
    pub size: u64,
    /// Root over them (SHA-256).
    pub root: Hash,
}

/// The name of the log that a network keeps with this key: one key, one log, for as long as the key lives
/// and wherever it is served.
pub fn origin_of(key: &PublicKey) -> String {
    format!("gangline.log/{}", key.fingerprint())
}

/// The key that verifies the checkpoints of the log that is kept with this key.
///
/// # Panics
/// Never: the origin is a name by construction.
pub fn verifier_of(key: &PublicKey) -> VerifierKey {
    VerifierKey::new(&origin_of(key), KeyUse::Log, *key).expect("a fingerprint has no space")
}

impl Checkpoint {
    /// Signs it as its log.
    pub fn sign(&self, key: &SigningKey) -> Note {
        let mut note = Note::unsigned(self.to_string());
        note.sign(&self.origin, key);
        note
    }

    /// The checkpoint that a note holds, if its log has signed it.
    ///
    /// # Errors
    /// When it is no checkpoint, of another log, or not signed with the log's key.
    pub fn of_note(note: &Note, log: &VerifierKey) -> Result<Self, NoteError> {
        let checkpoint: Self = note.text().parse()?;
        if checkpoint.origin != log.name() || log.is_for() != KeyUse::Log {
            return Err(NoteError::Malformed("it is the checkpoint of another log"));
        }
        note.verify(log)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }
}

impl FromStr for Checkpoint {
    type Err = NoteError;
    /// Lines after the third belong to whoever put them there, but each must have something in it.
    fn from_str(text: &str) -> Result<Self, NoteError> {
        let malformed = NoteError::Malformed("its text is no checkpoint");
        let lines: Vec<&str> = text.strip_suffix('\n').ok_or(malformed.clone())?.split('\n').collect();
        let [origin, size, root, rest @ ..] = &lines[..] else { return Err(malformed) };
        let parsed: u64 = size.parse().map_err(|_| malformed.clone())?;
        let root = STANDARD.decode(root).ok().and_then(|bytes| bytes.try_into().ok()).map(Hash);
        match root {
            // One size has one spelling.
            Some(root)
                if is_name(origin) && parsed.to_string() == *size && rest.iter().all(|l| !l.is_empty()) =>
            {
                Ok(Self { origin: (*origin).to_owned(), size: parsed, root })
            }
            _ => Err(malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn the_specification_s_example_is_read() {
        let text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        let checkpoint: Checkpoint = text.parse().unwrap();
        assert_eq!(
            (checkpoint.origin.as_str(), checkpoint.size),
            ("example.com/behind-the-sofa", 20_852_163)
        );
        assert_eq!(checkpoint.to_string(), text);
        assert_eq!(format!("{text}more\n").parse(), Ok(checkpoint));
        for refused in [
            "",
            "a\n1\n",
            &text.replace("20852163", "020852163"),
            &text.replace("20852163", "+20852163"),
            &text.replace("20852163", "-1"),
            &text.replace("CsUY", "CsU"),
            &format!("{text}\n"),
            &text[..text.len() - 1],
            &text.replace("example.com", "exa mple.com"),
        ] {
            assert!(refused.parse::<Checkpoint>().is_err(), "{refused:?}");
        }
    }

    #[test]
    fn only_its_own_log_s_signature_counts() {
        let key = |n| SigningKey::from_seed(&Zeroizing::new([n; 32]));
        let checkpoint = Checkpoint { origin: origin_of(&key(1).public()), size: 5, root: Hash([7; 32]) };
        let note = checkpoint.sign(&key(1));
        assert_eq!(Checkpoint::of_note(&note, &verifier_of(&key(1).public())), Ok(checkpoint.clone()));
        assert!(Checkpoint::of_note(&note, &verifier_of(&key(2).public())).is_err());
        let name = &checkpoint.origin;
        let by_other = VerifierKey::new(name, KeyUse::Log, key(2).public()).unwrap();
        assert!(matches!(Checkpoint::of_note(&note, &by_other), Err(NoteError::Unsigned(_))));
        let as_witness = VerifierKey::new(name, KeyUse::Witness, key(1).public()).unwrap();
        assert!(Checkpoint::of_note(&note, &as_witness).is_err());
    }
}
