//! Binding a key made on the spot to an account: shows a code, asks until somebody has decided. A
//! machine and a person's command line are enrolled the same way. Also the file such a key is kept in.
//!
//! Knows no account and receives no secret: what is granted is that the server will know this key.

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use gangline_types::{Label, Text};
use gangline_wire::{
    SigningKey,
    api::enrol::{EnrolmentPoll, EnrolmentRequest, EnrolmentState, EnrolmentTicket, KeyKind},
    endpoints::{Enrol, EnrolPoll},
};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::client::{Client, ClientError};

/// Asking more slowly than this helps nobody.
const INTERVAL_SECONDS_MAX: u64 = 30;
/// What a key file holds: 32 bytes of seed.
const SEED_BYTES: usize = 32;

/// Why a key file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read or written.
    #[error("could not {doing} the key file {}", path.display())]
    Io {
        /// What we were doing.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others on this machine may read it.
    #[error("the key file {} can be read by others (mode {mode:03o}); it must be 600", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It holds something else.
    #[error("the key file {} does not hold a key: expected {SEED_BYTES} bytes, found {bytes}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Bytes found, counted up to one too many.
        bytes: usize,
    },
    /// The system gave no randomness.
    #[error("the system gave no randomness for a new key: {0}")]
    Randomness(getrandom::Error),
}

/// The key kept in `path`; `None` where there is no such file.
///
/// # Errors
/// When the file cannot be read, is open to others, or holds something else.
pub fn load_key(path: &Path) -> Result<Option<SigningKey>, KeyFileError> {
    let failed = |source| KeyFileError::Io { doing: "read", path: path.to_owned(), source };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open { path: path.to_owned(), mode });
    }
    // One byte more than a key, so that a longer file is noticed; no larger buffer is left behind.
    let mut held = Zeroizing::new(Vec::with_capacity(SEED_BYTES + 1));
    file.take(SEED_BYTES as u64 + 1).read_to_end(&mut held).map_err(failed)?;
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    if held.len() != SEED_BYTES {
        return Err(KeyFileError::Malformed { path: path.to_owned(), bytes: held.len() });
    }
    seed.copy_from_slice(&held);
    Ok(Some(SigningKey::from_seed(&seed)))
}

/// The key kept in `path`; made there, readable by its owner only, where there is none. The second
/// value says whether it was made. The file is on disk before this returns.
///
/// # Errors
/// As [`load_key`], and when the file cannot be written or the system gives no randomness.
pub fn load_or_make_key(path: &Path) -> Result<(SigningKey, bool), KeyFileError> {
    if let Some(key) = load_key(path)? {
        return Ok((key, false));
    }
    let failed = |source| KeyFileError::Io { doing: "write", path: path.to_owned(), source };
    let mut seed = Zeroizing::new([0; SEED_BYTES]);
    getrandom::fill(seed.as_mut_slice()).map_err(KeyFileError::Randomness)?;
    // Written beside and linked into place: a half-written key is never found, and of two processes
    // that make one at the same time one wins and both use its key.
    let mut suffix = [0; 8];
    getrandom::fill(&mut suffix).map_err(KeyFileError::Randomness)?;
    let beside = path.with_extension(format!("new-{:016x}", u64::from_be_bytes(suffix)));
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(seed.as_slice())?;
        file.sync_all()?;
        fs::hard_link(&beside, path)
    };
    let written = write();
    let removed = fs::remove_file(&beside);
    match written {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return match load_key(path)? {
                Some(key) => Ok((key, false)),
                None => Err(failed(error)),
            };
        }
        other => other.and(removed).map_err(failed)?,
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
    }
    Ok((SigningKey::from_seed(&seed), true))
}

/// What happens on the way.
#[derive(Debug)]
pub enum Step<'a> {
    /// Show this to the person: the code, where to type it, and the key's fingerprint to compare.
    Code {
        /// Code and links as the server gave them: text from outside.
        ticket: &'a EnrolmentTicket,
        /// Fingerprint of the key, as the approving page shows it.
        fingerprint: &'a str,
    },
    /// The server did not answer; it will be asked again.
    Away(&'a ClientError),
}

/// Why a key was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The server could not be asked, or it refused.
    #[error("could not ask {url} to enrol this key")]
    Ask {
        /// The server.
        url: String,
        /// Why.
        #[source]
        source: ClientError,
    },
    /// Somebody said no.
    #[error("the enrolment was denied")]
    Denied,
    /// Nobody decided in time.
    #[error("the code expired before anybody approved it")]
    Expired,
    /// The client has no key to enrol.
    #[error("the client has no key to enrol")]
    NoKey,
}

/// Asks that the key of `client` be bound to an account, tells `tell` what to show, and waits until
/// somebody has decided or the code has expired. A server that is away meanwhile is asked again.
///
/// # Errors
/// When the server cannot be asked at first, refuses, or the answer is no.
pub async fn enrol(
    client: &Client,
    kind: KeyKind,
    host: Label,
    summary: Text<160>,
    mut tell: impl FnMut(Step<'_>),
) -> Result<(), EnrolError> {
    let public_key = client.key().ok_or(EnrolError::NoKey)?.public();
    let ask = |source| EnrolError::Ask { url: client.base().to_owned(), source };
    let request = EnrolmentRequest { public_key, kind, host, summary };
    let ticket = client.call::<Enrol>(&[], &Default::default(), &request).await.map_err(ask)?;
    tell(Step::Code { ticket: &ticket, fingerprint: &public_key.fingerprint() });

    let poll = EnrolmentPoll { enrolment: ticket.enrolment, public_key };
    let least = ticket.interval_seconds.clamp(1, INTERVAL_SECONDS_MAX);
    let mut interval = least;
    // The server decides what has expired; this end is for one that never comes back.
    let deadline = Instant::now() + Duration::from_secs(ticket.expires_in_seconds.min(3600) + 2 * interval);
    while Instant::now() < deadline {
        tokio::time::sleep(Duration::from_secs(interval)).await;
        match client.call::<EnrolPoll>(&[], &Default::default(), &poll).await {
            Ok(EnrolmentState::Pending) => interval = least,
            Ok(EnrolmentState::Approved) => return Ok(()),
            Ok(EnrolmentState::Denied) => return Err(EnrolError::Denied),
            Ok(EnrolmentState::Expired) => return Err(EnrolError::Expired),
            Err(error) if error.is_passing() => {
                interval = (interval * 2).min(INTERVAL_SECONDS_MAX);
                tell(Step::Away(&error));
            }
            Err(error) => return Err(ask(error)),
        }
    }
    Err(EnrolError::Expired)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine.key");
        assert!(load_key(&path).unwrap().is_none());
        let (first, made) = load_or_make_key(&path).unwrap();
        assert!(made);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (second, made) = load_or_make_key(&path).unwrap();
        assert!(!made);
        assert_eq!(first.public(), second.public());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something was left beside the key");
    }

    #[test]
    fn a_key_file_open_to_others_or_of_another_form_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine.key");
        load_or_make_key(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load_or_make_key(&path), Err(KeyFileError::Open { mode: 0o640, .. })));
        for bytes in [0, 31, 33, 100] {
            fs::write(&path, vec![1; bytes]).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(
                matches!(load_or_make_key(&path), Err(KeyFileError::Malformed { .. })),
                "{bytes} bytes were taken"
            );
        }
        let nowhere = folder.path().join("missing/machine.key");
        assert!(matches!(load_or_make_key(&nowhere), Err(KeyFileError::Io { doing: "write", .. })));
    }
}
