//! Where a log is read from: a network, or a folder in the same layout. Judges nothing.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use gangline_guard::log::{Checkpoint, Note, TilePath, tiles::paths_of};
use gangline_worker::client::Client;
use http_body_util::BodyExt;

use crate::problem::{Problem, USAGE};

/// Bytes of any file of a log at most: 256 entries of the largest size there is.
const FILE_BYTES_MAX: usize = 256 * (65_535 + 2);
const REQUEST_SECONDS_MAX: u64 = 60;

/// A log that can be read.
pub enum Source {
    /// A network's.
    Network(Box<Client>),
    /// A saved copy.
    Folder(PathBuf),
}

impl Source {
    /// A network's log.
    ///
    /// # Errors
    /// When that is no server's URL.
    pub fn network(url: &str) -> anyhow::Result<Self> {
        Ok(Self::Network(Box::new(Client::new(url, None)?)))
    }

    /// A network's log by its URL, or a saved one by its folder.
    ///
    /// # Errors
    /// When it is neither.
    pub fn of(text: &str) -> anyhow::Result<Self> {
        if text.contains("://") {
            return Self::network(text);
        }
        let folder = PathBuf::from(text);
        if folder.join("checkpoint").is_file() {
            return Ok(Self::Folder(folder));
        }
        let problem =
            Problem::usage(format!("{text} is neither a server's URL nor a folder with a log in it"));
        Err(problem
            .hint("give for example http://127.0.0.1:7700, or save a log with `gangline audit fetch`")
            .into())
    }

    /// A file of the log; `None` where there is none.
    async fn file(&self, name: &str) -> anyhow::Result<Option<Vec<u8>>> {
        match self {
            Self::Network(client) => get(client, &format!("/log/{name}")).await,
            Self::Folder(folder) => match fs::read(folder.join(name)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error).with_context(|| format!("could not read {name}")),
            },
        }
    }

    /// A text that every log has.
    async fn text(&self, name: &str) -> anyhow::Result<String> {
        let bytes = self.file(name).await?.ok_or_else(|| {
            Problem::new(format!("there is no {name}; is this a log of this version?")).code(USAGE)
        })?;
        String::from_utf8(bytes).with_context(|| format!("{name} is not text"))
    }

    /// The key that the log shows.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn key(&self) -> anyhow::Result<String> {
        Ok(self.text("key").await?.trim().to_owned())
    }

    /// The newest checkpoint.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn checkpoint(&self) -> anyhow::Result<String> {
        self.text("checkpoint").await
    }

    /// A tile or bundle; `None` where the log has none.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub async fn tile(&self, path: TilePath) -> anyhow::Result<Option<Vec<u8>>> {
        self.file(&format!("tile/{path}")).await
    }

    /// Saves the whole log: how many entries.
    ///
    /// # Errors
    /// When it cannot be asked or written.
    pub async fn save(&self, folder: &Path) -> anyhow::Result<u64> {
        let (key, text) = (self.key().await?, self.checkpoint().await?);
        let note: Note = text.parse().context("the log's checkpoint cannot be read")?;
        let checkpoint: Checkpoint = note.text().parse().context("the log's checkpoint cannot be read")?;
        let write = |name: &str, bytes: &[u8]| -> anyhow::Result<()> {
            let path = folder.join(name);
            let parent = path.parent().unwrap_or(folder);
            fs::create_dir_all(parent)
                .and_then(|()| fs::write(&path, bytes))
                .with_context(|| format!("could not write {}", path.display()))
        };
        for path in paths_of(checkpoint.size) {
            let bytes = self.tile(path).await?;
            let bytes = bytes.ok_or_else(|| {
                Problem::new(format!("the log has no tile/{path}, which its checkpoint promises")).code(USAGE)
            })?;
            write(&format!("tile/{path}"), &bytes)?;
        }
        write("key", format!("{key}\n").as_bytes())?;
        // Last: a folder with a checkpoint in it is complete.
        write("checkpoint", text.as_bytes())?;
        Ok(checkpoint.size)
    }
}

/// What a server has at a path; `None` where it has nothing.
pub async fn get(client: &Client, path: &str) -> anyhow::Result<Option<Vec<u8>>> {
    let asking = || format!("could not ask {} for {path}", client.base());
    let wait = Some(Duration::from_secs(REQUEST_SECONDS_MAX));
    let response = client.raw("GET", path, "", &[], Vec::new(), wait).await.with_context(asking)?;
    match response.status().as_u16() {
        200 => {}
        404 => return Ok(None),
        status => {
            return Err(Problem::new(format!("it answered with status {status}")).code(USAGE))
                .with_context(asking);
        }
    }
    let body = http_body_util::Limited::new(reqwest::Body::from(response), FILE_BYTES_MAX);
    let collected = body.collect().await.map_err(|why| anyhow::anyhow!("{why}")).with_context(asking)?;
    Ok(Some(collected.to_bytes().to_vec()))
}
