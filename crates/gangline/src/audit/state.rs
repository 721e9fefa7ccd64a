//! What an auditor remembers from one check to the next: the log's key and the last checkpoint that held.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// One log as last seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Its key.
    pub key: String,
    /// The signed note.
    pub checkpoint: String,
}

impl State {
    /// What is remembered; `None` where nothing is yet.
    ///
    /// # Errors
    /// When the file is there and cannot be read: that is not the same as nothing.
    pub fn load(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("could not read {}", path.display())),
        };
        let state = toml::from_str(&text).map_err(|why| {
            Problem::usage(format!("{} cannot be read: {}", path.display(), why.message()))
                .hint("bring it back from a backup; without it, a roll-back since then cannot be found")
        })?;
        Ok(Some(state))
    }

    /// Keeps it, durably, in place of what was there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, path: &Path) -> anyhow::Result<()> {
        let write = || -> anyhow::Result<()> {
            let text = toml::to_string(self)?;
            let mut beside = path.as_os_str().to_owned();
            beside.push(".new");
            let mut file = File::create(&beside)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&beside, path)?;
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                File::open(folder)?.sync_all()?;
            }
            Ok(())
        };
        write().with_context(|| format!("could not keep {}", path.display()))
    }
}
