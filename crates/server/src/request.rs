//! From bytes to a handler's arguments: limits, signature or session, then types. A handler never sees a
//! request that did not pass; an identity never comes from anything but the guard.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Method as HttpMethod, Request, StatusCode, Uri, header},
};
use gangline_guard::{
    Act, Actor, HeadVerified, Permit, Principal, Refusal, RequestParts,
    authenticate::{session, signature, signed_by, signed_by_new_key},
    notice::{Asked, Trail},
    notice::{Outcome, watch::is_dull},
    permit::permit,
    policy::Resource,
    secret::Secret,
};
use gangline_store::onward;
use gangline_types::{KeyId, Label, SessionId, UnixSeconds};
use gangline_wire::{
    Credential, Endpoint, Media, PublicKey, Spec,
    api::account::Role,
    body::{self, BodyError},
    sig::{Claimed, Received, SigError},
};
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;

use crate::{
    app::{App, Counted},
    edge,
    error::ApiError,
    live::Live,
    spool::{BODY_IN_MEMORY_BYTES_MAX, Spool},
};

/// Name of the session's cookie. `__Host-`: only over a secure channel, for this host alone.
pub const SESSION_COOKIE: &str = "__Host-gangline";
/// Name of the theme's cookie.
pub const THEME_COOKIE: &str = "gangline-theme";
/// Code of an act that was declined.
pub const DECLINED: &str = "approval_declined";
/// How long a body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(120);
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
    /// Its body as it came; empty where it is [`Ctx::into_raw`]'s.
    pub bytes: Bytes,
    /// From where.
    pub peer: SocketAddr,
    /// Ends when what the asker showed ends.
    pub live: Live,
    /// The connection, should it be upgraded: given away only with [`Ctx::live`].
    upgrade: Option<OnUpgrade>,
    /// A body that is passed through.
    spool: Option<Spool>,
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
        ask::<A>(&self.actor, on, self.now, &self.trail)
    }
    /// The request as it came, its body put back, for what is passed through or upgraded; and what has to end
    /// the connection.
    pub fn into_raw(mut self) -> (Request<Body>, Live) {
        if let Some(upgrade) = self.upgrade.take() {
            self.head.extensions.insert(upgrade);
        }
        let body = self.spool.take().map_or_else(|| Body::from(self.bytes), Spool::into_body);
        (Request::from_parts(self.head, body), self.live)
    }
    /// Asker for quotas: the key, or else the address.
    pub fn asker(&self) -> Asker {
        self.actor.principal().key().map_or(Asker::Address(self.peer.ip()), Asker::Key)
    }
}

/// Whom something is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// Nobody known, at an address.
    Address(IpAddr),
    /// A key that has signed.
    Key(KeyId),
    /// A session.
    Session(SessionId),
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Key(key) => key.fmt(f),
            Self::Session(session) => session.fmt(f),
        }
    }
}

/// What came, for the refusal's record, even if nothing of it could be believed.
#[derive(Clone, Debug)]
pub struct Shown {
    /// For quotas of the record.
    pub asker: Asker,
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
    pub fn nothing(address: IpAddr) -> Self {
        Self {
            asker: Asker::Address(address),
            key: None,
            principal: None,
            trail: Trail::default(),
            body: Bytes::new(),
        }
    }
    /// Who, as far as established.
    pub fn actor(&self) -> String {
        match (self.principal, self.key) {
            (Some(principal), _) => principal.to_string(),
            (None, Some(key)) => format!("unknown, claiming {key}"),
            (None, None) => "nobody".to_owned(),
        }
    }
}

/// Asks the guard, and notes what it was asked and said.
pub(crate) fn ask<A: Act>(
    actor: &Actor,
    on: A::On,
    now: UnixSeconds,
    trail: &Trail,
) -> Result<Permit<A>, ApiError> {
    let what: Resource = on.clone().into();
    let answer = permit::<A>(actor, on, now);
    if answer.is_err() || !is_dull(A::ACTION, Outcome::Done) {
        trail.add(Asked::new(actor.principal(), A::ACTION, &what, &answer));
    }
    Ok(answer?)
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
    let limited = http_body_util::Limited::new(body, limit);
    let read = http_body_util::BodyExt::collect(limited);
    match tokio::time::timeout(BODY_WAIT, read).await {
        Err(_) => Err(ApiError::too_slow(BODY_WAIT)),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<http_body_util::LengthLimitError>() => Err(ApiError::too_large(limit)),
        Ok(Err(_)) => Err(ApiError::broken_off()),
    }
}

/// A query as typed values: empty fields count as not sent, and what is not known is not looked at, so that a link
/// may carry more.
fn from_query<T: DeserializeOwned>(encoded: &[u8]) -> Result<T, ApiError> {
    let malformed = |why: &str| {
        ApiError::bad(StatusCode::BAD_REQUEST, "malformed", format!("the query cannot be read{why}"))
    };
    let uri = if encoded.is_empty() {
        Uri::from_static("/")
    } else {
        let kept: String = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form_urlencoded::parse(encoded).filter(|(_, v)| !v.is_empty()))
            .finish();
        format!("/?{kept}").parse().map_err(|_| malformed(""))?
    };
    axum::extract::Query::<T>::try_from_uri(&uri)
        .map(|q| q.0)
        .map_err(|e| malformed(&format!(": {}", source_text(&e))))
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
    let (read, what) =
        if spec.media == Media::Html { (body::form(bytes), "form") } else { (body::json(bytes), "body") };
    read.map_err(|why| match why {
        BodyError::Unknown(fields) => {
            ApiError::UnknownFields(fields.iter().map(|field| crate::refusals::inert(field)).collect())
        }
        BodyError::Malformed(why) => ApiError::bad(
            StatusCode::BAD_REQUEST,
            "malformed",
            format!("the {what} cannot be read: {}", crate::refusals::inert(&why)),
        ),
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

/// A request's head that an enrolled key is said to have signed.
pub(crate) struct Head<'a> {
    /// What is said of the signature.
    pub(crate) claimed: Claimed,
    /// What it is over.
    pub(crate) parts: RequestParts<'a>,
    /// As what it counts, once it is verified.
    pub(crate) counted: Counted,
    /// Filled in as far as the asker is established.
    pub(crate) shown: &'a mut Shown,
}

/// Verifies of each of these heads that an enrolled key has signed it, together with what others ask at the same time.
pub(crate) async fn signed_heads(
    app: &App,
    mut heads: Vec<Head<'_>>,
    now: UnixSeconds,
) -> Vec<Result<HeadVerified, ApiError>> {
    let freezes = app.noticer.freezes().current();
    let keys = heads.iter_mut().map(|head| {
        head.shown.key = Some(head.claimed.key);
        head.claimed.key
    });
    let keys = keys.collect();
    let records = app.store.each_key(keys).await;
    let found = heads.into_iter().zip(records).map(|(head, record)| {
        let record = record?;
        let signed = signature(&head.claimed, record.as_ref(), head.parts)?;
        Ok(((head, record), signed))
    });
    onward(found.collect(), async |found: Vec<_>| {
        let (heads, signed): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let good = app.verify_each(signed).await;
        let verified = heads.into_iter().zip(good).map(|((head, record), good)| {
            let Head { claimed, parts, counted, shown } = head;
            let key = claimed.key;
            let good = good.ok_or(Refusal::BadSignature(SigError::Signature))?;
            let verified = signed_by(claimed, record.as_ref(), parts, now, &freezes, Some(&good))?;
            shown.asker = Asker::Key(key);
            app.count(counted, shown.asker)?;
            Ok(verified)
        });
        verified.collect()
    })
    .await
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
    let named = parts.headers.get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or("");
    let authority = named.to_ascii_lowercase();
    // One name, however often it may be said (RFC 9112 section 3.2).
    let also = parts.uri.authority().map(|also| also.as_str().to_ascii_lowercase());
    if parts.headers.get_all(header::HOST).iter().count() > 1 || also.is_some_and(|also| also != authority) {
        return Err(ApiError::bad(
            StatusCode::BAD_REQUEST,
            "two_hosts",
            "the request names the host that it is for twice",
        ));
    }
    let for_probes = spec.credential == Credential::Nobody && spec.path.matches('/').count() == 1;
    if !for_probes && !app.authorities.contains(&authority) {
        return Err(Refusal::OtherAuthority(crate::refusals::inert(&authority)).into());
    }
    let query_text = parts.uri.query().unwrap_or("").to_owned();

    // Before the body is read: who says they are asking, and did they sign for it?
    let mut found = None;
    let mut known_session = None;
    if (spec.credential == Credential::MaybeSession || spec.credential.is_session())
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
            let whoever = known_session.map(|record| session(record, &freezes, app.factors));
            Before::Established(whoever.unwrap_or_else(Actor::nobody))
        }
        Credential::Session | Credential::AnySession => {
            let record = known_session.ok_or(Refusal::NotSignedIn)?;
            let actor = session(record, &freezes, app.factors);
            shown.principal = Some(*actor.principal());
            shown.asker = Asker::Session(record.session);
            // Here and not in any handler: a route that is not declared to take one factor takes two.
            if spec.credential == Credential::Session && actor.lacks_a_factor() {
                return Err(Refusal::OneFactor.into());
            }
            Before::Established(actor)
        }
        Credential::NewKey => {
            let claimed = claim(&parts.headers)?;
            shown.key = Some(claimed.key);
            Before::NewKey(claimed)
        }
        Credential::Key => {
            let claimed = claim(&parts.headers)?;
            let counted = if spec.media == Media::Stream { Counted::Ray } else { Counted::Signed };
            let head = Head { claimed, parts: signed_parts, counted, shown: &mut *shown };
            Before::Signed(signed_heads(app, vec![head], now).await.remove(0)?)
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
    // What is passed through may be large, and waits outside of memory until its digest is known.
    let account = match &before {
        Before::Signed(verified) => verified.principal().account(),
        _ => None,
    };
    let (bytes, spool) = match account {
        Some(account) if spec.media == Media::Stream && spec.body_bytes_max > BODY_IN_MEMORY_BYTES_MAX => {
            let spool = app.spools.receive(body, account, spec.body_bytes_max, BODY_WAIT).await?;
            (Bytes::new(), Some(spool))
        }
        _ => (read_body(body, spec.body_bytes_max).await?, None),
    };
    if spec.media != Media::Stream {
        shown.body = bytes.clone();
    }

    let actor = match before {
        Before::Established(actor) => {
            if spec.credential.is_session() && parts.method != HttpMethod::GET {
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
            shown.asker = Asker::Key(claimed.key);
            actor
        }
        Before::Signed(verified) => {
            let old_until = now.plus(app.config.key_overlap_seconds);
            let verified = match &spool {
                Some(spool) => verified.with_digest(spool.digest())?,
                None => verified.with_body(&bytes)?,
            };
            app.store.take_sequence(verified, old_until).await?
        }
    };
    shown.principal = Some(*actor.principal());
    let trail = shown.trail.clone();
    let live = app.lives.hold(moment, actor.principal());
    let query = from_query(query_text.as_bytes())?;
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
        spool,
        trail,
    })
}
