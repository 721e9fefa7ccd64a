//! Ray's head inside the sandbox: its flags, its environment, when it is ready, how it ends.
//!
//! Every port is pinned and bound to the sandbox's loopback; the token goes in by environment.
//! Knows nothing of the worker beyond the pipe it reports progress to.

use std::{
    collections::VecDeque,
    io,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Stdout},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use super::protocol::{DASHBOARD_PORT, Report, write_line};

/// Where the sandbox has the Ray environment.
const PYTHON: &str = "/opt/ray/bin/python";
const AGENT_PORT: u16 = 7003;
/// Ray waits this long for its own parts on a slow machine; we wait a little longer.
const RAYLET_START_SECONDS: u64 = 150;
const READY_SECONDS: u64 = RAYLET_START_SECONDS + 60;
/// Time for Ray to end by itself before everything is killed with the sandbox.
const STOP_SECONDS: u64 = 5;
const TAIL_LINES: usize = 30;

/// What Ray is started with.
pub struct RaySpec {
    pub token: String,
    pub cpus: u32,
    pub gpus: u32,
    pub memory_bytes: u64,
    pub object_store_bytes: u64,
}

/// A running head.
pub struct Head {
    child: Child,
    tail: Arc<Mutex<VecDeque<String>>>,
}

fn arguments(spec: &RaySpec) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
            .map(String::from)
            .to_vec();
    let valued = [
        ("node-ip-address", "127.0.0.1".to_owned()),
        ("port", "6379".to_owned()),
        ("dashboard-host", "127.0.0.1".to_owned()),
        ("dashboard-port", DASHBOARD_PORT.to_string()),
        ("ray-client-server-port", "10001".to_owned()),
        ("node-manager-port", "7001".to_owned()),
        ("object-manager-port", "7002".to_owned()),
        ("dashboard-agent-listen-port", AGENT_PORT.to_string()),
        ("dashboard-agent-grpc-port", "7004".to_owned()),
        ("runtime-env-agent-port", "7005".to_owned()),
        ("metrics-export-port", "7006".to_owned()),
        ("min-worker-port", "20000".to_owned()),
        ("max-worker-port", "20999".to_owned()),
        ("num-cpus", spec.cpus.to_string()),
        ("num-gpus", spec.gpus.to_string()),
        ("memory", spec.memory_bytes.to_string()),
        ("object-store-memory", spec.object_store_bytes.to_string()),
    ];
    arguments.extend(valued.into_iter().map(|(name, value)| format!("--{name}={value}")));
    arguments
}

/// The Ray environment's own `ray` command names a path outside the sandbox; this one works.
fn write_ray_command() -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = std::path::Path::new("/home/ray/bin");
    std::fs::create_dir_all(folder).context("could not make /home/ray/bin")?;
    let path = folder.join("ray");
    std::fs::write(
        &path,
        format!("#!{PYTHON}\nimport sys\nfrom ray.scripts.scripts import main\nsys.exit(main())\n"),
    )
    .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)))
    .context("could not write /home/ray/bin/ray")
}

impl Head {
    pub fn start(spec: &RaySpec) -> anyhow::Result<Self> {
        write_ray_command()?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut child = Command::new(PYTHON)
            .args(arguments(spec))
            .current_dir("/home/ray")
            .env("PATH", format!("/home/ray/bin:{path}"))
            .env("RAY_AUTH_MODE", "token")
            .env("RAY_AUTH_TOKEN", &spec.token)
            .env("RAY_raylet_start_wait_time_s", RAYLET_START_SECONDS.to_string())
            .env("RAY_USAGE_STATS_ENABLED", "0")
            .env("RAY_ADDRESS", "127.0.0.1:6379")
            .env("GANGLINE_NODE_RANK", "0")
            .env("GANGLINE_NODE_COUNT", "1")
            .env("GANGLINE_HEAD_IP", "127.0.0.1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("could not start Ray with {PYTHON}"))?;
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        if let Some(out) = child.stdout.take() {
            tokio::spawn(pass_on(out, Arc::clone(&tail)));
        }
        if let Some(err) = child.stderr.take() {
            tokio::spawn(pass_on(err, Arc::clone(&tail)));
        }
        Ok(Self { child, tail })
    }

    /// Waits until the dashboard and the job agent answer, reporting each step to `progress`.
    pub async fn wait_ready(&mut self, token: &str, progress: &mut Stdout) -> anyhow::Result<()> {
        let steps = [
            ("Ray's head is starting", DASHBOARD_PORT, "/api/version"),
            ("Ray's dashboard answers; its job agent is starting", AGENT_PORT, "/api/local_raylet_healthz"),
            ("Ray's Jobs API is starting", DASHBOARD_PORT, "/api/jobs/"),
        ];
        let all = async {
            for (step, port, path) in steps {
                write_line(progress, &Report::Progress { step: step.to_owned() }).await?;
                while !matches!(get(port, path, token).await, Ok(200)) {
                    tokio::time::sleep(Duration::from_millis(250)).await;
                }
            }
            anyhow::Ok(())
        };
        let ended = tokio::select! {
            done = timeout(Duration::from_secs(READY_SECONDS), all) => match done {
                Ok(done) => return done,
                Err(_) => format!("Ray did not answer within {READY_SECONDS} s"),
            },
            status = self.child.wait() => format!("Ray ended while starting ({})", status.context("could not wait for Ray")?),
        };
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        bail!("{ended}; its last lines:\n{}", tail.iter().cloned().collect::<Vec<_>>().join("\n"))
    }

    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Asks Ray to end and gives it a moment; what is left ends with the sandbox.
    pub async fn stop(&mut self) {
        if let Some(pid) = self.child.id() {
            let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
            if timeout(Duration::from_secs(STOP_SECONDS), self.child.wait()).await.is_err() {
                let _ = self.child.kill().await;
            }
        }
    }
}

/// Copies Ray's output to the node's log and keeps its last lines.
async fn pass_on(from: impl tokio::io::AsyncRead + Unpin, tail: Arc<Mutex<VecDeque<String>>>) {
    let mut reader = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(4096).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        eprintln!("{text}");
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(text);
    }
}

/// The status code of one GET on the sandbox's loopback.
async fn get(port: u16, path: &str, token: &str) -> anyhow::Result<u16> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    let exchange = async {
        let mut tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        tcp.write_all(request.as_bytes()).await?;
        let mut head = [0; 12];
        tcp.read_exact(&mut head).await?;
        io::Result::Ok(head)
    };
    let head = timeout(Duration::from_secs(10), exchange).await.context("no answer within 10 s")??;
    let text = std::str::from_utf8(&head).context("not an HTTP answer")?;
    let code = text.strip_prefix("HTTP/1.1 ").context("not an HTTP/1.1 answer")?;
    code.parse().context("not an HTTP status code")
}
