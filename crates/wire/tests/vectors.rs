//! What the standards themselves give to compare with: RFC 8032 (Ed25519), RFC 9421 Appendix B (HTTP message
//! signatures) and RFC 9530 (digests), and around each the changes that a lenient verifier would take: weak
//! keys, scalars out of range, second spellings, bits turned over.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_wire::{PublicKey, SigningKey, sig};
use zeroize::Zeroizing;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    assert_eq!(text.len(), 2 * N, "{text}");
    std::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap())
}

/// The order of the group, L = 2^252 + 27742317777372353535851937790883648493, least byte first.
const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";

/// Number plus L, both least byte first; whether it still fits.
fn plus_order(scalar: &[u8]) -> Option<[u8; 32]> {
    let order: [u8; 32] = hex(ORDER);
    let mut carry = 0u16;
    let sum = std::array::from_fn(|i| {
        let total = u16::from(scalar[i]) + u16::from(order[i]) + carry;
        carry = total >> 8;
        total as u8
    });
    (carry == 0).then_some(sum)
}

/// Every signature near to a good one must be refused.
fn check_neighbours(key: &PublicKey, message: &[u8], signature: &[u8; 64]) {
    assert!(key.verifies(message, signature), "a good signature was refused");
    for bit in 0..512 {
        let mut other = *signature;
        other[bit / 8] ^= 1 << (bit % 8);
        assert!(!key.verifies(message, &other), "bit {bit} does not matter");
    }
    // The same scalar modulo L, spelled otherwise: who takes it lets anyone make a second signature.
    let mut scalar = signature[32..].to_vec();
    while let Some(next) = plus_order(&scalar) {
        let other = [&signature[..32], &next[..]].concat();
        assert!(!key.verifies(message, &other), "a scalar out of range was taken");
        scalar = next.to_vec();
    }
    for length in [0, 32, 63] {
        assert!(!key.verifies(message, &signature[..length]));
    }
    assert!(!key.verifies(message, &[&signature[..], &[0]].concat()));
    assert!(!key.verifies(&[message, &[0]].concat(), signature));
    let zero = [0; 64];
    assert!(!key.verifies(message, &zero));
    // R of small order, as a verifier without the strict check would take it.
    let mut small = *signature;
    small[..32].copy_from_slice(&hex::<32>(WEAK.lines().next().unwrap()));
    assert!(!key.verifies(message, &small));
}

/// RFC 8032, section 7.1: secret key, public key, message, signature.
const RFC_8032: &[[&str; 4]] = &[
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
    [
        "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ],
];

#[test]
fn ed25519_is_that_of_rfc_8032() {
    for [secret, public, message, signature] in RFC_8032 {
        let key = SigningKey::from_seed(&Zeroizing::new(hex(secret)));
        assert_eq!(key.public().as_bytes(), &hex::<32>(public));
        let message: Vec<u8> = (0..message.len() / 2)
            .map(|i| u8::from_str_radix(&message[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        let signature: [u8; 64] = hex(signature);
        assert_eq!(key.sign(&message), signature);
        check_neighbours(&key.public(), &message, &signature);
    }
}

/// Every spelling of the eight points of small order, those that are not canonical too, in hex.
const WEAK: &str = include_str!("weak_keys.txt");

#[test]
fn weak_keys_are_no_keys() {
    assert_eq!(WEAK.lines().count(), 14);
    for weak in WEAK.lines() {
        assert!(PublicKey::from_bytes(&hex(weak)).is_err(), "{weak} was taken");
    }
    // Not on the curve: y = 2.
    let mut none = [0; 32];
    none[0] = 2;
    assert!(PublicKey::from_bytes(&none).is_err());
}

/// RFC 9421, Appendix B.1.4: the key `test-key-ed25519`, from its JWK.
fn rfc_9421_key() -> SigningKey {
    let seed = base64::engine::general_purpose::URL_SAFE_NO_PAD
        .decode("n4Ni-HpISpVObnQMW0wOhCKROaIKqKtW_2ZYb2p9KcU")
        .unwrap();
    SigningKey::from_seed(&Zeroizing::new(seed.try_into().unwrap()))
}

#[test]
fn message_signatures_are_those_of_rfc_9421() {
    let key = rfc_9421_key();
    assert_eq!(key.public().to_string(), "JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs");
    // Appendix B.2.6.
    let base = "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@method\": POST\n\"@path\": /foo\n\"@authority\": example.com\n\"content-type\": application/json\n\"content-length\": 18\n\"@signature-params\": (\"date\" \"@method\" \"@path\" \"@authority\" \"content-type\" \"content-length\");created=1618884473;keyid=\"test-key-ed25519\"";
    let signature =
        "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==";
    let signature: [u8; 64] = STANDARD.decode(signature).unwrap().try_into().unwrap();
    assert_eq!(key.sign(base.as_bytes()), signature);
    check_neighbours(&key.public(), base.as_bytes(), &signature);
}

#[test]
fn digests_are_those_of_rfc_9530() {
    // Appendix B.1 (with its line break) and RFC 9421, Appendix B.2 (without).
    for (body, expected) in [
        ("{\"hello\": \"world\"}\n", "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"),
        ("{\"hello\": \"world\"}", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"),
    ] {
        assert_eq!(sig::digest_header(&sig::digest(body.as_bytes())), expected, "{body:?}");
    }
}
