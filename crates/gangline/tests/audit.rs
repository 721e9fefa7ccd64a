//! `gangline audit` and `gangline witness` as processes, against a log that stands still, grows, is edited,
//! forks and rolls back.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod common;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use common::{
    Stub, gangline,
    log::{Files, key, log},
    run, told,
};
use gangline_guard::log::{Entry, Event, checkpoint::verifier_of, entry::Change};
use gangline_types::{GpuId, Hash, UnixSeconds};
use http::Response;
use http_body_util::Full;

fn entry(n: u64) -> Vec<u8> {
    let event = Event::MetadataChange { gpu: GpuId::from_bytes([1; 16]), change: Change::Set };
    Entry { at: UnixSeconds(n), event, sealed: Hash([7; 32]) }.to_bytes()
}

fn of_size(size: u64) -> Files {
    log((0..size).map(entry))
}

struct World {
    files: Arc<Mutex<Files>>,
    stub: Stub,
    folder: tempfile::TempDir,
}

impl World {
    fn start(files: Files) -> Self {
        let files = Arc::new(Mutex::new(files));
        let served = files.clone();
        let stub = Stub::start(
            move |asked| match served.lock().unwrap().get(&asked.path) {
                Some(bytes) => Response::new(Full::from(Bytes::from(bytes.clone()))),
                None => common::text(404, "none"),
            },
            &[],
        );
        Self { files, stub, folder: tempfile::tempdir().unwrap() }
    }
    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
    fn set(&self, files: Files) {
        *self.files.lock().unwrap() = files;
    }
    fn edit(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>)) {
        edit(self.files.lock().unwrap().get_mut(name).unwrap());
    }
    fn checkpoint(&self) -> Vec<u8> {
        self.files.lock().unwrap()["/log/checkpoint"].clone()
    }
    fn verify(&self, more: &[&str]) -> (i32, String, String) {
        let args = [&["audit", "verify", &self.stub.url][..], more].concat();
        told(&run(self.folder.path(), &args))
    }
    /// With a memory of the last check.
    fn again(&self) -> (i32, String, String) {
        self.verify(&["--state", &self.path("state")])
    }
}

#[test]
fn an_honest_log_holds_and_what_it_does_later_is_held_against_it() {
    let world = World::start(of_size(300));
    let (code, out, err) = world.again();
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("300 entries checked: 300 metadata_change\n"), "{out}");
    assert!(out.contains("\nnote: the log's key is the one that it shows itself"), "{out}");
    assert!(out.ends_with("The log holds together.\n"), "{out}");
    world.set(of_size(301));
    let (code, out, _) = world.again();
    assert_eq!(code, 0);
    assert!(out.ends_with("The log holds together and goes on from the checkpoint seen before.\n"), "{out}");
    assert!(!out.contains("note:"), "the key is remembered");

    let remembered = std::fs::read(world.path("state")).unwrap();
    let check = |files: Files, says: &str| {
        world.set(files);
        let (code, out, err) = world.again();
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.starts_with("error: the log of http"), "{err}");
        assert!(err.contains(&format!("\ncause: {says}")), "{err}");
        assert_eq!(std::fs::read(world.path("state")).unwrap(), remembered, "a bad log was remembered");
    };
    check(
        of_size(300),
        "roll-back: the log has 300 entries, and a signed checkpoint had 301 (the last check's)",
    );
    check(of_size(0), "roll-back: the log has 0 entries");
    let other = |n: u64| if n == 40 { entry(9999) } else { entry(n) };
    check(log((0..301).map(other)), "fork: the log signed two trees of 301 entries");
    check(log((0..400).map(other)), "fork: the first 301 entries now have root");
    world.set(of_size(400));
    assert_eq!(world.again().0, 0, "the honest log can still go on");
}

#[test]
fn an_edit_is_named_and_a_forgery_too() {
    let world = World::start(of_size(600));
    let check = |says: &str| {
        let (code, out, err) = world.verify(&[]);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.contains(says), "{err}");
        world.set(of_size(600));
    };
    let length = entry(300).len() + 2;
    world.edit("/log/tile/entries/001", |bytes| bytes[44 * length + 60] ^= 1);
    check("edit: entry 300 is not the one");
    world.edit("/log/tile/0/001", |bytes| bytes[44 * 32] ^= 1);
    check("edit: entry 300 is not the one");
    world.edit("/log/tile/1/000.p/2", |bytes| bytes[33] ^= 1);
    check("edit: tile 0 of level 1");
    world.edit("/log/tile/entries/002.p/88", |bytes| {
        bytes.pop();
    });
    check("tile/entries/002.p/88 does not hold the 88");
    world.files.lock().unwrap().remove("/log/tile/0/002.p/88");
    check("tile/0/002.p/88 does not hold the 88");
    world.set(log((0..600).map(|n| if n == 7 { b"acct_0123".to_vec() } else { entry(n) })));
    check("edit: entry 7 is not of the log's form");
    world.edit("/log/checkpoint", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap().replacen("\n600\n", "\n599\n", 1);
        *bytes = text.into_bytes();
    });
    check("forgery: the checkpoint (the log's own) is not what the log signed");
    // Its own key, and not the one that was told.
    let other = verifier_of(&key(2).public()).to_string();
    let (code, _, err) = world.verify(&["--key", &other]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("forgery: ") && err.contains("another log"), "{err}");
    let own = verifier_of(&key(1).public()).to_string();
    assert_eq!(world.verify(&["--key", &own]).0, 0);
}

#[test]
fn a_saved_log_is_checked_offline_and_could_not_ask_is_no_verdict() {
    let world = World::start(of_size(260));
    let copy = world.path("copy");
    let (code, out, err) = told(&run(world.folder.path(), &["audit", "fetch", &world.stub.url, &copy]));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("260 entries saved to "), "{out}");
    let offline = |more: &[&str]| {
        let args = [&["audit", "verify", &copy][..], more].concat();
        told(&run(world.folder.path(), &args))
    };
    let (code, out, _) = offline(&["--list"]);
    assert_eq!(code, 0);
    assert!(out.contains("259: kind metadata_change, at 259, gpu gpu_"), "{out}");
    let (code, out, _) = offline(&["--json"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &report["holds"], &report["entries"]), (0, &true.into(), &260.into()));

    // A checkpoint that somebody else saw.
    let seen = world.path("seen");
    world.set(log((0..200).map(|n| entry(n + n / 150))));
    std::fs::write(&seen, world.checkpoint()).unwrap();
    let (code, _, err) = offline(&["--seen", &seen]);
    assert_eq!(code, 1);
    assert!(err.contains("fork: the first 200 entries now have root"), "{err}");

    let unsaid = |(code, out, err): (i32, String, String)| {
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(
            err.starts_with("error: could not ask for everything, so nothing is said about the log\n"),
            "{err}"
        );
    };
    std::fs::remove_file(Path::new(&copy).join("tile/entries/001.p/4")).unwrap();
    unsaid(offline(&[]));
    unsaid(offline(&["--seen", &world.path("absent")]));
    world.set(Files::new());
    unsaid(world.verify(&[]));
    let (code, _, err) = told(&run(world.folder.path(), &["audit", "verify", &world.path("nowhere")]));
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("neither a server's URL nor a folder with a log in it"), "{err}");
}

/// A running witness.
struct Witness {
    child: Child,
    url: String,
    key: String,
}

impl Witness {
    fn start(world: &World) -> Self {
        let (key, state) = (world.path("witness.key"), world.path("witness"));
        let args = ["witness", &world.stub.url, "--key", &key, "--state", &state, "--every", "1"];
        let mut child = gangline(world.folder.path())
            .args(args)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = |start: &str| lines.next().unwrap().unwrap().strip_prefix(start).unwrap().to_owned();
        let key = line("witness ");
        Self { child, url: line("listening on "), key }
    }

    /// Checks the log with what this witness saw.
    fn verify(&self, world: &World) -> (i32, String, String) {
        world.verify(&["--witness", &self.url, "--witness-key", &self.key])
    }

    /// Until the check comes out as asked.
    fn until(&self, world: &World, holds: impl Fn(&(i32, String, String)) -> bool) {
        let mut last = Default::default();
        for _ in 0..100 {
            last = self.verify(world);
            if holds(&last) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        panic!("it never came to hold: {last:?}");
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_witness_cosigns_what_grows_and_its_word_finds_a_roll_back() {
    let world = World::start(of_size(300));
    let witness = Witness::start(&world);
    let cosigned = |size: u64| {
        move |(code, out, _): &(i32, String, String)| {
            *code == 0 && out.contains(&format!("cosigned the first {size} entries at "))
        }
    };
    witness.until(&world, cosigned(300));
    world.set(of_size(700));
    witness.until(&world, cosigned(700));

    // Over the wire, as the protocol has it.
    let rolled = of_size(600);
    let submit = |old: u64, note: &[u8]| {
        let body = format!("old {old}\n\n{}", String::from_utf8_lossy(note));
        let url = format!("{}/add-checkpoint", witness.url);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = gangline_worker::client::Client::new(&witness.url, None).unwrap();
            let sent = client.raw("POST", "/add-checkpoint", "", &[], body.into_bytes(), None).await;
            let response = sent.unwrap_or_else(|error| panic!("{url}: {error}"));
            (response.status().as_u16(), response.text().await.unwrap())
        })
    };
    let (status, line) = submit(700, &world.checkpoint());
    assert_eq!(status, 200, "{line}");
    assert!(line.starts_with("\u{2014} gangline.witness/"), "{line}");
    assert_eq!(submit(600, &world.checkpoint()), (409, "700\n".into()));
    assert_eq!(submit(700, &rolled["/log/checkpoint"]).0, 400);
    let fork = log((0..700).map(|n| entry(n + 1)));
    assert_eq!(submit(700, &fork["/log/checkpoint"]), (409, "700\n".into()));
    assert_eq!(submit(700, b"nonsense").0, 400);

    world.set(rolled);
    let (code, _, err) = witness.verify(&world);
    assert_eq!(code, 1);
    assert!(
        err.contains("roll-back: the log has 600 entries, and a signed checkpoint had 700 (the witness at"),
        "{err}"
    );

    // A witness that starts again has not forgotten.
    drop(witness);
    world.set(fork);
    let witness = Witness::start(&world);
    let (code, _, err) = witness.verify(&world);
    assert_eq!(code, 1);
    assert!(err.contains("fork: the log signed two trees of 700 entries"), "{err}");
    world.set(of_size(701));
    witness.until(&world, cosigned(701));

    // A cosignature that has to be there and is not.
    let (code, _, err) = world.verify(&["--witness-key", &witness.key]);
    assert_eq!(code, 1);
    assert!(err.contains("carries no signature by gangline.witness/"), "{err}");
    let own = verifier_of(&key(1).public()).to_string();
    assert_eq!(world.verify(&["--witness-key", &own]).0, 2, "a log is no witness of itself");
}
