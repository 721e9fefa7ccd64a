//! Ed25519 keys: made on the spot, never sent; the secret half prints as `[redacted]`.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use curve25519_dalek::{EdwardsPoint, Scalar, edwards::CompressedEdwardsY};
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use gangline_types::KeyId;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

/// Why bytes are no public key we take.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeyError {
    /// Not 32 bytes of base64url.
    #[error("not an Ed25519 public key: expected 32 bytes as 43 characters of base64url")]
    Malformed,
    /// Not a point of the curve.
    #[error("not an Ed25519 public key: the bytes are no point of the curve")]
    NotAPoint,
    /// A point of small order: it verifies signatures that nobody made.
    #[error("a weak Ed25519 key of small order is refused: it would verify signatures that nobody made")]
    Weak,
}

/// An Ed25519 public key that is a point of the curve and not weak, by construction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Takes 32 bytes if they are a key fit to be enrolled.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        if key.is_weak() { Err(KeyError::Weak) } else { Ok(Self(key)) }
    }
    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
    /// The key's id.
    pub fn id(&self) -> KeyId {
        KeyId::of_public_key(self.0.as_bytes())
    }
    /// What people compare on the approval page: the first 16 hex digits of BLAKE3 over the key, in fours.
    pub fn fingerprint(&self) -> String {
        let hex: String = self.id().as_bytes()[..8].iter().map(|b| format!("{b:02x}")).collect();
        hex.as_bytes()
            .chunks(4)
            .map(|c| String::from_utf8_lossy(c).into_owned())
            .collect::<Vec<_>>()
            .join("-")
    }
    /// Whether `signature` (64 bytes) over `message` was made with this key; strict.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|s| self.0.verify_strict(message, &s).is_ok())
    }
    /// The same by the rule that also holds for all that [`verify_together`] finds good, however it was grouped: what the
    /// signature's equation leaves over may be a point of small order. Whoever verifies what is published goes by this rule,
    /// so that nothing is good to one of them and bad to another. All that [`Self::verifies`] is good by it; what else is, only
    /// the key's holder can make.
    pub fn verifies_alike(&self, message: &[u8], signature: &[u8]) -> bool {
        let Ok(signature) = <&[u8; 64]>::try_from(signature) else { return false };
        let (mut r, mut s) = ([0; 32], [0; 32]);
        r.copy_from_slice(&signature[..32]);
        s.copy_from_slice(&signature[32..]);
        // A second spelling of a scalar is none.
        let Some(scalar) = Scalar::from_canonical_bytes(s).into_option() else { return false };
        let Some(point) = CompressedEdwardsY(r).decompress() else { return false };
        let hash =
            Sha512::new().chain_update(r).chain_update(self.0.as_bytes()).chain_update(message).finalize();
        let hash = Scalar::from_bytes_mod_order_wide(&hash.into());
        let key = -self.0.to_edwards();
        let left = EdwardsPoint::vartime_double_scalar_mul_basepoint(&hash, &key, &scalar) - point;
        left.is_small_order()
    }
}

/// What is said to be signed, by whom, and the signature: nothing of it is known to be true.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The key.
    pub key: PublicKey,
    /// What it is said to have signed.
    pub message: Vec<u8>,
    /// 64 bytes.
    pub signature: [u8; 64],
}

/// A signature that was found good; only [`verify_together`] makes one.
#[derive(Clone, Debug)]
pub struct Good(Signed);

impl Good {
    /// Whether it is this key's, over this message, and this one.
    pub fn is(&self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        let Self(good) = self;
        good.key == *key && good.message == message && good.signature == *signature
    }
}

/// Verifies several signatures, with one sum where that is possible: less than half the work of one after the other.
/// Those that are not good are none, and the others are not kept from being found good by them.
///
/// A key's holder can make signatures that a sum accepts and [`PublicKey::verifies`] does not. To whoever asks "is this
/// the key's holder?" that makes no difference. What is kept for others to verify they verify by
/// [`PublicKey::verifies_alike`], which accepts all that a sum does.
pub fn verify_together(signed: Vec<Signed>) -> Vec<Option<Good>> {
    let alone =
        |signed: Signed| signed.key.verifies(&signed.message, &signed.signature).then_some(Good(signed));
    if signed.len() < TOGETHER_MIN {
        return signed.into_iter().map(alone).collect();
    }
    let messages: Vec<&[u8]> = signed.iter().map(|s| s.message.as_slice()).collect();
    let signatures: Vec<Signature> = signed.iter().map(|s| Signature::from_bytes(&s.signature)).collect();
    let keys: Vec<VerifyingKey> = signed.iter().map(|s| s.key.0).collect();
    if ed25519_dalek::verify_batch(&messages, &signatures, &keys).is_ok() {
        return signed.into_iter().map(|s| Some(Good(s))).collect();
    }
    // Halves: one bad signature among many costs a few sums, not a look at each.
    let mut first = signed;
    let second = first.split_off(first.len() / 2);
    let mut found = verify_together(first);
    found.extend(verify_together(second));
    found
}

/// Fewer than so many are verified one by one: a sum would not be cheaper.
const TOGETHER_MIN: usize = 4;

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}
impl std::str::FromStr for PublicKey {
    type Err = KeyError;
    fn from_str(s: &str) -> Result<Self, KeyError> {
        let bytes: [u8; 32] =
            URL_SAFE_NO_PAD.decode(s).ok().and_then(|b| b.try_into().ok()).ok_or(KeyError::Malformed)?;
        Self::from_bytes(&bytes)
    }
}
impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.as_bytes()))
    }
}
impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<'de, str>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}
impl JsonSchema for PublicKey {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PublicKey".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[A-Za-z0-9_-]{43}$", "description": "Ed25519 public key, base64url."})
    }
}

/// The secret half. Zeroed when dropped.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key of a 32-byte seed from the system's randomness.
    pub fn from_seed(seed: &Zeroizing<[u8; 32]>) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }
    /// The seed, for writing to a file that only its owner can read.
    pub fn seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }
    /// The public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }
    /// 64 bytes of signature over `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_keys_are_refused() {
        // The eight points of small order have y of 1, 0, -1 or two others; the identity is y = 1.
        let mut identity = [0u8; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_bytes(&identity), Err(KeyError::Weak));
        assert_eq!(PublicKey::from_bytes(&[0; 32]), Err(KeyError::Weak));
    }

    #[test]
    fn secrets_do_not_print() {
        let key = SigningKey::from_seed(&Zeroizing::new([9; 32]));
        assert_eq!(format!("{key:?}"), "SigningKey([redacted])");
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        assert!(key.public().verifies(b"m", &key.sign(b"m")));
        assert!(!key.public().verifies(b"n", &key.sign(b"m")));
    }

    /// A signature whose equation leaves a point of small order over: the key's holder adds one to the random point.
    fn crooked(seed: u8, message: &[u8]) -> Signed {
        use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
        let hash = Sha512::digest([seed; 32]);
        let mut low = [0; 32];
        low.copy_from_slice(&hash[..32]);
        let secret = Scalar::from_bytes_mod_order(curve25519_dalek::scalar::clamp_integer(low));
        let key = SigningKey::from_seed(&Zeroizing::new([seed; 32])).public();
        let random = Scalar::from(u64::from(seed) + 7);
        let r = (ED25519_BASEPOINT_POINT * random + EIGHT_TORSION[1]).compress();
        let hash = Sha512::new()
            .chain_update(r.as_bytes())
            .chain_update(key.as_bytes())
            .chain_update(message)
            .finalize();
        let s = random + Scalar::from_bytes_mod_order_wide(&hash.into()) * secret;
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(r.as_bytes());
        signature[32..].copy_from_slice(s.as_bytes());
        Signed { key, message: message.to_vec(), signature }
    }

    #[test]
    fn whatever_a_sum_accepts_everybody_accepts_who_verifies_it_alone() {
        let plain = |n: u8| {
            let key = SigningKey::from_seed(&Zeroizing::new([n; 32]));
            Signed { key: key.public(), message: vec![n], signature: key.sign(&[n]) }
        };
        let check = |signed: &Signed, strict: bool, alike: bool| {
            let Signed { key, message, signature } = signed;
            assert_eq!(key.verifies(message, signature), strict);
            assert_eq!(key.verifies_alike(message, signature), alike);
        };
        check(&plain(1), true, true);
        check(&crooked(2, b"m"), false, true);
        check(&Signed { message: b"n".to_vec(), ..crooked(2, b"m") }, false, false);
        check(&Signed { key: plain(3).key, ..crooked(2, b"m") }, false, false);
        for bit in 0..512 {
            let mut bent = plain(1);
            bent.signature[bit / 8] ^= 1 << (bit % 8);
            check(&bent, false, false);
        }
        assert!(!plain(1).key.verifies_alike(&[1], &plain(1).signature[..63]));
        // Eight whose rests add up to nothing, and others whose do not: what comes out good is good to everybody.
        for others in 0..12u8 {
            let group: Vec<Signed> =
                (0..8).map(|n| crooked(n, b"m")).chain((0..others).map(|n| plain(n + 100))).collect();
            for (signed, found) in group.iter().zip(verify_together(group.clone())) {
                let alike = signed.key.verifies_alike(&signed.message, &signed.signature);
                assert!(alike, "this test makes none that is bad");
                assert!(found.is_some() || !signed.key.verifies(&signed.message, &signed.signature));
            }
        }
    }

    #[test]
    fn of_many_signatures_the_bad_ones_are_found_and_the_others_are_good() {
        let check = |count: usize, bad: &[usize]| {
            let signed: Vec<Signed> = (0..count)
                .map(|n| {
                    let key = SigningKey::from_seed(&Zeroizing::new([n as u8 + 1; 32]));
                    let message = vec![n as u8; n];
                    let mut signature = key.sign(&message);
                    if bad.contains(&n) {
                        signature[n % 64] ^= 4;
                    }
                    Signed { key: key.public(), message, signature }
                })
                .collect();
            let found = verify_together(signed.clone());
            assert_eq!(found.len(), count);
            for (n, (signed, found)) in signed.iter().zip(&found).enumerate() {
                assert_eq!(found.is_none(), bad.contains(&n), "number {n} of {count} with bad {bad:?}");
                let Some(good) = found else { continue };
                assert!(good.is(&signed.key, &signed.message, &signed.signature));
                assert!(!good.is(&signed.key, b"another", &signed.signature));
                assert!(!good.is(&signed.key, &signed.message, &[0; 64]));
            }
        };
        check(0, &[]);
        check(1, &[0]);
        for count in [1, 3, 4, 33, 64] {
            check(count, &[]);
        }
        check(64, &[0, 17, 63]);
        check(9, &[0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
}
