//! This server's certificate: where it comes from, and that a new one is shown to whoever comes next without
//! ending the connections there are.

mod acme;
mod files;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, RwLock},
};

use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

pub use acme::{Authority, Tokens};

/// The protocol in which an ACME authority looks at a challenge's certificate (RFC 8737).
pub const ACME_TLS: &[u8] = b"acme-tls/1";
/// The protocol that is spoken.
const HTTP: &[u8] = b"http/1.1";

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("the file {file} cannot be read")]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A private key that others can read.
    #[error("every user can read the private key {0}")]
    Open(PathBuf),
    /// A file that holds something else.
    #[error("the file {file} cannot be used: {why}")]
    Unusable {
        /// Which.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// Our own TLS.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
}

impl TlsError {
    /// What the operator can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Open(file) => Some(format!("take the right away with: chmod o-rwx {}", file.display())),
            Self::Unusable { .. } => {
                Some("the certificate goes first, then those that lead to a known authority, all in PEM; the key in PEM beside it".into())
            }
            _ => None,
        }
    }
}

/// The cryptography of all of Gangline's TLS.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// What this server shows of itself.
#[derive(Debug, Default)]
pub struct Identity {
    current: RwLock<Option<Arc<CertifiedKey>>>,
    challenges: RwLock<HashMap<String, Arc<CertifiedKey>>>,
}

impl Identity {
    /// From now on this is shown.
    pub fn show(&self, key: CertifiedKey) {
        *self.current.write().unwrap_or_else(|e| e.into_inner()) = Some(Arc::new(key));
    }
    fn challenge(&self, domain: &str, key: Option<CertifiedKey>) {
        let mut challenges = self.challenges.write().unwrap_or_else(|e| e.into_inner());
        match key {
            Some(key) => challenges.insert(domain.to_owned(), Arc::new(key)),
            None => challenges.remove(domain),
        };
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if hello.alpn().is_some_and(|mut offered| offered.any(|protocol| protocol == ACME_TLS)) {
            let challenges = self.challenges.read().unwrap_or_else(|e| e.into_inner());
            return challenges.get(&hello.server_name()?.to_ascii_lowercase()).cloned();
        }
        self.current.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

/// TLS 1.3 and 1.2 with the identity's certificate, for HTTP/1.1.
///
/// # Errors
/// When this build cannot do that.
pub fn server_config(identity: Arc<Identity>) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(TlsError::Setup)?
        .with_no_client_auth()
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![HTTP.to_vec(), ACME_TLS.to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(TlsError::Setup)?;
    Ok(Arc::new(config))
}

pub use files::{load, watch};
