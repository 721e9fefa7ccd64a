//! The worker's data directory: which files there are, who may read them, and how they are replaced
//! so that no reader ever sees half of one.
//!
//! Knows no network and no meaning of what is stored.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use gangline_wire::SigningKey;
use serde::{Serialize, de::DeserializeOwned};

use super::inventory::SlotKey;
use crate::enrol;

/// The machine key's seed; nobody else may read it.
pub(crate) const KEY: &str = "machine.key";
/// The machine's next key, until the server has it.
pub(crate) const KEY_NEXT: &str = "machine.key.next";
/// What the slots of this machine's GPUs are hashed with, once its key is not the first; nobody else may read it.
pub(crate) const SLOTS: &str = "slots.key";
/// The owner's settings.
pub(crate) const SETTINGS: &str = "worker.toml";
/// Which network this machine joined; no secret.
pub(crate) const JOINED: &str = "joined.toml";
/// GPU ids by slot, so that beats can be kept when the worker starts while the server is away.
pub(crate) const REGISTERED: &str = "registered.json";
/// What the worker shows of itself.
pub(crate) const STATUS: &str = "status.json";
/// What the owner asked of a running worker.
pub(crate) const INTENT: &str = "intent.json";
/// Beats that were not acknowledged.
pub(crate) const BEATS: &str = "beats.json";
/// The lane that beats go through: holds the beat key.
pub(crate) const LANE: &str = "beat-lane.json";
/// Clusters that are not settled.
pub(crate) const CLUSTERS: &str = "clusters.json";
/// Held by the one worker of this directory.
pub(crate) const LOCK: &str = "lock";

/// What is wrong with the data directory or a file in it.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No place to keep anything.
    #[error("no data directory: neither --data nor XDG_STATE_HOME nor HOME is set (hint: --data DIR)")]
    Nowhere,
    /// A file system call failed.
    #[error("could not {doing} {path}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Others may read or write what is ours alone.
    #[error(
        "{path} is open to other users of this machine (mode {mode:03o}); it is not used like that (hint: `chmod {cure:03o} {path}`, and if a stranger may have read a key: `gangline worker leave` and join again)"
    )]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// What they should be.
        cure: u32,
    },
    /// It belongs to somebody else.
    #[error(
        "{path} belongs to another user of this machine (hint: run the worker as its owner, or use another --data)"
    )]
    NotOurs {
        /// The file or directory.
        path: PathBuf,
    },
    /// A file is not what it should be.
    #[error("{path} cannot be read: {why} (hint: {hint})")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
        /// How to cure it.
        hint: &'static str,
    },
    /// The machine key's file.
    #[error("the machine key cannot be used (hint: if it cannot be restored, remove {path} and join again)")]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: crate::enrol::KeyFileError,
    },
    /// Another worker runs here.
    #[error("another worker{} uses {path} (hint: stop it, or give this one its own --data)", pid.map(|p| format!(" (process {p})")).unwrap_or_default())]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Its process, if it said.
        pid: Option<u32>,
    },
}

/// The directory where one worker keeps everything.
#[derive(Clone, Debug)]
pub struct DataDir(PathBuf);

/// Held while a worker uses its directory; the system frees it when the process ends, however that is.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "the lock lasts as long as the open file")] File);

impl DataDir {
    /// `given`, or `gangline/worker` under `$XDG_STATE_HOME` or `~/.local/state`.
    ///
    /// # Errors
    /// [`DataError::Nowhere`] if none of them is known.
    pub fn resolve(given: Option<&Path>) -> Result<Self, DataError> {
        let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(given) = given {
            let path = std::path::absolute(given).map_err(|source| DataError::Io {
                doing: "find",
                path: given.into(),
                source,
            })?;
            return Ok(Self(path));
        }
        let state = variable("XDG_STATE_HOME")
            .filter(|p| p.is_absolute())
            .or_else(|| variable("HOME").map(|home| home.join(".local/state")))
            .ok_or(DataError::Nowhere)?;
        Ok(Self(state.join("gangline/worker")))
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes the directory if needed, mode 0700, and checks that it is ours and writable.
    ///
    /// # Errors
    /// [`DataError::Io`], [`DataError::Open`] or [`DataError::NotOurs`].
    pub fn prepare(&self) -> Result<(), DataError> {
        let path = &self.0;
        let fail = |doing, source| DataError::Io { doing, path: path.clone(), source };
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path).map_err(|e| fail("make the directory", e))?;
        let facts = fs::metadata(path).map_err(|e| fail("look at", e))?;
        // Whoever may write into the directory may put another key there.
        private(path, &facts, 0o022, 0o700)?;
        let probe = self.file(".writable");
        File::create(&probe).and_then(|mut f| f.write_all(b"?")).map_err(|e| fail("write into", e))?;
        fs::remove_file(&probe).map_err(|e| fail("write into", e))
    }

    /// Takes the directory for this process.
    ///
    /// # Errors
    /// [`DataError::Locked`] while another worker runs.
    pub(crate) fn lock(&self) -> Result<Lock, DataError> {
        let path = self.file(LOCK);
        let fail = |source| DataError::Io { doing: "lock", path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // The number is only for the message.
                let _ = file.take(16).read_to_string(&mut text);
                return Err(DataError::Locked { path: self.0.clone(), pid: text.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(fail(source)),
        }
        file.set_len(0)
            .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()))
            .map_err(fail)?;
        Ok(Lock(file))
    }

    /// Whether a worker runs here now.
    pub(crate) fn in_use(&self) -> bool {
        let Ok(file) = File::open(self.file(LOCK)) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// The machine key; none if none was made.
    ///
    /// # Errors
    /// If others may read it, it is not ours, or it is not a key.
    pub(crate) fn key(&self) -> Result<Option<SigningKey>, DataError> {
        let path = self.file(KEY);
        if let Ok(facts) = fs::metadata(&path) {
            private(&path, &facts, 0o077, 0o600)?;
        }
        enrol::load_key(&path).map_err(|source| DataError::Key { path, source })
    }

    /// The machine key, and whether it was made just now.
    ///
    /// # Errors
    /// As [`Self::key`], and if it cannot be written.
    pub(crate) fn key_or_new(&self) -> Result<(SigningKey, bool), DataError> {
        if let Some(key) = self.key()? {
            return Ok((key, false));
        }
        let path = self.file(KEY);
        enrol::load_or_make_key(&path).map_err(|source| DataError::Key { path, source })
    }

    /// What slots are hashed with: what was kept of the machine's first key, or that key if it is still in place.
    ///
    /// # Errors
    /// If the file cannot be read, others may read it, or it holds something else.
    pub(crate) fn slot_key(&self, key: &SigningKey) -> Result<SlotKey, DataError> {
        let path = self.file(SLOTS);
        let held = match fs::read(&path) {
            Ok(held) => zeroize::Zeroizing::new(held),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(SlotKey::of(key)),
            Err(source) => return Err(DataError::Io { doing: "read", path, source }),
        };
        let facts = fs::metadata(&path).map_err(|source| DataError::Io {
            doing: "look at",
            path: path.clone(),
            source,
        })?;
        private(&path, &facts, 0o077, 0o600)?;
        SlotKey::from_bytes(&held).ok_or_else(|| DataError::Malformed {
            path,
            why: format!("expected 32 bytes, found {}", held.len()),
            hint: "restore it from a backup; without it this machine's GPUs get new ids",
        })
    }

    /// Keeps what slots are hashed with before another key takes the place of `key`.
    ///
    /// # Errors
    /// As [`Self::slot_key`], and if it cannot be written.
    pub(crate) fn keep_slot_key(&self, key: &SigningKey) -> Result<(), DataError> {
        let slot_key = self.slot_key(key)?;
        if self.file(SLOTS).exists() { Ok(()) } else { self.write(SLOTS, slot_key.bytes(), true) }
    }

    /// The text of a file; none if there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<String>, DataError> {
        match fs::read_to_string(self.file(name)) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DataError::Io { doing: "read", path: self.file(name), source }),
        }
    }

    pub(crate) fn read_json<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, DataError> {
        let Some(text) = self.read(name)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|e| DataError::Malformed {
            path: self.file(name),
            why: e.to_string(),
            hint: "the worker writes this file by itself; move it away and start again",
        })
    }

    /// Replaces a file as a whole: readers see the old one or the new one. With `durable` it has reached
    /// the disk when this returns.
    pub(crate) fn write(&self, name: &str, bytes: &[u8], durable: bool) -> Result<(), DataError> {
        let path = self.file(name);
        let fresh = self.file(&format!(".{name}.{}", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options
            .open(&fresh)
            .and_then(|mut f| {
                f.write_all(bytes)?;
                if durable { f.sync_all() } else { Ok(()) }
            })
            .and_then(|()| fs::rename(&fresh, &path))
            .and_then(|()| if durable { self.sync() } else { Ok(()) });
        written.map_err(|source| {
            let _ = fs::remove_file(&fresh);
            DataError::Io { doing: "write", path, source }
        })
    }

    pub(crate) fn write_json(
        &self,
        name: &str,
        value: &impl Serialize,
        durable: bool,
    ) -> Result<(), DataError> {
        let bytes = serde_json::to_vec(value).map_err(|e| DataError::Io {
            doing: "write",
            path: self.file(name),
            source: io::Error::other(e),
        })?;
        self.write(name, &bytes, durable)
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), DataError> {
        match fs::remove_file(self.file(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(DataError::Io { doing: "remove", path: self.file(name), source: e })
            }
            _ => Ok(()),
        }
    }

    /// Brings names of files in the directory to the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        if cfg!(unix) { File::open(&self.0)?.sync_all() } else { Ok(()) }
    }
}

/// Refuses what belongs to another user or has any permission of `forbidden`.
pub(crate) fn private(path: &Path, facts: &fs::Metadata, forbidden: u32, cure: u32) -> Result<(), DataError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let mode = facts.mode() & 0o777;
        if facts.uid() != nix::unistd::geteuid().as_raw() {
            return Err(DataError::NotOurs { path: path.into() });
        }
        if mode & forbidden != 0 {
            return Err(DataError::Open { path: path.into(), mode, cure });
        }
    }
    #[cfg(not(unix))]
    let _ = (path, facts, forbidden, cure);
    Ok(())
}

/// Which network this machine joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Joined {
    /// The server.
    pub url: String,
    /// What people compared when they approved.
    pub fingerprint: String,
    /// When.
    pub joined_at: gangline_types::UnixSeconds,
}

impl Joined {
    pub(crate) fn load(data: &DataDir) -> Result<Option<Self>, DataError> {
        let Some(text) = data.read(JOINED)? else { return Ok(None) };
        toml::from_str(&text).map(Some).map_err(|e| DataError::Malformed {
            path: data.file(JOINED),
            why: e.message().to_owned(),
            hint: "remove this file and join again: the machine keeps its key",
        })
    }
    pub(crate) fn store(&self, data: &DataDir) -> Result<(), DataError> {
        let text = toml::to_string(self).map_err(|e| DataError::Io {
            doing: "write",
            path: data.file(JOINED),
            source: io::Error::other(e),
        })?;
        data.write(
            JOINED,
            format!("# Which network this machine joined. Holds no secret.\n{text}").as_bytes(),
            true,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_worker_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::resolve(Some(&dir.path().join("a/b"))).unwrap();
        data.prepare().unwrap();
        assert!(!data.in_use());
        let held = data.lock().unwrap();
        assert!(data.in_use());
        assert!(
            matches!(data.lock(), Err(DataError::Locked { pid: Some(p), .. }) if p == std::process::id())
        );
        drop(held);
        assert!(!data.in_use());
        data.lock().unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::resolve(Some(dir.path())).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let refused = data.prepare().unwrap_err();
        assert!(matches!(refused, DataError::Open { mode: 0o777, .. }), "{refused}");
        assert!(refused.to_string().contains("chmod 700"), "{refused}");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_may_read_is_not_used_and_the_cure_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::resolve(Some(dir.path())).unwrap();
        assert!(data.key().unwrap().is_none());
        let (made, fresh) = data.key_or_new().unwrap();
        assert!(fresh);
        assert_eq!(data.key().unwrap().unwrap().public(), made.public());
        for open in [0o640, 0o604, 0o666] {
            fs::set_permissions(data.file(KEY), fs::Permissions::from_mode(open)).unwrap();
            for refused in [data.key().unwrap_err(), data.key_or_new().unwrap_err()] {
                assert!(refused.to_string().contains("chmod 600"), "{refused}");
            }
        }
        fs::set_permissions(data.file(KEY), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(data.file(KEY), "short").unwrap();
        assert!(matches!(data.key(), Err(DataError::Key { .. })));
    }

    #[test]
    fn what_was_joined_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::resolve(Some(dir.path())).unwrap();
        assert_eq!(Joined::load(&data).unwrap(), None);
        let joined = Joined {
            url: "http://127.0.0.1:7700".into(),
            fingerprint: "0011-2233".into(),
            joined_at: gangline_types::UnixSeconds(5),
        };
        joined.store(&data).unwrap();
        assert_eq!(Joined::load(&data).unwrap(), Some(joined));
        fs::write(data.file(JOINED), "url = 3").unwrap();
        assert!(matches!(Joined::load(&data), Err(DataError::Malformed { .. })));
    }
}
