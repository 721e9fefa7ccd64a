//! A worker that is killed while a renter's job runs on it: the network notices, the renter is told and pays
//! only until the last sign of life, and the worker that starts again leaves nothing of what was there.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod live;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use gangline_types::{
    GpuId,
    cluster::ClusterState,
    public::PublicGpu,
    receipt::{EndedBecause, Receipt},
};
use gangline_wire::api::cluster::{ClusterView, SignedReceipt};
use gangline_worker::{
    client,
    isolation::{cgroup, rootfs::RunFolder},
};
use live::{
    LIMIT, Running, finish, gangline,
    network::{Person, Server},
    until,
};
use serde_json::Value;

/// The job: says that it runs, and then takes longer than any test.
const JOB: &str = "import time\nprint('the job runs', flush=True)\ntime.sleep(3600)\n";

fn command(data: &Path, area: &str, args: &[&str]) -> Command {
    let mut command = gangline(data);
    command.arg(area).arg("--data").arg(data).arg("--json").args(args);
    // Where the set-up makes it, unless told.
    if std::env::var_os("GANGLINE_RAY_HOME").is_none() {
        let cache = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache/gangline/ray-2.60"));
        command.envs(cache.map(|home| ("GANGLINE_RAY_HOME", home)));
    }
    command
}

/// Joins or logs in, approved by `person`.
async fn enrol(mut command: Command, person: &Person) {
    let mut enrolling = Running::start(&mut command);
    let code = enrolling.event("code");
    person.approve(code["user_code"].as_str().unwrap(), code["fingerprint"].as_str().unwrap()).await;
    enrolling.event("joined");
    assert_eq!(enrolling.ended(LIMIT), 0, "{}", enrolling.err());
}

/// Command lines of processes that name the sandboxes' folder or control group.
fn processes(run: &RunFolder) -> Vec<String> {
    let folder = run.path.to_str().unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "))
        .filter(|line| line.contains(folder) || line.contains(&run.prefix))
        .collect()
}

fn groups(run: &RunFolder) -> Vec<String> {
    cgroup::place().unwrap().names(&run.prefix).into_iter().collect()
}

fn mounts(run: &RunFolder) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains(run.path.to_str().unwrap())).count()
}

/// What is left where the test itself fails in the middle.
struct Sweep<'a>(&'a Path);

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        let _ = gangline_worker::isolation::sweep(self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_under_a_job_costs_the_renter_nothing_more_and_leaves_nothing() {
    live::needs_root();
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let (books, data, rent) = (place("server"), place("worker"), place("rent"));
    let server = Server::start(&books, &["--silent-seconds", "30"]);
    let operator = Person::enter(&server, &server.link.clone()).await;
    let supplier = Person::enter(&server, &operator.link_for("supplier", "Ada").await).await;
    let renter = Person::enter(&server, &operator.link_for("renter", "Bob").await).await;
    enrol(command(&data, "worker", &["join", &server.origin]), &supplier).await;
    enrol(command(&rent, "rent", &["login", &server.origin]), &renter).await;

    // Declared before the worker, so that it sweeps after the worker has ended.
    let _sweep = Sweep(&data);
    let mut worker = Running::start(&mut command(&data, "worker", &["run"]));
    let gpu: GpuId = until("a registered GPU", || {
        let status: Value = serde_json::from_slice(&fs::read(data.join("status.json")).ok()?).ok()?;
        status["gpus"][0]["gpu"].as_str()?.parse().ok()
    });
    let public = format!("/api/v1/public/gpus/{gpu}");
    server.until(&public, |g: &PublicGpu| g.rentable).await;
    let hired = finish(&mut command(&rent, "rent", &["hire", "--software-ok", "--hours", "1"]));
    assert_eq!(hired.code, 0, "{}\n{}", hired.err, worker.err());
    let cluster: ClusterView = serde_json::from_str(&hired.out).unwrap();
    let id = cluster.id.to_string();
    let run = RunFolder::of(&data);
    assert!(
        !processes(&run).is_empty() && !groups(&run).is_empty(),
        "nothing of a sandbox is seen: the test would show nothing"
    );

    let program = place("job");
    fs::create_dir(&program).unwrap();
    fs::write(program.join("job.py"), JOB).unwrap();
    let submit =
        ["submit", "--cluster", &id, "--working-dir", program.to_str().unwrap(), "--", "python", "job.py"];
    let mut job = Running::start(&mut command(&rent, "rent", &submit));
    while !job.event("output")["text"].as_str().unwrap().contains("the job runs") {}
    // A sign of life some seconds into the hire: whatever is new is told at once.
    let started = cluster.started_at.expect("a start").0;
    until("three seconds of use", || (client::now().seconds().0 >= started + 3).then_some(()));
    assert_eq!(finish(&mut command(&data, "worker", &["pause"])).code, 0);
    server.until(&public, |g: &PublicGpu| !g.rentable).await;
    let limit = Instant::now() + LIMIT;
    while !supplier.page("/console").await.1.contains("paused") {
        assert!(Instant::now() < limit, "the server was never told of the pause");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let killed_at = client::now().seconds();
    worker.crash();
    let view = || -> ClusterView {
        let shown = finish(&mut command(&rent, "rent", &["show", &id]));
        assert_eq!(shown.code, 0, "{}", shown.err);
        serde_json::from_str(&shown.out).unwrap()
    };
    let lost = until("a lost cluster", || Some(view()).filter(|view| view.state == ClusterState::Lost));
    assert!(client::now().seconds().since(killed_at) >= 25, "it was given up before it had been silent");
    assert_eq!(lost.detail.as_str(), EndedBecause::MachineLost.words());
    assert!(!server.process.err().contains("ERROR"), "{}", server.process.err());

    // The renter's bill ends at the last sign of life, and his job says why it ended.
    let told = finish(&mut command(&rent, "rent", &["receipt", &id]));
    assert_eq!(told.code, 0, "{}", told.err);
    let signed: SignedReceipt = serde_json::from_str(&told.out).unwrap();
    let Receipt { ended_at, used, because, .. } = signed.receipt;
    assert_eq!(because, EndedBecause::MachineLost);
    assert!(ended_at <= killed_at, "{ended_at} is after the kill at {killed_at}");
    assert!(used.0 >= 2 && used.0 <= killed_at.0 - started, "{used} s of {}", killed_at.0 - started);
    assert!(gangline_rules::metering::adds_up(&signed.receipt), "{signed:?}");
    assert_eq!(job.ended(LIMIT * 2), 1);
    let (told, why) = (
        job.err(),
        "cause: the cluster is lost; only a running one answers (not_running)\nhint: hire another\n",
    );
    assert!(told.contains("error: could not ask how ") && told.contains(why), "{told}");
    let again = finish(&mut command(&rent, "rent", &submit));
    again.refused(
        1,
        &[&format!("error: {id} is lost, not running: "), "hint: `gangline rent list` shows what you have"],
    );

    // The worker starts again: what the killed one left is gone, and it is for hire as before.
    let mut worker = Running::start(&mut command(&data, "worker", &["run"]));
    worker.event("running");
    until("nothing left", || {
        let left = !processes(&run).is_empty() || !groups(&run).is_empty() || mounts(&run) > 0;
        (!left && !run.path.exists()).then_some(())
    });
    assert_eq!(finish(&mut command(&data, "worker", &["resume"])).code, 0);
    server.until(&public, |g: &PublicGpu| g.rentable).await;
    assert_eq!(view().state, ClusterState::Lost, "a lost cluster came back");
    assert_eq!(worker.stop(), 0, "{}", worker.err());
    server.stop();
}
