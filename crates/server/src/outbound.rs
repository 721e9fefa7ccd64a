//! Requests that this server makes by itself, within limits: of time, of size, over TLS, never on to where an
//! answer redirects, and only to addresses of the public internet and what the operator has named.
//!
//! A name is resolved once, here, and the connection goes to the very addresses that were judged: a name that
//! resolves otherwise a moment later leads nowhere else. No proxy is used, which would resolve names itself.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use gangline_guard::outbound::Exceptions;
use openidconnect::AsyncHttpClient;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// How long a connection may take to come about, in seconds.
const CONNECT_SECONDS: u64 = 5;
/// How long a request may take in all, in seconds.
const REQUEST_SECONDS: u64 = 10;
/// The longest answer taken, in bytes: key sets, tokens and certificates have a few thousand.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// A request with its whole body.
pub type Request = http::Request<Vec<u8>>;
/// An answer with its whole body.
pub type Answer = http::Response<Vec<u8>>;

/// Why somebody could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The address is not one that may be asked.
    #[error("{0} is not an address that this server asks: https, or http on this machine alone")]
    Address(String),
    /// It is of a network that is not asked.
    #[error("{0}")]
    NotAsked(#[from] gangline_guard::outbound::NotAsked),
    /// The network, or the other side's TLS.
    #[error("asking {host} failed")]
    Http {
        /// Whom.
        host: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// Too long an answer.
    #[error("{0} answered with more than {ANSWER_BYTES_MAX} bytes")]
    Long(String),
    /// An answer that says it could not answer.
    #[error("{host} answered with status {status}")]
    Status {
        /// Who.
        host: String,
        /// HTTP status.
        status: u16,
    },
    /// Asked too often.
    #[error("it was asked several times just now and will be asked again in {seconds} s")]
    TooOften {
        /// Until then.
        seconds: u64,
    },
    /// An answer that is not what it should be.
    #[error("its answer cannot be used: {0}")]
    Answer(String),
}

/// Why no requests could be made at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file of certificates.
    #[error("the file of certificates {file} cannot be used")]
    Trust {
        /// Which.
        file: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// TLS.
    #[error("TLS cannot be set up")]
    Tls(#[source] reqwest::Error),
}

/// Certificates of authorities, from a PEM file.
///
/// # Errors
/// When it cannot be read, or holds none.
pub fn authorities(file: &Path) -> Result<Vec<reqwest::Certificate>, SetupError> {
    let failed = |source| SetupError::Trust { file: file.to_owned(), source };
    let pem = std::fs::read(file).map_err(failed)?;
    let invalid = |text: String| failed(std::io::Error::new(std::io::ErrorKind::InvalidData, text));
    let found = reqwest::Certificate::from_pem_bundle(&pem).map_err(|e| invalid(e.to_string()))?;
    if found.is_empty() {
        return Err(invalid("it holds no certificate".into()));
    }
    Ok(found)
}

/// Asks others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbound {
    client: reqwest::Client,
    exceptions: Arc<Exceptions>,
    is_plain: bool,
}

/// Resolves names, and leaves out what may not be asked.
struct Judged(Arc<Exceptions>);

impl Resolve for Judged {
    fn resolve(&self, name: Name) -> Resolving {
        let exceptions = self.0.clone();
        Box::pin(async move {
            let host = name.as_str().to_owned();
            let mut refused = None;
            let mut kept = Vec::new();
            for address in tokio::net::lookup_host((host.as_str(), 0)).await? {
                match exceptions.may_ask(&host, address.ip()) {
                    Ok(()) => kept.push(address),
                    Err(why) => refused = Some(why),
                }
            }
            match (kept.is_empty(), refused) {
                (true, Some(why)) => Err(why.into()),
                _ => Ok(Box::new(kept.into_iter()) as Addrs),
            }
        })
    }
}

/// Whether `url` is on this machine.
pub fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// Host and port of `url`, for people.
pub fn host(url: &url::Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => String::new(),
    }
}

/// The networks of this machine itself, for those who ask a service beside this one.
pub const THIS_MACHINE: [&str; 2] = ["127.0.0.0/8", "::1"];

impl Outbound {
    /// Asks what is of the public internet or in `exceptions`, over TLS; it believes the system's certificate
    /// authorities and those of `trusted`. Over plain HTTP it asks this machine alone, and only where the
    /// exceptions let it.
    ///
    /// # Errors
    /// When TLS cannot be set up, or the certificates cannot be read.
    pub fn new(exceptions: Exceptions, trusted: Option<&Path>) -> Result<Self, SetupError> {
        // Another part of this process may have chosen already; both choices are the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let here = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let is_plain = here.into_iter().any(|ip| exceptions.may_ask("localhost", ip).is_ok());
        let exceptions = Arc::new(exceptions);
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS))
            .timeout(Duration::from_secs(REQUEST_SECONDS))
            .pool_max_idle_per_host(2)
            .no_proxy()
            .https_only(!is_plain)
            .user_agent(concat!("gangline/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Judged(exceptions.clone()))
            .tls_certs_merge(trusted.map(authorities).transpose()?.unwrap_or_default())
            .build()
            .map_err(SetupError::Tls)?;
        Ok(Self { client, exceptions, is_plain })
    }

    /// Whether `url` may be asked, and people be sent there, as far as can be said before its name is resolved.
    pub fn may_ask(&self, url: &url::Url) -> bool {
        let is_safe = url.scheme() == "https" || self.is_plain && url.scheme() == "http" && is_loopback(url);
        is_safe && url.username().is_empty() && url.password().is_none() && self.judge_literal(url).is_ok()
    }

    /// An address written out is not resolved, so it is judged here.
    fn judge_literal(&self, url: &url::Url) -> Result<(), OutboundError> {
        let address = match url.host() {
            Some(url::Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(url::Host::Ipv6(ip)) => IpAddr::V6(ip),
            Some(url::Host::Domain(_)) => return Ok(()),
            None => return Err(OutboundError::Address(String::new())),
        };
        Ok(self.exceptions.may_ask(url.host_str().unwrap_or_default(), address)?)
    }

    /// Asks, and reads the answer up to its limit, whatever its status.
    ///
    /// # Errors
    /// When the address may not be asked, or no whole answer came.
    pub async fn fetch(&self, request: Request) -> Result<Answer, OutboundError> {
        let address = request.uri().to_string();
        let parsed = url::Url::parse(&address).ok();
        if let Some(url) = &parsed {
            self.judge_literal(url)?;
        }
        let url = parsed
            .filter(|url| self.may_ask(url))
            .ok_or_else(|| OutboundError::Address(crate::refusals::inert(&address)))?;
        let host = host(&url);
        let failed =
            |source: reqwest::Error| OutboundError::Http { host: host.clone(), source: source.without_url() };
        let (parts, body) = request.into_parts();
        let mut answer = self
            .client
            .request(parts.method, url)
            .headers(parts.headers)
            .body(body)
            .send()
            .await
            .map_err(failed)?;
        let status = answer.status();
        let headers = std::mem::take(answer.headers_mut());
        let mut read = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if read.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(OutboundError::Long(host));
            }
            read.extend_from_slice(&chunk);
        }
        let mut response = Answer::new(read);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// The same; an answer that says its sender could not answer is an error.
    ///
    /// # Errors
    /// As [`Self::fetch`], and for statuses that are redirects, of a broken or of a busy server.
    pub async fn ask(&self, request: Request) -> Result<Answer, OutboundError> {
        let host = request.uri().authority().map(|a| a.to_string()).unwrap_or_default();
        let answer = self.fetch(request).await?;
        let status = answer.status();
        if status.is_server_error() || status.is_redirection() || status.as_u16() == 429 {
            return Err(OutboundError::Status { host, status: status.as_u16() });
        }
        Ok(answer)
    }
}

impl<'c> AsyncHttpClient<'c> for Outbound {
    type Error = OutboundError;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, OutboundError>> + Send + 'c>>;

    fn call(&'c self, request: Request) -> Self::Future {
        Box::pin(self.ask(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbound(networks: &[&str]) -> Outbound {
        Outbound::new(Exceptions::of_networks(networks.iter().copied()).unwrap(), None).unwrap()
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        let check = |networks: &[&str], url: &str, expected| {
            assert_eq!(outbound(networks).may_ask(&url.parse().unwrap()), expected, "{url}, {networks:?}");
        };
        for url in ["http://127.0.0.1:9/token", "http://localhost/token", "http://[::1]:9/token"] {
            check(&THIS_MACHINE, url, true);
            check(&[], url, false);
        }
        check(&THIS_MACHINE, "http://10.0.0.1/token", false);
        check(&THIS_MACHINE, "http://localhost.evil.example/token", false);
        check(&[], "https://idp.example/token", true);
        check(&[], "file:///etc/passwd", false);
        check(&[], "https://user:word@idp.example/", false);
        // However an address is written, it is judged as what it is.
        for host in ["169.254.169.254", "0x7f.1", "2130706433", "[::ffff:10.0.0.1]"] {
            let url = &format!("https://{host}/");
            check(&[], url, false);
        }
        check(&["10.0.0.0/8"], "https://10.1.2.3/", true);
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_asked() {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let request = || http::Request::get(format!("https://localhost:{port}/")).body(vec![]).unwrap();
        let error = outbound(&[]).ask(request()).await.unwrap_err();
        let chain: Vec<String> =
            std::iter::successors(Some(&error as &dyn std::error::Error), |e| e.source())
                .map(ToString::to_string)
                .collect();
        assert!(chain.iter().any(|text| text.contains("loopback address")), "{chain:?}");
        let error = outbound(&[]).ask(http::Request::get("https://10.0.0.1/").body(vec![]).unwrap()).await;
        assert!(matches!(error, Err(OutboundError::NotAsked(_))), "{error:?}");
        // Where the operator lets it, it is: TLS begins.
        let allowed = outbound(&THIS_MACHINE);
        let (asked, accepted) = tokio::join!(allowed.ask(request()), listener.accept());
        assert!(accepted.unwrap().1.ip().is_loopback());
        assert!(matches!(asked, Err(OutboundError::Http { .. })), "{asked:?}");
    }
}
