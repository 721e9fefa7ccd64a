//! The two frames, question and answer. Integers are little-endian; what is reserved is zero.

use gangline_types::{Minute, UnixSeconds};
use subtle::ConstantTimeEq;

use super::{
    Alias, BeatKey, Epoch,
    chain::{LINKS_MAX, Link, Preimage},
};

/// Bytes of a beat.
pub const BEAT_BYTES: usize = 64;
/// Bytes of an answer: never more than of the question.
pub const ANSWER_BYTES: usize = 48;
/// Beats that one HTTP request may carry, one after the other; a datagram carries one.
pub const FRAMES_MAX: usize = 64;
/// The frame's version. Version 1 is the signed JSON report at `/api/v1/machine/beats`, which still counts.
pub const FRAME_VERSION: u8 = 2;

pub(super) const MAGIC: u8 = b'G';
pub(super) const ANSWER: u8 = 0x80;
const MAC_BYTES: usize = 16;

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Another length.
    #[error("{0} bytes are no frame")]
    Length(usize),
    /// Something else, or of a version that is not spoken here.
    #[error("not a frame of version {FRAME_VERSION}")]
    Version,
    /// What has to be zero is not, or a field is out of its range.
    #[error("a field is out of its range")]
    Field,
}

/// The MAC is not that of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the frame's MAC is wrong")]
pub struct WrongMac;

/// Version of a worker in four bytes: major, minor, and patch in two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerVersion(pub u32);

impl WorkerVersion {
    /// The code of `major.minor.patch`; what follows is left out, and what cannot be read is 0.
    pub fn of(text: &str) -> Self {
        let mut parts = text.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
        let mut next = |max: u32| parts.next().unwrap_or(0).min(max);
        Self(next(0xff) << 24 | next(0xff) << 16 | next(0xffff))
    }
}

impl std::fmt::Display for WorkerVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0 >> 24, self.0 >> 16 & 0xff, self.0 & 0xffff)
    }
}

/// A sign of life of one machine: these of its GPUs were alive in this minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// In which epoch the alias was given.
    pub epoch: Epoch,
    /// Whose beat it is.
    pub alias: Alias,
    /// Which minute. It may be past: a beat that was kept while the server was away says when it was made.
    pub minute: Minute,
    /// Version of the worker.
    pub worker: WorkerVersion,
    /// Which GPUs: bit n is the n-th in the order agreed on when the epoch was opened. Not 0.
    pub gpus: u64,
    /// What it shows of one GPU's chain.
    pub link: Link,
}

fn mac(key: &BeatKey, bytes: &[u8]) -> [u8; MAC_BYTES] {
    let whole = blake3::keyed_hash(&key.0, bytes);
    let (first, _) = whole.as_bytes().split_at(MAC_BYTES);
    first.try_into().expect("sixteen bytes")
}

fn is_mac(key: &BeatKey, bytes: &[u8], shown: &[u8]) -> bool {
    mac(key, bytes).ct_eq(shown).into()
}

pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("within the frame")
}

impl Beat {
    /// The frame's bytes under `key`.
    pub fn seal(&self, key: &BeatKey) -> [u8; BEAT_BYTES] {
        let mut out = [0; BEAT_BYTES];
        out[0] = MAGIC;
        out[1] = FRAME_VERSION;
        out[2..4].copy_from_slice(&self.epoch.0.to_le_bytes());
        out[4..6].copy_from_slice(&self.link.count.to_le_bytes());
        out[6] = self.link.slot;
        out[8..16].copy_from_slice(&self.alias.0.to_le_bytes());
        out[16..20].copy_from_slice(&self.minute.0.to_le_bytes());
        out[20..24].copy_from_slice(&self.worker.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.gpus.to_le_bytes());
        out[32..48].copy_from_slice(&self.link.preimage.0);
        let mac = mac(key, &out[..48]);
        out[48..].copy_from_slice(&mac);
        out
    }
}

/// A beat as its bytes say; nothing of it may be believed before [`ClaimedBeat::verify`].
#[derive(Clone, Copy, Debug)]
pub struct ClaimedBeat {
    bytes: [u8; BEAT_BYTES],
}

impl ClaimedBeat {
    /// Bytes that have the form of a beat.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let bytes: [u8; BEAT_BYTES] = bytes.try_into().map_err(|_| Malformed::Length(bytes.len()))?;
        if bytes[..2] != [MAGIC, FRAME_VERSION] {
            return Err(Malformed::Version);
        }
        Ok(Self { bytes })
    }
    /// The epoch it names: which master its key is derived from.
    pub fn epoch(&self) -> Epoch {
        Epoch(u16::from_le_bytes(array(&self.bytes, 2)))
    }
    /// The alias it names: what its key is derived from.
    pub fn alias(&self) -> Alias {
        Alias(u64::from_le_bytes(array(&self.bytes, 8)))
    }
    /// The beat, if its MAC is right and every field in its range.
    pub fn verify(&self, key: &BeatKey) -> Result<Result<Beat, Malformed>, WrongMac> {
        let bytes = &self.bytes;
        if !is_mac(key, &bytes[..48], &bytes[48..]) {
            return Err(WrongMac);
        }
        let beat = Beat {
            epoch: self.epoch(),
            alias: self.alias(),
            minute: Minute(u32::from_le_bytes(array(bytes, 16))),
            worker: WorkerVersion(u32::from_le_bytes(array(bytes, 20))),
            gpus: u64::from_le_bytes(array(bytes, 24)),
            link: Link {
                slot: bytes[6],
                count: u16::from_le_bytes(array(bytes, 4)),
                preimage: Preimage(array(bytes, 32)),
            },
        };
        let ranges = bytes[7] == 0
            && beat.gpus != 0
            && beat.link.slot < 64
            && (1..=LINKS_MAX).contains(&beat.link.count);
        Ok(if ranges { Ok(beat) } else { Err(Malformed::Field) })
    }
}

/// What became of a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is on disk: this minute of these GPUs counts, and need never be sent again.
    Durable,
    /// Refused for good: its minute ended too long ago.
    TooLate,
    /// Not taken: its minute has not begun by the server's clock. Set the clock, or send it later.
    TooEarly,
    /// Not taken: prove the key again to get another alias; the beat may be sent under that.
    OpenAgain,
    /// Not taken: come back in [`Answer::wait_seconds`].
    Busy,
}

impl Outcome {
    const ALL: [Self; 5] = [Self::Durable, Self::TooLate, Self::TooEarly, Self::OpenAgain, Self::Busy];
}

/// The answer to one beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The beat's epoch.
    pub epoch: Epoch,
    /// The beat's alias.
    pub alias: Alias,
    /// The beat's minute.
    pub minute: Minute,
    /// The beat's GPUs.
    pub gpus: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Send nothing for so long; 0 go on.
    pub wait_seconds: u16,
    /// The server's clock when it answered, in whole seconds; right until the year 2106.
    pub server_time: UnixSeconds,
}

impl Answer {
    /// The answer to `beat`.
    pub fn to(beat: &Beat, outcome: Outcome, wait_seconds: u16, server_time: UnixSeconds) -> Self {
        let Beat { epoch, alias, minute, gpus, .. } = *beat;
        Self { epoch, alias, minute, gpus, outcome, wait_seconds, server_time }
    }
    /// Whether this answers `beat`, and no other of the same machine.
    pub fn answers(&self, beat: &Beat) -> bool {
        (self.epoch, self.alias, self.minute, self.gpus) == (beat.epoch, beat.alias, beat.minute, beat.gpus)
    }
    /// The frame's bytes under `key`.
    pub fn seal(&self, key: &BeatKey) -> [u8; ANSWER_BYTES] {
        let mut out = [0; ANSWER_BYTES];
        out[0] = MAGIC;
        out[1] = FRAME_VERSION | ANSWER;
        out[2..4].copy_from_slice(&self.epoch.0.to_le_bytes());
        out[4..6].copy_from_slice(&self.wait_seconds.to_le_bytes());
        out[6] = self.outcome as u8;
        out[8..16].copy_from_slice(&self.alias.0.to_le_bytes());
        out[16..20].copy_from_slice(&self.minute.0.to_le_bytes());
        out[20..24].copy_from_slice(&(self.server_time.0 as u32).to_le_bytes());
        out[24..32].copy_from_slice(&self.gpus.to_le_bytes());
        let mac = mac(key, &out[..32]);
        out[32..].copy_from_slice(&mac);
        out
    }
}

/// An answer as its bytes say; nothing of it may be believed before [`ClaimedAnswer::verify`].
#[derive(Clone, Copy, Debug)]
pub struct ClaimedAnswer {
    bytes: [u8; ANSWER_BYTES],
}

impl ClaimedAnswer {
    /// Bytes that have the form of an answer.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let bytes: [u8; ANSWER_BYTES] = bytes.try_into().map_err(|_| Malformed::Length(bytes.len()))?;
        if bytes[..2] != [MAGIC, FRAME_VERSION | ANSWER] {
            return Err(Malformed::Version);
        }
        Ok(Self { bytes })
    }
    /// The alias it names.
    pub fn alias(&self) -> Alias {
        Alias(u64::from_le_bytes(array(&self.bytes, 8)))
    }
    /// The answer, if its MAC is right and every field in its range.
    pub fn verify(&self, key: &BeatKey) -> Result<Result<Answer, Malformed>, WrongMac> {
        let bytes = &self.bytes;
        if !is_mac(key, &bytes[..32], &bytes[32..]) {
            return Err(WrongMac);
        }
        let outcome = Outcome::ALL.into_iter().find(|outcome| *outcome as u8 == bytes[6]);
        let (Some(outcome), 0) = (outcome, bytes[7]) else { return Ok(Err(Malformed::Field)) };
        Ok(Ok(Answer {
            epoch: Epoch(u16::from_le_bytes(array(bytes, 2))),
            alias: self.alias(),
            minute: Minute(u32::from_le_bytes(array(bytes, 16))),
            gpus: u64::from_le_bytes(array(bytes, 24)),
            outcome,
            wait_seconds: u16::from_le_bytes(array(bytes, 4)),
            server_time: UnixSeconds(u64::from(u32::from_le_bytes(array(bytes, 20)))),
        }))
    }
}
