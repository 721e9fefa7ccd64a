//! `gangline worker rotate` and `gangline rent rotate` against a real server, through a passage that can hold a
//! request or its answer: a process that is killed at each step leaves a key that works, and doing it again
//! finishes what was begun.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod live;

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use gangline_wire::{Nothing, endpoints::DescribeInventory};
use gangline_worker::{client::Client, enrol::load_key};
use live::{
    LIMIT, Running, finish, gangline,
    network::{Person, Server, inventory},
    until,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the passage keeps to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// Requests whose first line holds this: the server never gets them.
    Request(&'static str),
    /// Answers to them: the server did what was asked, and nobody hears.
    Answer(&'static str),
}

#[derive(Default)]
struct Rules {
    hold: Option<Hold>,
    held: u32,
}

/// Stands before the server, under the name by which everybody knows it.
struct Passage {
    origin: String,
    rules: Arc<Mutex<Rules>>,
}

impl Passage {
    /// The server behind a passage, with its books in `data`.
    async fn before_a_server(data: &Path) -> (Self, Server) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://{}", listener.local_addr().unwrap());
        let mut server = Server::start(data, &["--public-url", &origin, "--key-overlap-seconds", "3600"]);
        let rules = Arc::<Mutex<Rules>>::default();
        let (address, shared) = (server.address, Arc::clone(&rules));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, address, Arc::clone(&shared)));
            }
        });
        server.origin.clone_from(&origin);
        (Self { origin, rules }, server)
    }

    fn hold(&self, what: Option<Hold>) {
        *self.rules.lock().unwrap() = Rules { hold: what, held: 0 };
    }

    /// Waits until it holds something.
    fn until_held(&self) {
        until("something is held", || (self.rules.lock().unwrap().held > 0).then_some(()));
    }
}

async fn pass(mut client: TcpStream, server: SocketAddr, rules: Arc<Mutex<Rules>>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    let (mut asked, mut answered) = ([0; 65536], [0; 65536]);
    let mut deaf = false;
    let hold = || {
        rules.lock().unwrap().held += 1;
        std::future::pending::<()>()
    };
    loop {
        tokio::select! {
            n = client.read(&mut asked) => {
                let Ok(n @ 1..) = n else { return };
                let text = String::from_utf8_lossy(&asked[..n]);
                let line = text.lines().next().unwrap_or_default();
                let rule = rules.lock().unwrap().hold;
                match rule {
                    Some(Hold::Request(word)) if line.contains(word) => hold().await,
                    Some(Hold::Answer(word)) if line.contains(word) => deaf = true,
                    _ => {}
                }
                if server.write_all(&asked[..n]).await.is_err() { return }
            }
            n = server.read(&mut answered) => {
                let Ok(n @ 1..) = n else { return };
                if deaf { hold().await }
                if client.write_all(&answered[..n]).await.is_err() { return }
            }
        }
    }
}

fn worker(data: &Path, args: &[&str]) -> Command {
    let mut command = gangline(data);
    command.arg("worker").arg("--data").arg(data).args(args);
    command
}

fn rent(data: &Path, args: &[&str]) -> Command {
    let mut command = gangline(data);
    command.arg("rent").arg("--data").arg(data).args(args);
    command
}

async fn supplier(server: &Server) -> Person {
    // The link names the address that everybody knows.
    let operator = Person::enter(server, &server.link.clone()).await;
    Person::enter(server, &operator.link_for("supplier", "Ada").await).await
}

/// Joins a machine by the real command.
async fn joined(server: &Server, passage: &Passage, data: &Path) -> Person {
    let supplier = supplier(server).await;
    let mut joining = Running::start(&mut worker(data, &["--json", "join", &passage.origin]));
    let code = joining.event("code");
    supplier.approve(code["user_code"].as_str().unwrap(), code["fingerprint"].as_str().unwrap()).await;
    assert_eq!(joining.ended(LIMIT), 0, "{}", joining.err());
    supplier
}

fn key_of(data: &Path, name: &str) -> String {
    load_key(&data.join(name)).unwrap().expect("a key").public().fingerprint()
}

/// The GPU ids that the server gives this machine's hardware when the key in the file describes it.
async fn gpus(passage: &Passage, data: &Path) -> Vec<String> {
    let client = Client::with_key_file(&passage.origin, &data.join("machine.key")).unwrap();
    let described = inventory();
    let seen = client.call::<DescribeInventory>(&[], &Nothing {}, &described).await.unwrap();
    seen.gpus.iter().map(|g| g.gpu.to_string()).collect()
}

/// Kills a rotation at the moment in which the passage holds `what`; then the key in the file works, and
/// rotating again ends with another key in its place.
async fn check_killed(passage: &Passage, data: &Path, what: Hold) {
    let before = key_of(data, "machine.key");
    let ids = gpus(passage, data).await;
    passage.hold(Some(what));
    let mut rotating = Running::start(&mut worker(data, &["rotate"]));
    passage.until_held();
    rotating.signal(Signal::SIGKILL);
    rotating.ended(LIMIT);
    passage.hold(None);

    assert_eq!(gpus(passage, data).await, ids, "{what:?}: no key that works");
    let told = finish(&mut worker(data, &["--json", "rotate", "--now"]));
    assert_eq!(told.code, 0, "{what:?}: {}", told.err);
    let rotated: Value = serde_json::from_str(&told.out).unwrap();
    let after = key_of(data, "machine.key");
    assert_eq!(
        (rotated["event"].as_str(), rotated["fingerprint"].as_str()),
        (Some("rotated"), Some(&*after))
    );
    assert!(rotated["ended"].is_string(), "{what:?}: the old key goes on: {rotated}");
    assert_ne!(after, before, "{what:?}");
    assert_eq!(gpus(passage, data).await, ids, "{what:?}: the machine is another one");
    let left: Vec<PathBuf> = fs::read_dir(data)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".next"))
        .collect();
    assert!(left.is_empty(), "{what:?}: {left:?} was left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_killed_at_any_step_leaves_a_key_that_works() {
    let (books, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (passage, server) = Passage::before_a_server(books.path()).await;
    let data = folder.path().join("worker");
    let supplier = joined(&server, &passage, &data).await;
    // Before the server has the new key, after, and after it took the old one's name.
    check_killed(&passage, &data, Hold::Request("/key/rotate")).await;
    check_killed(&passage, &data, Hold::Answer("/key/rotate")).await;
    check_killed(&passage, &data, Hold::Request("/api/v1/me")).await;
    check_killed(&passage, &data, Hold::Answer("/api/v1/me")).await;
    for file in ["machine.key", "slots.key"] {
        let mode = fs::metadata(data.join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file} can be read by others");
    }
    let (_, page) = supplier.page("/console").await;
    assert!(page.contains(&key_of(&data, "machine.key")), "{page}");
    assert!(page.contains("in the place of"), "{page}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_worker_goes_on_with_the_new_key_and_its_gpus_keep_their_ids() {
    let (books, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (passage, server) = Passage::before_a_server(books.path()).await;
    let data = folder.path().join("worker");
    joined(&server, &passage, &data).await;
    let mut running = Running::start(&mut worker(&data, &["--json", "run"]));
    running.event("running");
    let registered = |data: &Path| fs::read_to_string(data.join("registered.json")).ok();
    let ids = until("the GPUs are registered", || registered(&data));
    let told = finish(&mut worker(&data, &["rotate", "--now"]));
    assert_eq!(told.code, 0, "{}", told.err);
    let fingerprint = key_of(&data, "machine.key");
    assert!(told.out.contains(&fingerprint) && told.out.contains("has ended"), "{}", told.out);
    // The old key has ended: a worker that still signed with it would end.
    finish(&mut worker(&data, &["pause"]));
    let status = |data: &Path| -> Value {
        serde_json::from_slice(&fs::read(data.join("status.json")).unwrap_or_default()).unwrap_or_default()
    };
    until("the server hears of the pause", || status(&data)["paused"].as_bool().filter(|paused| *paused));
    running.signal(Signal::SIGTERM);
    assert_eq!(running.ended(LIMIT), 0, "{}", running.err());
    // A new process registers the same GPUs with the new key.
    fs::remove_file(data.join("registered.json")).unwrap();
    let mut running = Running::start(&mut worker(&data, &["--json", "run"]));
    let event = running.event("running");
    assert_eq!(event["fingerprint"].as_str(), Some(&*fingerprint));
    assert_eq!(until("the GPUs are registered", || registered(&data)), ids, "the GPUs got new ids");
    running.signal(Signal::SIGTERM);
    assert_eq!(running.ended(LIMIT), 0, "{}", running.err());
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_rotates_by_command_and_by_age() {
    let (books, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (passage, server) = Passage::before_a_server(books.path()).await;
    let data = folder.path().join("rent");
    let supplier = supplier(&server).await;
    let told = finish(&mut rent(&data, &["rotate"]));
    told.refused(1, &["not logged in", "gangline rent login URL"]);
    let mut login = Running::start(&mut rent(&data, &["--json", "login", &passage.origin]));
    let code = login.event("code");
    supplier.approve(code["user_code"].as_str().unwrap(), code["fingerprint"].as_str().unwrap()).await;
    assert_eq!(login.ended(LIMIT), 0, "{}", login.err());

    let first = key_of(&data, "cli.key");
    let told = finish(&mut rent(&data, &["rotate", "--now"]));
    assert_eq!(told.code, 0, "{}", told.err);
    let second = key_of(&data, "cli.key");
    assert!(second != first && told.out.contains(&second) && told.out.contains("has ended"), "{}", told.out);
    assert_eq!(finish(&mut rent(&data, &["whoami"])).code, 0);
    assert_eq!(key_of(&data, "cli.key"), second, "a young key was replaced");

    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(91 * 24 * 3600);
    let grow_old = || fs::File::open(data.join("cli.key")).unwrap().set_modified(long_ago).unwrap();
    grow_old();
    assert_eq!(finish(&mut rent(&data, &["--rotate-after-days", "0", "whoami"])).code, 0);
    assert_eq!(key_of(&data, "cli.key"), second, "a key was replaced although it never should be");
    assert_eq!(finish(&mut rent(&data, &["whoami"])).code, 0);
    let third = key_of(&data, "cli.key");
    assert_ne!(third, second, "an old key was not replaced");
    // Its predecessor goes on for an hour, so a third one is refused; the command goes on with what works.
    grow_old();
    let told = finish(&mut rent(&data, &["whoami"]));
    assert_eq!((told.code, key_of(&data, "cli.key")), (0, third), "{}", told.err);
    server.stop();
}
