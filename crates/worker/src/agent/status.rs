//! What a worker shows of itself: written to a file while it runs, read and drawn by `worker status`.
//!
//! Holds no secret: the file says nothing that its owner's console does not say.

use std::{io::IsTerminal, time::Duration};

use gangline_types::{ClusterId, GpuId, Minute, Standing, UnixSeconds};
use gangline_wire::api::machine::Observed;
use serde::{Deserialize, Serialize};

use super::{
    data::{DataDir, Joined, STATUS},
    error::AgentError,
    report::Reporter,
    shared::now,
};

/// Whether the server answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Connection {
    /// Not asked yet.
    #[default]
    Starting,
    /// It answers.
    Connected {
        /// Since when.
        since: UnixSeconds,
    },
    /// It does not.
    Away {
        /// Since when.
        since: UnixSeconds,
        /// Why.
        why: String,
    },
}

/// A proof being made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofStatus {
    /// In words.
    pub doing: String,
    /// Steps done.
    pub step: u32,
    /// Of so many; 0 not known yet.
    pub steps: u32,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuStatus {
    /// Its public id.
    pub gpu: GpuId,
    /// Model.
    pub model: String,
    /// What kind of device it is, in words.
    pub kind: String,
    /// What the network thinks of it.
    pub standing: Standing,
    /// Why.
    pub reason: String,
    /// Whether the network wants proofs of it.
    pub wanted: bool,
    /// The proof being made.
    pub proof: Option<ProofStatus>,
}

/// One cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its id.
    pub cluster: ClusterId,
    /// Where it runs.
    pub gpu: Option<GpuId>,
    /// How it is.
    pub state: Observed,
    /// In words.
    pub detail: String,
    /// Ray answered.
    pub started_at: Option<UnixSeconds>,
    /// Whether the renter's way to it is open.
    pub tunnel_open: bool,
}

/// The whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the worker.
    pub version: String,
    /// The server's URL.
    pub server: String,
    /// The machine key's fingerprint.
    pub fingerprint: String,
    /// The machine's name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub started_at: UnixSeconds,
    /// When this was written.
    pub updated_at: UnixSeconds,
    /// Whether the server answers.
    pub connection: Connection,
    /// The server refuses our clock: its words.
    pub clock_problem: Option<String>,
    /// The owner paused it.
    pub paused: bool,
    /// The sandbox renters' programs run in; none: takes no renter work.
    pub isolation: Option<String>,
    /// Why not.
    pub no_renter_work: Option<String>,
    /// Its GPUs.
    pub gpus: Vec<GpuStatus>,
    /// Clusters that are not settled.
    pub clusters: Vec<ClusterStatus>,
    /// Minutes of beats that are not acknowledged.
    pub beats_buffered: u32,
    /// The newest minute that was acknowledged.
    pub beat_acknowledged: Option<Minute>,
    /// When that was.
    pub beat_acknowledged_at: Option<UnixSeconds>,
    /// Minutes of GPUs acknowledged since the start.
    pub beats_credited: u64,
    /// What is wrong, in words.
    pub problems: Vec<String>,
    /// Why it ended, if it did.
    pub stopped: Option<String>,
}

/// A length of time for people.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// The status as lines for a person; `running` says whether a worker holds the data directory.
pub(crate) fn render(status: &Status, running: bool, now: UnixSeconds) -> Vec<String> {
    let ago = |then: UnixSeconds| span(now.since(then));
    let mut lines = vec![format!("{}  {}  key {}", status.name, status.server, status.fingerprint)];
    if running {
        let paused = if status.paused { ", paused: takes no new work" } else { "" };
        lines.push(format!("worker {} runs since {}{paused}", status.version, ago(status.started_at)));
    } else {
        let why = status.stopped.as_deref().unwrap_or("it ended without saying why");
        lines.push(format!("the worker does not run: {why} ({} ago)", ago(status.updated_at)));
        lines.push("start it with `gangline worker run`".to_owned());
    }
    lines.push(match &status.connection {
        _ if !running => format!("beats kept for the server: {}", minutes(status.beats_buffered)),
        Connection::Starting => "server: not asked yet".to_owned(),
        Connection::Connected { since } => format!("server: connected for {}", ago(*since)),
        Connection::Away { since, why } => {
            format!(
                "server: away for {} ({why}); {} of beats are kept for it",
                ago(*since),
                minutes(status.beats_buffered)
            )
        }
    });
    match (status.beat_acknowledged_at, running) {
        (Some(at), true) => lines.push(format!(
            "last beat acknowledged {} ago; {} credited since the start",
            ago(at),
            status.beats_credited
        )),
        (None, true) => lines.push("no beat acknowledged yet".to_owned()),
        _ => {}
    }
    if let Some(problem) = &status.clock_problem {
        lines.push(format!("problem: {problem}"));
    }
    lines.extend(status.problems.iter().map(|p| format!("problem: {p}")));
    lines.push(match (&status.isolation, &status.no_renter_work) {
        (_, Some(why)) => format!("renter work: none taken: {why}"),
        (Some(isolation), None) => format!("renter work: taken, isolated by {isolation}"),
        (None, None) => "renter work: none taken".to_owned(),
    });
    if status.gpus.is_empty() {
        lines.push("no GPU is registered yet".to_owned());
    }
    for gpu in &status.gpus {
        lines.push(format!("{}  {}  {} ({})", gpu.gpu, gpu.standing, gpu.model, gpu.kind));
        if !gpu.reason.is_empty() {
            lines.push(format!("    {}", gpu.reason));
        }
        if let Some(proof) = &gpu.proof {
            let steps = match proof.steps {
                0 => String::new(),
                steps => format!(
                    " [{:-<10}] {}/{steps}",
                    "=".repeat((10 * proof.step / steps).min(10) as usize),
                    proof.step
                ),
            };
            lines.push(format!("    proof: {}{steps}", proof.doing));
        } else if gpu.wanted {
            lines.push("    the network wants a proof of it".to_owned());
        }
    }
    for c in &status.clusters {
        let state = match c.state {
            Observed::Starting => "starting",
            Observed::Running => "running",
            Observed::RefusedByOwner => "refused",
            Observed::Failed => "failed",
            Observed::Gone => "gone",
        };
        let since =
            c.started_at.filter(|_| c.state == Observed::Running).map(|at| format!(" for {}", ago(at)));
        let tunnel = if c.tunnel_open { ", reachable by its renter" } else { "" };
        lines.push(format!("{}  {state}{}{tunnel}  {}", c.cluster, since.unwrap_or_default(), c.detail));
    }
    lines
}

fn minutes(n: u32) -> String {
    if n == 1 { "1 minute".to_owned() } else { format!("{n} minutes") }
}

/// Shows how the worker of this data directory is; with `watch` on a terminal, again each second until
/// the process is interrupted.
///
/// # Errors
/// If the machine has not joined, or the status cannot be read.
pub async fn status(data: &DataDir, watch: bool, reporter: &Reporter) -> Result<(), AgentError> {
    let Some(joined) = Joined::load(data)? else {
        return Err(AgentError::NotJoined { data: data.path().into() });
    };
    let load = || -> Result<(Status, bool), AgentError> {
        let fresh = || Status {
            server: joined.url.clone(),
            fingerprint: joined.fingerprint.clone(),
            name: "this machine".to_owned(),
            updated_at: joined.joined_at,
            stopped: Some("it was not started since it joined".to_owned()),
            ..Status::default()
        };
        Ok((data.read_json(STATUS)?.unwrap_or_else(fresh), data.in_use()))
    };
    if reporter.is_machine() {
        let (status, running) = load()?;
        reporter.event(serde_json::json!({"event": "status", "running": running, "status": status}));
        return Ok(());
    }
    if !(watch && std::io::stdout().is_terminal()) {
        let (status, running) = load()?;
        render(&status, running, now()).iter().for_each(|line| reporter.say(line));
        return Ok(());
    }
    let mut interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let (status, running) = load()?;
        // Home, each line cleared to its end, then everything below.
        let drawn: String =
            render(&status, running, now()).iter().map(|line| format!("{line}\x1b[K\n")).collect();
        reporter.say(&format!("\x1b[H\x1b[2J{drawn}\nctrl-c ends this view; the worker goes on"));
        tokio::select! {
            _ = &mut interrupted => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Status {
        Status {
            version: "0.1.0".into(),
            server: "https://net.example".into(),
            fingerprint: "0011-2233".into(),
            name: "attic".into(),
            started_at: UnixSeconds(1_000),
            updated_at: UnixSeconds(9_990),
            connection: Connection::Connected { since: UnixSeconds(2_800) },
            isolation: Some("podman".into()),
            gpus: vec![GpuStatus {
                gpu: GpuId::from_bytes([1; 16]),
                model: "llvmpipe".into(),
                kind: "software device".into(),
                standing: Standing::Unproven,
                reason: "no accepted proof yet".into(),
                wanted: true,
                proof: Some(ProofStatus { doing: "multiplying".into(), step: 2, steps: 4 }),
            }],
            clusters: vec![ClusterStatus {
                cluster: ClusterId::from_bytes([2; 16]),
                gpu: None,
                state: Observed::Running,
                detail: "Ray answers".into(),
                started_at: Some(UnixSeconds(9_900)),
                tunnel_open: true,
            }],
            beat_acknowledged_at: Some(UnixSeconds(9_970)),
            beats_credited: 12,
            ..Status::default()
        }
    }

    fn check(status: &Status, running: bool, expected: &[&str]) {
        let text = render(status, running, UnixSeconds(10_000)).join("\n");
        for words in expected {
            assert!(text.contains(words), "{words:?} is not in:\n{text}");
        }
        let read: Status = serde_json::from_str(&serde_json::to_string(status).unwrap()).unwrap();
        assert_eq!(&read, status);
    }

    #[test]
    fn each_state_says_what_it_is() {
        let mut status = sample();
        check(
            &status,
            true,
            &[
                "attic  https://net.example  key 0011-2233",
                "worker 0.1.0 runs since 2 h 30 min",
                "server: connected for 2 h 0 min",
                "last beat acknowledged 30 s ago; 12 credited",
                "isolated by podman",
                "unproven  llvmpipe (software device)",
                "proof: multiplying [=====-----] 2/4",
                "running for 1 min 40 s, reachable by its renter  Ray answers",
            ],
        );
        status.connection = Connection::Away { since: UnixSeconds(9_700), why: "refused".into() };
        status.beats_buffered = 5;
        status.paused = true;
        status.clock_problem = Some("400 s ahead".into());
        status.no_renter_work = Some("no sandbox".into());
        check(
            &status,
            true,
            &[
                "away for 5 min 0 s (refused); 5 minutes of beats are kept",
                "paused",
                "problem: 400 s ahead",
                "none taken: no sandbox",
            ],
        );
        status.stopped = Some("asked to".into());
        check(
            &status,
            false,
            &[
                "the worker does not run: asked to (10 s ago)",
                "gangline worker run",
                "beats kept for the server: 5 minutes",
            ],
        );
        check(
            &Status::default(),
            true,
            &["not asked yet", "no beat acknowledged yet", "no GPU is registered yet"],
        );
    }
}
