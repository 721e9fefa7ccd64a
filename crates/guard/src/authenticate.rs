//! From shown credentials to an [`Actor`].

use gangline_types::{AccountId, Hash, KeyId, MachineId, SessionId, UnixSeconds};
use gangline_wire::{Good, PublicKey, Signed, api::account::Role, api::enrol::KeyKind, sig::Claimed};

use crate::{Actor, Freezes, Fresh, Principal, Refusal};

/// Furthest a request's `created` may be from our clock, in seconds. Half of it would do for clocks set
/// by NTP; the rest is for slow links.
pub const SKEW_SECONDS_MAX: u64 = 120;

/// An enrolled key as the store has it.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    /// The key.
    pub public_key: PublicKey,
    /// What it is for.
    pub kind: KeyKind,
    /// Whose.
    pub account: AccountId,
    /// That account's role.
    pub role: Role,
    /// The machine, for a machine's key.
    pub machine: Option<MachineId>,
    /// When somebody ended it, if they did.
    pub revoked_at: Option<UnixSeconds>,
    /// When it ends, or ended, because another has taken its place or it was never used.
    pub ends_at: Option<UnixSeconds>,
}

/// How a session began, and with that how many factors somebody showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Began {
    /// By a one-time link, which an operator has handed over: one factor.
    Link,
    /// By a password: one factor.
    Password,
    /// By a passkey, whose device verifies who uses it each time (PIN, finger, face): two factors.
    Passkey,
    /// By the identity provider.
    Provider {
        /// Whether it has signed that there were two factors; what it does not say is not assumed.
        is_strong: bool,
    },
}

impl Began {
    /// Its word, without how strong it was.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Password => "password",
            Self::Passkey => "passkey",
            Self::Provider { .. } => "provider",
        }
    }
    /// Whether two factors were shown.
    pub const fn is_two_factors(self) -> bool {
        match self {
            Self::Link | Self::Password => false,
            Self::Passkey => true,
            Self::Provider { is_strong } => is_strong,
        }
    }
}

/// How many factors a network asks people for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    /// One is enough.
    One,
    /// Two; a session that began with one opens its own account's page, to add a passkey, and nothing else.
    Two,
}

/// A session as the store has it.
#[derive(Clone, Copy, Debug)]
pub struct SessionRecord {
    /// Which.
    pub session: SessionId,
    /// Whose.
    pub account: AccountId,
    /// That account's role.
    pub role: Role,
    /// When it began: somebody signed in then.
    pub signed_in_at: UnixSeconds,
    /// How.
    pub began: Began,
}

/// A request as received.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    /// Upper-case method.
    pub method: &'a str,
    /// `Host`.
    pub authority: &'a str,
    /// Path as sent.
    pub path: &'a str,
    /// Query as sent.
    pub query: &'a str,
}

/// A verified signature over a request's head; its body has still to be the one that was signed for.
#[derive(Debug)]
pub struct HeadVerified {
    authenticated: Authenticated,
    claimed: Claimed,
}

impl HeadVerified {
    /// Who signed the head. Nothing may be done for them before the body is found to be theirs.
    pub fn principal(&self) -> &Principal {
        &self.authenticated.principal
    }
    /// The whole request is verified, given the SHA-256 of its body as received.
    pub fn with_digest(self, digest: &[u8; 32]) -> Result<Authenticated, Refusal> {
        self.claimed.check_digest(digest).map_err(Refusal::BadSignature)?;
        Ok(self.authenticated)
    }
    /// The whole request is verified, given its body as received.
    pub fn with_body(self, body: &[u8]) -> Result<Authenticated, Refusal> {
        self.claimed.check_body(body).map_err(Refusal::BadSignature)?;
        Ok(self.authenticated)
    }
}

/// A verified request; it becomes an actor once its sequence number is found fresh.
#[derive(Debug)]
pub struct Authenticated {
    principal: Principal,
    key: KeyId,
    sequence: u64,
    freezes: Freezes,
}

impl Authenticated {
    /// The key whose numbers are to be checked.
    pub fn key(&self) -> KeyId {
        self.key
    }
    /// The number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }
    /// The actor, given that the number was fresh.
    pub fn into_actor(self, _: Fresh) -> Actor {
        Actor::of(self.principal, self.freezes)
    }
}

fn check(
    claimed: &Claimed,
    key: &PublicKey,
    parts: RequestParts<'_>,
    now: UnixSeconds,
    good: Option<&Good>,
) -> Result<(), Refusal> {
    let RequestParts { method, authority, path, query } = parts;
    let verified = match good {
        Some(good) => claimed.verify_by(good, key, method, authority, path, query),
        None => claimed.verify(key, method, authority, path, query),
    };
    verified.map_err(Refusal::BadSignature)?;
    // After the signature, so that a clock's skew is told only to the key's holder.
    let seconds = claimed.created.0.abs_diff(now.0);
    if seconds > SKEW_SECONDS_MAX {
        return Err(Refusal::SkewedClock {
            seconds,
            ahead: claimed.created > now,
            seconds_max: SKEW_SECONDS_MAX,
        });
    }
    Ok(())
}

/// The signature of a request's head, to be verified together with those of others; [`signed_by`] goes on with it.
pub fn signature(
    claimed: &Claimed,
    record: Option<&KeyRecord>,
    parts: RequestParts<'_>,
) -> Result<Signed, Refusal> {
    let record = record.ok_or(Refusal::UnknownKey(claimed.key))?;
    Ok(claimed.signed(&record.public_key, parts.method, parts.authority, parts.path, parts.query))
}

/// Verifies the head of a request signed by an enrolled key. `record` is what the store has for `claimed.key`.
pub fn signed(
    claimed: Claimed,
    record: Option<&KeyRecord>,
    parts: RequestParts<'_>,
    now: UnixSeconds,
    freezes: &Freezes,
) -> Result<HeadVerified, Refusal> {
    signed_by(claimed, record, parts, now, freezes, None)
}

/// The same where the signature was found good already.
pub fn signed_by(
    claimed: Claimed,
    record: Option<&KeyRecord>,
    parts: RequestParts<'_>,
    now: UnixSeconds,
    freezes: &Freezes,
    good: Option<&Good>,
) -> Result<HeadVerified, Refusal> {
    let record = record.ok_or(Refusal::UnknownKey(claimed.key))?;
    check(&claimed, &record.public_key, parts, now, good)?;
    if let Some(at) = record.revoked_at {
        return Err(Refusal::RevokedKey { key: claimed.key, at });
    }
    if let Some(at) = record.ends_at.filter(|at| *at <= now) {
        return Err(Refusal::EndedKey { key: claimed.key, at });
    }
    let (account, key) = (record.account, claimed.key);
    let principal = match (record.kind, record.machine) {
        (KeyKind::Machine, Some(machine)) => Principal::Machine { machine, account, key },
        (KeyKind::Machine, None) => return Err(Refusal::UnknownKey(key)),
        (KeyKind::CommandLine, _) => Principal::CommandLine { account, role: record.role, key },
    };
    let authenticated =
        Authenticated { principal, key, sequence: claimed.sequence, freezes: freezes.clone() };
    Ok(HeadVerified { authenticated, claimed })
}

/// Verifies a request signed by a key that asks to be enrolled and stands in the request's own body.
/// Its numbers are not tracked: such a request only asks, and asking twice asks once.
pub fn signed_by_new_key(
    claimed: &Claimed,
    key: &PublicKey,
    parts: RequestParts<'_>,
    body: &[u8],
    now: UnixSeconds,
    freezes: &Freezes,
) -> Result<Actor, Refusal> {
    check(claimed, key, parts, now, None)?;
    claimed.check_body(body).map_err(Refusal::BadSignature)?;
    Ok(Actor::of(Principal::NewKey(claimed.key), freezes.clone()))
}

/// The actor of a session that the store found by its secret, in a network that asks for so many factors.
pub fn session(record: SessionRecord, freezes: &Freezes, asked: Factors) -> Actor {
    let SessionRecord { account, role, session, signed_in_at, began } = record;
    let is_enough = asked == Factors::One || began.is_two_factors();
    let person = Principal::Person { account, role, session };
    Actor::signed_in(person, freezes.clone(), signed_in_at, is_enough)
}

/// What an identity provider names in a token that it has signed.
#[derive(Clone, Copy, Debug)]
pub enum Vouched<'a> {
    /// A person: the claim `sub`.
    Subject(&'a str),
    /// A session of theirs at the provider: the claim `sid`.
    Session(&'a str),
}

/// The identity that `issuer` means: never an e-mail address, which providers give to another person later.
pub fn identity(issuer: &str, vouched: Vouched<'_>) -> Hash {
    let (kind, name) = match vouched {
        Vouched::Subject(name) => (0, name),
        Vouched::Session(name) => (1, name),
    };
    let mut hasher = blake3::Hasher::new_derive_key("gangline 2026 identity of a provider");
    // Lengths first, so that no issuer and name run into each other.
    hasher.update(&[kind]).update(&(issuer.len() as u64).to_le_bytes()).update(issuer.as_bytes());
    hasher.update(name.as_bytes());
    Hash(*hasher.finalize().as_bytes())
}

/// The actor that the provider `issuer` vouches for. To be called with what stood in a token whose signature,
/// issuer, audience and age were found good, and with nothing else.
pub fn vouched(issuer: &str, vouched: Vouched<'_>) -> Actor {
    // Signing in and out are not among what can be frozen.
    Actor::of(Principal::Vouched(identity(issuer, vouched)), Freezes::default())
}
