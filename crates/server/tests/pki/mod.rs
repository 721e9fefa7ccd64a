//! An authority of the test's own, servers with its certificates, and clients that believe it.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use gangline_server::{Config, serve};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{net::TcpStream, sync::oneshot};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// A certificate authority.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// Writes a new certificate and key for `names` into the two files, each whole.
    pub fn write(&self, files: [&Path; 2], names: &[&str]) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
        let cert = CertificateParams::new(names).unwrap().signed_by(&key, &self.issuer).unwrap();
        for (file, text) in files.into_iter().zip([cert.pem(), key.serialize_pem()]) {
            write_private(file, text.as_bytes());
        }
    }
}

pub fn write_private(file: &Path, content: &[u8]) {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let beside = file.with_extension("beside");
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .unwrap();
    out.write_all(content).unwrap();
    std::fs::rename(beside, file).unwrap();
}

/// A running server.
pub struct Server {
    pub address: SocketAddr,
    pub origin: String,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<Result<(), gangline_server::ServeError>>,
}

impl Server {
    pub async fn start(config: Config) -> Self {
        let server = serve(config).await.unwrap_or_else(|e| panic!("{e:?}"));
        let (stop, stopped) = oneshot::channel();
        let (address, origin) = (server.address, server.origin.clone());
        let served = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        Self { address, origin, stop, served }
    }

    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.served.await.unwrap().unwrap();
    }
}

/// What a server of the test's own shows.
pub fn server_config(cert: &Path, key: &Path) -> Arc<rustls::ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let certs = CertificateDer::pem_file_iter(cert).unwrap().map(Result::unwrap).collect();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(key).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certs, key)
        .unwrap();
    Arc::new(config)
}

/// Opens TLS to `address` as to `name`, believing `root` alone.
pub async fn connect(
    address: SocketAddr,
    name: &str,
    root: &str,
    alpn: &[&[u8]],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(root.as_bytes()) {
        roots.add(cert.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

/// The certificate that a connection was shown.
pub fn shown(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

/// A client that believes `root` too.
pub fn client(root: &str) -> reqwest::ClientBuilder {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .tls_certs_only(reqwest::Certificate::from_pem_bundle(root.as_bytes()).unwrap())
}

/// Names of a certificate's two files in `folder`.
pub fn files(folder: &Path) -> [PathBuf; 2] {
    ["cert.pem", "key.pem"].map(|name| folder.join(name))
}
