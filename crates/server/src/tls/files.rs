//! A certificate from two PEM files, read again when they change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use tokio_util::sync::CancellationToken;

use super::{Identity, TlsError, provider};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Largest file read: chains have a few thousand bytes.
const BYTES_MAX: u64 = 256 * 1024;

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { file: file.to_owned(), source };
    let facts = std::fs::metadata(file).map_err(failed)?;
    if !facts.is_file() || facts.len() > BYTES_MAX {
        return Err(TlsError::Unusable {
            file: file.to_owned(),
            why: format!("it is no file of at most {BYTES_MAX} bytes"),
        });
    }
    std::fs::read(file).map_err(failed)
}

/// The certificate in `cert` with the private key in `key`, both in PEM.
///
/// # Errors
/// When one cannot be read, everybody can read the key, or they do not belong together.
pub fn load(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let unusable = |file: &Path, why: String| TlsError::Unusable { file: file.to_owned(), why };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(cert)?)
        .collect::<Result<_, _>>()
        .map_err(|e| unusable(cert, e.to_string()))?;
    if chain.is_empty() {
        return Err(unusable(cert, "it holds no certificate".into()));
    }
    let secret = zeroize::Zeroizing::new(read(key)?);
    #[cfg(unix)]
    if std::fs::metadata(key)
        .is_ok_and(|facts| std::os::unix::fs::PermissionsExt::mode(&facts.permissions()) & 0o007 != 0)
    {
        return Err(TlsError::Open(key.to_owned()));
    }
    let private = PrivateKeyDer::from_pem_slice(&secret).map_err(|e| unusable(key, e.to_string()))?;
    CertifiedKey::from_der(chain, private, &provider()).map_err(|e| match e {
        rustls::Error::InconsistentKeys(_) => {
            unusable(key, format!("it is not the key of the certificate in {}", cert.display()))
        }
        other => unusable(key, other.to_string()),
    })
}

/// Time, length and number of each file: another file under the same name is a change too.
type Seen = [Option<(SystemTime, u64, u64)>; 2];

#[cfg(unix)]
fn number(facts: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(facts)
}
#[cfg(not(unix))]
fn number(_: &std::fs::Metadata) -> u64 {
    0
}

fn seen(files: [&Path; 2]) -> Seen {
    files.map(|file| {
        let facts = std::fs::metadata(file).ok()?;
        Some((facts.modified().ok()?, facts.len(), number(&facts)))
    })
}

/// Shows what is in the files whenever that changes, until `stop`. What cannot be used is told once, and what
/// was shown before is shown on.
pub async fn watch(cert: PathBuf, key: PathBuf, identity: Arc<Identity>, stop: CancellationToken) {
    let mut known = seen([&cert, &key]);
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = stop.cancelled() => return,
        }
        let now = seen([&cert, &key]);
        if now == known {
            continue;
        }
        known = now;
        match load(&cert, &key) {
            Ok(new) => {
                identity.show(new);
                tracing::info!(cert = %cert.display(), "the certificate was read anew");
            }
            // Two files are not written at one moment; the next change is looked at again.
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a changed certificate cannot be used; the one before is shown on"
                );
            }
        }
    }
}
