//! A cluster's Ray as seen through the server: its Jobs API, its packages, and the upgrade to a
//! WebSocket. Every request is signed; the cluster's own token is put in behind the server and is never
//! seen here.
//!
//! Knows the Jobs API of Ray 2.60 and nothing of terminals. What it gets back comes from a stranger's
//! machine: lengths are bounded and names are checked before they are used in a path.

use std::time::Duration;

use anyhow::{Context, bail};
use gangline_types::ClusterId;
use gangline_wire::{Endpoint, ErrorBody, endpoints::RayProxy};
use gangline_worker::client::{Client, ClientError};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{inert::inert_line, problem::Problem};

/// A plain request may take this long; Ray's dashboard on a loaded machine is slow.
const WAIT: Duration = Duration::from_secs(120);
/// An upload may take this long: 100 MiB at 350 KiB a second.
const UPLOAD_WAIT: Duration = Duration::from_secs(300);
/// Largest answer read, in bytes: the log of a talkative job.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Largest part of a refusal that is shown, in characters.
const REFUSAL_CHARS_MAX: usize = 400;

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum JobStatus {
    /// Not started yet.
    Pending,
    /// Running.
    Running,
    /// Stopped by its renter.
    Stopped,
    /// Ended with exit code 0.
    Succeeded,
    /// Ended otherwise, or never started.
    Failed,
}

impl JobStatus {
    /// Whether it will not change any more.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Stopped | Self::Succeeded | Self::Failed)
    }
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// A job as Ray tells it.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
pub struct Job {
    /// Its id; none for a driver that was not submitted.
    pub submission_id: Option<String>,
    /// How it stands.
    pub status: JobStatus,
    /// Its command.
    pub entrypoint: String,
    /// More words on its status.
    pub message: Option<String>,
    /// Its exit code once it has ended.
    pub driver_exit_code: Option<i64>,
}

/// The name of a job: letters, digits, `_` and `-`, so that it can stand in a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobId(String);

impl JobId {
    /// A new name.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn random() -> anyhow::Result<Self> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|why| anyhow::anyhow!("the system gave no randomness: {why}"))?;
        Ok(Self(format!("gangline_{:016x}", u64::from_be_bytes(bytes))))
    }
}

impl std::str::FromStr for JobId {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
        if (1..=128).contains(&text.len()) && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err("expected the id of a job: letters, digits, _ and -, at most 128")
        }
    }
}

impl std::fmt::Display for JobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One cluster's Ray.
#[derive(Clone, Copy)]
pub struct Ray<'a> {
    client: &'a Client,
    cluster: ClusterId,
}

impl<'a> Ray<'a> {
    /// The Ray of `cluster`.
    pub fn new(client: &'a Client, cluster: ClusterId) -> Self {
        Self { client, cluster }
    }

    /// Sends a request to `path` (without a leading slash).
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        wait: Option<Duration>,
    ) -> Result<reqwest::Response, ClientError> {
        let path = RayProxy::path(&[&self.cluster, &path]);
        self.client.raw(method, &path, "", headers, body, wait).await
    }

    /// Passes a request on as it is: `path` begins with a slash and is percent-encoded, and the answer is
    /// whatever comes.
    pub async fn pass(
        &self,
        method: &str,
        path: &str,
        query: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<reqwest::Response, ClientError> {
        let path = RayProxy::path(&[&self.cluster, &path.strip_prefix('/').unwrap_or(path)]);
        self.client.raw(method, &path, query, headers, body, None).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<T> {
        let headers: &[(&str, &str)] =
            if body.is_some() { &[("content-type", "application/json")] } else { &[] };
        let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        let response = ok(self.send(method, path, headers, body, Some(WAIT)).await?).await?;
        let bytes = read(response, ANSWER_BYTES_MAX).await?;
        serde_json::from_slice(&bytes).context("Ray's answer cannot be read")
    }

    /// Whether the package `name` is on the cluster.
    ///
    /// # Errors
    /// When Ray cannot be asked.
    pub async fn has_package(&self, name: &str) -> anyhow::Result<bool> {
        let response = self.send("GET", &package_path(name), &[], Vec::new(), Some(WAIT)).await?;
        // Refusals of the server are JSON with a code of ours; Ray says 404 in plain words.
        if response.status() == http::StatusCode::NOT_FOUND && !is_ours(&response) {
            return Ok(false);
        }
        ok(response).await.map(|_| true)
    }

    /// Puts the package `name` on the cluster.
    ///
    /// # Errors
    /// When it is not taken.
    pub async fn put_package(&self, name: &str, zip: Vec<u8>) -> anyhow::Result<()> {
        let headers = [("content-type", "application/octet-stream")];
        ok(self.send("PUT", &package_path(name), &headers, zip, Some(UPLOAD_WAIT)).await?).await.map(drop)
    }

    /// Starts a job under the name `id`.
    ///
    /// # Errors
    /// When it is not taken.
    pub async fn submit(&self, id: &JobId, entrypoint: &str, package: &str) -> anyhow::Result<()> {
        let body = json!({
            "entrypoint": entrypoint,
            "submission_id": id.to_string(),
            "runtime_env": {"working_dir": format!("gcs://{package}")},
            "metadata": {},
        });
        self.json::<Value>("POST", "api/jobs/", Some(body)).await.map(drop)
    }

    /// How a job stands.
    ///
    /// # Errors
    /// When Ray cannot be asked.
    pub async fn job(&self, id: &JobId) -> anyhow::Result<Job> {
        self.json("GET", &format!("api/jobs/{id}"), None).await
    }

    /// Every job of the cluster.
    ///
    /// # Errors
    /// When Ray cannot be asked.
    pub async fn jobs(&self) -> anyhow::Result<Vec<Job>> {
        self.json("GET", "api/jobs/", None).await
    }

    /// Asks a job to stop; false where it had ended.
    ///
    /// # Errors
    /// When Ray cannot be asked.
    pub async fn stop(&self, id: &JobId) -> anyhow::Result<bool> {
        #[derive(Deserialize)]
        struct Stopped {
            stopped: bool,
        }
        Ok(self.json::<Stopped>("POST", &format!("api/jobs/{id}/stop"), None).await?.stopped)
    }

    /// All that a job wrote.
    ///
    /// # Errors
    /// When Ray cannot be asked, or it is more than 64 MiB.
    pub async fn logs(&self, id: &JobId) -> anyhow::Result<String> {
        #[derive(Deserialize)]
        struct Logs {
            logs: String,
        }
        Ok(self.json::<Logs>("GET", &format!("api/jobs/{id}/logs"), None).await?.logs)
    }
}

fn package_path(name: &str) -> String {
    format!("api/packages/gcs/{name}")
}

fn is_ours(response: &reqwest::Response) -> bool {
    let kind = response.headers().get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/json"))
}

/// The response where it is a success; otherwise whose refusal it is, in inert words.
///
/// # Errors
/// When it is no success.
pub async fn ok(response: reqwest::Response) -> anyhow::Result<reqwest::Response> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let said = read(response, 1 << 16).await.unwrap_or_default();
    if let Ok(body) = serde_json::from_slice::<ErrorBody>(&said) {
        return Err(ClientError::Refused { status: status.as_u16(), body: Box::new(body) }.into());
    }
    // The last line of a Python traceback is the one that says what happened.
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("without a reason");
    let words: String = inert_line(line).chars().take(REFUSAL_CHARS_MAX).collect();
    Err(Problem::new(format!("the cluster's Ray answered {status}: {words}")).into())
}

async fn read(mut response: reqwest::Response, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.context("the answer broke off")? {
        if bytes.len() + chunk.len() > bytes_max {
            bail!("the answer is longer than {bytes_max} bytes");
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_outside_cannot_lead_elsewhere() {
        for bad in ["", "..", "a/b", "a%2fb", "a b", "é", &"x".repeat(129)] {
            assert!(bad.parse::<JobId>().is_err(), "{bad} was taken");
        }
        let id = JobId::random().unwrap();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("raysubmit_4LamXRuQpYdSMg7J".parse::<JobId>().is_ok());
    }
}
