//! Real sandboxes: each backend with a plain program, then with a real Ray node. As root on Linux
//! with podman, runc and bubblewrap; the tests whose names begin with `ray_` also want a Ray
//! environment: `GANGLINE_RAY_HOME`, else `gangline/ray-2.60` in the user's cache folder.
//! Where something is missing they fail and say what.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
    time::{Duration, Instant},
};

use gangline_types::ClusterId;
use gangline_worker::isolation::{
    BackendKind, ClusterToken, GpuPass, IsolationError, NodeProgram, NodeSpec, RunningNode, Sandbox, cgroup,
    detect, rootfs::RunFolder, sweep,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const TOKEN: &str = "test-token-0123456789abcdef";

/// The node's executable: this package's example. `cargo test --test isolation` alone does not
/// build it, and a stale one would test yesterday's node.
fn node() -> Option<(PathBuf, Vec<String>)> {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    let node = BUILT.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "gangline-worker", "--example", "node"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.is_ok_and(|status| status.success()), "could not build the example `node`");
        let test = std::env::current_exe().unwrap();
        let node = test.parent().unwrap().parent().unwrap().join("examples/node");
        assert!(node.is_file(), "{} is missing", node.display());
        node
    });
    Some((node.clone(), vec![]))
}

fn ray_home() -> PathBuf {
    let home = match std::env::var_os("GANGLINE_RAY_HOME") {
        Some(home) => home.into(),
        None => std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache"))
            .join("gangline/ray-2.60"),
    };
    assert!(home.is_dir(), "no Ray environment at {}; cargo xtask demo makes one", home.display());
    home
}

/// One test's state folder; no two share a run folder.
struct Host {
    state: tempfile::TempDir,
    sandbox: Sandbox,
}

impl Host {
    fn new(backend: BackendKind) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "the isolation tests make control groups: run them as root"
        );
        let state = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::choose(state.path(), Some(backend)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(sandbox.backend(), backend);
        Self { state, sandbox }
    }

    fn spec(program: NodeProgram) -> NodeSpec {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        NodeSpec {
            cluster: ClusterId::from_bytes([NEXT.fetch_add(1, Ordering::Relaxed); 16]),
            program,
            cpus_millis: 1000,
            memory_bytes: 128 << 20,
            pids_max: 64,
            tmp_bytes: 16 << 20,
            gpu: None,
            node: node(),
        }
    }

    async fn shell(&self, script: &str) -> RunningNode {
        let program = NodeProgram::Command(["/bin/sh", "-c", script].map(String::from).to_vec());
        self.sandbox.start(Self::spec(program), |_| {}).await.unwrap_or_else(|e| panic!("{e:?}"))
    }

    fn nothing_left(&self) {
        let run = RunFolder::of(self.state.path());
        assert!(!run.path.exists(), "{} is left", run.path.display());
        let names = cgroup::place().unwrap().names(&run.prefix);
        assert!(names.is_empty(), "control groups {names:?} are left");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(run.path.to_str().unwrap()), "a mount is left");
        assert!(!std::path::Path::new("oom").exists(), "a file is left where the worker was started");
        // Every process of a backend names its container or folder.
        let until = Instant::now() + Duration::from_secs(5);
        loop {
            let left = processes_naming(run.path.to_str().unwrap(), &run.prefix);
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < until, "processes are left: {left:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn processes_naming(path: &str, prefix: &str) -> Vec<String> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        .filter(|line| line.contains(path) || line.contains(prefix))
        .collect()
}

const BOTH: [BackendKind; 2] = [BackendKind::Podman, BackendKind::Bubblewrap];

#[test]
fn both_backends_are_usable_here() {
    let state = tempfile::tempdir().unwrap();
    for report in detect(state.path()) {
        assert_eq!(report.problem, None, "{} cannot be used here", report.backend);
    }
    assert!(!RunFolder::of(state.path()).path.exists());
}

#[test]
fn many_that_find_out_at_once_what_this_host_can_do_find_the_same() {
    std::thread::scope(|scope| {
        let hosts: Vec<_> = (0..16).map(|_| scope.spawn(|| Host::new(BackendKind::Bubblewrap))).collect();
        hosts.into_iter().for_each(|host| drop(host.join().unwrap()));
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_is_in_force_and_the_program_finds_no_way_out() {
    for backend in BOTH {
        let host = Host::new(backend);
        let node = host
            .shell(
                "id -u; grep -h Cap /proc/self/status; touch /usr/x /x /etc/x /dev/x 2>&1; ls /root 2>&1; \
                 cat /etc/shadow 2>&1; unshare -Ur true 2>&1; mount -t tmpfs t /tmp 2>&1; ls /sys/fs/cgroup; \
                 head -c 30000000 /dev/zero 2>&1 > /tmp/big; rm /tmp/big; \
                 kill -9 1; cat /proc/*/cmdline | tr '\\0' ' '; echo; ls -l /proc/*/fd >/tmp/fds 2>&1; grep denied /tmp/fds; echo 'the e'nd; sleep 1000",
            )
            .await;
        let read_back = node.read_back().clone();
        assert_eq!(read_back.backend, backend);
        assert_eq!(read_back.limits.memory_bytes, 128 << 20);
        assert_eq!((read_back.limits.pids_max, read_back.limits.cpus_millis), (64, 1000));
        assert_eq!(read_back.interfaces, ["lo"]);
        assert!(read_back.inmates.iter().all(|i| i.uid_outside >= 1 << 30 && i.capabilities == 0));
        // The command line, which the program prints too, spells it otherwise.
        let log = wait_for_line(&node, "the end").await;
        for refused in [
            "/usr/x",
            "'/x'",
            "/etc/x",
            "/dev/x",
            "/root",
            "/etc/shadow",
            "unshare",
            "mount",
            "No space left",
        ] {
            assert!(log.contains(refused), "{backend}: {refused} was not refused:\n{log}");
        }
        assert!(log.starts_with("1000\n"), "{log}");
        assert!(
            !log.contains(host.state.path().to_str().unwrap()) && !log.contains("/run/gangline"),
            "{log}"
        );
        assert!(node.used().unwrap().memory_bytes > 0);
        // The node's own pipes are closed to what it runs.
        assert!(log.contains("'/proc/1/fd': Permission denied"), "{backend}:\n{log}");
        println!("{backend}: {}", serde_json::to_string_pretty(&read_back).unwrap());
        node.stop().await.unwrap();
        host.nothing_left();
    }
}

async fn wait_for_line(node: &RunningNode, text: &str) -> String {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let log = node.log().lines().join("\n");
        if log.contains(text) {
            return log;
        }
        assert!(Instant::now() < until, "the log never said {text:?}:\n{log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_hog_is_killed_and_a_fork_bomb_capped() {
    for backend in BOTH {
        let host = Host::new(backend);
        let hog = "/usr/bin/python3 -c 'b=bytearray(400<<20)'; echo hog $?; \
                   i=0; while [ $i -lt 200 ]; do sleep 1000 & i=$((i+1)); done; echo forked";
        let node = host.shell(hog).await;
        // A killed hog gives 137; the shell gives up when it cannot fork any more.
        let log = wait_for_line(&node, "ork").await;
        assert!(log.contains("hog 137"), "{backend}: {log}");
        assert!(log.contains("Cannot fork"), "{backend}: {log}");
        node.wait_exit().await;
        node.stop().await.unwrap();
        host.nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_node_and_a_start_given_up_leave_nothing() {
    for backend in BOTH {
        let host = Host::new(backend);
        drop(host.shell("sleep 1000").await);
        host.nothing_left();
        let missing = NodeProgram::Command(vec!["/no/such/program".to_owned()]);
        match host.sandbox.start(Host::spec(missing), |_| {}).await {
            Err(IsolationError::Node { reason, .. }) => {
                assert!(reason.contains("/no/such/program"), "{reason}")
            }
            other => panic!("{other:?}"),
        }
        host.nothing_left();
        for millis in [1, 30, 80, 150, 300] {
            let program = NodeProgram::Command(["/bin/sleep", "1000"].map(String::from).to_vec());
            let start = host.sandbox.start(Host::spec(program), |_| {});
            let _ = tokio::time::timeout(Duration::from_millis(millis), start).await;
        }
        // What was given up is torn down on threads of its own, all begun before this one's.
        host.shell("sleep 1000").await.stop().await.unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while RunFolder::of(host.state.path()).path.exists() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        host.nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_leftovers_are_swept() {
    for backend in BOTH {
        // The worker to kill is this test again, as a process of its own.
        let state = tempfile::tempdir().unwrap();
        let mut worker = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", "helper_worker_to_be_killed"])
            .env("GANGLINE_TEST_STATE", state.path())
            .env("GANGLINE_TEST_BACKEND", backend.to_string())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = std::io::BufReader::new(worker.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("the node is up") {
            line.clear();
            assert_ne!(
                std::io::BufRead::read_line(&mut out, &mut line).unwrap(),
                0,
                "the worker ended early"
            );
        }
        worker.kill().unwrap();
        worker.wait().unwrap();
        let found = sweep(state.path()).unwrap();
        assert!(!found.is_empty(), "{backend}: nothing was found to sweep");
        assert!(sweep(state.path()).unwrap().is_empty());
        let host = Host { sandbox: Sandbox::choose(state.path(), Some(backend)).unwrap(), state };
        host.nothing_left();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn helper_worker_to_be_killed() {
    // Started as a process of its own by the test above; by itself it has nothing to do.
    let Some(state) = std::env::var_os("GANGLINE_TEST_STATE") else { return };
    let backend = match std::env::var("GANGLINE_TEST_BACKEND").as_deref() {
        Ok("podman") => BackendKind::Podman,
        _ => BackendKind::Bubblewrap,
    };
    let sandbox = Sandbox::choose(Path::new(&state), Some(backend)).unwrap();
    let program = NodeProgram::Command(["/bin/sleep", "1000"].map(String::from).to_vec());
    let node = sandbox.start(Host::spec(program), |_| {}).await.unwrap();
    println!("the node is up");
    node.wait_exit().await;
    std::future::pending::<()>().await;
}

/// Removes its files when the test is over, however it ends.
struct Files(Vec<PathBuf>);

impl Drop for Files {
    fn drop(&mut self) {
        for file in &self.0 {
            let _ = std::fs::remove_file(file);
        }
        // Goes only if it is empty.
        let _ = std::fs::remove_dir("/var/run/cdi");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_passed_through_and_a_missing_one_refused() {
    // A second /dev/null under a name of our own stands in for an accelerator.
    let device = PathBuf::from(format!("/dev/gangline-test-{}", std::process::id()));
    let cdi = PathBuf::from(format!("/var/run/cdi/gangline-test-{}.json", std::process::id()));
    let _files = Files(vec![device.clone(), cdi.clone()]);
    let made = Command::new("mknod").args(["-m", "666"]).arg(&device).args(["c", "1", "3"]).status().unwrap();
    assert!(made.success());
    std::fs::create_dir_all(cdi.parent().unwrap()).unwrap();
    let described = serde_json::json!({
        "cdiVersion": "0.5.0", "kind": "gangline.test/gpu",
        "devices": [{"name": "0", "containerEdits": {"deviceNodes": [{"path": device}]}}],
    });
    std::fs::write(&cdi, described.to_string()).unwrap();
    for (backend, names) in [
        (BackendKind::Podman, vec!["gangline.test/gpu=0".to_owned()]),
        (BackendKind::Podman, vec![]),
        (BackendKind::Bubblewrap, vec![]),
    ] {
        let host = Host::new(backend);
        let script = format!("echo x > {} && echo written; sleep 1000", device.display());
        let mut spec =
            Host::spec(NodeProgram::Command(["/bin/sh", "-c", &script].map(String::from).to_vec()));
        spec.gpu = Some(GpuPass { count: 1, cdi: names, devices: vec![device.clone()] });
        let mut other = spec.clone();
        let node = host.sandbox.start(spec, |_| {}).await.unwrap_or_else(|e| panic!("{backend}: {e:?}"));
        assert_eq!(node.read_back().devices, std::slice::from_ref(&device));
        wait_for_line(&node, "written").await;
        node.stop().await.unwrap();
        other.gpu.as_mut().unwrap().devices = vec!["/dev/gangline-no-such".into()];
        let refused = host.sandbox.start(other, |_| {}).await.unwrap_err();
        assert!(matches!(refused, IsolationError::Spec(_)), "{refused:?}");
        host.nothing_left();
    }
}

/// One HTTP/1.1 exchange through the mux: status and body.
async fn ask(node: &RunningNode, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
    let mut stream = node.open().await.unwrap();
    let auth = token.map(|t| format!("Authorization: Bearer {t}\r\n")).unwrap_or_default();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:8265\r\n{auth}Content-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let text = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// What the renter's job tries; it prints one line for each.
const JOB: &str = r#"
import os, socket, ctypes, subprocess
print("uid", os.getuid())
for line in open("/proc/self/status"):
    if line.startswith(("CapEff", "Seccomp:", "NoNewPrivs")): print(*line.split())
def attempt(name, what):
    try: what(); print(name, "WORKED")
    except BaseException as e: print(name, "refused", type(e).__name__)
attempt("host-loopback", lambda: socket.create_connection(("127.0.0.1", PORT), 3))
attempt("private-network", lambda: socket.create_connection(("10.0.0.1", 80), 3))
attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
attempt("write-usr", lambda: open("/usr/gangline-test", "w"))
attempt("write-root", lambda: open("/gangline-test", "w"))
attempt("read-root", lambda: os.listdir("/root"))
attempt("read-shadow", lambda: open("/etc/shadow"))
libc = ctypes.CDLL(None, use_errno=True)
def call(r):
    if r != 0: raise OSError(ctypes.get_errno())
attempt("unshare", lambda: call(libc.unshare(0x10000000)))
attempt("mount", lambda: call(libc.mount(b"t", b"/tmp", b"tmpfs", 0, None)))
attempt("ptrace", lambda: call(libc.ptrace(16, os.getppid(), 0, 0)))
import ray
ray.init()
@ray.remote
def square(x): return x * x
print("ray-sum", sum(ray.get([square.remote(i) for i in range(10)])))
print("tool", subprocess.run(["ray", "--version"], capture_output=True, text=True).stdout.strip())
"#;

/// Two Rays at a time would only make both slow.
static ONE_RAY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn ray_node(backend: BackendKind) {
    let _one = ONE_RAY.lock().await;
    let host = Host::new(backend);
    let home = ray_home();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let token = ClusterToken::new(TOKEN.to_owned()).unwrap();
    let mut spec = Host::spec(NodeProgram::Ray { token, ray_home: home.clone() });
    spec.memory_bytes = 1536 << 20;
    spec.pids_max = 2048;
    spec.tmp_bytes = 512 << 20;
    let began = Instant::now();
    let node = host
        .sandbox
        .start(spec, |step| println!("{backend} {:5.1} s: {step}", began.elapsed().as_secs_f32()))
        .await
        .unwrap_or_else(|e| panic!("{e:?}"));
    println!("{backend} {:5.1} s: ready, uses {:?}", began.elapsed().as_secs_f32(), node.used().unwrap());
    assert_eq!(ask(&node, "GET", "/api/version", Some(TOKEN), "").await.0, 200);
    assert_eq!(ask(&node, "GET", "/api/version", None, "").await.0, 401);
    assert_eq!(ask(&node, "GET", "/api/version", Some("wrong-token-0123456789"), "").await.0, 403);
    let script = JOB.replace("PORT", &port.to_string());
    let encoded: String = script.bytes().map(|b| format!("{b:02x}")).collect();
    let entrypoint = format!("python -c \"exec(bytes.fromhex('{encoded}').decode())\"");
    let body = serde_json::json!({ "entrypoint": entrypoint, "submission_id": "job-1" }).to_string();
    let (status, text) = ask(&node, "POST", "/api/jobs/", Some(TOKEN), &body).await;
    assert_eq!(status, 200, "{text}");
    let until = Instant::now() + Duration::from_secs(180);
    loop {
        let (_, text) = ask(&node, "GET", "/api/jobs/job-1", Some(TOKEN), "").await;
        if text.contains("\"SUCCEEDED\"") {
            break;
        }
        let (_, logs) = ask(&node, "GET", "/api/jobs/job-1/logs", Some(TOKEN), "").await;
        assert!(!text.contains("\"FAILED\"") && Instant::now() < until, "{text}\n{logs}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let (_, logs) = ask(&node, "GET", "/api/jobs/job-1/logs", Some(TOKEN), "").await;
    println!("{backend} {:5.1} s: job done, uses {:?}", began.elapsed().as_secs_f32(), node.used().unwrap());
    let logs = serde_json::from_str::<serde_json::Value>(&logs).unwrap()["logs"].as_str().unwrap().to_owned();
    println!("{logs}");
    let expected = [
        "uid 1000",
        "CapEff: 0000000000000000",
        "Seccomp: 2",
        "NoNewPrivs: 1",
        "ray-sum 285",
        "tool ray, version",
    ];
    for line in expected {
        assert!(logs.contains(line), "{backend}: the job did not print {line:?}:\n{logs}");
    }
    assert_eq!(logs.matches(" refused ").count(), 10, "{backend}: something worked:\n{logs}");
    assert!(!logs.contains("WORKED"), "{backend}:\n{logs}");
    let stopping = Instant::now();
    node.stop().await.unwrap();
    println!("{backend}: stopped in {:.1} s", stopping.elapsed().as_secs_f32());
    host.nothing_left();
    drop(listener);
}

#[tokio::test(flavor = "multi_thread")]
async fn ray_runs_a_job_in_podman() {
    ray_node(BackendKind::Podman).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ray_runs_a_job_in_bubblewrap() {
    ray_node(BackendKind::Bubblewrap).await;
}
