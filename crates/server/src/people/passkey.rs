//! Passkeys: Web Authentication Level 3 as a relying party, checked by `webauthn_rp`. The user is verified (PIN,
//! finger, face) each time, attestation is not asked for, and a signature counter that does not grow is refused:
//! somebody has a copy.
//!
//! Knows no SQL and no pages. A passkey is for a name, not for an address: on this machine alone that name is
//! `localhost`.

use std::borrow::Borrow;

use gangline_guard::Refusal;
use gangline_types::AccountId;
use gangline_wire::PublicKey;
use url::{Host, Url};
use webauthn_rp::{
    AuthenticatedCredential, DiscoverableAuthentication16, DiscoverableAuthenticationServerState,
    DiscoverableCredentialRequestOptions, PublicKeyCredentialCreationOptions, Registration,
    RegistrationServerState,
    bin::{Decode, Encode},
    request::{
        AsciiDomain, PublicKeyCredentialDescriptor, RpId,
        auth::AuthenticationVerificationOptions,
        register::{
            CredProtect, PublicKeyCredentialUserEntity, RegistrationVerificationOptions, UserHandle16,
            Username,
        },
    },
    response::{
        AuthTransports, CredentialId,
        register::{DynamicState, StaticState, UncompressedPubKey},
    },
};

use crate::refusals::inert;

/// What passkeys of this network are for.
#[derive(Debug)]
pub struct Passkeys {
    rp_id: RpId,
    origin: String,
}

/// What is put to a browser, and what has to be kept until it answers.
#[derive(Debug)]
pub struct Question {
    /// 16 random bytes.
    pub challenge: [u8; 16],
    /// For the browser: options in JSON.
    pub options: String,
    /// To check the answer with.
    pub asked: Vec<u8>,
}

/// A passkey that an authenticator made.
#[derive(Debug)]
pub struct Made {
    /// The authenticator's name for it.
    pub credential: Vec<u8>,
    /// Public key and what does not change.
    pub key: Vec<u8>,
    /// What changes with each use.
    pub state: Vec<u8>,
}

fn unbelievable(cause: impl std::fmt::Display) -> Refusal {
    Refusal::BadPasskey(inert(&cause.to_string()))
}

/// Our own mistake or the clock's: nothing was asked.
fn not_asked(cause: impl std::fmt::Debug) -> Refusal {
    Refusal::BadPasskey(inert(&format!("no question could be made ({cause:?})")))
}

impl Passkeys {
    /// Passkeys of the server at this origin; `None` where browsers offer none: by plain HTTP elsewhere than on
    /// this machine, and for an address without a name.
    pub fn of(origin: &str) -> Option<Self> {
        let url = Url::parse(origin).ok()?;
        let here = |port: Option<u16>| {
            let port = port.map(|port| format!(":{port}")).unwrap_or_default();
            ("localhost".to_owned(), format!("http://localhost{port}"))
        };
        let (name, origin) = match (url.host()?, url.scheme()) {
            (Host::Domain("localhost"), "http") => here(url.port()),
            (Host::Domain(name), "https") => (name.to_owned(), origin.to_owned()),
            (Host::Ipv4(ip), "http") if ip.is_loopback() || ip.is_unspecified() => here(url.port()),
            (Host::Ipv6(ip), "http") if ip.is_loopback() || ip.is_unspecified() => here(url.port()),
            _ => return None,
        };
        Some(Self { rp_id: RpId::Domain(AsciiDomain::try_from(name).ok()?), origin })
    }

    /// Where they work: the origin that browsers have to show.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Asks a browser for a new passkey of `account`, on an authenticator that has none of `known`.
    ///
    /// # Errors
    /// If no question can be made.
    pub fn ask_new(&self, account: AccountId, name: &str, known: &[Vec<u8>]) -> Result<Question, Refusal> {
        let handle = match UserHandle16::decode(*account.as_bytes()) {
            Ok(handle) => handle,
            Err(never) => match never {},
        };
        let name = Username::try_from(name).or_else(|_| Username::try_from("account")).map_err(not_asked)?;
        let user = PublicKeyCredentialUserEntity { name, id: &handle, display_name: None };
        let none = AuthTransports::decode(0).map_err(not_asked)?;
        let known = known.iter().filter_map(|id| {
            let id = CredentialId::<Vec<u8>>::decode(id.clone()).ok()?;
            Some(PublicKeyCredentialDescriptor { id, transports: none })
        });
        let mut options = PublicKeyCredentialCreationOptions::passkey(&self.rp_id, user, known.collect());
        // Many authenticators do not know this extension, and would make nothing. That the user is verified is
        // asked for, and checked, all the same.
        options.extensions.cred_protect = CredProtect::None;
        let (asked, told) = options.start_ceremony().map_err(not_asked)?;
        Ok(Question {
            challenge: challenge(asked.borrow()),
            options: serde_json::to_string(&told).map_err(not_asked)?,
            asked: asked.encode().map_err(not_asked)?,
        })
    }

    /// Asks a browser for the signature of any passkey it has for this network.
    ///
    /// # Errors
    /// If no question can be made.
    pub fn ask(&self) -> Result<Question, Refusal> {
        let options = DiscoverableCredentialRequestOptions::passkey(&self.rp_id);
        let (asked, told) = options.start_ceremony().map_err(not_asked)?;
        Ok(Question {
            challenge: challenge(asked.borrow()),
            options: serde_json::to_string(&told).map_err(not_asked)?,
            asked: asked.encode().map_err(not_asked)?,
        })
    }
}

fn challenge(sent: &webauthn_rp::response::SentChallenge) -> [u8; 16] {
    sent.0.to_le_bytes()
}

/// A browser's answer with a new passkey; nothing of it is believed yet.
pub struct NewAnswer(Registration);

impl NewAnswer {
    /// Reads it.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(json: &str) -> Result<Self, Refusal> {
        Registration::from_json_relaxed(json.as_bytes()).map(Self).map_err(unbelievable)
    }

    /// Which question it answers.
    ///
    /// # Errors
    /// If it does not say so.
    pub fn challenge(&self) -> Result<[u8; 16], Refusal> {
        Ok(challenge(&self.0.challenge_relaxed().map_err(unbelievable)?))
    }

    /// The passkey, if the answer is right.
    ///
    /// # Errors
    /// If it is not, or answers another question.
    pub fn check(&self, passkeys: &Passkeys, asked: &[u8]) -> Result<Made, Refusal> {
        let asked = RegistrationServerState::<16>::decode(asked).map_err(unbelievable)?;
        let origins = [passkeys.origin.as_str()];
        let options = RegistrationVerificationOptions::<&str, &str> {
            allowed_origins: &origins,
            ..RegistrationVerificationOptions::default()
        };
        let made = asked.verify(&passkeys.rp_id, &self.0, &options).map_err(unbelievable)?;
        // The library takes points of small order, under which signatures verify that nobody made.
        if let UncompressedPubKey::Ed25519(key) = made.static_state().credential_public_key {
            let bytes: [u8; 32] = key.into_inner().try_into().map_err(unbelievable)?;
            PublicKey::from_bytes(&bytes).map_err(unbelievable)?;
        }
        let key = match made.static_state().encode() {
            Ok(key) => key,
            Err(never) => match never {},
        };
        Ok(Made { credential: made.id().as_ref().to_vec(), key, state: state_bytes(made.dynamic_state()) })
    }
}

fn state_bytes(state: DynamicState) -> Vec<u8> {
    match state.encode() {
        Ok(state) => state.to_vec(),
        Err(never) => match never {},
    }
}

/// A browser's answer with a signature; nothing of it is believed yet.
pub struct Answer(DiscoverableAuthentication16);

impl Answer {
    /// Reads it.
    ///
    /// # Errors
    /// If it is none.
    pub fn read(json: &str) -> Result<Self, Refusal> {
        DiscoverableAuthentication16::from_json_relaxed(json.as_bytes()).map(Self).map_err(unbelievable)
    }

    /// Which question it answers.
    ///
    /// # Errors
    /// If it does not say so.
    pub fn challenge(&self) -> Result<[u8; 16], Refusal> {
        Ok(challenge(&self.0.challenge_relaxed().map_err(unbelievable)?))
    }

    /// Which passkey it says to be of.
    pub fn credential(&self) -> Vec<u8> {
        self.0.raw_id().as_ref().to_vec()
    }

    /// The passkey's state after this use, if the answer is right: made by its key, for this origin and question,
    /// with the user verified, and with a counter that has grown.
    ///
    /// # Errors
    /// If it is not.
    pub fn check(
        &self,
        passkeys: &Passkeys,
        asked: &[u8],
        account: AccountId,
        key: &[u8],
        state: &[u8],
    ) -> Result<Vec<u8>, Refusal> {
        let asked = DiscoverableAuthenticationServerState::decode(asked).map_err(unbelievable)?;
        let handle = match UserHandle16::decode(*account.as_bytes()) {
            Ok(handle) => handle,
            Err(never) => match never {},
        };
        let credential = self.credential();
        let id = CredentialId::<&[u8]>::decode(&credential).map_err(unbelievable)?;
        let state: [u8; 7] = state.try_into().map_err(unbelievable)?;
        let mut known = AuthenticatedCredential::new(
            id,
            &handle,
            StaticState::decode(key).map_err(unbelievable)?,
            DynamicState::decode(state).map_err(unbelievable)?,
        )
        .map_err(unbelievable)?;
        let origins = [passkeys.origin.as_str()];
        let options = AuthenticationVerificationOptions::<&str, &str> {
            allowed_origins: &origins,
            ..AuthenticationVerificationOptions::default()
        };
        asked.verify(&passkeys.rp_id, &self.0, &mut known, &options).map_err(unbelievable)?;
        Ok(state_bytes(known.dynamic_state()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passkeys_are_offered_where_browsers_have_them() {
        for (origin, works_at) in [
            ("https://gangline.example", Some("https://gangline.example")),
            ("https://gangline.example:8443", Some("https://gangline.example:8443")),
            ("http://127.0.0.1:7700", Some("http://localhost:7700")),
            ("http://localhost:7700", Some("http://localhost:7700")),
            ("http://[::1]:7700", Some("http://localhost:7700")),
            ("http://gangline.example", None),
            ("http://[2001:db8::5]:7700", None),
            ("https://[2001:db8::5]", None),
            ("nonsense", None),
        ] {
            assert_eq!(Passkeys::of(origin).as_ref().map(Passkeys::origin), works_at, "{origin}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused_and_a_question_asks_for_verification() {
        let passkeys = Passkeys::of("https://gangline.example").unwrap();
        let asked = passkeys.ask().unwrap();
        assert!(asked.options.contains("\"userVerification\":\"required\""), "{}", asked.options);
        let new = passkeys.ask_new(AccountId::from_bytes([1; 16]), "Ada", &[vec![7; 32]]).unwrap();
        for part in ["\"residentKey\":\"required\"", "\"attestation\":\"none\"", "gangline.example"] {
            assert!(new.options.contains(part), "{}", new.options);
        }
        assert_ne!(asked.challenge, new.challenge);
        for text in ["", "{}", "[]", "{\"id\":\"x\"}"] {
            assert!(Answer::read(text).is_err() && NewAnswer::read(text).is_err(), "{text}");
        }
    }
}
