//! What an entry says, and its one spelling. Lines of `name value` in a fixed order, for people to read and
//! for programs to hash:
//!
//! ```text
//! gangline log entry 1
//! kind verdict
//! at 1795358305
//! gpu gpu_0123456789abcdefghjkmnpqrs
//! proof prf_0123456789abcdefghjkmnpqrs
//! accepted yes
//! transcript 64 hex digits, or none
//! sealed 64 hex digits
//! ```
//!
//! An [`Event`] has no field for an account, a machine, a key or an address, so that no entry can hold one.
//! Who acted, by which permit and in which words is sealed: SHA-256 over a salt of 32 random bytes and the
//! text. Without the salt it says nothing, not even that two entries are of one actor; with it, it proves.

use std::{fmt::Write, str::FromStr};

use gangline_types::{AppealId, GpuId, Hash, ProofId, Standing, UnixSeconds};
use gangline_wire::{
    Action,
    api::{account::Role, enrol::KeyKind, operate::Approver},
};
use sha2::{Digest, Sha256};

/// First line of every entry.
const HEAD: &str = "gangline log entry 1";

macro_rules! words {
    ($(#[$doc:meta])+ $name:ident { $($(#[$variant_doc:meta])+ $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])+ $variant),+ }
        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// Its word in an entry.
            pub const fn as_str(self) -> &'static str { match self { $(Self::$variant => $word),+ } }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.as_str()) }
        }
        impl FromStr for $name {
            type Err = EntryError;
            fn from_str(text: &str) -> Result<Self, EntryError> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text).ok_or(EntryError)
            }
        }
    };
}

words! {
    /// What an entry is about.
    Kind {
        /// A GPU's label changed.
        MetadataChange = "metadata_change",
        /// A proof was judged.
        Verdict = "verdict",
        /// A GPU's standing changed.
        Standing = "standing",
        /// A GPU is shown as and paid for less than its machine claims.
        Relabelled = "relabelled",
        /// A snapshot was taken.
        Snapshot = "snapshot",
        /// The policy is another than before.
        PolicyChange = "policy_change",
        /// An account was made with a role, or got another.
        RoleChange = "role_change",
        /// A person let somebody or something in.
        Approval = "approval",
        /// Keys ended.
        KeyRevoked = "revocation",
        /// Writes were stopped or let go on.
        Freeze = "freeze",
        /// A key took the place of another.
        KeyRotated = "rotation",
        /// A dangerous act was asked for, decided on or done.
        DangerousAct = "dangerous_act",
        /// The bell of an epoch rang.
        Bell = "bell",
        /// A table of calibration took a step.
        Calibration = "calibration",
        /// An appeal took a step.
        Appeal = "appeal",
        /// A verifier gave its verdict on an appeal.
        AppealVerdict = "appeal_verdict",
    }
}

words! {
    /// What became of an appeal.
    AppealStep {
        /// A supplier appealed.
        Opened = "opened",
        /// The GPU answered its re-run, which is put before the verifiers.
        Answered = "answered",
        /// Enough verifiers found the re-run right, and it was in time.
        Upheld = "upheld",
        /// Too few did, or it was late.
        Dismissed = "dismissed",
    }
}

words! {
    /// What became of a table of calibration.
    TableStep {
        /// The network itself learned exactly this from its epochs.
        Learned = "learned",
        /// It was handed in and is watched; it fails nobody.
        Canary = "canary",
        /// It sets deadlines.
        Promoted = "promoted",
        /// It counts no more.
        Withdrawn = "withdrawn",
    }
}

words! {
    /// How a label came to be another.
    Change {
        /// Somebody set it.
        Set = "set",
        /// An operator undid what an actor had set.
        Restored = "restored",
    }
}

words! {
    /// What was let in.
    Approved {
        /// A machine's key was enrolled.
        Machine = "machine",
        /// A command line's key was enrolled.
        CommandLine = "command_line",
        /// A request to enrol was denied.
        Denied = "denied",
        /// A one-time link was made for an account that exists.
        Link = "link",
        /// Somebody made a passkey for their own account.
        Passkey = "passkey",
        /// Somebody set a password for their own account.
        Password = "password",
    }
}

words! {
    /// How far a dangerous act is.
    Step {
        /// Somebody asked for it.
        Asked = "asked",
        /// It was approved.
        Approved = "approved",
        /// It was declined.
        Declined = "declined",
        /// It was done, as approved.
        Done = "done",
    }
}

words! {
    /// Whose key was rotated.
    Holder {
        /// A machine's.
        Machine = "machine",
        /// A command line's.
        CommandLine = "command_line",
    }
}

words! {
    /// What a freeze stops.
    Scope {
        /// Writes signed by one key.
        Key = "key",
        /// Writes of one account.
        Account = "account",
        /// Writes by one route.
        Route = "route",
        /// Writes to every machine and GPU.
        Fleet = "fleet",
    }
}

impl From<KeyKind> for Holder {
    fn from(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Machine => Self::Machine,
            KeyKind::CommandLine => Self::CommandLine,
        }
    }
}

impl From<KeyKind> for Approved {
    fn from(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Machine => Self::Machine,
            KeyKind::CommandLine => Self::CommandLine,
        }
    }
}

/// What happened, as far as it is anyone's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A GPU's label changed. What it was and is stands sealed: a label is anybody's words.
    MetadataChange {
        /// Whose.
        gpu: GpuId,
        /// How.
        change: Change,
    },
    /// A proof was judged.
    Verdict {
        /// The GPU.
        gpu: GpuId,
        /// The proof.
        proof: ProofId,
        /// Whether it passed.
        accepted: bool,
        /// SHA-256 of the transcript's JSON as published; none if the proof was never opened.
        transcript: Option<Hash>,
    },
    /// A GPU's standing changed.
    Standing {
        /// The GPU.
        gpu: GpuId,
        /// To this.
        standing: Standing,
    },
    /// A GPU is shown as and paid for less than its machine claims.
    Relabelled {
        /// The GPU.
        gpu: GpuId,
        /// The rate that counts, in millions of multiply-adds a second.
        matrix_mmacs: u64,
    },
    /// A snapshot was taken.
    Snapshot {
        /// Season.
        season: u32,
        /// Period within it.
        period: u32,
        /// Its root (BLAKE3), which goes on from the one before.
        root: Hash,
    },
    /// The policy is another than before.
    PolicyChange {
        /// SHA-256 of the whole matrix of actors, actions and resources as text.
        matrix: Hash,
    },
    /// An account was made with a role, or got another.
    RoleChange {
        /// The role.
        role: Role,
    },
    /// A person let somebody or something in.
    Approval {
        /// What.
        what: Approved,
    },
    /// Keys ended.
    KeyRevoked {
        /// How many.
        keys: u32,
    },
    /// Writes were stopped or let go on.
    Freeze {
        /// Which.
        scope: Scope,
        /// Whether they are stopped now.
        on: bool,
    },
    /// A key took the place of another, which goes on for a while.
    KeyRotated {
        /// Whose.
        holder: Holder,
    },
    /// A dangerous act was asked for, decided on or done. On what and by whom stands sealed.
    DangerousAct {
        /// What it does.
        act: Action,
        /// Who may approve it.
        approver: Approver,
        /// How far it is.
        step: Step,
    },
    /// The bell of an hour's epoch rang: what its beacon is made of, so that anyone can make it again.
    Bell {
        /// The hour, counted from 1970.
        hour: u32,
        /// When it rang, in milliseconds since 1970.
        millis: u64,
        /// Entries that this log had then.
        size: u64,
        /// Its root over them.
        root: Hash,
        /// What was promised by every later hour's: hashed once an hour on, it is the one of the hour before.
        salt: Hash,
    },
    /// A table of calibration took a step.
    Calibration {
        /// Its version.
        version: u32,
        /// Which.
        step: TableStep,
        /// The digest that its operator signed.
        digest: Hash,
    },
    /// An appeal took a step.
    Appeal {
        /// The appeal.
        appeal: AppealId,
        /// The GPU.
        gpu: GpuId,
        /// Which.
        step: AppealStep,
    },
    /// A verifier gave its verdict on the re-run of an appeal.
    AppealVerdict {
        /// The appeal.
        appeal: AppealId,
        /// Public key of the verifier, which is known for being one.
        verifier: Hash,
        /// SHA-256 of the transcript's JSON as published.
        digest: Hash,
        /// Whether it found the transcript right.
        right: bool,
    },
}

impl Event {
    /// What it is about.
    pub fn kind(&self) -> Kind {
        match self {
            Self::MetadataChange { .. } => Kind::MetadataChange,
            Self::Verdict { .. } => Kind::Verdict,
            Self::Standing { .. } => Kind::Standing,
            Self::Relabelled { .. } => Kind::Relabelled,
            Self::Snapshot { .. } => Kind::Snapshot,
            Self::PolicyChange { .. } => Kind::PolicyChange,
            Self::RoleChange { .. } => Kind::RoleChange,
            Self::Approval { .. } => Kind::Approval,
            Self::KeyRevoked { .. } => Kind::KeyRevoked,
            Self::Freeze { .. } => Kind::Freeze,
            Self::KeyRotated { .. } => Kind::KeyRotated,
            Self::DangerousAct { .. } => Kind::DangerousAct,
            Self::Bell { .. } => Kind::Bell,
            Self::Calibration { .. } => Kind::Calibration,
            Self::Appeal { .. } => Kind::Appeal,
            Self::AppealVerdict { .. } => Kind::AppealVerdict,
        }
    }
}

/// How an entry names what is published elsewhere: SHA-256 of its bytes.
pub fn published_hash(bytes: &[u8]) -> Hash {
    Hash(Sha256::digest(bytes).into())
}

/// Salt and text of what an entry has sealed: kept in the books, shown to whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// 32 bytes of the system's randomness.
    pub salt: [u8; 32],
    /// Who, what, on which, by which rule, in which words.
    pub text: String,
}

impl Opening {
    /// What the entry holds of it.
    pub fn seal(&self) -> Hash {
        let digest = Sha256::new()
            .chain_update("gangline log seal 1\n")
            .chain_update(self.salt)
            .chain_update(&self.text);
        Hash(digest.finalize().into())
    }
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When it was permitted.
    pub at: UnixSeconds,
    /// What happened.
    pub event: Event,
    /// What it keeps to itself.
    pub sealed: Hash,
}

/// Why bytes are no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an entry of this log's form")]
pub struct EntryError;

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

impl Entry {
    /// Its one spelling.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = format!("{HEAD}\nkind {}\nat {}\n", self.event.kind(), self.at.0);
        let mut line = |name: &str, value: &dyn std::fmt::Display| {
            writeln!(out, "{name} {value}").expect("writing to a string");
        };
        match &self.event {
            Event::MetadataChange { gpu, change } => {
                line("gpu", gpu);
                line("label", change);
            }
            Event::Verdict { gpu, proof, accepted, transcript } => {
                line("gpu", gpu);
                line("proof", proof);
                line("accepted", &yes_no(*accepted));
                match transcript {
                    Some(hash) => line("transcript", hash),
                    None => line("transcript", &"none"),
                }
            }
            Event::Standing { gpu, standing } => {
                line("gpu", gpu);
                line("standing", standing);
            }
            Event::Relabelled { gpu, matrix_mmacs } => {
                line("gpu", gpu);
                line("matrix_mmacs", matrix_mmacs);
            }
            Event::Snapshot { season, period, root } => {
                line("season", season);
                line("period", period);
                line("root", root);
            }
            Event::PolicyChange { matrix } => line("matrix", matrix),
            Event::RoleChange { role } => line("role", role),
            Event::Approval { what } => line("what", what),
            Event::KeyRevoked { keys } => line("keys", keys),
            Event::Freeze { scope, on } => {
                line("scope", scope);
                line("on", &yes_no(*on));
            }
            Event::KeyRotated { holder } => line("holder", holder),
            Event::DangerousAct { act, approver, step } => {
                line("act", act);
                line("approver", &approver.as_str());
                line("step", step);
            }
            Event::Bell { hour, millis, size, root, salt } => {
                line("hour", hour);
                line("millis", millis);
                line("size", size);
                line("root", root);
                line("salt", salt);
            }
            Event::Calibration { version, step, digest } => {
                line("version", version);
                line("step", step);
                line("digest", digest);
            }
            Event::Appeal { appeal, gpu, step } => {
                line("appeal", appeal);
                line("gpu", gpu);
                line("step", step);
            }
            Event::AppealVerdict { appeal, verifier, digest, right } => {
                line("appeal", appeal);
                line("verifier", verifier);
                line("digest", digest);
                line("right", &yes_no(*right));
            }
        }
        line("sealed", &self.sealed);
        out.into_bytes()
    }

    /// Reads one; whatever is not written as [`to_bytes`](Self::to_bytes) would is none.
    ///
    /// # Errors
    /// When it is no entry.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EntryError> {
        let text = std::str::from_utf8(bytes).map_err(|_| EntryError)?;
        let mut lines = Lines(text.strip_prefix(HEAD).and_then(|t| t.strip_prefix('\n')).ok_or(EntryError)?);
        let kind: Kind = lines.take("kind")?;
        let at = UnixSeconds(lines.take("at")?);
        let event = match kind {
            Kind::MetadataChange => {
                Event::MetadataChange { gpu: lines.take("gpu")?, change: lines.take("label")? }
            }
            Kind::Verdict => Event::Verdict {
                gpu: lines.take("gpu")?,
                proof: lines.take("proof")?,
                accepted: lines.yes_no("accepted")?,
                transcript: match lines.value("transcript")? {
                    "none" => None,
                    hash => Some(hash.parse().map_err(|_| EntryError)?),
                },
            },
            Kind::Standing => Event::Standing { gpu: lines.take("gpu")?, standing: lines.word("standing")? },
            Kind::Relabelled => {
                Event::Relabelled { gpu: lines.take("gpu")?, matrix_mmacs: lines.take("matrix_mmacs")? }
            }
            Kind::Snapshot => Event::Snapshot {
                season: lines.take("season")?,
                period: lines.take("period")?,
                root: lines.take("root")?,
            },
            Kind::PolicyChange => Event::PolicyChange { matrix: lines.take("matrix")? },
            Kind::RoleChange => Event::RoleChange { role: lines.word("role")? },
            Kind::Approval => Event::Approval { what: lines.take("what")? },
            Kind::KeyRevoked => Event::KeyRevoked { keys: lines.take("keys")? },
            Kind::Freeze => Event::Freeze { scope: lines.take("scope")?, on: lines.yes_no("on")? },
            Kind::KeyRotated => Event::KeyRotated { holder: lines.take("holder")? },
            Kind::DangerousAct => Event::DangerousAct {
                act: lines.word("act")?,
                approver: lines.word("approver")?,
                step: lines.take("step")?,
            },
            Kind::Bell => Event::Bell {
                hour: lines.take("hour")?,
                millis: lines.take("millis")?,
                size: lines.take("size")?,
                root: lines.take("root")?,
                salt: lines.take("salt")?,
            },
            Kind::Calibration => Event::Calibration {
                version: lines.take("version")?,
                step: lines.take("step")?,
                digest: lines.take("digest")?,
            },
            Kind::Appeal => Event::Appeal {
                appeal: lines.take("appeal")?,
                gpu: lines.take("gpu")?,
                step: lines.take("step")?,
            },
            Kind::AppealVerdict => Event::AppealVerdict {
                appeal: lines.take("appeal")?,
                verifier: lines.take("verifier")?,
                digest: lines.take("digest")?,
                right: lines.yes_no("right")?,
            },
        };
        let entry = Self { at, event, sealed: lines.take("sealed")? };
        if entry.to_bytes() == bytes { Ok(entry) } else { Err(EntryError) }
    }
}

struct Lines<'a>(&'a str);

impl<'a> Lines<'a> {
    fn value(&mut self, name: &str) -> Result<&'a str, EntryError> {
        let (line, rest) = self.0.split_once('\n').ok_or(EntryError)?;
        self.0 = rest;
        line.strip_prefix(name).and_then(|line| line.strip_prefix(' ')).ok_or(EntryError)
    }
    fn take<T: FromStr>(&mut self, name: &str) -> Result<T, EntryError> {
        self.value(name)?.parse().map_err(|_| EntryError)
    }
    fn yes_no(&mut self, name: &str) -> Result<bool, EntryError> {
        match self.value(name)? {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(EntryError),
        }
    }
    /// A word of another room.
    fn word<T: serde::de::DeserializeOwned>(&mut self, name: &str) -> Result<T, EntryError> {
        use serde::de::{IntoDeserializer, value::Error};
        T::deserialize(IntoDeserializer::<Error>::into_deserializer(self.value(name)?))
            .map_err(|_| EntryError)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One of each kind.
    pub(in crate::log) fn events() -> Vec<Event> {
        let (gpu, proof, hash) = (GpuId::from_bytes([1; 16]), ProofId::from_bytes([2; 16]), Hash([3; 32]));
        vec![
            Event::MetadataChange { gpu, change: Change::Set },
            Event::Verdict { gpu, proof, accepted: true, transcript: Some(hash) },
            Event::Verdict { gpu, proof, accepted: false, transcript: None },
            Event::Standing { gpu, standing: Standing::Proven },
            Event::Relabelled { gpu, matrix_mmacs: 13_421 },
            Event::Snapshot { season: 1, period: 0, root: hash },
            Event::PolicyChange { matrix: hash },
            Event::RoleChange { role: Role::Operator },
            Event::Approval { what: Approved::CommandLine },
            Event::KeyRevoked { keys: 2 },
            Event::Freeze { scope: Scope::Fleet, on: true },
            Event::KeyRotated { holder: Holder::Machine },
            Event::DangerousAct { act: Action::Thaw, approver: Approver::Another, step: Step::Asked },
            Event::Bell {
                hour: 500_000,
                millis: 1_800_000_000_123,
                size: 9,
                root: hash,
                salt: Hash([4; 32]),
            },
            Event::Calibration { version: 3, step: TableStep::Promoted, digest: hash },
            Event::Appeal { appeal: AppealId::from_bytes([5; 16]), gpu, step: AppealStep::Upheld },
            Event::AppealVerdict {
                appeal: AppealId::from_bytes([5; 16]),
                verifier: Hash([6; 32]),
                digest: hash,
                right: true,
            },
        ]
    }

    #[test]
    fn every_kind_has_one_spelling() {
        let mut kinds = Vec::new();
        for event in events() {
            let entry = Entry { at: UnixSeconds(1_795_358_305), event, sealed: Hash([9; 32]) };
            let bytes = entry.to_bytes();
            assert_eq!(Entry::from_bytes(&bytes), Ok(entry), "{}", String::from_utf8_lossy(&bytes));
            kinds.push(event.kind());
            let text = String::from_utf8(bytes).unwrap();
            for spoiled in [
                text.replace("at 1", "at 01"),
                text.replace("at 1", "at +1"),
                text.replace('\n', "\r\n"),
                text.replace("entry 1", "entry 2"),
                format!("{text}more\n"),
                format!("{text}\n"),
                text[..text.len() - 1].to_owned(),
                text.replace("sealed 0", "sealed A"),
            ] {
                assert_eq!(Entry::from_bytes(spoiled.as_bytes()), Err(EntryError), "{spoiled}");
            }
        }
        kinds.dedup();
        assert_eq!(kinds, Kind::ALL);
    }

    #[test]
    fn an_entry_is_what_the_specification_here_shows() {
        let event = events()[1];
        let entry = Entry { at: UnixSeconds(5), event, sealed: Hash([9; 32]) };
        let expected = format!(
            "gangline log entry 1\nkind verdict\nat 5\ngpu {}\nproof {}\naccepted yes\ntranscript {}\nsealed {}\n",
            GpuId::from_bytes([1; 16]),
            ProofId::from_bytes([2; 16]),
            Hash([3; 32]),
            Hash([9; 32]),
        );
        assert_eq!(String::from_utf8(entry.to_bytes()).unwrap(), expected);
    }

    #[test]
    fn a_seal_hides_and_binds() {
        let opening = Opening { salt: [1; 32], text: "acct_x".into() };
        let other_salt = Opening { salt: [2; 32], ..opening.clone() };
        let other_text = Opening { text: "acct_y".into(), ..opening.clone() };
        assert_eq!(opening.seal(), opening.clone().seal());
        assert_ne!(opening.seal(), other_salt.seal());
        assert_ne!(opening.seal(), other_text.seal());
    }
}
