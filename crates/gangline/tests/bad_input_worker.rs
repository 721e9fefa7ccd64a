//! A supplier's machine where something is not as it should be: a server that is away, a clock that is off, a
//! code nobody approved in time, a key others can read, no way to isolate. It says what to do, and no beat is lost.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod common;
mod live;

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use gangline_types::{GpuId, Minute, public::PublicGpu};
use gangline_wire::{
    api::{cluster::HireRequest, enrol::KeyKind},
    endpoints::{Enrol, HireCluster},
};
use live::{
    Running, Tmpfs, environment, finish, gangline,
    network::{Person, Server, call, enrolment_of, new_key},
    until,
};
use serde_json::Value;

/// `gangline worker` for this data folder, for people or (with `--json`) for programs.
fn worker(data: &Path, args: &[&str]) -> Command {
    let mut command = gangline(data);
    command.arg("worker").arg("--data").arg(data).args(args);
    command
}

/// Begins to join and says the code and the key's fingerprint.
fn begin_to_join(origin: &str, data: &Path) -> (Running, String, String) {
    let mut joining = Running::start(&mut worker(data, &["--json", "join", origin]));
    let code = joining.event("code");
    let text = |name: &str| code[name].as_str().unwrap().to_owned();
    (joining, text("user_code"), text("fingerprint"))
}

async fn supplier(server: &Server) -> (Person, Person) {
    let operator = Person::enter(server, &server.link.clone()).await;
    let supplier = Person::enter(server, &operator.link_for("supplier", "Ada").await).await;
    (operator, supplier)
}

/// What the worker of this folder last said of itself.
fn status(data: &Path) -> Value {
    let text = fs::read(data.join("status.json")).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn nothing_joined(data: &Path) {
    assert!(!data.join("joined.toml").exists(), "it counts as joined");
}

#[test]
fn a_server_that_is_away_at_join_is_a_problem_with_a_cure_and_makes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("worker");
    // Taken and given back: nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let told = finish(&mut worker(&data, &["join", &format!("http://{nobody}")]));
    told.refused(2, &["error: this machine cannot join yet: one problem must be cured first"]);
    let problem = format!("problem: the server at http://{nobody} could not be reached: ");
    assert!(told.out.contains(&problem) && told.out.contains("Connection refused"), "{}", told.out);
    assert!(told.out.contains("    cure: check the address, that the server runs"), "{}", told.out);
    nothing_joined(&data);
    assert!(!data.join("machine.key").exists(), "a key was made for nobody");
    let told = finish(&mut worker(&data, &["run"]));
    told.refused(4, &["holds no machine that joined a network", "hint: `gangline worker join URL`"]);
}

#[test]
fn a_clock_that_is_off_is_told_by_how_much() {
    // The stand-in's clock; a real server in this test would have this machine's.
    for (server_ahead_seconds, side) in [(-600, "ahead of"), (600, "behind")] {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(server_ahead_seconds);
        let date = at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let answer = move |_: &common::Asked| {
            let mut answer = common::text(200, "up\n");
            answer.headers_mut().insert("date", date.parse().unwrap());
            answer
        };
        let stub = common::Stub::start(answer, &[]);
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("worker");
        let told = finish(&mut worker(&data, &["join", &stub.url]));
        told.refused(2, &["error: this machine cannot join yet"]);
        let problem = told.out.lines().find(|line| line.starts_with("problem: this machine's clock is "));
        let problem = problem.unwrap_or_else(|| panic!("no problem with the clock in {}", told.out));
        let seconds: i64 = problem.split(' ').find_map(|word| word.parse().ok()).unwrap();
        assert!((585..=615).contains(&seconds), "{problem}");
        assert!(problem.ends_with(&format!(" s {side} the server's")), "{problem}");
        assert!(told.out.contains("    cure: set the clock by NTP"), "{}", told.out);
        nothing_joined(&data);
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_a_problem_with_a_cure() {
    let disk = Tmpfs::mount("ro,size=1m,mode=0700");
    let stub = common::Stub::start(|_| common::text(200, "up\n"), &[]);
    let told = finish(&mut worker(&disk.path.join("worker"), &["join", &stub.url]));
    told.refused(2, &["error: this machine cannot join yet: one problem must be cured first"]);
    let problem = format!(
        "problem: could not make the directory {}: Read-only file system",
        disk.path.join("worker").display()
    );
    assert!(told.out.contains(&problem), "{}", told.out);
    assert!(
        told.out.contains("    cure: make it readable and writable for the user that runs the worker"),
        "{}",
        told.out
    );
}

/// Time that passes for codes that wait, put into the books behind the server's back.
async fn codes_run_out(data: &Path) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(data.join("gangline.sqlite"));
    let books = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let changed = sqlx::query("UPDATE enrolment SET expires_at = created_at - 1 WHERE state = 'pending' AND expires_at > created_at").execute(&books);
    assert_eq!(changed.await.unwrap().rows_affected(), 1);
    books.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_that_ran_out_joins_nothing_and_the_next_one_joins_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let (books, data) = (folder.path().join("server"), folder.path().join("worker"));
    let server = Server::start(&books, &[]);
    let (_, supplier) = supplier(&server).await;

    let mut joining = Running::start(&mut worker(&data, &["join", &server.origin]));
    let key = until("its key", || fs::read(data.join("machine.key")).ok());
    let code = until("its code", || {
        joining.line().and_then(|line| Some(line.strip_prefix("  and compare  ")?.to_owned()))
    });
    codes_run_out(&books).await;
    assert_eq!(joining.ended(live::LIMIT), 6);
    assert!(joining.err().contains("error: the code ran out before anybody approved it\nhint: join again and open the link within 15 minutes"), "{}", joining.err());
    nothing_joined(&data);
    let (_, page) = supplier.page(&format!("/approve?code={code}")).await;
    assert!(page.contains("No key asks with this code") && !page.contains("name=\"decision\""), "{page}");

    // A renter's command line, too.
    let rent = folder.path().join("rent");
    let mut login = gangline(&rent);
    let mut login =
        Running::start(login.args(["rent", "--json", "login", &server.origin, "--data"]).arg(&rent));
    login.event("code");
    codes_run_out(&books).await;
    assert_eq!(login.ended(live::LIMIT), 1);
    let words = "error: this machine was not logged in\ncause: the code expired before anybody approved it\nhint: run \
                 `gangline rent login` again for a new code\n";
    assert!(login.err().ends_with(words), "{}", login.err());
    assert!(!rent.join("login.toml").exists(), "it counts as logged in");

    let (mut joining, code, fingerprint) = begin_to_join(&server.origin, &data);
    supplier.approve(&code, &fingerprint).await;
    joining.event("joined");
    assert_eq!(joining.ended(live::LIMIT), 0);
    assert!(fs::read(data.join("machine.key")).unwrap() == key, "the key was made anew");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_away_while_somebody_joins_is_asked_again_until_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let (books, data) = (folder.path().join("server"), folder.path().join("worker"));
    let mut server = Server::start(&books, &[]);
    let address = server.address.to_string();
    supplier(&server).await;
    let (mut joining, code, fingerprint) = begin_to_join(&server.origin, &data);
    server.process.crash();
    let waiting = joining.event("waiting");
    assert!(waiting["why"].as_str().unwrap().contains("could not be reached"), "{waiting}");
    let server = Server::start_at(&books, &address, &[]);
    // The code outlived the server.
    let operator = Person::enter(&server, &server.link.clone()).await;
    let supplier = Person::enter(&server, &operator.link_for("supplier", "Ada").await).await;
    supplier.approve(&code, &fingerprint).await;
    joining.event("joined");
    assert_eq!(joining.ended(live::LIMIT), 0);
    server.stop();
}

/// The worker on a host without podman and bubblewrap: in a mount namespace of its own, where both are no files.
fn run_without_isolation(data: &Path) -> Running {
    live::needs_root();
    let mut command = Command::new("unshare");
    environment(&mut command, data);
    let hide = "for program in /usr/bin/podman /usr/bin/bwrap; do [ ! -e $program ] || mount --bind /dev/null $program || exit 99; done; exec \"$@\"";
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-c",
        hide,
        "sh",
        env!("CARGO_BIN_EXE_gangline"),
    ]);
    Running::start(command.args(["worker", "--json", "run", "--data"]).arg(data))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_cannot_isolate_proves_and_offers_nothing_and_keeps_its_beats_for_a_server_that_is_away()
 {
    let folder = tempfile::tempdir().unwrap();
    let (books, data) = (folder.path().join("server"), folder.path().join("worker"));
    let mut server = Server::start(&books, &[]);
    let address = server.address.to_string();
    let (operator, supplier) = supplier(&server).await;
    let (mut joining, code, fingerprint) = begin_to_join(&server.origin, &data);
    supplier.approve(&code, &fingerprint).await;
    joining.event("joined");
    assert_eq!(joining.ended(live::LIMIT), 0);

    // A key that others can read is not used.
    let key = data.join("machine.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    finish(&mut worker(&data, &["run"])).refused(
        1,
        &[
            &format!(
                "error: {} is open to other users of this machine (mode 644); it is not used like that\n",
                key.display()
            ),
            &format!("hint: `chmod 600 {}`", key.display()),
        ],
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let mut running = run_without_isolation(&data);
    running.event("running");
    // One worker a folder.
    finish(&mut worker(&data, &["run"])).refused(
        5,
        &[
            &format!("error: another worker (process {}) uses {}\n", running.pid(), data.display()),
            "hint: stop it, or give this one its own --data",
        ],
    );
    // It proves and beats.
    let gpu = until("a proven GPU with a beat", || {
        let status = status(&data);
        let gpu = &status["gpus"][0];
        let done = gpu["standing"] == "proven" && status["beats_credited"].as_u64()? > 0;
        done.then(|| gpu["gpu"].as_str().unwrap().parse::<GpuId>().unwrap())
    });
    let public: PublicGpu = server
        .until(&format!("/api/v1/public/gpus/{gpu}"), |g: &PublicGpu| {
            g.connected && g.profile.matrix_mmacs > 0
        })
        .await;
    assert!(!public.rentable, "{public:?}");
    // It says why it takes no renter work, and a renter is told that nothing fits.
    let told = finish(&mut worker(&data, &["status"]));
    let line =
        told.out.lines().find(|line| line.starts_with("renter work: ")).expect("a line on renter work");
    assert!(line.starts_with("renter work: none taken: this host can isolate no renter program: podman: podman is not installed"), "{line}");
    assert!(line.contains("; bubblewrap: ") && line.contains("install podman or bubblewrap"), "{line}");
    let renter = Person::enter(&server, &operator.link_for("renter", "Bob").await).await;
    let cli = new_key();
    let client = server.client(&cli);
    let ticket = call::<Enrol>(&client, &enrolment_of(&cli, KeyKind::CommandLine)).await.unwrap();
    renter.approve(&ticket.user_code, &cli.public().fingerprint()).await;
    let wish = HireRequest { software_ok: true, ..HireRequest::default() };
    let none = call::<HireCluster>(&client, &wish).await.unwrap_err();
    assert_eq!(none.code(), Some("none_fits"), "{none}");

    // The server goes away; the worker says so, and does not end.
    let acknowledged = Minute(status(&data)["beat_acknowledged"].as_u64().unwrap() as u32);
    server.process.crash();
    until("the worker to notice", || (status(&data)["connection"]["is"] == "away").then_some(()));
    running.assert_runs();
    let told = finish(&mut worker(&data, &["status"]));
    assert!(
        told.out.contains("server: away for ") && told.out.contains("of beats are kept for it"),
        "{}",
        told.out
    );
    // A crash of the worker itself while it holds beats; those of an outage of some minutes are put beside them.
    running.crash();
    let mut kept: BTreeMap<u32, Vec<GpuId>> =
        serde_json::from_slice(&fs::read(data.join("beats.json")).unwrap()).unwrap();
    let outage: Vec<Minute> = (1..=4).map(|n| Minute(acknowledged.0 - 10 - n)).collect();
    kept.extend(outage.iter().map(|minute| (minute.0, vec![gpu])));
    fs::write(data.join("beats.json"), serde_json::to_vec(&kept).unwrap()).unwrap();
    // Its chain has come to its end meanwhile: it needs another lane, for which this one vouches.
    let mut lane: Value = serde_json::from_slice(&fs::read(data.join("beat-lane.json")).unwrap()).unwrap();
    lane["places"][0]["count"] = 2940.into();
    fs::write(data.join("beat-lane.json"), serde_json::to_vec(&lane).unwrap()).unwrap();

    let mut running = run_without_isolation(&data);
    until("beats kept while the server is away", || {
        let status = status(&data);
        (status["beats_buffered"].as_u64()? >= 5 && status["connection"]["is"] == "away").then_some(())
    });
    // The newest of them is its own, of the minute in which it began.
    let kept: BTreeMap<u32, Vec<GpuId>> =
        serde_json::from_slice(&fs::read(data.join("beats.json")).unwrap()).unwrap();
    let began = Minute(*kept.keys().next_back().unwrap());
    assert!(
        running.err().contains("beats are kept for the GPUs of an earlier registration"),
        "{}",
        running.err()
    );

    let server = Server::start_at(&books, &address, &[]);
    until("every kept beat acknowledged", || {
        let status = status(&data);
        let done = status["beats_buffered"] == 0 && status["beats_credited"].as_u64()? >= 5;
        (done && status["connection"]["is"] == "connected").then_some(())
    });
    let all: Vec<Minute> = outage.into_iter().chain([acknowledged, began]).collect();
    server.until_up(gpu, &all).await;
    let metrics =
        server.http.get(format!("{}/metrics", server.origin)).send().await.unwrap().text().await.unwrap();
    let asked = metrics.lines().find_map(|line| line.strip_prefix("gangline_beat_openings_total ")).unwrap();
    assert_ne!(asked, "0", "it did not ask by datagram");
    let now: Value = serde_json::from_slice(&fs::read(data.join("beat-lane.json")).unwrap()).unwrap();
    assert_ne!(now["alias"], lane["alias"]);
    assert_eq!(running.stop(), 0, "{}", running.err());
    server.stop();
}
