//! Servers on PostgreSQL as processes: a network that moves there, several servers on one database, and what they do
//! when one of them, or the database, is gone.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod cost;
mod fleet;
#[path = "../live/mod.rs"]
mod live;
mod migrate;
mod outlets;
#[path = "../../../store/tests/postgres/mod.rs"]
mod postgres;
mod switch;
mod three;
mod together;
mod world;

use std::path::{Path, PathBuf};

/// A file with an address in it that nobody else may read.
fn address_file(folder: &Path, name: &str, url: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let file = folder.join(name);
    std::fs::write(&file, url).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}
