//! An epoch opened by datagram: what `POST /api/v1/machine/beat-epoch` asks and answers, carried where beats go.
//!
//! The question is sealed with a key that only the network and a machine of it have: the beat key of a lane it had
//! before. So what is nobody's costs a server no signature, and who listens learns no more than from a beat. Inside stands
//! the machine's own signature over the same parts that it signs for by HTTP, but for the method; that one proves the
//! machine, and not the seal.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use gangline_types::{GpuId, KeyId, Minute, Text, UnixSeconds};

use super::{
    Alias, BeatKey, Epoch, Malformed, Preimage, WrongMac,
    frame::{ANSWER, FRAME_VERSION, MAGIC, array},
};
use crate::{
    Endpoint, PublicKey, SigningKey,
    api::machine::{ChainStart, EpochRequest, UdpAddress},
    endpoints::BeatEpoch,
    sig::{self, Claimed, Covered},
};

/// Bytes of a nonce: random, a new one for each datagram.
pub const NONCE_BYTES: usize = 24;
/// Chains that one datagram has room for; a machine with more GPUs asks by HTTP.
pub const OPENING_CHAINS_MAX: usize = 7;
/// Bytes of the longest opening: it travels whole on any path that carries IPv6.
pub const OPENING_BYTES_MAX: usize =
    CLEAR_BYTES + HEAD_BYTES + AUTHORITY_BYTES_MAX + 4 + OPENING_CHAINS_MAX * CHAIN_BYTES + TAG_BYTES;
/// Bytes of an answer: fewer than of any question.
pub const OPENED_BYTES: usize = CLEAR_BYTES + GRANT_BYTES + TAG_BYTES;
/// What stands in a signature in the place of HTTP's method, so that neither passes for the other.
pub const OPENING_METHOD: &str = "DATAGRAM";

const OPENING: u8 = 0x40;
const CLEAR_BYTES: usize = 16 + NONCE_BYTES;
const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = 100;
const AUTHORITY_BYTES_MAX: usize = 100;
const CHAIN_BYTES: usize = 128;
const GRANT_BYTES: usize = 60;
const OPENING_BYTES_MIN: usize = CLEAR_BYTES + HEAD_BYTES + 1 + 4 + CHAIN_BYTES + TAG_BYTES;
const _: () = assert!(OPENED_BYTES < OPENING_BYTES_MIN && OPENING_BYTES_MAX <= 1232);

/// The lane that an opening is sealed under: one that the machine had, in an epoch that may be over.
#[derive(Clone, Copy, Debug)]
pub struct Under<'a> {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its alias.
    pub alias: Alias,
    /// Its beat key.
    pub key: &'a BeatKey,
}

/// Which way a datagram goes; each has keys of its own.
#[derive(Clone, Copy)]
enum Way {
    Question,
    Answer,
}

impl Under<'_> {
    fn cipher(&self, way: Way) -> XChaCha20Poly1305 {
        let context: &[u8] = match way {
            Way::Question => b"gangline 2026 opening question\0",
            Way::Answer => b"gangline 2026 opening answer\0",
        };
        XChaCha20Poly1305::new(&(*blake3::keyed_hash(&self.key.0, context).as_bytes()).into())
    }

    /// What is said in the clear: whose key opens the rest.
    fn clear(&self, way: Way, nonce: &[u8; NONCE_BYTES]) -> [u8; CLEAR_BYTES] {
        let mut out = [0; CLEAR_BYTES];
        out[0] = MAGIC;
        out[1] = kind(way);
        out[2..4].copy_from_slice(&self.epoch.0.to_le_bytes());
        out[8..16].copy_from_slice(&self.alias.0.to_le_bytes());
        out[16..].copy_from_slice(nonce);
        out
    }

    fn seal(&self, way: Way, nonce: &[u8; NONCE_BYTES], secret: &[u8]) -> Vec<u8> {
        let clear = self.clear(way, nonce);
        let sealed = self
            .cipher(way)
            .encrypt(&XNonce::from(*nonce), Payload { msg: secret, aad: &clear })
            .expect("a kilobyte is not too long for the cipher");
        [clear.as_slice(), &sealed].concat()
    }

    fn unseal(&self, way: Way, bytes: &[u8]) -> Result<Vec<u8>, WrongMac> {
        let (clear, sealed) = bytes.split_at(CLEAR_BYTES);
        let nonce = XNonce::from(array::<NONCE_BYTES>(clear, 16));
        self.cipher(way).decrypt(&nonce, Payload { msg: sealed, aad: clear }).map_err(|_| WrongMac)
    }
}

fn kind(way: Way) -> u8 {
    FRAME_VERSION | OPENING | if matches!(way, Way::Answer) { ANSWER } else { 0 }
}

fn read_clear(bytes: &[u8], way: Way) -> Result<(Epoch, Alias), Malformed> {
    if bytes[..2] != [MAGIC, kind(way)] {
        return Err(Malformed::Version);
    }
    if bytes[4..8] != [0; 4] {
        return Err(Malformed::Field);
    }
    Ok((Epoch(u16::from_le_bytes(array(bytes, 2))), Alias(u64::from_le_bytes(array(bytes, 8)))))
}

/// What a machine asks: an [`EpochRequest`] under a signature of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The host and port that the machine knows the network by.
    pub authority: String,
    /// What is said of the signature; nothing of it is verified yet.
    pub claimed: Claimed,
    /// What the signature is over.
    pub request: EpochRequest,
    signature: [u8; 64],
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The body that is signed for: the first minute, and each chain with its key and signature.
fn body(request: &EpochRequest) -> Option<Vec<u8>> {
    let count = request.chains.len();
    if !(1..=OPENING_CHAINS_MAX).contains(&count) {
        return None;
    }
    let mut body = Vec::with_capacity(4 + count * CHAIN_BYTES);
    body.extend_from_slice(&request.starts.0.to_le_bytes());
    for chain in &request.chains {
        body.extend_from_slice(chain.gpu.as_bytes());
        body.extend_from_slice(&chain.tip.0);
        body.extend_from_slice(chain.uptime_key.as_bytes());
        body.extend_from_slice(&chain.signature_bytes()?);
    }
    Some(body)
}

impl Opening {
    /// A machine's question to the server at `authority`, signed with its key; none if a datagram has no room for it.
    pub fn sign(
        request: EpochRequest,
        authority: &str,
        sequence: u64,
        created: UnixSeconds,
        key: &SigningKey,
    ) -> Option<Self> {
        let authority = authority.to_ascii_lowercase();
        if !is_authority(authority.as_bytes()) {
            return None;
        }
        let body_digest = sig::digest(&body(&request)?);
        let covered = Covered {
            method: OPENING_METHOD,
            authority: &authority,
            path: BeatEpoch::SPEC.path,
            query: "",
            body_digest,
            sequence,
        };
        let id = key.public().id();
        let signature = key.sign(sig::signature_base(&covered, created, id).as_bytes());
        let claimed = Claimed::of(id, created, sequence, signature, body_digest);
        Some(Self { authority, claimed, request, signature })
    }

    /// The datagram, sealed under a lane; `nonce` is fresh and random.
    pub fn seal(&self, under: Under<'_>, nonce: &[u8; NONCE_BYTES]) -> Vec<u8> {
        under.seal(Way::Question, nonce, &self.to_bytes())
    }

    /// What is signed for, as it stands in the datagram.
    pub fn body(&self) -> Vec<u8> {
        body(&self.request).unwrap_or_default()
    }

    /// As it stands inside the seal.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(OPENING_BYTES_MAX);
        out.extend_from_slice(self.claimed.key.as_bytes());
        out.extend_from_slice(&self.claimed.sequence.to_le_bytes());
        out.extend_from_slice(&self.claimed.created.0.to_le_bytes());
        out.extend_from_slice(&self.signature);
        out.extend_from_slice(&[self.authority.len() as u8, 0, 0, 0]);
        out.extend_from_slice(self.authority.as_bytes());
        out.extend(self.body());
        out
    }

    /// What stands inside a seal.
    ///
    /// # Errors
    /// When it is not what [`Self::to_bytes`] writes.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let length = bytes.len();
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES).ok_or(Malformed::Length(length))?;
        let named = usize::from(head[96]);
        let (authority, body) = rest.split_at_checked(named).ok_or(Malformed::Length(length))?;
        let (starts, chains) = body.split_at_checked(4).ok_or(Malformed::Length(length))?;
        let (chains, left_over) = chains.as_chunks::<CHAIN_BYTES>();
        if !left_over.is_empty() || !(1..=OPENING_CHAINS_MAX).contains(&chains.len()) {
            return Err(Malformed::Length(length));
        }
        if head[97..] != [0; 3] || !is_authority(authority) {
            return Err(Malformed::Field);
        }
        let chain = |bytes: &[u8; CHAIN_BYTES]| {
            Ok(ChainStart {
                gpu: GpuId::from_bytes(array(bytes, 0)),
                tip: Preimage(array(bytes, 16)),
                uptime_key: PublicKey::from_bytes(&array(bytes, 32)).map_err(|_| Malformed::Field)?,
                signature: Text::lossy(&to_hex(&bytes[64..])),
            })
        };
        let signature = array(head, 32);
        let (sequence, created) = (u64::from_le_bytes(array(head, 16)), u64::from_le_bytes(array(head, 24)));
        let key = KeyId::from_bytes(array(head, 0));
        Ok(Self {
            authority: String::from_utf8_lossy(authority).into_owned(),
            claimed: Claimed::of(key, UnixSeconds(created), sequence, signature, sig::digest(body)),
            request: EpochRequest {
                starts: Minute(u32::from_le_bytes(array(starts, 0))),
                chains: chains.iter().map(chain).collect::<Result<_, _>>()?,
            },
            signature,
        })
    }
}

/// A host and port as they stand in a request: visible ASCII in small letters.
fn is_authority(text: &[u8]) -> bool {
    (1..=AUTHORITY_BYTES_MAX).contains(&text.len())
        && text.iter().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
}

/// An opening as its bytes say; nothing of it may be believed before [`Self::unseal`].
#[derive(Clone, Copy, Debug)]
pub struct ClaimedOpening<'a> {
    epoch: Epoch,
    alias: Alias,
    bytes: &'a [u8],
}

/// What was inside a seal that was right. The machine's own signature has still to be verified.
#[derive(Clone, Debug)]
pub struct Unsealed(Vec<u8>);

impl Unsealed {
    /// What it says.
    ///
    /// # Errors
    /// When it says something else.
    pub fn opening(&self) -> Result<Opening, Malformed> {
        Opening::read(&self.0)
    }
    /// The sequence number it says, for an answer before more of it is read; 0 where it says none.
    pub fn sequence(&self) -> u64 {
        self.0.get(16..24).map_or(0, |bytes| u64::from_le_bytes(array(bytes, 0)))
    }
}

impl<'a> ClaimedOpening<'a> {
    /// Bytes that have the form of an opening.
    ///
    /// # Errors
    /// When they have not.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if !(OPENING_BYTES_MIN..=OPENING_BYTES_MAX).contains(&bytes.len()) {
            return Err(Malformed::Length(bytes.len()));
        }
        let (epoch, alias) = read_clear(bytes, Way::Question)?;
        Ok(Self { epoch, alias, bytes })
    }
    /// The epoch it names: which master the lane's key is derived from.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }
    /// The alias it names.
    pub fn alias(&self) -> Alias {
        self.alias
    }
    /// What is inside, if the seal is right.
    ///
    /// # Errors
    /// When it is not.
    pub fn unseal(&self, key: &BeatKey) -> Result<Unsealed, WrongMac> {
        let under = Under { epoch: self.epoch, alias: self.alias, key };
        under.unseal(Way::Question, self.bytes).map(Unsealed)
    }
}

/// A check of where beats are taken: whoever has the same has in all likelihood the same addresses.
pub fn addresses_check(udp: Option<&UdpAddress>, http: Option<&str>) -> u16 {
    let udp = udp.map(|udp| format!("{}:{}", udp.host.as_ref().map_or("", |host| host.as_str()), udp.port));
    let text = format!("{}\n{}", udp.unwrap_or_default(), http.unwrap_or_default());
    u16::from_le_bytes(array(&blake3::derive_key("gangline 2026 addresses of beats", text.as_bytes()), 0))
}

/// What became of an opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpeningOutcome {
    /// The epoch is open: the machine beats under this.
    Opened {
        /// The epoch.
        epoch: Epoch,
        /// What the machine is called in it.
        alias: Alias,
        /// The beat key.
        key: BeatKey,
        /// [`addresses_check`] of where beats are taken: who knows other addresses asks by HTTP.
        addresses: u16,
    },
    /// Not so: ask by HTTP, which says why.
    AskByHttp,
    /// Not now: ask again in so many seconds.
    Busy(u16),
}

/// The answer to an opening. Its GPUs are in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The question's sequence number.
    pub sequence: u64,
    /// What became of it.
    pub outcome: OpeningOutcome,
    /// The server's clock, in whole seconds; right until the year 2106.
    pub server_time: UnixSeconds,
}

impl Opened {
    /// The datagram, sealed under the lane that asked; `nonce` is fresh and random.
    pub fn seal(&self, under: Under<'_>, nonce: &[u8; NONCE_BYTES]) -> [u8; OPENED_BYTES] {
        let mut secret = [0; GRANT_BYTES];
        secret[..8].copy_from_slice(&self.sequence.to_le_bytes());
        secret[12..16].copy_from_slice(&(self.server_time.0 as u32).to_le_bytes());
        match &self.outcome {
            OpeningOutcome::Opened { epoch, alias, key, addresses } => {
                secret[16..18].copy_from_slice(&epoch.0.to_le_bytes());
                secret[18..20].copy_from_slice(&addresses.to_le_bytes());
                secret[20..28].copy_from_slice(&alias.0.to_le_bytes());
                secret[28..].copy_from_slice(&key.0);
            }
            OpeningOutcome::AskByHttp => secret[8] = 1,
            OpeningOutcome::Busy(seconds) => {
                secret[8] = 2;
                secret[10..12].copy_from_slice(&seconds.to_le_bytes());
            }
        }
        under.seal(Way::Answer, nonce, &secret).try_into().expect("of one length")
    }
}

/// An answer as its bytes say; nothing of it may be believed before [`Self::unseal`].
#[derive(Clone, Copy, Debug)]
pub struct ClaimedOpened {
    epoch: Epoch,
    alias: Alias,
    bytes: [u8; OPENED_BYTES],
}

impl ClaimedOpened {
    /// Bytes that have the form of an answer.
    ///
    /// # Errors
    /// When they have not.
    pub fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let bytes: [u8; OPENED_BYTES] = bytes.try_into().map_err(|_| Malformed::Length(bytes.len()))?;
        let (epoch, alias) = read_clear(&bytes, Way::Answer)?;
        Ok(Self { epoch, alias, bytes })
    }
    /// The alias of the lane that asked.
    pub fn alias(&self) -> Alias {
        self.alias
    }
    /// The answer, if the seal is right and every field in its range.
    ///
    /// # Errors
    /// When the seal is not right.
    pub fn unseal(&self, key: &BeatKey) -> Result<Result<Opened, Malformed>, WrongMac> {
        let under = Under { epoch: self.epoch, alias: self.alias, key };
        let secret = under.unseal(Way::Answer, &self.bytes)?;
        let outcome = match secret[8] {
            0 => OpeningOutcome::Opened {
                epoch: Epoch(u16::from_le_bytes(array(&secret, 16))),
                alias: Alias(u64::from_le_bytes(array(&secret, 20))),
                key: BeatKey::from_bytes(array(&secret, 28)),
                addresses: u16::from_le_bytes(array(&secret, 18)),
            },
            1 => OpeningOutcome::AskByHttp,
            2 => OpeningOutcome::Busy(u16::from_le_bytes(array(&secret, 10))),
            _ => return Ok(Err(Malformed::Field)),
        };
        Ok(Ok(Opened {
            sequence: u64::from_le_bytes(array(&secret, 0)),
            outcome,
            server_time: UnixSeconds(u64::from(u32::from_le_bytes(array(&secret, 12)))),
        }))
    }
}
