//! From one server of a network to another: the way to a cluster whose tunnel ends there. TLS 1.3 with raw public keys
//! (RFC 7250) on both sides, and both have the same one: it follows from the network's key, so whoever speaks here is
//! a server of this network. Sixteen bytes name the cluster, one byte says whether it can be reached, and from then on
//! the connection is one to the cluster's Ray.
//!
//! Knows no store, like the tunnels themselves: which server has which tunnel is looked up before anything is called.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use gangline_types::ClusterId;
use gangline_wire::SigningKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig,
    SignatureScheme,
    client::{
        AlwaysResolvesClientRawPublicKeys,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls13_signature_with_raw_key},
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
    },
    server::{
        AlwaysResolvesServerRawPublicKeys,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{TunnelError, Tunnels};

/// How long the other server may take until the way is open.
const OPEN: Duration = Duration::from_secs(10);
/// Connections of other servers at once.
const CONNECTIONS_MAX: usize = 4_096;
/// What DER has before the 32 bytes of an Ed25519 public key (RFC 8410), and before those of a private one.
const PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PRIVATE: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The answers.
const OPENED: u8 = 0;
const NOT_OPEN: u8 = 1;
const BUSY: u8 = 2;
const TOO_LATE: u8 = 3;

/// Speaks to the other servers of a network.
#[derive(Clone)]
pub struct Link {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

/// Takes one key and no other.
#[derive(Debug)]
struct OneKey {
    key: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl OneKey {
    fn is(&self, shown: &CertificateDer<'_>) -> Result<(), Error> {
        let same = shown.as_ref() == self.key.as_ref();
        same.then_some(()).ok_or(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }
    fn signed(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(shown.as_ref());
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signature, algorithms)
    }
    fn older() -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.3 alone is spoken here".into()))
    }
}

impl ServerCertVerifier for OneKey {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.is(shown).map(|()| ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::older()
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, shown, signature)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for OneKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.is(shown).map(|()| ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::older()
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed(message, shown, signature)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl Link {
    /// For the servers that know this secret.
    ///
    /// # Errors
    /// When this build's TLS cannot do that.
    pub fn new(secret: &[u8; 32]) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let public = SigningKey::from_seed(&Zeroizing::new(*secret)).public();
        let public = CertificateDer::from([&PUBLIC[..], public.as_bytes()].concat());
        let private = PrivatePkcs8KeyDer::from([&PRIVATE[..], secret].concat());
        let private = provider.key_provider.load_private_key(PrivateKeyDer::Pkcs8(private))?;
        let own = Arc::new(CertifiedKey::new(vec![public.clone()], private));
        let one = Arc::new(OneKey { key: public, provider: Arc::clone(&provider) });
        let versions = [&rustls::version::TLS13];
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)?
            .with_client_cert_verifier(Arc::clone(&one) as Arc<dyn ClientCertVerifier>)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&own))));
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)?
            .dangerous()
            .with_custom_certificate_verifier(one)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(own)));
        client.enable_sni = false;
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
    }

    /// Lets other servers reach clusters whose tunnels end here, until `stop`.
    pub async fn serve(self, listener: TcpListener, tunnels: Tunnels, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let Ok((stream, from)) = accepted else {
                // Out of descriptors, for example: it may pass.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
            let (acceptor, tunnels, stop) =
                (TlsAcceptor::from(Arc::clone(&self.server)), tunnels.clone(), stop.clone());
            tokio::spawn(async move {
                let _place = place;
                tokio::select! {
                    done = passed(stream, acceptor, tunnels) => if let Err(error) = done {
                        tracing::debug!(%from, %error, "a connection of another server broke off");
                    },
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    /// The way to a cluster whose tunnel ends at the server that is reached at `address`.
    ///
    /// # Errors
    /// As [`Tunnels::open`] there; [`TunnelError::NotOpen`] too where no server of this network answers.
    pub async fn open(&self, address: &str, cluster: ClusterId) -> Result<LinkStream, TunnelError> {
        let opening = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let name = ServerName::try_from("gangline.internal").map_err(io::Error::other)?;
            let mut inner = TlsConnector::from(Arc::clone(&self.client)).connect(name, stream).await?;
            inner.write_all(cluster.as_bytes()).await?;
            inner.flush().await?;
            let answer = inner.read_u8().await?;
            Ok::<_, io::Error>((answer, inner))
        };
        match tokio::time::timeout(OPEN, opening).await {
            Ok(Ok((OPENED, inner))) => Ok(LinkStream { inner, bytes_read: 0, bytes_written: Arc::default() }),
            Ok(Ok((BUSY, _))) => Err(TunnelError::TooManyStreams {
                cluster,
                limit: super::Limits::default().streams_per_cluster,
            }),
            Ok(Ok((TOO_LATE, _))) | Err(_) => Err(TunnelError::OpenTimeout(cluster)),
            Ok(Ok(_)) => Err(TunnelError::NotOpen(cluster)),
            Ok(Err(error)) => {
                tracing::warn!(%address, %error, "another server of this network cannot be reached");
                Err(TunnelError::NotOpen(cluster))
            }
        }
    }
}

/// One connection of another server, until either side ends it.
async fn passed(stream: TcpStream, acceptor: TlsAcceptor, tunnels: Tunnels) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let asked = async {
        let mut theirs = acceptor.accept(stream).await?;
        let mut cluster = [0; 16];
        theirs.read_exact(&mut cluster).await?;
        Ok::<_, io::Error>((theirs, ClusterId::from_bytes(cluster)))
    };
    let (mut theirs, cluster) = tokio::time::timeout(OPEN, asked).await.map_err(late)??;
    let (answer, ours) = match tunnels.open(cluster).await {
        Ok(stream) => (OPENED, Some(stream)),
        Err(TunnelError::TooManyStreams { .. }) => (BUSY, None),
        Err(TunnelError::OpenTimeout(_)) => (TOO_LATE, None),
        Err(TunnelError::NotOpen(_) | TunnelError::Closed(_)) => (NOT_OPEN, None),
    };
    theirs.write_u8(answer).await?;
    theirs.flush().await?;
    match ours {
        // A side that breaks off breaks the other: TLS says whether an end was in order.
        Some(mut ours) => tokio::io::copy_bidirectional(&mut theirs, &mut ours).await.map(|_| ()),
        None => theirs.shutdown().await,
    }
}

/// A connection to a cluster by way of another server. Ends and breaks like a stream of a tunnel that ends here.
pub struct LinkStream {
    inner: TlsStream<TcpStream>,
    bytes_read: u64,
    bytes_written: Arc<AtomicU64>,
}

impl LinkStream {
    /// Bytes accepted for sending so far; it goes on counting for whoever holds it.
    pub(super) fn bytes_written(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.bytes_written)
    }
    fn lost(&self) -> io::Error {
        if self.bytes_read == 0 {
            io::Error::new(io::ErrorKind::ConnectionRefused, "the worker refused the connection")
        } else {
            io::Error::new(io::ErrorKind::ConnectionReset, "the way to the worker was cut")
        }
    }
}

impl AsyncRead for LinkStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        self.bytes_read += (buf.filled().len() - before) as u64;
        Poll::Ready(read.map_err(|_| self.lost()))
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, buf)).map_err(|_| self.lost())?;
        self.bytes_written.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.inner).poll_flush(cx));
        Poll::Ready(flushed.map_err(|_| self.lost()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = ready!(Pin::new(&mut self.inner).poll_shutdown(cx));
        Poll::Ready(shut.map_err(|_| self.lost()))
    }
}
