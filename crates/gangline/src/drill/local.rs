//! A network of the drill's own: this very program as a server in a temporary folder, on a free port.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// How long a server may take to listen, and to end.
const START: Duration = Duration::from_secs(120);
const END: Duration = Duration::from_secs(30);

/// The server.
pub struct Local {
    /// How it is reached.
    pub origin: String,
    /// Its operator's one-time link.
    pub link: String,
    child: Child,
    _folder: tempfile::TempDir,
}

impl Local {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not come to listen.
    pub async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("gangline-drill-").tempdir()?;
        let program = std::env::current_exe().context("could not find this program's own file")?;
        let log = std::fs::File::create(folder.path().join("server.log"))?;
        let mut command = Command::new(program);
        command
            // It has one operator, who lifts a freeze of the whole fleet without waiting long; and it asks for two
            // factors, as networks do that strangers reach.
            .args(["serve", "--json", "--listen", "127.0.0.1:0", "--alone-delay-seconds", "1"])
            .args(["--second-factor", "required", "--data"])
            .arg(folder.path().join("data"));
        // Settings of whoever drills are not this network's.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("GANGLINE_") {
                command.env_remove(&name);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().context("the server could not be started")?;
        let stdout = child.stdout.take().context("the server's output was not piped")?;
        let mut lines = BufReader::new(stdout).lines();
        let serving = async {
            while let Some(line) = lines.next_line().await? {
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                if event["event"] == "serving" {
                    let text = |name: &str| {
                        event[name]
                            .as_str()
                            .map(str::to_owned)
                            .with_context(|| format!("the server told no {name}"))
                    };
                    return anyhow::Ok((text("origin")?, text("operator_link")?));
                }
            }
            bail!("the server ended before it listened")
        };
        let said = timeout(START, serving).await.context("the server did not come to listen")?;
        let (origin, link) = said.with_context(|| {
            let log = std::fs::read_to_string(folder.path().join("server.log")).unwrap_or_default();
            log.lines().rev().take(3).collect::<Vec<_>>().join(" / ")
        })?;
        Ok(Self { origin, link, child, _folder: folder })
    }

    /// Ends it.
    pub async fn end(mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ =
                nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        }
        if timeout(END, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}
