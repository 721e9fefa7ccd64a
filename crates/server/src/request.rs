//! From bytes to a handler's arguments: limits, signature or session, then types. A handler never sees a
//! request that did not pass; an identity never comes from anything but the guard.

use std::{net::SocketAddr, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Method as HttpMethod, Request, StatusCode, Uri, header},
};
use gangline_guard::{
    Act, Actor, HeadVerified, Permit, Principal, Refusal, RequestParts,
    authenticate::{session, signed, signed_by_new_key},
    notice::{Asked, Trail},
    notice::{Outcome, watch::is_dull},
    permit::permit,
    policy::Resource,
    secret::Secret,
};
use gangline_types::{KeyId, Label, UnixSeconds};
use gangline_wire::{
    Credential, Endpoint, Media, PublicKey, Spec,
    api::account::Role,
    sig::{Claimed, Received},
};
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;

use crate::{
    app::{App, Counted},
    edge,
    error::ApiError,
    live::Live,
};

/// Name of the session's cookie. `__Host-`: only over a secure channel, for this host alone.
pub const SESSION_COOKIE: &str = "__Host-gangline";
/// Name of the theme's cookie.
pub const THEME_COOKIE: &str = "gangline-theme";
/// How long a body may take to arrive.
const BODY_SECONDS_MAX: u64 = 120;
/// Bodies are never compressed, so length says all.
const HEADER_VALUE_BYTES_MAX: usize = 8192;

/// A browser's session as this request showed it.
#[derive(Clone)]
pub struct Session {
    /// Its secret, for the form token.
    pub secret: Secret,
    /// The account's name.
    pub name: Label,
    /// The account's role.
    pub role: Role,
}

/// A request that passed, for endpoint `E`.
pub struct Ctx<E: Endpoint> {
    /// The shared parts.
    pub app: App,
    /// When it arrived.
    pub now: UnixSeconds,
    /// Who asks.
    pub actor: Actor,
    /// The session, where one was shown.
    pub session: Option<Session>,
    /// Path parameters by name.
    pub path: Vec<(String, String)>,
    /// The query.
    pub query: E::Query,
    /// The body, typed.
    pub body: E::Request,
    /// The request's head as it came.
    pub head: axum::http::request::Parts,
    /// Its body as it came.
    pub bytes: Bytes,
    /// From where.
    pub peer: SocketAddr,
    /// Ends when what the asker showed ends.
    pub live: Live,
    /// The connection, should it be upgraded: given away only with [`Ctx::live`].
    upgrade: Option<OnUpgrade>,
    /// What the guard was asked.
    pub trail: Trail,
}

impl<E: Endpoint> Ctx<E> {
    /// A path parameter as an id; what is no id is no thing.
    pub fn param<T: std::str::FromStr>(&self, name: &str) -> Result<T, ApiError> {
        self.param_text(name).and_then(|v| v.parse().ok()).ok_or_else(ApiError::hidden)
    }
    /// A path parameter as text.
    pub fn param_text(&self, name: &str) -> Option<&str> {
        self.path.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    /// Asks the guard. The action must be the endpoint's own: one endpoint, one act.
    pub fn permit<A: Act>(&self, on: A::On) -> Result<Permit<A>, ApiError> {
        debug_assert_eq!(
            A::ACTION,
            E::SPEC.action,
            "{} asks for another permit than it declares",
            E::SPEC.name
        );
        self.permit_also(on)
    }
    /// Asks the guard for a further act that the endpoint's own entails, for example reading what a page
    /// shows.
    pub fn permit_also<A: Act>(&self, on: A::On) -> Result<Permit<A>, ApiError> {
        let what: Resource = on.clone().into();
        let answer = permit::<A>(&self.actor, on, self.now);
        if answer.is_err() || !is_dull(A::ACTION, Outcome::Done) {
            self.trail.add(Asked::new(self.actor.principal(), A::ACTION, &what, &answer));
        }
        Ok(answer?)
    }
    /// The request as it came, its body put back, for what is passed through or upgraded; and what has to end
    /// the connection.
    pub fn into_raw(mut self) -> (Request<Body>, Live) {
        if let Some(upgrade) = self.upgrade.take() {
            self.head.extensions.insert(upgrade);
        }
        (Request::from_parts(self.head, Body::from(self.bytes)), self.live)
    }
    /// Asker for quotas: the key, or else the address.
    pub fn asker(&self) -> String {
        match self.actor.principal().key() {
            Some(key) => key.to_string(),
            None => self.peer.ip().to_string(),
        }
    }
}

/// What came, for the refusal's record, even if nothing of it could be believed.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Who, as far as established.
    pub actor: String,
    /// For quotas of the record.
    pub asker: String,
    /// The key that was claimed; verified if there is a principal.
    pub key: Option<KeyId>,
    /// Who, once established.
    pub principal: Option<Principal>,
    /// What the guard was asked.
    pub trail: Trail,
    /// The body, as far as it was read.
    pub body: Bytes,
}

impl Shown {
    /// Nothing yet, from this address.
    pub fn nothing(address: &str) -> Self {
        Self {
            actor: "nobody".into(),
            asker: address.to_owned(),
            key: None,
            principal: None,
            trail: Trail::default(),
            body: Bytes::new(),
        }
    }
}

fn one<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, ApiError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(Refusal::Unsigned.into()),
        (Some(value), None) if value.len() <= HEADER_VALUE_BYTES_MAX => value.to_str().map_err(|_| {
            ApiError::bad(
                StatusCode::BAD_REQUEST,
                "malformed_header",
                format!("the {name} header is not plain text"),
            )
        }),
        _ => Err(ApiError::bad(
            StatusCode::BAD_REQUEST,
            "malformed_header",
            format!("the {name} header is there twice or too long"),
        )),
    }
}

/// Value of a cookie.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(n, _)| *n == name)
        .map(|(_, v)| v)
}

/// Whether a form was sent by a page of ours, as far as the browser says.
fn is_same_origin(headers: &HeaderMap, app: &App) -> bool {
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    if text("sec-fetch-site").is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return false;
    }
    match text("origin") {
        None => true,
        Some(origin) => origin
            .split_once("://")
            .is_some_and(|(_, authority)| app.authorities.contains(&authority.to_ascii_lowercase())),
    }
}

async fn read_body(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::bad_hint(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too_large",
            "the body is larger than this endpoint takes",
            format!("send at most {limit} bytes"),
        )
    };
    let limited = http_body_util::Limited::new(body, limit);
    let read = http_body_util::BodyExt::collect(limited);
    match tokio::time::timeout(Duration::from_secs(BODY_SECONDS_MAX), read).await {
        Err(_) => Err(ApiError::bad(
            StatusCode::REQUEST_TIMEOUT,
            "body_too_slow",
            format!("the body took longer than {BODY_SECONDS_MAX} s"),
        )),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::bad(StatusCode::BAD_REQUEST, "body_incomplete", "the body broke off")),
    }
}

/// A query or form as typed values: empty fields count as not sent.
fn from_pairs<T: DeserializeOwned>(encoded: &[u8], what: &'static str) -> Result<T, ApiError> {
    let kept: String = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form_urlencoded::parse(encoded).filter(|(_, v)| !v.is_empty()))
        .finish();
    let uri: Uri = format!("/?{kept}").parse().map_err(|_| {
        ApiError::bad(StatusCode::BAD_REQUEST, "malformed", format!("the {what} cannot be read"))
    })?;
    axum::extract::Query::<T>::try_from_uri(&uri).map(|q| q.0).map_err(|e| {
        ApiError::bad(
            StatusCode::BAD_REQUEST,
            "malformed",
            format!("the {what} cannot be read: {}", source_text(&e)),
        )
    })
}

fn source_text(e: &dyn std::error::Error) -> String {
    let mut last = e;
    while let Some(source) = last.source() {
        last = source;
    }
    crate::refusals::inert(&last.to_string())
}

fn typed_body<E: Endpoint>(spec: &Spec, bytes: &Bytes) -> Result<E::Request, ApiError> {
    if spec.media == Media::Stream
        || spec.body_bytes_max == 0
        || matches!(spec.method, gangline_wire::Method::Get | gangline_wire::Method::Delete)
    {
        // These take no body of a type: an empty object stands for "nothing".
        return serde_json::from_str("{}")
            .map_err(|_| ApiError::bad(StatusCode::BAD_REQUEST, "malformed", "a body is needed"));
    }
    if spec.media == Media::Html {
        return from_pairs(bytes, "form");
    }
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(text).map_err(|e| {
        ApiError::bad(
            StatusCode::BAD_REQUEST,
            "malformed",
            format!("the body cannot be read: {}", crate::refusals::inert(&e.to_string())),
        )
    })
}

/// What is known of the asker before the body is read.
enum Before {
    /// All there is to know.
    Established(Actor),
    /// A key that stands in the body.
    NewKey(Claimed),
    /// An enrolled key has signed for the body to come.
    Signed(HeadVerified),
}

fn claim(headers: &HeaderMap) -> Result<Claimed, ApiError> {
    let received = Received {
        signature: one(headers, "signature")?,
        input: one(headers, "signature-input")?,
        sequence: one(headers, gangline_wire::sig::SEQUENCE_HEADER)?,
        content_digest: one(headers, "content-digest")?,
    };
    Ok(Claimed::parse(received).map_err(Refusal::BadSignature)?)
}

/// Takes a request apart. `shown` is filled in as far as the asker is established, also where the result
/// is an error.
pub async fn receive<E: Endpoint>(
    app: &App,
    request: Request<Body>,
    path: Vec<(String, String)>,
    peer: SocketAddr,
    shown: &mut Shown,
) -> Result<Ctx<E>, ApiError> {
    let spec = E::SPEC;
    let now = edge::now();
    let moment = app.lives.moment();
    let (mut parts, body) = request.into_parts();
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let authority =
        parts.headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("").to_ascii_lowercase();
    let for_probes = spec.credential == Credential::Nobody && spec.path.matches('/').count() == 1;
    if !for_probes && !app.authorities.contains(&authority) {
        return Err(Refusal::OtherAuthority(crate::refusals::inert(&authority)).into());
    }
    let query_text = parts.uri.query().unwrap_or("").to_owned();

    // Before the body is read: who says they are asking, and did they sign for it?
    let mut found = None;
    let mut known_session = None;
    if matches!(spec.credential, Credential::MaybeSession | Credential::Session)
        && let Some(secret) = cookie(&parts.headers, SESSION_COOKIE).and_then(Secret::parse)
        && let Some(row) = app.store.session(&secret.stored(), now).await?
    {
        known_session = Some(row.record);
        found = Some(Session { secret, name: row.name, role: row.record.role });
    }
    if spec.media == Media::Html && parts.method == HttpMethod::POST && !is_same_origin(&parts.headers, app) {
        return Err(Refusal::Csrf.into());
    }
    let freezes = app.noticer.freezes().current();
    let signed_parts = RequestParts {
        method: parts.method.as_str(),
        authority: &authority,
        path: parts.uri.path(),
        query: &query_text,
    };
    let before = match spec.credential {
        // A frame's MAC is the intake's to check; until then it is nobody's.
        Credential::Nobody | Credential::Frame => Before::Established(Actor::nobody()),
        Credential::MaybeSession => {
            Before::Established(known_session.map_or_else(Actor::nobody, |record| session(record, &freezes)))
        }
        Credential::Session => {
            let record = known_session.ok_or(Refusal::NotSignedIn)?;
            let actor = session(record, &freezes);
            shown.actor = actor.principal().to_string();
            shown.principal = Some(*actor.principal());
            shown.asker = record.session.to_string();
            Before::Established(actor)
        }
        Credential::NewKey => {
            let claimed = claim(&parts.headers)?;
            shown.actor = format!("unknown, claiming {}", claimed.key);
            shown.key = Some(claimed.key);
            Before::NewKey(claimed)
        }
        Credential::Key => {
            let claimed = claim(&parts.headers)?;
            let key = claimed.key;
            shown.actor = format!("unknown, claiming {key}");
            shown.key = Some(key);
            let record = app.store.key(key).await?;
            let verified = signed(claimed, record.as_ref(), signed_parts, now, &freezes)?;
            shown.asker = key.to_string();
            let counted = if spec.media == Media::Stream { Counted::Ray } else { Counted::Signed };
            app.count(counted, &shown.asker)?;
            Before::Signed(verified)
        }
    };

    if parts.headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return Err(ApiError::bad_hint(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "compressed",
            "the body is compressed, and this network takes no compressed bodies",
            "send it as it is, without Content-Encoding",
        ));
    }
    let bytes = read_body(body, spec.body_bytes_max).await?;
    if spec.media != Media::Stream {
        shown.body = bytes.clone();
    }

    let actor = match before {
        Before::Established(actor) => {
            if spec.credential == Credential::Session && parts.method != HttpMethod::GET {
                let token =
                    form_urlencoded::parse(&bytes).find(|(n, _)| n == "csrf").map(|(_, v)| v.into_owned());
                let ok = found.as_ref().zip(token).is_some_and(|(s, t)| s.secret.is_form_token(&t));
                if !ok {
                    return Err(Refusal::Csrf.into());
                }
            }
            actor
        }
        Before::NewKey(claimed) => {
            // The key stands in the body itself; what else the body says is read after the signature.
            let key = serde_json::from_slice::<serde_json::Value>(&bytes)
                .ok()
                .and_then(|v| v.get("public_key")?.as_str()?.parse::<PublicKey>().ok())
                .ok_or_else(|| {
                    ApiError::bad_hint(
                        StatusCode::BAD_REQUEST,
                        "bad_key",
                        "the body names no usable Ed25519 public key",
                        "a weak or malformed key is refused; make a new one",
                    )
                })?;
            let actor = signed_by_new_key(&claimed, &key, signed_parts, &bytes, now, &freezes)?;
            shown.asker = claimed.key.to_string();
            actor
        }
        Before::Signed(verified) => {
            let old_until = now.plus(app.config.key_overlap_seconds);
            app.store.take_sequence(verified.with_body(&bytes)?, old_until).await?
        }
    };
    shown.actor = actor.principal().to_string();
    shown.principal = Some(*actor.principal());
    let trail = shown.trail.clone();
    let live = app.lives.hold(moment, actor.principal());
    let query = from_pairs(query_text.as_bytes(), "query")?;
    let body = typed_body::<E>(&spec, &bytes)?;
    Ok(Ctx {
        app: app.clone(),
        now,
        actor,
        session: found,
        path,
        query,
        body,
        head: parts,
        bytes,
        peer,
        live,
        upgrade,
        trail,
    })
}
