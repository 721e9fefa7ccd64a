//! What the renter's side keeps: a key, the server it is enrolled at, and the network's key for
//! receipts as first seen. Nothing here is sent anywhere.
//!
//! Knows no request.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::Context;
use gangline_wire::{PublicKey, SigningKey};
use gangline_worker::{client::Client, enrol};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// Where this machine's key is enrolled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The server.
    pub server: String,
    /// The key that signs the network's receipts, from the first receipt seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_key: Option<PublicKey>,
}

/// The folder all of it is in.
#[derive(Clone, Debug)]
pub struct State {
    folder: PathBuf,
}

impl State {
    /// The state in `folder`, or in the user's state folder.
    ///
    /// # Errors
    /// When there is no such place.
    pub fn open(folder: Option<PathBuf>) -> anyhow::Result<Self> {
        let absolute =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let folder = folder
            .or_else(|| absolute("XDG_STATE_HOME").map(|state| state.join("gangline/rent")))
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state/gangline/rent")));
        let folder = folder.ok_or_else(|| {
            Problem::usage("there is no folder to keep this machine's key in")
                .hint("name one with --data DIR")
        })?;
        Ok(Self { folder })
    }

    /// This machine's key, made on the spot where there is none.
    ///
    /// # Errors
    /// When the folder or the key file cannot be used.
    pub fn key(&self) -> anyhow::Result<SigningKey> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .with_context(|| format!("could not make the folder {}", self.folder.display()))?;
        Ok(enrol::load_or_make_key(&self.key_path())?.0)
    }

    /// The file of this machine's key.
    pub fn key_path(&self) -> PathBuf {
        self.folder.join("cli.key")
    }
    fn login_path(&self) -> PathBuf {
        self.folder.join("login.toml")
    }

    /// Where this machine is logged in; `None` where it is not.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn login(&self) -> anyhow::Result<Option<Login>> {
        let path = self.login_path();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("could not read {}", path.display())),
        };
        let login = toml::from_str(&text).map_err(|why| {
            Problem::new(format!("{} cannot be read: {}", path.display(), why.message()))
                .hint("remove it and log in again with `gangline rent login URL`")
        })?;
        Ok(Some(login))
    }

    /// Keeps `login`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn keep(&self, login: &Login) -> anyhow::Result<()> {
        let path = self.login_path();
        write_private(&path, toml::to_string(login)?.as_bytes())
            .with_context(|| format!("could not write {}", path.display()))
    }

    /// A client of the server this machine is logged in at; it signs with this machine's key.
    ///
    /// # Errors
    /// When this machine is not logged in, or its key cannot be read.
    pub fn client(&self) -> anyhow::Result<Client> {
        let not_logged_in = || {
            Problem::new("this machine is not logged in at any network")
                .hint("log in with `gangline rent login URL`")
        };
        let login = self.login()?.ok_or_else(not_logged_in)?;
        if !self.key_path().exists() {
            return Err(not_logged_in().into());
        }
        Ok(Client::with_key_file(&login.server, &self.key_path())?)
    }
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = folder.join(format!(".{name}.{}", std::process::id()));
    let write = || {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&beside);
    })
}
