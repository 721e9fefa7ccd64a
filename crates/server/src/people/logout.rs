//! The provider's message that somebody has signed out there (OpenID Connect Back-Channel Logout 1.0): a signed
//! token, which is taken apart and checked here.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gangline_guard::authenticate::{Vouched, identity};
use gangline_types::{Hash, UnixSeconds};
use openidconnect::{
    JsonWebKey, JsonWebKeyAlgorithm, JsonWebKeyUse, JwsSigningAlgorithm,
    core::{CoreJsonWebKeySet, CoreJwsSigningAlgorithm},
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// The event that a logout token must carry.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// Longest token taken, in bytes.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Longest `sub`, `sid` or `jti` taken, in bytes.
const NAME_BYTES_MAX: usize = 1024;
/// How far our clock and the provider's may be apart, in seconds.
const SKEW_SECONDS: u64 = 120;
/// How old a token may be that does not say when it ends, in seconds.
const AGE_SECONDS_MAX: u64 = 600;

/// Whose sessions are to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogoutToken {
    /// The claim `sub`.
    pub subject: Option<String>,
    /// The claim `sid`.
    pub session: Option<String>,
    /// Hash of issuer and `jti`: a token works once.
    pub once: Hash,
    /// Until when it could be shown again.
    pub expires_at: UnixSeconds,
}

/// Why a logout token is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogoutError {
    /// Signed by a key that the provider had not published when last asked.
    #[error("it is signed with a key that the provider does not publish")]
    UnknownKey,
    /// Anything else.
    #[error("{0}")]
    Bad(&'static str),
}

#[derive(Deserialize)]
struct Header {
    alg: CoreJwsSigningAlgorithm,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// Whom a token is from and for.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The provider.
    pub issuer: &'a str,
    /// This server, as that provider knows it.
    pub client: &'a str,
    /// Its keys.
    pub keys: &'a CoreJsonWebKeySet,
    /// Signature algorithms that are believed.
    pub algorithms: &'a [CoreJwsSigningAlgorithm],
}

fn bad<T>(what: &'static str) -> Result<T, LogoutError> {
    Err(LogoutError::Bad(what))
}

fn decoded(part: &str) -> Result<Vec<u8>, LogoutError> {
    URL_SAFE_NO_PAD.decode(part).or(bad("it is not a signed token"))
}

/// Checks signature, issuer, audience, age, event and form of `token`.
///
/// # Errors
/// When any of them does not hold; the caller may fetch the keys anew after [`LogoutError::UnknownKey`].
pub fn check(token: &str, expected: Expected<'_>, now: UnixSeconds) -> Result<LogoutToken, LogoutError> {
    if token.len() > TOKEN_BYTES_MAX {
        return bad("it is too long");
    }
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { return bad("it is not a signed token") };
    let signed = &token[..header.len() + 1 + payload.len()];
    let Ok(head) = serde_json::from_slice::<Header>(&decoded(header)?) else {
        return bad("its header is not that of a signed token");
    };
    if head.crit.is_some() {
        return bad("it asks for an extension that is not known here");
    }
    let kind = head.typ.as_deref().unwrap_or("logout+jwt").to_ascii_lowercase();
    if !["logout+jwt", "application/logout+jwt", "jwt"].contains(&kind.as_str()) {
        return bad("it is a token of another type");
    }
    if !expected.algorithms.contains(&head.alg) {
        return bad("its signature algorithm is not believed");
    }
    let fits = |key: &&openidconnect::core::CoreJsonWebKey| {
        head.kid.as_ref().is_none_or(|kid| key.key_id().is_some_and(|id| id.as_str() == kid))
            && head.alg.key_type().as_ref() == Some(key.key_type())
            && key.key_use().is_none_or(JsonWebKeyUse::allows_signature)
            && match key.signing_alg() {
                JsonWebKeyAlgorithm::Algorithm(alg) => *alg == head.alg,
                JsonWebKeyAlgorithm::Unspecified => true,
                JsonWebKeyAlgorithm::Unsupported => false,
            }
    };
    let mut keys = expected.keys.keys().iter().filter(fits);
    let key = match (keys.next(), keys.next()) {
        (None, _) => return Err(LogoutError::UnknownKey),
        (Some(key), None) => key,
        (Some(_), Some(_)) => return bad("it does not say which of several keys signed it"),
    };
    if key.verify_signature(&head.alg, signed.as_bytes(), &decoded(signature)?).is_err() {
        return bad("its signature does not verify");
    }
    let Ok(claims) = serde_json::from_slice::<Map<String, Value>>(&decoded(payload)?) else {
        return bad("its claims are not an object");
    };
    claimed(&claims, expected, now)
}

fn claimed(
    claims: &Map<String, Value>,
    expected: Expected<'_>,
    now: UnixSeconds,
) -> Result<LogoutToken, LogoutError> {
    let text = |name: &str| {
        claims
            .get(name)
            .and_then(Value::as_str)
            .filter(|t| !t.is_empty() && t.len() <= NAME_BYTES_MAX)
            .map(str::to_owned)
    };
    let seconds = |name: &str| match claims.get(name) {
        // Some providers send fractions.
        Some(Value::Number(n)) => n.as_f64().filter(|n| *n >= 0.0).map(|n| UnixSeconds(n as u64)),
        _ => None,
    };
    if text("iss").as_deref() != Some(expected.issuer) {
        return bad("it is from another issuer");
    }
    let is_for_us = match claims.get("aud") {
        Some(Value::String(one)) => one == expected.client,
        Some(Value::Array(all)) => all.iter().any(|a| a == expected.client),
        _ => false,
    };
    if !is_for_us {
        return bad("it is for another audience");
    }
    if claims.contains_key("nonce") {
        return bad("it has a nonce, so it is an ID token and no logout token");
    }
    if !claims.get("events").and_then(|e| e.get(EVENT)).is_some_and(Value::is_object) {
        return bad("it does not say that somebody has signed out");
    }
    let Some(issued_at) = seconds("iat") else { return bad("it does not say when it was made") };
    let expires_at = seconds("exp").unwrap_or(issued_at.plus(AGE_SECONDS_MAX));
    let is_old = now.0 >= expires_at.0.saturating_add(SKEW_SECONDS)
        || now.0 > issued_at.0.saturating_add(AGE_SECONDS_MAX + SKEW_SECONDS);
    if is_old || issued_at.0 > now.plus(SKEW_SECONDS).0 {
        return bad("it is too old, or from the future");
    }
    let Some(once) = text("jti") else { return bad("it has no name of its own") };
    let (subject, session) = (text("sub"), text("sid"));
    if subject.is_none() && session.is_none() {
        return bad("it names neither a person nor a session");
    }
    let once = identity(expected.issuer, Vouched::Session(&format!("logout token {once}")));
    // It could be shown again for as long as it is not too old, which is bounded by its age.
    let expires_at = issued_at.plus(AGE_SECONDS_MAX + SKEW_SECONDS + 1);
    Ok(LogoutToken { subject, session, once, expires_at })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

    fn good() -> Map<String, Value> {
        let claims = json!({
            "iss": "https://idp.example", "aud": "gangline", "iat": NOW.0, "exp": NOW.0 + 120, "jti": "1",
            "events": {EVENT: {}}, "sub": "ada",
        });
        claims.as_object().unwrap().clone()
    }

    fn expected(keys: &CoreJsonWebKeySet) -> Expected<'_> {
        let algorithms = &[CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256];
        Expected { issuer: "https://idp.example", client: "gangline", keys, algorithms }
    }

    #[test]
    fn claims_are_taken_only_as_the_standard_has_them() {
        let keys = CoreJsonWebKeySet::new(vec![]);
        let check = |change: Value| {
            let mut claims = good();
            for (name, value) in change.as_object().unwrap() {
                if value.is_null() {
                    claims.remove(name);
                } else {
                    claims.insert(name.clone(), value.clone());
                }
            }
            claimed(&claims, expected(&keys), NOW)
        };
        assert_eq!(check(json!({})).unwrap().subject.as_deref(), Some("ada"));
        assert_eq!(check(json!({"sub": null, "sid": "s"})).unwrap().session.as_deref(), Some("s"));
        assert!(check(json!({"aud": ["x", "gangline"]})).is_ok());
        assert!(check(json!({"exp": null})).is_ok());
        assert_ne!(check(json!({})).unwrap().once, check(json!({"jti": "2"})).unwrap().once);
        for bad in [
            json!({"iss": "https://idp.example/"}),
            json!({"iss": null}),
            json!({"aud": "other"}),
            json!({"aud": null}),
            json!({"nonce": "n"}),
            json!({"events": null}),
            json!({"events": {"other": {}}}),
            json!({"events": {EVENT: "yes"}}),
            json!({"iat": null}),
            json!({"iat": NOW.0 + 300}),
            json!({"iat": NOW.0 - 3600, "exp": NOW.0 + 3600}),
            json!({"exp": NOW.0 - 300}),
            json!({"jti": null}),
            json!({"sub": null}),
            json!({"sub": 7}),
        ] {
            assert!(check(bad.clone()).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn what_is_not_signed_is_not_read() {
        let keys = CoreJsonWebKeySet::new(vec![]);
        let token = |header: Value| {
            let part = |v: &Value| URL_SAFE_NO_PAD.encode(v.to_string());
            format!("{}.{}.AAAA", part(&header), part(&Value::Object(good())))
        };
        let check = |header: Value| check(&token(header), expected(&keys), NOW).unwrap_err();
        assert_eq!(check(json!({"alg": "RS256"})), LogoutError::UnknownKey);
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "HS256"}),
            json!({"alg": "ES256"}),
            json!({"alg": "RS256", "crit": ["x"]}),
            json!({"alg": "RS256", "typ": "at+jwt"}),
            json!({}),
        ] {
            assert!(matches!(check(header.clone()), LogoutError::Bad(_)), "{header}");
        }
        for text in ["", ".", "..", "a.b", "a.b.c.d", "ü.ü.ü", &"a".repeat(20_000)] {
            assert!(super::check(text, expected(&keys), NOW).is_err());
        }
    }
}
