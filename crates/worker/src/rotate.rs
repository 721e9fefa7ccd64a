//! A new key in the place of an old one. The new key is made beside the old, its enrolment is signed by the old
//! and proves the new, and only once the server has it, it takes the old one's name: whenever this process is
//! killed, the file holds a key that works, and doing it again finishes what was begun.
//!
//! | killed | the file holds | the server takes | again |
//! |---|---|---|---|
//! | before the server has the new key | the old | the old | the same new key is shown again |
//! | before the new key has the old one's name | the old | both; the new one ends unused after a day | as above |
//! | after it | the new | both; the old one ends after the new one's first use | nothing is left to do |
//!
//! Knows no account and no machine: who a key is of does not change.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gangline_types::{KeyId, Text};
use gangline_wire::{
    PublicKey, SigningKey,
    api::enrol::{Rotation, RotationRequest, rotation_bytes},
    endpoints::{KeyRotate, KeySettle, Me},
};

use crate::{
    client::{Client, ClientError},
    enrol::{KeyFileError, load_key, load_or_make_key},
};

/// Why no key took the place of another. The old one is still in place and works as before.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// A key's file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// There is no key.
    #[error("there is no key in {} to put another in the place of", .0.display())]
    NoKey(PathBuf),
    /// The new key could not get the old one's name.
    #[error("could not put the new key in the place of {}", path.display())]
    Replace {
        /// The old key's file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server could not be asked, or refused.
    #[error("could not ask {url} to take another key")]
    Ask {
        /// The server.
        url: String,
        /// Why.
        #[source]
        source: ClientError,
    },
}

impl RotateError {
    /// The server's stable code, if it refused.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Ask { source, .. } => source.code(),
            _ => None,
        }
    }
}

/// A key that took the place of another.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// The new key.
    pub public_key: PublicKey,
    /// What the server said.
    pub rotation: Rotation,
    /// The old key, if it was ended at once.
    pub ended: Option<KeyId>,
    /// Whether the new key was used; if not, the server was away after it had taken it, and the next request
    /// uses it.
    pub used: bool,
}

/// Where the new key waits until the server has it.
pub fn next_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".next");
    path.with_file_name(name)
}

/// How old the key in `path` is by `now`: the time since its file was written.
pub fn age(path: &Path, now: SystemTime) -> Option<Duration> {
    let written = fs::metadata(path).and_then(|facts| facts.modified()).ok()?;
    Some(now.duration_since(written).unwrap_or_default())
}

/// Whether a rotation of the key in `path` was begun and not finished, or the key is older than `days`; 0 days:
/// no age is too old.
pub fn is_due(path: &Path, days: u32, now: SystemTime) -> bool {
    let limit = Duration::from_secs(u64::from(days) * 24 * 3600);
    next_path(path).exists() || days > 0 && age(path, now).is_some_and(|age| age > limit)
}

/// Puts a new key in the place of the one in `path`, at the server at `url`. With `at_once` the old one ends as
/// soon as the new one works; else it goes on for a while, for programs that have it in memory.
///
/// # Errors
/// See [`RotateError`]; the key in `path` works then as before.
pub async fn rotate(url: &str, path: &Path, at_once: bool) -> Result<Rotated, RotateError> {
    let next = next_path(path);
    let asked = |source| RotateError::Ask { url: url.to_owned(), source };
    let old = load_key(path)?.ok_or_else(|| RotateError::NoKey(path.to_owned()))?;
    let client = Client::new(url, Some(old.clone())).map_err(asked)?;
    if at_once {
        // Two keys of a line may be alive: of an earlier rotation the old one goes first.
        settle(&client).await.map_err(asked)?;
    }
    let mut new = load_or_make_key(&next)?.0;
    let rotation = match ask(&client, &old, &new).await {
        // Begun long ago: the server has given up on that key. The next one is new.
        Err(error) if error.code() == Some("key_taken") => {
            remove(&next)?;
            new = load_or_make_key(&next)?.0;
            ask(&client, &old, &new).await
        }
        other => other,
    };
    let rotation = rotation.map_err(|error| {
        if matches!(error.code(), Some("third_key" | "key_taken")) {
            // Nobody will ever take it.
            let _ = fs::remove_file(&next);
        }
        asked(error)
    })?;
    replace(&next, path)?;

    let client = Client::new(url, Some(new.clone())).map_err(asked)?;
    let used = match client.call::<Me>(&[], &Default::default(), &Default::default()).await {
        // A machine may not read an account; to be told so, its key was used.
        Ok(_) | Err(ClientError::Refused { status: 403 | 404, .. }) => true,
        Err(error) => {
            tracing::warn!(%error, "the new key could not be used yet; the next request uses it");
            false
        }
    };
    let ended = if at_once { settle(&client).await.map_err(asked)? } else { None };
    Ok(Rotated { public_key: new.public(), rotation, ended, used })
}

/// Ends the key in whose place the client's is, if it is alive.
async fn settle(client: &Client) -> Result<Option<KeyId>, ClientError> {
    match client.call::<KeySettle>(&[], &Default::default(), &Default::default()).await {
        Ok(settled) => Ok(Some(settled.ended)),
        Err(error) if error.code() == Some("nothing_to_settle") => Ok(None),
        Err(error) => Err(error),
    }
}

async fn ask(client: &Client, old: &SigningKey, new: &SigningKey) -> Result<Rotation, ClientError> {
    let (old, public_key) = (old.public().id(), new.public());
    let proof = new.sign(&rotation_bytes(client.authority(), old, &public_key));
    let request = RotationRequest { public_key, proof: Text::lossy(&URL_SAFE_NO_PAD.encode(proof)) };
    client.call::<KeyRotate>(&[], &Default::default(), &request).await
}

fn remove(path: &Path) -> Result<(), RotateError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(RotateError::Replace { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// One step for whoever looks, and on the disk before this returns.
fn replace(next: &Path, path: &Path) -> Result<(), RotateError> {
    let failed = |source| RotateError::Replace { path: path.to_owned(), source };
    match fs::rename(next, path) {
        // Another process finished the same rotation.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed)?,
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_due_by_its_age_and_when_a_rotation_was_begun() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("machine.key");
        assert!(!is_due(&path, 90, SystemTime::now()), "there is no key");
        load_or_make_key(&path).unwrap();
        let after = |days: u64| SystemTime::now() + Duration::from_secs(days * 24 * 3600);
        for (days, limit, due) in [(0, 90, false), (89, 90, false), (91, 90, true), (10_000, 0, false)] {
            assert_eq!(is_due(&path, limit, after(days)), due, "{days} days old, limit {limit}");
        }
        load_or_make_key(&next_path(&path)).unwrap();
        assert!(is_due(&path, 0, SystemTime::now()), "a rotation was begun");
        assert_eq!(next_path(&path).file_name().unwrap(), "machine.key.next");
    }
}
