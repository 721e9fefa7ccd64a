//! The door of `rent connect`: who may pass, what of a request goes on, and what of an answer comes
//! back. A page in a browser, another program of this machine's users and a name that was bent to
//! loopback are all strangers here until they show the token.
//!
//! No credential passes in either direction: not the token, not a cookie, not a signature.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::TryStreamExt;
use gangline_types::ClusterId;
use gangline_wire::{Endpoint, endpoints::RayProxy};
use gangline_worker::client::Client;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
};
use hyper_util::rt::TokioIo;

use super::ray::Ray;
use crate::inert::inert_line;

/// The query parameter of the browser's link.
const LINK_PARAMETER: &str = "gangline_token=";
/// Our cookie, and the one Ray's own sign-in sets.
const COOKIES: [&str; 2] = [COOKIE, "ray-authentication-token"];
const COOKIE: &str = "gangline-connect";
/// A body must be in after this long: 128 MiB at 450 KiB a second.
const BODY_WAIT: Duration = Duration::from_secs(300);

/// Headers that belong to one connection (RFC 9110, section 7.6.1).
const OF_A_CONNECTION: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
/// Headers of a request that stay here: credentials, what may hold one, and what we set ourselves.
const OF_A_REQUEST: [&str; 16] = [
    "authorization",
    "x-ray-authorization",
    "cookie",
    "origin",
    "referer",
    "host",
    "content-length",
    "expect",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "content-digest",
    "gangline-sequence",
    "signature",
    "signature-input",
];

/// Headers of an answer that keep a cluster's pages from acting on the server's own origin, where they are
/// nobody's business. Here they have an origin of their own, and Ray's dashboard needs its scripts.
const OF_THE_SERVERS_ORIGIN: [&str; 5] = [
    "content-security-policy",
    "x-content-type-options",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "permissions-policy",
];

type Body = UnsyncBoxBody<Bytes, reqwest::Error>;

/// A random secret of this run. Prints as `[redacted]`.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// 256 bits from the system.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn random() -> anyhow::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|why| anyhow::anyhow!("the system gave no randomness: {why}"))?;
        Ok(Self(URL_SAFE_NO_PAD.encode(bytes)))
    }
    /// The secret itself.
    pub fn text(&self) -> &str {
        &self.0
    }
    /// Whether `shown` is the token, in the same time wherever they differ.
    fn is(&self, shown: &str) -> bool {
        // Comparing BLAKE3 hashes takes constant time by that library's promise.
        blake3::hash(shown.as_bytes()) == blake3::hash(self.0.as_bytes())
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token([redacted])")
    }
}

/// Who may pass.
#[derive(Debug)]
pub struct Gate {
    token: Token,
    hosts: Vec<String>,
}

/// Why somebody may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// Asked for another name than this door's: a name bent to loopback.
    Host,
    /// A page of another origin asks.
    Origin,
    /// No token.
    NoToken,
    /// Another token.
    WrongToken,
}

impl Stranger {
    fn words(self) -> (StatusCode, &'static str) {
        match self {
            Self::Host => (
                StatusCode::MISDIRECTED_REQUEST,
                "This is not the name of this door; use the address that rent connect printed.",
            ),
            Self::Origin => (StatusCode::FORBIDDEN, "Pages of another origin may not use this door."),
            Self::NoToken => {
                (StatusCode::UNAUTHORIZED, "A token is needed: use the lines that rent connect printed.")
            }
            Self::WrongToken => (
                StatusCode::UNAUTHORIZED,
                "This is not the token of this door: it changes with each rent connect.",
            ),
        }
    }
}

impl Gate {
    /// The gate at `address`.
    pub fn new(token: Token, address: SocketAddr) -> Self {
        let hosts = vec![address.to_string(), format!("localhost:{}", address.port())];
        Self { token, hosts }
    }

    fn is_host(&self, host: &str) -> bool {
        self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
    }

    /// Whether a request is meant for this door and comes from no page of another origin.
    fn check_origin(&self, uri: &http::Uri, headers: &HeaderMap) -> Result<(), Stranger> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok()).ok_or(Stranger::Host)?;
        let named = uri.authority().is_none_or(|authority| self.is_host(authority.as_str()));
        if hosts.next().is_some() || !self.is_host(host) || !named {
            return Err(Stranger::Host);
        }
        for origin in headers.get_all(header::ORIGIN) {
            let ours = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
            if !ours.is_some_and(|origin| self.is_host(origin)) {
                return Err(Stranger::Origin);
            }
        }
        // Browsers say themselves whether another site asks; the cookie alone would not tell ports apart.
        let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
        if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
            Err(Stranger::Origin)
        } else {
            Ok(())
        }
    }

    /// Whether a request shows the token, in a header as Ray's tools do or in a cookie as browsers do.
    fn check_token(&self, headers: &HeaderMap) -> Result<(), Stranger> {
        let bearer = |name: &str| {
            let text = headers.get(name)?.to_str().ok()?;
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        };
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let cookies = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            COOKIES.contains(&name).then_some(value)
        });
        let shown: Vec<&str> = [bearer("authorization"), bearer("x-ray-authorization")]
            .into_iter()
            .flatten()
            .chain(cookies)
            .collect();
        match shown.iter().any(|shown| self.token.is(shown)) {
            true => Ok(()),
            false if shown.is_empty() => Err(Stranger::NoToken),
            false => Err(Stranger::WrongToken),
        }
    }

    /// Whether the browser's link is asked for, and with the right token.
    fn check_link(&self, uri: &http::Uri) -> Option<Result<(), Stranger>> {
        let query = uri.query()?;
        let shown = query.split('&').find_map(|pair| pair.strip_prefix(LINK_PARAMETER))?;
        Some(if self.token.is(shown) { Ok(()) } else { Err(Stranger::WrongToken) })
    }

    fn cookie(&self) -> HeaderValue {
        let text = format!("{COOKIE}={}; HttpOnly; SameSite=Strict; Path=/", self.token.text());
        let mut value = HeaderValue::try_from(text).expect("a base64url token is a header value");
        value.set_sensitive(true);
        value
    }
}

/// The way from the door to the cluster.
pub struct Passage {
    gate: Gate,
    client: Client,
    cluster: ClusterId,
}

impl Passage {
    /// From `gate` to `cluster`, signed by the key of `client`.
    pub fn new(gate: Gate, client: Client, cluster: ClusterId) -> Self {
        Self { gate, client, cluster }
    }

    /// Answers one request.
    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        if let Err(stranger) = self.gate.check_origin(request.uri(), request.headers()) {
            return refusal(stranger);
        }
        match self.gate.check_link(request.uri()) {
            Some(Ok(())) => return self.welcome(StatusCode::SEE_OTHER, ""),
            Some(Err(stranger)) => return refusal(stranger),
            None => {}
        }
        if let Err(stranger) = self.gate.check_token(request.headers()) {
            return refusal(stranger);
        }
        // Ray's own sign-in page asks this; the cluster's answer would carry the cluster's token.
        if request.uri().path() == "/api/authenticate" {
            return self.welcome(StatusCode::OK, r#"{"status":"authenticated","message":"Token is valid"}"#);
        }
        self.pass(request).await
    }

    fn welcome(&self, status: StatusCode, text: &'static str) -> Response<Body> {
        let mut response = plain(status, text.to_owned());
        let headers = response.headers_mut();
        headers.insert(header::SET_COOKIE, self.gate.cookie());
        if status.is_redirection() {
            headers.insert(header::LOCATION, HeaderValue::from_static("/"));
        } else {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        response
    }

    async fn pass(&self, mut request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if !stays_below(&path) {
            return plain(StatusCode::BAD_REQUEST, "This path leads out of the cluster's Ray.".to_owned());
        }
        let method = request.method().as_str().to_owned();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let websocket = wants_websocket(request.headers());
        let mut headers = outgoing(request.headers());
        let local = websocket.then(|| hyper::upgrade::on(&mut request));
        if websocket {
            headers.push(("connection".to_owned(), "Upgrade".to_owned()));
            headers.push(("upgrade".to_owned(), "websocket".to_owned()));
        }
        let body_bytes_max = RayProxy::SPEC.body_bytes_max;
        let body = Limited::new(request.into_body(), body_bytes_max).collect();
        let body = match tokio::time::timeout(BODY_WAIT, body).await {
            Ok(Ok(body)) => body.to_bytes().to_vec(),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                return plain(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("The body is larger than {body_bytes_max} bytes."),
                );
            }
            Ok(Err(_)) => return plain(StatusCode::BAD_REQUEST, "The body broke off.".to_owned()),
            Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "The body did not come.".to_owned()),
        };
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let ray = Ray::new(&self.client, self.cluster);
        let answer = match ray.pass(&method, &path, &query, &headers, body).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(cause = %inert_line(&error.to_string()), "a request did not reach the server");
                return plain(StatusCode::BAD_GATEWAY, format!("{error}."));
            }
        };
        match local {
            Some(local) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => join(local, answer),
            _ => incoming(answer),
        }
    }
}

/// Whether `path` cannot be read as leading above the place it is appended to: no `.` or `..` in any
/// spelling, and no backslash, which URLs read as a slash.
fn stays_below(path: &str) -> bool {
    let dots = |segment: &str| {
        let segment = segment.to_ascii_lowercase().replace("%2e", ".");
        segment == "." || segment == ".."
    };
    let tail = path.to_ascii_lowercase();
    path.starts_with('/') && !path.contains('\\') && !tail.contains("%5c") && !path.split('/').any(dots)
        // An encoded slash could hide dots from this check and not from the next reader.
        && !tail.split("%2f").any(|part| part.split('/').any(dots))
}

fn has_word(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let values = headers.get_all(name);
    values
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|w| w.trim().eq_ignore_ascii_case(word))
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    has_word(headers, header::CONNECTION, "upgrade") && has_word(headers, header::UPGRADE, "websocket")
}

/// Whether a header belongs to the one connection it came on.
fn of_a_connection(headers: &HeaderMap, name: &HeaderName) -> bool {
    OF_A_CONNECTION.contains(&name.as_str()) || has_word(headers, header::CONNECTION, name.as_str())
}

/// The headers of a request that go on.
fn outgoing(headers: &HeaderMap) -> Vec<(String, String)> {
    let passes =
        |name: &HeaderName| !of_a_connection(headers, name) && !OF_A_REQUEST.contains(&name.as_str());
    headers
        .iter()
        .filter(|(name, _)| passes(name))
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect()
}

/// The headers of an answer that come back: no cookie of a stranger, and no leave for other origins.
fn returned(headers: &HeaderMap) -> HeaderMap {
    let passes = |name: &HeaderName| {
        let name_text = name.as_str();
        !of_a_connection(headers, name)
            && name_text != "set-cookie"
            && !OF_THE_SERVERS_ORIGIN.contains(&name_text)
            && !name_text.starts_with("access-control-")
    };
    let passing = headers.iter().filter(|(name, _)| passes(name));
    passing.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// An answer, streamed.
fn incoming(answer: reqwest::Response) -> Response<Body> {
    let mut response = Response::new(());
    *response.status_mut() = answer.status();
    *response.headers_mut() = returned(answer.headers());
    let body = StreamBody::new(answer.bytes_stream().map_ok(Frame::data));
    response.map(|()| UnsyncBoxBody::new(body))
}

/// Joins both ends of a WebSocket once the local end has changed over.
fn join(local: hyper::upgrade::OnUpgrade, answer: reqwest::Response) -> Response<Body> {
    let mut response = Response::new(UnsyncBoxBody::new(Full::default().map_err(|never| match never {})));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = returned(answer.headers());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    tokio::spawn(async move {
        let joined = async {
            let mut far = answer.upgrade().await.map_err(std::io::Error::other)?;
            let mut near = TokioIo::new(local.await.map_err(std::io::Error::other)?);
            tokio::io::copy_bidirectional(&mut near, &mut far).await
        };
        if let Err(error) = joined.await {
            tracing::debug!(%error, "a WebSocket broke");
        }
    });
    response
}

fn plain(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(UnsyncBoxBody::new(Full::from(text).map_err(|never| match never {})));
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(stranger: Stranger) -> Response<Body> {
    let (status, words) = stranger.words();
    let mut response = plain(status, format!("{words}\n"));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
