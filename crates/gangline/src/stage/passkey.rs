//! A passkey in this program's memory, for somebody at a browser who is asked for two factors: what a software
//! authenticator does (Web Authentication Level 3, sections 6.1 and 6.5; RFC 9053 for its Ed25519 key). It holds one
//! key, says that it has verified its user, and forgets everything when the program ends.

use anyhow::Context;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gangline_wire::{SigningKey, sig};
use serde_json::{Value, json};

/// User present, user verified; and with a new credential, its data.
const PRESENT_AND_VERIFIED: u8 = 0x05;
const HAS_CREDENTIAL: u8 = 0x40;

/// The passkey, from when it is made.
pub struct Passkey {
    key: SigningKey,
    id: [u8; 16],
    /// Id of its account there, as the question had it.
    user: String,
    /// How often it was used.
    used: u32,
}

impl std::fmt::Debug for Passkey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passkey([redacted])")
    }
}

fn word<'a>(value: &'a Value, pointer: &str) -> anyhow::Result<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).with_context(|| format!("the question has no {pointer}"))
}

/// What a browser says of a question, and which the signature covers.
fn client_data(kind: &str, asked: &Value, origin: &str) -> anyhow::Result<String> {
    let challenge = word(asked, "/challenge")?;
    Ok(format!(
        r#"{{"type":"webauthn.{kind}","challenge":"{challenge}","origin":{},"crossOrigin":false}}"#,
        json!(origin)
    ))
}

fn authenticator_data(name: &str, flags: u8, used: u32) -> Vec<u8> {
    let mut data = sig::digest(name.as_bytes()).to_vec();
    data.push(flags);
    data.extend(used.to_be_bytes());
    data
}

impl Passkey {
    /// Makes it, as the options `asked` wish, for a page of `origin`: it, and the answer for the form.
    ///
    /// # Errors
    /// When the options are none.
    pub fn make(
        asked: &Value,
        origin: &str,
        key: SigningKey,
        id: [u8; 16],
    ) -> anyhow::Result<(Self, String)> {
        let passkey = Self { key, id, user: word(asked, "/user/id")?.to_owned(), used: 0 };
        let public = passkey.key.public();
        let mut data =
            authenticator_data(word(asked, "/rp/id")?, PRESENT_AND_VERIFIED | HAS_CREDENTIAL, passkey.used);
        // No make of authenticator; the credential's id with its length; a COSE key {1: 1, 3: -8, -1: 6, -2: key}.
        data.extend([0; 16]);
        data.extend((id.len() as u16).to_be_bytes());
        data.extend(id);
        data.extend([0xa4, 0x01, 0x01, 0x03, 0x27, 0x20, 0x06, 0x21, 0x58, 0x20]);
        data.extend(public.as_bytes());
        // {"fmt": "none", "attStmt": {}, "authData": data}
        let length = u8::try_from(data.len()).context("this much is never made")?;
        let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58".to_vec();
        object.push(length);
        object.extend(&data);
        // SubjectPublicKeyInfo of an Ed25519 key (RFC 8410).
        let mut spki = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
        spki.extend(public.as_bytes());
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let answer = json!({
            "id": encode(&id), "rawId": encode(&id), "type": "public-key", "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": encode(client_data("create", asked, origin)?.as_bytes()),
                "authenticatorData": encode(&data), "attestationObject": encode(&object),
                "publicKey": encode(&spki), "publicKeyAlgorithm": -8, "transports": ["internal"],
            },
        });
        Ok((passkey, answer.to_string()))
    }

    /// Signs what the options `asked` put, for a page of `origin`: the answer for the form.
    ///
    /// # Errors
    /// When the options are none.
    pub fn sign(&mut self, asked: &Value, origin: &str) -> anyhow::Result<String> {
        self.used += 1;
        let data = authenticator_data(word(asked, "/rpId")?, PRESENT_AND_VERIFIED, self.used);
        let client = client_data("get", asked, origin)?;
        let signed = [data.as_slice(), &sig::digest(client.as_bytes())].concat();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        Ok(json!({
            "id": encode(&self.id), "rawId": encode(&self.id), "type": "public-key",
            "authenticatorAttachment": "platform", "clientExtensionResults": {},
            "response": {
                "clientDataJSON": encode(client.as_bytes()), "authenticatorData": encode(&data),
                "signature": encode(&self.key.sign(&signed)), "userHandle": self.user,
            },
        })
        .to_string())
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn what_is_signed_is_the_question_of_this_page() {
        let key = SigningKey::from_seed(&Zeroizing::new([3; 32]));
        let public = key.public();
        let asked = json!({"rp": {"id": "gangline.example"}, "challenge": "AAAA", "user": {"id": "BBBB"}});
        let (mut passkey, made) = Passkey::make(&asked, "https://gangline.example", key, [7; 16]).unwrap();
        assert!(made.contains("attestationObject"), "{made}");
        let asked = json!({"rpId": "gangline.example", "challenge": "CCCC"});
        let answer: Value =
            serde_json::from_str(&passkey.sign(&asked, "https://gangline.example").unwrap()).unwrap();
        let bytes = |name: &str| URL_SAFE_NO_PAD.decode(word(&answer["response"], name).unwrap()).unwrap();
        let client = bytes("/clientDataJSON");
        let said: Value = serde_json::from_slice(&client).unwrap();
        assert_eq!((&said["challenge"], &said["type"]), (&json!("CCCC"), &json!("webauthn.get")));
        let signed = [bytes("/authenticatorData"), sig::digest(&client).to_vec()].concat();
        assert!(public.verifies(&signed, &bytes("/signature")));
        assert_eq!(bytes("/authenticatorData")[32..], [5, 0, 0, 0, 1]);
        assert!(passkey.sign(&json!({}), "https://gangline.example").is_err());
    }
}
