//! A certificate from an ACME authority (RFC 8555), got and renewed without anybody's doing: the challenge is
//! answered on the port that serves already (tls-alpn-01, RFC 8737), or on one for plain HTTP (http-01).
//!
//! Account, key and certificate lie in the data folder, under `acme`, and are this user's alone.

use std::{
    collections::HashMap,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, RwLock},
    time::Duration,
};

use axum::{
    Router,
    extract::{OriginalUri, Path as PathOf, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use gangline_types::UnixSeconds;
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, BodyWrapper, BytesResponse, ChallengeType, HttpClient,
    Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Identity, TlsError, files, provider};
use crate::{config, edge, outbound::Outbound};

/// How long an authority may take to look at the challenges, and to sign.
const ORDER: Duration = Duration::from_secs(180);
/// How long after a failure it is tried again: longer each time, up to an hour, as authorities ask for.
const RETRY_FIRST: Duration = Duration::from_secs(60);
const RETRY_LAST: Duration = Duration::from_secs(3600);
/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(600);

/// Why no certificate came.
#[derive(Debug, thiserror::Error)]
enum AcmeError {
    #[error("the authority could not be asked, or refused")]
    Authority(#[from] instant_acme::Error),
    #[error("the authority offers no {0} challenge for {1}")]
    NotOffered(&'static str, String),
    #[error("the authority could not convince itself that {domains} is this server: {why}")]
    NotConvinced { domains: String, why: String },
    #[error("a certificate for the challenge could not be made")]
    Challenge(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the file {file} could not be used")]
    File {
        file: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("what the authority signed cannot be used")]
    Unusable(#[from] TlsError),
}

/// Answers to http-01 challenges, by token. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tokens(Arc<RwLock<HashMap<String, String>>>);

impl Tokens {
    fn set(&self, token: &str, answer: Option<String>) {
        let mut tokens = self.0.write().unwrap_or_else(|e| e.into_inner());
        match answer {
            Some(answer) => tokens.insert(token.to_owned(), answer),
            None => tokens.remove(token),
        };
    }

    /// What is answered over plain HTTP: challenges, and for all else the way to `origin`.
    pub fn router(self, origin: String) -> Router {
        async fn answer(
            State((tokens, _)): State<(Tokens, String)>,
            PathOf(token): PathOf<String>,
        ) -> Response {
            let tokens = tokens.0.read().unwrap_or_else(|e| e.into_inner());
            match tokens.get(&token) {
                Some(answer) => {
                    ([(header::CONTENT_TYPE, "application/octet-stream")], answer.clone()).into_response()
                }
                None => StatusCode::NOT_FOUND.into_response(),
            }
        }
        async fn onward(
            State((_, origin)): State<(Tokens, String)>,
            OriginalUri(uri): OriginalUri,
            method: Method,
        ) -> Response {
            let path = uri.path_and_query().map_or("/", |p| p.as_str());
            // A program that speaks plain HTTP is told so, not led on: its next request would be as open.
            let is_page = matches!(method, Method::GET | Method::HEAD) && !uri.path().starts_with("/api/");
            if !is_page || !path.starts_with('/') || path.starts_with("//") {
                return (StatusCode::FORBIDDEN, "this network is asked over https alone\n").into_response();
            }
            (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, format!("{origin}{path}"))]).into_response()
        }
        Router::new()
            .route("/.well-known/acme-challenge/{token}", get(answer))
            .fallback(onward)
            .with_state((self, origin))
    }
}

/// Asks the authority through the same guard as everybody else outside.
struct Guarded(Outbound);

impl HttpClient for Guarded {
    fn request(
        &self,
        request: http::Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let outbound = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = http_body_util::BodyExt::collect(body)
                .await
                .map_err(|e| instant_acme::Error::Other(e.into()))?
                .to_bytes();
            let request = http::Request::from_parts(parts, body.to_vec());
            let answer =
                outbound.fetch(request).await.map_err(|e| instant_acme::Error::Other(Box::new(e)))?;
            Ok(BytesResponse::from(answer.map(|body| http_body_util::Full::new(Bytes::from(body)))))
        })
    }
}

/// The account at an authority, as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    directory: String,
    credentials: AccountCredentials,
}

/// An authority, and what it vouches for.
pub struct Authority {
    settings: config::Acme,
    folder: PathBuf,
    outbound: Outbound,
    identity: Arc<Identity>,
    tokens: Tokens,
}

/// Writes a file that only this user can read, whole or not at all.
fn write(file: &Path, content: &[u8]) -> Result<(), AcmeError> {
    let failed = |source| AcmeError::File { file: file.to_owned(), source };
    let beside = file.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = options.open(&beside).map_err(failed)?;
    out.write_all(content).and_then(|()| out.sync_all()).map_err(failed)?;
    std::fs::rename(&beside, file).map_err(failed)
}

/// When the first certificate of a chain begins and ends, and for which names it is.
fn facts(key: &CertifiedKey) -> Option<(UnixSeconds, UnixSeconds, Vec<String>)> {
    let (_, certificate) = x509_parser::parse_x509_certificate(key.end_entity_cert().ok()?).ok()?;
    let validity = certificate.validity();
    let seconds = |time: x509_parser::time::ASN1Time| UnixSeconds(time.timestamp().max(0) as u64);
    let mut names = Vec::new();
    if let Ok(Some(extension)) = certificate.subject_alternative_name() {
        for name in &extension.value.general_names {
            if let x509_parser::extensions::GeneralName::DNSName(name) = name {
                names.push(name.to_ascii_lowercase());
            }
        }
    }
    Some((seconds(validity.not_before), seconds(validity.not_after), names))
}

/// When a certificate is renewed: when a third of its time is left.
fn renewal(begins: UnixSeconds, ends: UnixSeconds) -> UnixSeconds {
    UnixSeconds(ends.0.saturating_sub(ends.0.saturating_sub(begins.0) / 3))
}

impl Authority {
    /// The authority of these settings; nothing is asked yet. What it signed before is shown, if there is any.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(
        settings: config::Acme,
        data: &Path,
        outbound: Outbound,
        identity: Arc<Identity>,
    ) -> Result<Self, TlsError> {
        let folder = data.join("acme");
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder).map_err(|source| TlsError::Read { file: folder.clone(), source })?;
        Ok(Self { settings, folder, outbound, identity, tokens: Tokens::default() })
    }

    /// Where http-01 is answered, if it is, with what answers there.
    pub fn http(&self, origin: &str) -> Option<(SocketAddr, Router)> {
        Some((self.settings.http_listen?, self.tokens.clone().router(origin.to_owned())))
    }

    fn files(&self) -> [PathBuf; 2] {
        ["cert.pem", "key.pem"].map(|name| self.folder.join(name))
    }

    /// Shows the certificate of the last order, and says when the next one is due; none: now.
    fn show_kept(&self) -> Option<UnixSeconds> {
        let [cert, key] = self.files();
        if !cert.exists() {
            return None;
        }
        let key = match files::load(&cert, &key) {
            Ok(key) => key,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the kept certificate cannot be used; a new one is asked for"
                );
                return None;
            }
        };
        let (begins, ends, names) = facts(&key)?;
        let is_for_all = self.settings.domains.iter().all(|domain| names.contains(domain));
        if ends <= edge::now() || !is_for_all {
            return None;
        }
        self.identity.show(key);
        Some(renewal(begins, ends))
    }

    /// Gets a certificate, and a new one in time, until `stop`.
    pub async fn keep(self, stop: CancellationToken) {
        let mut due = self.show_kept();
        let mut retry = RETRY_FIRST;
        loop {
            let wait = match due {
                Some(at) if at > edge::now() => {
                    Duration::from_secs(at.0.saturating_sub(edge::now().0).max(1)).min(LOOK)
                }
                _ => match self.order().await {
                    Ok(at) => {
                        tracing::info!(domains = %self.settings.domains.join(", "), renewal_at_seconds = at.0, "the authority has signed a certificate");
                        due = Some(at);
                        retry = RETRY_FIRST;
                        continue;
                    }
                    Err(error) => {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            again_in_seconds = retry.as_secs(),
                            "no certificate came"
                        );
                        let wait = retry;
                        retry = (retry * 2).min(RETRY_LAST);
                        wait
                    }
                },
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn account(&self) -> Result<Account, AcmeError> {
        let file = self.folder.join("account.json");
        let builder = || Account::builder_with_http(Box::new(Guarded(self.outbound.clone())));
        match std::fs::read(&file) {
            Ok(text) => {
                // One of another authority is of no use at this one.
                let kept = serde_json::from_slice::<Kept>(&text).ok();
                if let Some(kept) = kept.filter(|kept| kept.directory == self.settings.directory) {
                    return Ok(builder().from_credentials(kept.credentials).await?);
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(AcmeError::File { file, source }),
        }
        let contacts: Vec<&str> = self.settings.contacts.iter().map(String::as_str).collect();
        let new =
            NewAccount { contact: &contacts, terms_of_service_agreed: true, only_return_existing: false };
        let directory = self.settings.directory.clone();
        let (account, credentials) = builder().create(&new, directory.clone(), None).await?;
        let kept = serde_json::to_vec(&Kept { directory, credentials }).map_err(instant_acme::Error::from)?;
        write(&file, &kept)?;
        Ok(account)
    }

    async fn order(&self) -> Result<UnixSeconds, AcmeError> {
        let account = self.account().await?;
        let names: Vec<Identifier> = self.settings.domains.iter().cloned().map(Identifier::Dns).collect();
        let mut order = account.new_order(&NewOrder::new(&names)).await?;
        let mut open = Vec::new();
        let answered = self.answer(&mut order, &mut open).await;
        let signed = match answered {
            Ok(()) => self.signed(&mut order).await,
            Err(error) => Err(error),
        };
        for end in open {
            end();
        }
        let (cert, key) = signed?;
        let [cert_file, key_file] = self.files();
        write(&key_file, key.as_bytes())?;
        write(&cert_file, cert.as_bytes())?;
        let made = files::load(&cert_file, &key_file)?;
        let (begins, ends, _) = facts(&made)
            .ok_or_else(|| TlsError::Unusable { file: cert_file, why: "its dates cannot be read".into() })?;
        self.identity.show(made);
        Ok(renewal(begins, ends))
    }

    /// Puts up the answers, says so, and notes in `open` how to take them down.
    async fn answer(
        &self,
        order: &mut instant_acme::Order,
        open: &mut Vec<Box<dyn FnOnce() + Send>>,
    ) -> Result<(), AcmeError> {
        let (kind, name) = match self.settings.http_listen {
            Some(_) => (ChallengeType::Http01, "http-01"),
            None => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let domain = authorization.identifier().to_string();
            let mut challenge = authorization
                .challenge(kind.clone())
                .ok_or_else(|| AcmeError::NotOffered(name, domain.clone()))?;
            let answer = challenge.key_authorization();
            if self.settings.http_listen.is_some() {
                let (tokens, token) = (self.tokens.clone(), challenge.token.clone());
                tokens.set(&token, Some(answer.as_str().to_owned()));
                open.push(Box::new(move || tokens.set(&token, None)));
            } else {
                let key = challenge_certificate(&domain, answer.digest().as_ref())?;
                let identity = self.identity.clone();
                identity.challenge(&domain, Some(key));
                open.push(Box::new(move || identity.challenge(&domain, None)));
            }
            challenge.set_ready().await?;
        }
        Ok(())
    }

    /// The chain and its key, in PEM, once the authority is convinced.
    async fn signed(&self, order: &mut instant_acme::Order) -> Result<(String, String), AcmeError> {
        let patience = RetryPolicy::new().timeout(ORDER);
        let status = order.poll_ready(&patience).await?;
        if status != OrderStatus::Ready {
            let mut why = format!("the order is {status:?}");
            let mut authorizations = order.authorizations();
            while let Some(Ok(authorization)) = authorizations.next().await {
                for challenge in &authorization.challenges {
                    if let Some(problem) = &challenge.error {
                        why = crate::refusals::inert(&problem.to_string());
                    }
                }
            }
            return Err(AcmeError::NotConvinced { domains: self.settings.domains.join(", "), why });
        }
        let key = order.finalize().await?;
        Ok((order.poll_certificate(&patience).await?, key))
    }
}

/// The certificate that answers a tls-alpn-01 challenge: signed by nobody, with the answer in it.
fn challenge_certificate(domain: &str, digest: &[u8]) -> Result<CertifiedKey, AcmeError> {
    let failed = |e: rcgen::Error| AcmeError::Challenge(Box::new(e));
    let key = rcgen::KeyPair::generate().map_err(failed)?;
    let mut params = rcgen::CertificateParams::new(vec![domain.to_owned()]).map_err(failed)?;
    params.custom_extensions = vec![rcgen::CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key).map_err(failed)?;
    let private = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
    let signing = provider()
        .key_provider
        .load_private_key(private.into())
        .map_err(|e| AcmeError::Challenge(Box::new(e)))?;
    // Not checked against its key as others are: its extension is critical, and known to authorities alone.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_when_a_third_of_its_time_is_left() {
        let days = |n: u64| UnixSeconds(n * 86_400);
        assert_eq!(renewal(days(0), days(90)), days(60));
        assert_eq!(renewal(days(10), days(10)), days(10));
    }

    #[test]
    fn a_challenge_s_certificate_names_its_domain() {
        let key = challenge_certificate("gangline.example", &[7; 32]).unwrap();
        let (begins, ends, names) = facts(&key).unwrap();
        assert!(begins < ends);
        assert_eq!(names, ["gangline.example"]);
    }
}
