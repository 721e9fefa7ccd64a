//! A witness's decision (c2sp.org/tlog-witness): it signs a log's checkpoint only if it follows from the last
//! one that it signed. Pure; whoever runs it must keep what is signed before it answers, and must not let two
//! requests for one log be decided at the same time.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_types::Hash;

use super::{
    checkpoint::Checkpoint,
    note::{Note, NoteError, VerifierKey},
    tree::{PROOF_HASHES_MAX, Proof, empty_root, verify_consistency},
};

/// A log that a witness watches, as it last signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The log's key.
    pub log: VerifierKey,
    /// Entries at the last cosignature; 0 before the first.
    pub size: u64,
    /// Root then.
    pub root: Hash,
}

impl Watched {
    /// A log that was never cosigned.
    pub fn new(log: VerifierKey) -> Self {
        Self { log, size: 0, root: empty_root() }
    }
}

/// A request to cosign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the asker believes was cosigned last.
    pub old_size: u64,
    /// That the checkpoint's tree begins with that one.
    pub proof: Proof,
    /// The checkpoint as its log signed it.
    pub note: Note,
}

impl fmt::Display for AddCheckpoint {
    /// As the body of the request.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{}", STANDARD.encode(hash.0)))?;
        write!(f, "\n{}", self.note)
    }
}

impl FromStr for AddCheckpoint {
    type Err = NoteError;
    fn from_str(body: &str) -> Result<Self, NoteError> {
        let malformed = NoteError::Malformed("the request does not begin with an old size and a proof");
        let (head, note) = body.split_once("\n\n").ok_or(malformed.clone())?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).ok_or(malformed.clone())?;
        let old_size: u64 = old.parse().map_err(|_| malformed.clone())?;
        let proof: Proof = lines
            .map(|line| STANDARD.decode(line).ok().and_then(|b| b.try_into().ok()).map(Hash))
            .collect::<Option<_>>()
            .ok_or(malformed.clone())?;
        if old_size.to_string() != old || proof.len() > PROOF_HASHES_MAX {
            return Err(malformed);
        }
        Ok(Self { old_size, proof, note: note.parse()? })
    }
}

/// Why a witness does not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCosigned {
    /// It cannot be read, or its sizes make no sense.
    #[error("{0}")]
    Malformed(NoteError),
    /// The old size is larger than the new one.
    #[error("the old size is larger than the checkpoint's")]
    OldSizeTooLarge,
    /// Not a log that this witness watches.
    #[error("this witness does not watch that log")]
    UnknownLog,
    /// The log has not signed it.
    #[error("{0}")]
    NotSigned(NoteError),
    /// Another size was cosigned last: this one.
    #[error("the last cosigned checkpoint has {size} entries")]
    Conflict {
        /// Entries at the last cosignature.
        size: u64,
    },
    /// The log has signed another tree of the same size: a fork, and this is the proof of it.
    #[error(
        "fork: the log signed two trees of {size} entries, one with root {before} and one with root {now}"
    )]
    Fork {
        /// Size of both.
        size: u64,
        /// Root that was cosigned.
        before: Hash,
        /// Root that is shown now.
        now: Hash,
    },
    /// The proof does not show that the tree only grew.
    #[error("the proof does not show that the log's {size} entries begin with the {before} cosigned last")]
    BadProof {
        /// Entries at the last cosignature.
        before: u64,
        /// Entries that the checkpoint has.
        size: u64,
    },
}

impl NotCosigned {
    /// The HTTP status that the protocol has for it.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::OldSizeTooLarge => 400,
            Self::NotSigned(_) => 403,
            Self::UnknownLog => 404,
            Self::Conflict { .. } | Self::Fork { .. } => 409,
            Self::BadProof { .. } => 422,
        }
    }
}

/// Decides: the checkpoint that may be cosigned and has to be kept as the log's last.
///
/// # Errors
/// When it must not be signed. Nothing of the witness's state changes then.
pub fn consider(
    watched: impl FnOnce(&str) -> Option<Watched>,
    request: &AddCheckpoint,
) -> Result<Checkpoint, NotCosigned> {
    let claimed: Checkpoint = request.note.text().parse().map_err(NotCosigned::Malformed)?;
    let Watched { log, size: before, root } = watched(&claimed.origin).ok_or(NotCosigned::UnknownLog)?;
    let checkpoint = Checkpoint::of_note(&request.note, &log).map_err(NotCosigned::NotSigned)?;
    if request.old_size > checkpoint.size {
        return Err(NotCosigned::OldSizeTooLarge);
    }
    if request.old_size != before {
        return Err(NotCosigned::Conflict { size: before });
    }
    if before == checkpoint.size && root != checkpoint.root {
        return Err(NotCosigned::Fork { size: before, before: root, now: checkpoint.root });
    }
    if !verify_consistency(before, &root, checkpoint.size, &checkpoint.root, &request.proof) {
        return Err(NotCosigned::BadProof { before, size: checkpoint.size });
    }
    Ok(checkpoint)
}

#[cfg(test)]
mod tests {
    use gangline_wire::SigningKey;
    use zeroize::Zeroizing;

    use super::*;
    use crate::log::{
        checkpoint::{origin_of, verifier_of},
        edge::Edge,
        leaf_hash,
        tiles::Tiles,
        tree::prove_consistency,
    };

    fn key(n: u8) -> SigningKey {
        SigningKey::from_seed(&Zeroizing::new([n; 32]))
    }

    /// A log of `size` entries; `other` from entry `from` on.
    fn tree(size: u64, from: u64) -> (Edge, Tiles) {
        let (mut edge, mut tiles) = (Edge::default(), Tiles::default());
        for n in 0..size {
            let leaf = if n < from { n } else { n + 1_000_000 };
            let mut full = Vec::new();
            edge.push(leaf_hash(&leaf.to_be_bytes()), &mut |tile| full.push(tile));
            tiles.take_all(full);
        }
        tiles.take_all(edge.partials());
        (edge, tiles)
    }

    fn ask(old_size: u64, size: u64, from: u64) -> AddCheckpoint {
        let (edge, tiles) = tree(size, from);
        let checkpoint = Checkpoint { origin: origin_of(&key(1).public()), size, root: edge.root() };
        let proof = if old_size > size { vec![] } else { prove_consistency(&tiles, old_size, size).unwrap() };
        AddCheckpoint { old_size, proof, note: checkpoint.sign(&key(1)) }
    }

    struct World(Watched);
    impl World {
        fn ask(&mut self, request: &AddCheckpoint) -> Result<u64, NotCosigned> {
            let request: AddCheckpoint = request.to_string().parse().map_err(NotCosigned::Malformed)?;
            let seen = self.0.clone();
            let kept = consider(|origin| (origin == seen.log.name()).then_some(seen.clone()), &request)?;
            (self.0.size, self.0.root) = (kept.size, kept.root);
            Ok(kept.size)
        }
    }

    const NEVER: u64 = u64::MAX;

    #[test]
    fn it_signs_what_grows_and_nothing_else() {
        let mut world = World(Watched::new(verifier_of(&key(1).public())));
        assert_eq!(world.ask(&ask(0, 0, NEVER)), Ok(0));
        assert_eq!(world.ask(&ask(0, 300, NEVER)), Ok(300));
        assert_eq!(world.ask(&ask(300, 300, NEVER)), Ok(300), "the same once more, with an empty proof");
        assert_eq!(world.ask(&ask(300, 301, NEVER)), Ok(301));

        assert_eq!(world.ask(&ask(300, 400, NEVER)), Err(NotCosigned::Conflict { size: 301 }));
        assert_eq!(world.ask(&ask(0, 400, NEVER)), Err(NotCosigned::Conflict { size: 301 }));
        assert_eq!(world.ask(&ask(301, 200, NEVER)), Err(NotCosigned::OldSizeTooLarge), "a roll-back");
        let fork = world.ask(&ask(301, 301, 5)).unwrap_err();
        assert!(matches!(fork, NotCosigned::Fork { size: 301, .. }) && fork.status() == 409);
        let bad = NotCosigned::BadProof { before: 301, size: 400 };
        assert_eq!(world.ask(&ask(301, 400, 5)), Err(bad.clone()), "a fork that has grown");
        let mut spoiled = ask(301, 400, NEVER);
        spoiled.proof.pop();
        assert_eq!(world.ask(&spoiled), Err(bad.clone()));
        spoiled.proof.clear();
        assert_eq!(world.ask(&spoiled), Err(bad));
        assert_eq!(world.0.size, 301, "a refusal changes nothing");
        assert_eq!(world.ask(&ask(301, 400, NEVER)), Ok(400));
    }

    #[test]
    fn it_knows_whose_log_it_is() {
        let mut world = World(Watched::new(verifier_of(&key(1).public())));
        let mut unsigned = ask(0, 3, NEVER);
        let text = unsigned.note.text().to_owned();
        let mut by_other = Note::unsigned(text.clone());
        by_other.sign(&origin_of(&key(1).public()), &key(2));
        unsigned.note = by_other;
        assert_eq!(world.ask(&unsigned).unwrap_err().status(), 403);
        let mut elsewhere = Note::unsigned(text.replace("gangline.log/", "other.log/"));
        elsewhere.sign("other.log/x", &key(1));
        unsigned.note = elsewhere;
        assert_eq!(world.ask(&unsigned), Err(NotCosigned::UnknownLog));
        for body in ["", "old 1\n\n", "old 01\n\nx", "old 1\nAA==\n\nx", "new 1\n\nx"] {
            assert!(body.parse::<AddCheckpoint>().is_err(), "{body:?}");
        }
        let many =
            format!("old 1\n{}\n{}", format!("{}\n", STANDARD.encode([0; 32])).repeat(64), unsigned.note);
        assert!(many.parse::<AddCheckpoint>().is_err());
    }
}
