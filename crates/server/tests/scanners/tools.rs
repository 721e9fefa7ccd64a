//! Starting the scanners and the twin.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::postgres::Server;

/// Longest a scanner may take, in CI and in the long mode.
const LIMIT: [Duration; 2] = [Duration::from_secs(900), Duration::from_secs(6 * 3600)];

/// Where books are kept.
pub enum Books {
    Sqlite,
    Postgres(std::sync::Arc<Server>),
}

impl Books {
    pub fn postgres() -> Self {
        Self::Postgres(crate::postgres::shared())
    }
    /// As scanners call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres(_) => "postgresql",
        }
    }
}

/// Whether there is time for everything.
pub fn is_long() -> bool {
    std::env::var_os("GANGLINE_SCANNERS_LONG").is_some()
}

/// The folder of the scanners' programs: an environment that `cargo xtask test --only scanners` makes.
fn programs() -> std::path::PathBuf {
    let folder = std::env::var_os("GANGLINE_SCANNERS_BIN")
        .expect("GANGLINE_SCANNERS_BIN names the scanners; `cargo xtask test --only scanners` sets it");
    folder.into()
}

/// Runs one to its end, and gives what it said.
pub async fn run(name: &str, args: &[String], folder: &Path) -> String {
    let mut command = tokio::process::Command::new(programs().join(name));
    command.args(args).current_dir(folder).env("HOME", folder).env("NO_COLOR", "1");
    // Nothing is asked of anybody but the address given.
    command
        .env_remove("HTTP_PROXY")
        .env_remove("HTTPS_PROXY")
        .env_remove("http_proxy")
        .env_remove("https_proxy");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let limit = LIMIT[usize::from(is_long())];
    let output = tokio::time::timeout(limit, command.output())
        .await
        .unwrap_or_else(|_| panic!("{name} did not end within {} s", limit.as_secs()))
        .unwrap_or_else(|e| panic!("{name} did not start: {e}"));
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The service with holes; it ends with the test.
pub struct Twin {
    pub url: String,
    _process: tokio::process::Child,
}

impl Twin {
    /// One on the database that these books are on.
    pub async fn start(books: &Books) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/scanners/twin.py");
        let mut command = tokio::process::Command::new(programs().join("python"));
        if let Books::Postgres(server) = books {
            command.env("GANGLINE_TWIN_POSTGRES", server.by_parts(&server.database().await));
        }
        let mut process = command
            .args(["-B", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        let port: u16 = line.trim().parse().expect("the twin says its port");
        Self { url: format!("http://127.0.0.1:{port}"), _process: process }
    }
}
