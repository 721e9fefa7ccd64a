//! The typed client of the network's API: signs every request with a key of its own, numbers it, and
//! turns answers into values or into errors that say what to do. Used by worker and command line.
//!
//! Knows nothing of what the requests mean.

mod held;
mod older;

use std::path::Path;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};
use std::time::Duration;

use gangline_types::{UnixMillis, UnixSeconds};
use gangline_wire::{
    Endpoint, ErrorBody, Media, Method, SigningKey, api::machine::EpochRequest, beat::Opening, sig,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::Serialize;

use crate::enrol::KeyFileError;
use held::Held;
use older::LeftOut;

/// How long a plain request may take; waiting ones say so themselves.
const REQUEST_SECONDS_MAX: u64 = 60;
const CONNECT_SECONDS_MAX: u64 = 10;
const KEEPALIVE_SECONDS: u64 = 30;
/// Largest answer read into memory.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// Why a request got no answer that could be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be used.
    #[error("{url} is not a server's URL: {why}; expected for example http://127.0.0.1:7700")]
    BadUrl {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no key to sign with.
    #[error("there is no key in {}", path.display())]
    NoKey {
        /// Where it should be.
        path: std::path::PathBuf,
    },
    /// The key's file cannot be used.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// Nobody answered. "Could not ask" is never "no".
    #[error("the server at {url} could not be reached")]
    Unreachable {
        /// Whom.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server refused or failed, and said how.
    #[error("{body}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its words.
        body: Box<ErrorBody>,
    },
    /// The answer is not one of this API.
    #[error("the server at {url} answered {what}; is it a Gangline server of this version?")]
    NotOurs {
        /// Whom.
        url: String,
        /// What came.
        what: String,
    },
}

impl ClientError {
    /// The server's stable code, if it said one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { body, .. } => Some(&body.code),
            _ => None,
        }
    }
    /// Whether asking again later may help: nobody answered, or the server is busy or broken.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }
}

/// Authorities that this process believes beside the system's: chosen once, before any client is made.
static BELIEVED: OnceLock<Believed> = OnceLock::new();

/// The same certificates, for HTTP clients and for whoever speaks TLS byte by byte.
struct Believed {
    for_http: Vec<reqwest::Certificate>,
    roots: Vec<CertificateDer<'static>>,
}

/// Why certificate authorities cannot be believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The text holds none.
    #[error("it holds no certificate in PEM")]
    Empty,
    /// It holds something else.
    #[error("it cannot be read as certificates in PEM")]
    Unusable(#[source] reqwest::Error),
    /// One of its certificates is none.
    #[error("it holds a certificate that cannot be used")]
    NoRoot(#[source] rustls::Error),
    /// Others were chosen before.
    #[error("this process has chosen others already")]
    Chosen,
}

/// From now on every client of this process believes the certificate authorities in `pem` too.
///
/// # Errors
/// When there is none in it, or this was done before.
pub fn believe(pem: &[u8]) -> Result<(), TrustError> {
    let for_http = reqwest::Certificate::from_pem_bundle(pem).map_err(TrustError::Unusable)?;
    let roots: Vec<_> = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
    if for_http.is_empty() || roots.is_empty() {
        return Err(TrustError::Empty);
    }
    BELIEVED.set(Believed { for_http, roots }).map_err(|_| TrustError::Chosen)
}

/// How this process speaks TLS as a client: the system's authorities and those it was told to believe.
///
/// # Errors
/// When the system's authorities cannot be read.
pub fn tls() -> Result<rustls::ClientConfig, TrustError> {
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let roots = BELIEVED.get().map(|believed| believed.roots.clone()).unwrap_or_default();
    let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(roots, crypto.clone())
        .map_err(TrustError::NoRoot)?;
    let config = rustls::ClientConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .map_err(TrustError::NoRoot)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

/// What every HTTP client of this process has in common: whom it believes, and that it goes where it was sent.
pub fn http() -> reqwest::ClientBuilder {
    // Installing it twice is harmless: the first stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tls_certs_merge(BELIEVED.get().into_iter().flat_map(|believed| believed.for_http.clone()))
}

/// A client of one network; with a key it signs.
pub struct Client {
    base: reqwest::Url,
    authority: String,
    http: reqwest::Client,
    key: Held,
    sequence: AtomicU64,
    left_out: LeftOut,
}

/// The time now, from the system's clock.
pub fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UnixMillis(since.as_millis() as u64)
}

impl Client {
    /// A client of the server at `url` (scheme, host and port; nothing else).
    pub fn new(url: &str, key: Option<SigningKey>) -> Result<Self, ClientError> {
        Self::signing_with(url, key.map_or(Held::Nothing, Held::Fixed))
    }

    /// A client that signs with the key in the file `key`, and after that was replaced with the one that took
    /// its place.
    ///
    /// # Errors
    /// If the URL cannot be used, or the file holds no key that may be used.
    pub fn with_key_file(url: &str, key: &Path) -> Result<Self, ClientError> {
        let held = Held::file(key)?.ok_or_else(|| ClientError::NoKey { path: key.to_owned() })?;
        Self::signing_with(url, held)
    }

    fn signing_with(url: &str, key: Held) -> Result<Self, ClientError> {
        let bad = |why| ClientError::BadUrl { url: url.to_owned(), why };
        let base = reqwest::Url::parse(url).map_err(|_| bad("it cannot be read"))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(bad("only http and https are spoken"));
        }
        if base.path() != "/"
            || base.query().is_some()
            || !base.username().is_empty()
            || base.password().is_some()
        {
            return Err(bad("it holds more than scheme, host and port"));
        }
        let host = base.host_str().ok_or_else(|| bad("it names no host"))?;
        let loopback = matches!(host, "localhost" | "[::1]") || host.starts_with("127.");
        if base.scheme() == "http" && !loopback {
            return Err(bad("plain http is only for this machine itself; use https"));
        }
        let authority = match base.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let http = http()
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS_MAX))
            // A tunnel may be silent for hours; a peer that vanished must be noticed all the same.
            .tcp_keepalive(Duration::from_secs(KEEPALIVE_SECONDS))
            .user_agent(concat!("gangline/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| ClientError::Unreachable { url: url.to_owned(), source })?;
        Ok(Self { base, authority, http, key, sequence: AtomicU64::new(0), left_out: LeftOut::default() })
    }

    /// The server's URL without a final slash.
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }
    /// Host and port as requests name them and signatures cover them.
    pub fn authority(&self) -> &str {
        &self.authority
    }
    /// The key requests are signed with now.
    pub fn key(&self) -> Option<SigningKey> {
        self.key.key()
    }

    /// Greater than every number this key used before, also in other processes: microseconds of the
    /// clock, or one more than the last.
    fn next_sequence(&self) -> u64 {
        let since =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let clock = since.as_micros() as u64;
        let step = |last: u64| Some(clock.max(last + 1));
        self.sequence
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, step)
            .map_or(clock, |last| clock.max(last + 1))
    }

    /// A question for an epoch as a datagram carries it, signed now; none without a key, or where a datagram has no room.
    pub fn opening(&self, request: &EpochRequest) -> Option<Opening> {
        let (key, now) = (self.key.key()?, now().seconds());
        Opening::sign(request.clone(), &self.authority, self.next_sequence(), now, &key)
    }

    /// Signature headers for a request of this client; none without a key.
    pub fn signature(
        &self,
        method: &str,
        path: &str,
        query: &str,
        body: &[u8],
    ) -> Vec<(&'static str, String)> {
        let Some(key) = self.key.key() else { return Vec::new() };
        let covered = sig::Covered {
            method,
            authority: &self.authority,
            path,
            query,
            body_digest: sig::digest(body),
            sequence: self.next_sequence(),
        };
        sig::sign(&covered, UnixSeconds(now().0 / 1000), &key).to_vec()
    }

    /// A signed request of any kind; the answer is passed on as it is. `path` is percent-encoded.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        wait: Option<Duration>,
    ) -> Result<reqwest::Response, ClientError> {
        let mut url = self.base.clone();
        url.set_path(path);
        url.set_query((!query.is_empty()).then_some(query));
        // Sign what the URL type will send, not what was meant.
        let (path, query) = (url.path().to_owned(), url.query().unwrap_or("").to_owned());
        let verb = reqwest::Method::from_bytes(method.as_bytes()).map_err(|_| ClientError::NotOurs {
            url: self.base().to_owned(),
            what: format!("the method {method}"),
        })?;
        let mut request = self.http.request(verb, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        for (name, value) in self.signature(method, &path, &query, &body) {
            request = request.header(name, value);
        }
        if let Some(wait) = wait {
            request = request.timeout(wait);
        }
        if !body.is_empty() {
            request = request.body(body);
        }
        request
            .send()
            .await
            .map_err(|source| ClientError::Unreachable { url: self.base().to_owned(), source })
    }

    /// Calls an endpoint: `parameters` fill its path in order. Fields that a server does not know, because it is
    /// older, are left out once it has said so.
    pub async fn call<E: Endpoint>(
        &self,
        parameters: &[&(dyn std::fmt::Display + Sync)],
        query: &E::Query,
        request: &E::Request,
    ) -> Result<E::Response, ClientError> {
        self.call_waiting::<E>(parameters, query, request, Duration::from_secs(REQUEST_SECONDS_MAX)).await
    }

    /// As [`Self::call`], with another limit for how long the answer may take.
    pub async fn call_waiting<E: Endpoint>(
        &self,
        parameters: &[&(dyn std::fmt::Display + Sync)],
        query: &E::Query,
        request: &E::Request,
        wait: Duration,
    ) -> Result<E::Response, ClientError> {
        debug_assert_eq!(E::SPEC.media, Media::Json, "{} does not answer JSON", E::SPEC.name);
        let path = {
            let plain: Vec<&dyn std::fmt::Display> =
                parameters.iter().map(|p| *p as &dyn std::fmt::Display).collect();
            E::path(&plain)
        };
        let query = query_string(query);
        let (body, headers): (Vec<u8>, &[(&str, &str)]) = match E::SPEC.method {
            Method::Get | Method::Delete => (Vec::new(), &[]),
            _ => {
                let body = serde_json::to_vec(request).map_err(|e| ClientError::NotOurs {
                    url: self.base().to_owned(),
                    what: format!("nothing: the request cannot be written ({e})"),
                })?;
                (body, &[("content-type", "application/json")])
            }
        };
        let method = E::SPEC.method.as_str();
        let sent = self.left_out.from(E::SPEC.name, &body);
        let response = self.raw(method, &path, &query, headers, sent.clone(), Some(wait)).await?;
        let answer = self.read_json(response).await;
        // A server that is older than this program does not know what was added since. What it can read is better
        // than nothing: nobody is cut off because servers come second in a rollout.
        if let Err(ClientError::Refused { body: refusal, .. }) = &answer
            && let Some(less) = self.left_out.learn(E::SPEC.name, refusal, &sent)
        {
            tracing::info!(
                endpoint = E::SPEC.name,
                fields = refusal.fields.join(", "),
                "the server is older and does not know these; they are left out"
            );
            let response = self.raw(method, &path, &query, headers, less, Some(wait)).await?;
            return self.read_json(response).await;
        }
        answer
    }

    /// The host of the server's URL, without brackets.
    pub fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']').to_owned()
    }

    /// An error for an answer that is not one of this API.
    pub fn unexpected(&self, what: String) -> ClientError {
        ClientError::NotOurs { url: self.base().to_owned(), what }
    }

    /// Posts bytes that carry their own authentication, unsigned; gives status and answer as they are. `base` is another
    /// URL of the same server.
    pub async fn post_bytes(
        &self,
        base: Option<&str>,
        path: &str,
        body: Vec<u8>,
        wait: Duration,
    ) -> Result<(u16, Vec<u8>), ClientError> {
        let mut url = match base {
            Some(base) => reqwest::Url::parse(base)
                .map_err(|_| ClientError::BadUrl { url: base.to_owned(), why: "it cannot be read" })?,
            None => self.base.clone(),
        };
        url.set_path(path);
        let request = self.http.post(url).header("content-type", "application/octet-stream");
        let response = request
            .timeout(wait)
            .body(body)
            .send()
            .await
            .map_err(|source| ClientError::Unreachable { url: self.base().to_owned(), source })?;
        let status = response.status().as_u16();
        Ok((status, self.read_bytes(response).await?))
    }

    /// Reads an answer: a value, or the server's refusal.
    pub async fn read_json<T: serde::de::DeserializeOwned>(
        &self,
        response: reqwest::Response,
    ) -> Result<T, ClientError> {
        let status = response.status();
        let bytes = self.read_bytes(response).await?;
        let not_ours = |what: String| ClientError::NotOurs { url: self.base().to_owned(), what };
        if !status.is_success() {
            let body = serde_json::from_slice(&bytes)
                .map_err(|_| not_ours(format!("{status} without a reason of ours")))?;
            return Err(ClientError::Refused { status: status.as_u16(), body });
        }
        serde_json::from_slice(&bytes).map_err(|e| not_ours(format!("something that cannot be read ({e})")))
    }

    async fn read_bytes(&self, mut response: reqwest::Response) -> Result<Vec<u8>, ClientError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|source| ClientError::Unreachable { url: self.base().to_owned(), source })?
        {
            if bytes.len() + chunk.len() > RESPONSE_BYTES_MAX {
                return Err(ClientError::NotOurs {
                    url: self.base().to_owned(),
                    what: format!("more than {RESPONSE_BYTES_MAX} bytes"),
                });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

fn query_string(query: &impl Serialize) -> String {
    let value = serde_json::to_value(query).unwrap_or_default();
    let mut pairs = reqwest::Url::parse("http://q/").expect("a fixed URL parses");
    for (name, value) in value.as_object().into_iter().flatten() {
        let text = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(s) => s.clone(),
            other => other.to_string(),
        };
        pairs.query_pairs_mut().append_pair(name, &text);
    }
    pairs.query().unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_is_a_server() {
        for bad in [
            "nonsense",
            "ftp://127.0.0.1",
            "http://127.0.0.1/x",
            "http://u:p@127.0.0.1",
            "http://example.org",
        ] {
            assert!(matches!(Client::new(bad, None), Err(ClientError::BadUrl { .. })), "{bad} was taken");
        }
        for good in ["http://127.0.0.1:7700", "http://localhost:1/", "http://[::1]:9", "https://example.org"]
        {
            assert!(Client::new(good, None).is_ok(), "{good} was refused");
        }
    }

    #[test]
    fn numbers_grow_even_within_a_microsecond() {
        let client = Client::new("http://127.0.0.1:1", None).unwrap();
        let numbers: Vec<u64> = (0..1000).map(|_| client.next_sequence()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));
    }
}
