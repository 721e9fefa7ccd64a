//! The key a client signs with: one given once, or a file that is looked at before each signature, so that a
//! program that runs for months goes on with the key that took the place of its first.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use gangline_wire::SigningKey;

use crate::enrol::{KeyFileError, load_key};

/// Tells one file from another that was put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    modified_nanos: i128,
}

fn stamp(path: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let facts = fs::metadata(path).ok()?;
    let modified_nanos = facts.mtime() as i128 * 1_000_000_000 + facts.mtime_nsec() as i128;
    Some(Stamp { inode: facts.ino(), modified_nanos })
}

/// What a client signs with.
pub(super) enum Held {
    /// Nothing.
    Nothing,
    /// This, for as long as the client lives.
    Fixed(SigningKey),
    /// Whatever the file holds.
    File { path: PathBuf, last: Mutex<(Option<Stamp>, SigningKey)> },
}

impl Held {
    /// The key in this file, now and after it was replaced.
    pub(super) fn file(path: &Path) -> Result<Option<Self>, KeyFileError> {
        let stamp = stamp(path);
        let Some(key) = load_key(path)? else { return Ok(None) };
        Ok(Some(Self::File { path: path.to_owned(), last: Mutex::new((stamp, key)) }))
    }

    /// The key to sign with. A file that is gone or cannot be read changes nothing: the key of before is still
    /// a key.
    pub(super) fn key(&self) -> Option<SigningKey> {
        match self {
            Self::Nothing => None,
            Self::Fixed(key) => Some(key.clone()),
            Self::File { path, last } => {
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                let found = stamp(path);
                if found.is_some() && found != last.0 {
                    match load_key(path) {
                        Ok(Some(key)) => *last = (found, key),
                        Ok(None) => {}
                        Err(error) => tracing::warn!(%error, "the key of before is used"),
                    }
                }
                Some(last.1.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrol::load_or_make_key;

    #[test]
    fn a_key_that_was_replaced_is_used_and_one_that_is_gone_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let (path, next) = (folder.path().join("key"), folder.path().join("next"));
        assert!(Held::file(&path).unwrap().is_none());
        let (first, _) = load_or_make_key(&path).unwrap();
        let held = Held::file(&path).unwrap().unwrap();
        assert_eq!(held.key().unwrap().public(), first.public());
        let (second, _) = load_or_make_key(&next).unwrap();
        fs::rename(&next, &path).unwrap();
        assert_eq!(held.key().unwrap().public(), second.public());
        fs::remove_file(&path).unwrap();
        assert_eq!(held.key().unwrap().public(), second.public());
    }
}
