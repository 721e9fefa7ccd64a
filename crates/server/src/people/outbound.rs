//! Requests to the provider, within limits: of time, of size, over TLS, and never on to where an answer
//! redirects.

use std::{pin::Pin, time::Duration};

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};

/// How long a connection may take to come about, in seconds.
const CONNECT_SECONDS: u64 = 5;
/// How long a request may take in all, in seconds.
const REQUEST_SECONDS: u64 = 10;
/// The longest answer taken, in bytes: providers' key sets and tokens have a few thousand.
const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// Why the provider could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The address is not one that may be asked.
    #[error("{0} is not an address that this server asks: https, or http on this machine alone")]
    Address(String),
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

/// Asks the provider.
#[derive(Clone, Debug)]
pub struct Outbound {
    client: reqwest::Client,
    is_local: bool,
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

impl Outbound {
    /// Asks a provider on this machine, over plain HTTP too, or one elsewhere, only over TLS.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(is_local: bool) -> Result<Self, reqwest::Error> {
        // Another part of this process may have chosen already; both choices are the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS))
            .timeout(Duration::from_secs(REQUEST_SECONDS))
            .pool_max_idle_per_host(2)
            .https_only(!is_local);
        let client = if is_local { builder.no_proxy() } else { builder }.build()?;
        Ok(Self { client, is_local })
    }

    /// Whether `url` may be asked, and people be sent there.
    pub fn may_ask(&self, url: &url::Url) -> bool {
        url.scheme() == "https" || self.is_local && url.scheme() == "http" && is_loopback(url)
    }

    /// Asks, and reads the answer up to its limit.
    pub async fn ask(&self, request: HttpRequest) -> Result<HttpResponse, OutboundError> {
        let address = request.uri().to_string();
        let url = url::Url::parse(&address)
            .ok()
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
        if status.is_server_error() || status.is_redirection() || status.as_u16() == 429 {
            return Err(OutboundError::Status { host, status: status.as_u16() });
        }
        let headers = std::mem::take(answer.headers_mut());
        let mut read = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if read.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(OutboundError::Long(host));
            }
            read.extend_from_slice(&chunk);
        }
        let mut response = HttpResponse::new(read);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

impl<'c> AsyncHttpClient<'c> for Outbound {
    type Error = OutboundError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, OutboundError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.ask(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_stays_on_this_machine() {
        let check = |is_local, url: &str, expected| {
            let outbound = Outbound::new(is_local).unwrap();
            assert_eq!(outbound.may_ask(&url.parse().unwrap()), expected, "{url}, local: {is_local}");
        };
        check(true, "http://127.0.0.1:9/token", true);
        check(true, "http://localhost/token", true);
        check(true, "http://[::1]:9/token", true);
        check(true, "http://10.0.0.1/token", false);
        check(true, "http://localhost.evil.example/token", false);
        check(false, "http://127.0.0.1:9/token", false);
        check(false, "https://idp.example/token", true);
        check(false, "file:///etc/passwd", false);
    }
}
