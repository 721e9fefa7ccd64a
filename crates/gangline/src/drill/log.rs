//! The books are edited afterwards: saved copies of the log are changed in every way there is, and each must be
//! found out by the check that anybody can run.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, ensure};

use super::{report::Row, tenant::Tenant};
use crate::audit;

/// The files of a folder and those below it.
fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut all = Vec::new();
    files(from, &mut all)?;
    for path in all {
        let target = to.join(path.strip_prefix(from)?);
        fs::create_dir_all(target.parent().context("a file lies in a folder")?)?;
        fs::copy(&path, &target)?;
    }
    Ok(())
}

/// Plays it.
///
/// # Errors
/// When the log cannot be fetched, or does not hold together to begin with.
pub async fn run(t: &Tenant) -> anyhow::Result<Row> {
    let temporary = tempfile::Builder::new().prefix("gangline-drill-log-").tempdir()?;
    let at = |name: &str| temporary.path().join(name);
    let old = audit::fetch(&t.origin, &at("old")).await?;
    // Something more happens, and is published.
    ensure!(t.victim.name(t.victim.gpus[3], "for the log").await?.0 == 200, "the victim cannot name its GPU");
    let mut size = old;
    for _ in 0..600 {
        let folder = at("now");
        let _ = fs::remove_dir_all(&folder);
        size = audit::fetch(&t.origin, &folder).await?;
        if size > old {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(size > old, "the log did not grow by what happened");
    let now = at("now");
    let seen = now.join("checkpoint");
    if let Some(finding) = audit::finding(&now, &[at("old").join("checkpoint")]).await? {
        anyhow::bail!("the log does not hold together as it is: {finding}");
    }
    let mut entries = Vec::new();
    files(&now.join("tile/entries"), &mut entries)?;
    let mut hashes = Vec::new();
    files(&now.join("tile/0"), &mut hashes)?;
    let (entry, hash) = (entries.first().context("no entries")?, hashes.first().context("no hashes")?);
    let flip = |path: &Path, back: usize| -> anyhow::Result<()> {
        let mut bytes = fs::read(path)?;
        let place = bytes.len().checked_sub(back).context("a file is too short to be changed")?;
        bytes[place] ^= 1;
        Ok(fs::write(path, bytes)?)
    };
    let (mut tried, mut missed) = (0, Vec::new());
    for what in [
        "an entry edited",
        "a hash edited",
        "an entry and its hash dropped",
        "another signature",
        "rolled back",
    ] {
        let folder = at(&what.replace(' ', "-"));
        copy(
            if what == "rolled back" { temporary.path().join("old") } else { now.clone() }.as_path(),
            &folder,
        )?;
        let same =
            |path: &Path| -> anyhow::Result<std::path::PathBuf> { Ok(folder.join(path.strip_prefix(&now)?)) };
        match what {
            "an entry edited" => flip(&same(entry)?, 5)?,
            "a hash edited" => flip(&same(hash)?, 3)?,
            "an entry and its hash dropped" => {
                let bytes = fs::read(same(hash)?)?;
                fs::write(same(hash)?, &bytes[..bytes.len() - 32])?;
            }
            "another signature" => {
                let text = fs::read_to_string(folder.join("checkpoint"))?;
                let at = text.trim_end().len() - 6;
                let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
                fs::write(folder.join("checkpoint"), format!("{}{other}{}", &text[..at], &text[at + 1..]))?;
            }
            _ => {}
        }
        tried += 1;
        if audit::finding(&folder, std::slice::from_ref(&seen)).await?.is_none() {
            missed.push(what);
        }
    }
    Ok(Row::new(
        "log_tamper",
        missed.len() as f64,
        0.0,
        "edits not found out",
        tried == 5,
        if missed.is_empty() {
            format!(
                "{size} entries hold together; edited, cut, re-signed and rolled-back copies were each found out from outside"
            )
        } else {
            format!("not found out: {}", missed.join(", "))
        },
    ))
}
