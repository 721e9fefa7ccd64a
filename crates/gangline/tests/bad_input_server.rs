//! What a running server is sent and how it may end: requests that cannot be taken, links and codes that ran
//! out, weak keys, SIGTERM and SIGKILL. Each refusal says what was wrong; what was acknowledged stays.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod live;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gangline_types::{GpuId, Minute, Seconds, UnixSeconds};
use gangline_wire::{
    api::{enrol::KeyKind, machine::SyncReport},
    endpoints::{Enrol, Sync},
    sig,
};
use gangline_worker::client::ClientError;
use live::network::{self, Machine, Person, Server, call, enrolment_of, minutes, new_key, this_minute};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A signed request that a test may spoil.
struct Signed {
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

/// Greater than every number used before.
fn sequence() -> u64 {
    static LAST: Mutex<u64> = Mutex::new(0);
    let mut last = LAST.lock().unwrap();
    *last = (gangline_worker::client::now().0 * 1000).max(*last + 1);
    *last
}

impl Signed {
    fn new(
        server: &Server,
        machine: &Machine,
        method: &'static str,
        path: &str,
        body: &[u8],
        late_seconds: u64,
    ) -> Self {
        let covered = sig::Covered {
            method,
            authority: &server.address.to_string(),
            path,
            query: "",
            body_digest: sig::digest(body),
            sequence: sequence(),
        };
        let created = UnixSeconds(gangline_worker::client::now().seconds().0 - late_seconds);
        let headers = sig::sign(&covered, created, &machine.key).to_vec();
        Self { method, path: path.to_owned(), headers, body: body.to_vec() }
    }

    async fn send(&self, server: &Server) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(self.method.as_bytes()).unwrap();
        let mut request = server.http.request(method, format!("{}{}", server.origin, self.path));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        let (status, text) = network::told(request.body(self.body.clone()).send().await.unwrap()).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|e| panic!("{status}: {e}: {text}")))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_taken_is_refused_in_words_and_the_next_beat_counts() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let operator = Person::enter(&server, &server.link.clone()).await;
    let machine = Machine::join(&server, &operator).await;
    let label = format!("/api/v1/gpus/{}/label", machine.gpu);
    let no_gpu = format!("/api/v1/gpus/{}/label", GpuId::from_bytes([9; 16]));
    let name = br#"{"label":"mine"}"#;
    let sign = |path: &str, body: &[u8]| Signed::new(&server, &machine, "PUT", path, body, 0);
    let check = async |what: &str, signed: &Signed, status: u16, code: &str, words: &str| {
        let (got, body) = signed.send(&server).await;
        assert_eq!((got, body["code"].as_str().unwrap()), (status, code), "{what}: {body}");
        assert!(body["message"].as_str().unwrap().contains(words), "{what}: {body}");
    };

    check("not JSON", &sign(&label, b"{"), 400, "malformed", "the body cannot be read: ").await;
    let owner = br#"{"label":"a","owner":"acct_x"}"#;
    check("an unknown field", &sign(&label, owner), 400, "unknown_fields", "does not know: owner").await;
    let large = sign(&label, &[b' '; 5000]);
    check("too large", &large, 413, "too_large", "the body is larger than this endpoint takes").await;
    check("an unknown id", &sign(&no_gpu, name), 404, "not_found", "there is no such thing here").await;
    let post = Signed::new(&server, &machine, "POST", &label, name, 0);
    check("another method", &post, 405, "wrong_method", "POST is not something that can be done here").await;

    let mut forged = sign(&label, name);
    forged.headers[1].1.push('0');
    check("another number than was signed", &forged, 401, "bad_signature", "").await;
    let mut other = sign(&label, name);
    other.body = br#"{"label":"his"}"#.to_vec();
    check("another body than was signed", &other, 401, "wrong_digest", "").await;
    let mut bare = sign(&label, name);
    bare.headers.clear();
    check("no signature", &bare, 401, "unsigned", "this needs a signature by an enrolled key").await;
    let late = Signed::new(&server, &machine, "PUT", &label, name, 600);
    check("a clock that is behind", &late, 401, "skewed_clock", " s behind this server's clock; at most ")
        .await;
    let seconds = late.send(&server).await.1["message"].as_str().unwrap().to_owned();
    let behind = seconds.split_once("made ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    assert!(behind.is_some_and(|behind: u64| (600..720).contains(&behind)), "{seconds}");

    let once = sign(&label, name);
    assert_eq!(once.send(&server).await.0, 200);
    check("a copy", &once, 401, "replayed", "a copy of a request is not a request").await;

    let minute = this_minute();
    assert_eq!(machine.beat(minute).await.unwrap().credited, 1);
    server.until_up(machine.gpu, &[minute]).await;
    let shown: gangline_types::public::PublicGpu =
        server.until(&format!("/api/v1/public/gpus/{}", machine.gpu), |_| true).await;
    assert_eq!(shown.label.as_str(), "mine");
    server.stop();
}

/// Encodings of points of small order, for which anybody can make signatures.
fn weak_keys() -> Vec<[u8; 32]> {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut order_two = [0xff; 32];
    (order_two[0], order_two[31]) = (0xec, 0x7f);
    let mut zero_with_sign = [0; 32];
    zero_with_sign[31] = 0x80;
    vec![[0; 32], identity, order_two, zero_with_sign]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weak_key_cannot_be_enrolled() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let key = new_key();
    let client = server.client(&key);
    let mut request = serde_json::to_value(enrolment_of(&key, KeyKind::Machine)).unwrap();
    let mut keys: Vec<String> = weak_keys().iter().map(|bytes| URL_SAFE_NO_PAD.encode(bytes)).collect();
    keys.extend(["short".to_owned(), URL_SAFE_NO_PAD.encode([0xff; 31]), String::new()]);
    for weak in keys {
        request["public_key"] = json!(weak);
        let body = serde_json::to_vec(&request).unwrap();
        let json = [("content-type", "application/json")];
        let answer = client.raw("POST", "/api/v1/enrolments", "", &json, body, None).await.unwrap();
        let (status, text) = network::told(answer).await;
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, error["code"].as_str().unwrap()), (400, "bad_key"), "{weak}: {text}");
        assert_eq!(error["message"], "the body names no usable Ed25519 public key");
        assert_eq!(error["hint"], "a weak or malformed key is refused; make a new one");
    }
    // Somebody else's key, signed with one's own, is not enrolled either.
    let other = call::<Enrol>(&client, &enrolment_of(&new_key(), KeyKind::Machine)).await.unwrap_err();
    assert!(matches!(&other, ClientError::Refused { status: 401, .. }), "{other:?}");
    assert_eq!(books(folder.path()).await.enrolments().await, 0, "one of them waits to be approved");
    call::<Enrol>(&client, &enrolment_of(&key, KeyKind::Machine)).await.unwrap();
    server.stop();
}

/// The books behind the server's back: time that passes is put into them, since no test waits for a day.
struct Books(sqlx::SqlitePool);

async fn books(data: &std::path::Path) -> Books {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(data.join("gangline.sqlite"));
    Books(sqlx::SqlitePool::connect_with(options).await.unwrap())
}

impl Books {
    async fn enrolments(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM enrolment").fetch_one(&self.0).await.unwrap()
    }
    async fn expire_links(&self) {
        let changed =
            sqlx::query("UPDATE link SET expires_at = created_at - 1 WHERE used_at IS NULL").execute(&self.0);
        assert_eq!(changed.await.unwrap().rows_affected(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_was_used_or_ran_out_lets_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[]);
    let operator = Person::enter(&server, &server.link.clone()).await;
    let refused = async |link: &str, what: &str| {
        for request in [server.http.get(link), server.http.post(link).header("origin", &server.origin)] {
            let answer = request.send().await.unwrap();
            assert!(answer.headers().get("set-cookie").is_none(), "{what}: a session was given");
            let (status, page) = network::told(answer).await;
            assert_eq!(status, 410, "{what}: {page}");
            assert!(page.contains("This link was used, ran out, or never was one"), "{what}: {page}");
            assert!(page.contains("Ask the operator for a new one"), "{what}: {page}");
        }
    };
    refused(&server.link, "used").await;
    assert_eq!(operator.page("/console").await.0, 200, "the session it gave ended, too");
    let link = operator.link_for("supplier", "Ada").await;
    assert_eq!(server.get(link.strip_prefix(&server.origin).unwrap()).await.0, 200);
    books(folder.path()).await.expire_links().await;
    refused(&link, "ran out").await;
    refused(&format!("{}/enter/{}", server.origin, "0".repeat(64)), "never was one").await;
    refused(&format!("{}/enter/nonsense", server.origin), "no link at all").await;
    let again = operator.link_for("supplier", "Ada").await;
    Person::enter(&server, &again).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_answers_who_waits_and_ends_in_time_with_nothing_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &["--drain-seconds", "15"]);
    let operator = Person::enter(&server, &server.link.clone()).await;
    let machine = Machine::join(&server, &operator).await;
    let minute = this_minute();
    machine.beat(minute).await.unwrap();

    // A machine waits for news as long as it may, and a page listens to events.
    let report = SyncReport { paused: true, offers: vec![], clusters: vec![], wait: Seconds(30) };
    let client = server.client(&machine.key);
    let waiting = tokio::spawn(async move { call::<Sync>(&client, &report).await });
    let mut events = server.http.get(format!("{}/events", server.origin)).send().await.unwrap();
    events.chunk().await.unwrap().expect("a first event");
    // Its pause is in the console: its request has arrived and waits.
    let limit = Instant::now() + live::LIMIT;
    while !machine.supplier.page("/console").await.1.contains("paused") {
        assert!(Instant::now() < limit, "the console never showed the pause");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!waiting.is_finished(), "it was answered before the server ended");

    let asked = Instant::now();
    server.process.signal(Signal::SIGTERM);
    waiting.await.unwrap().expect("an answer, not a broken connection");
    while let Ok(Some(_)) = events.chunk().await {}
    assert_eq!(server.process.ended(Duration::from_secs(15)), 0, "{}", server.process.err());
    assert!(asked.elapsed() < Duration::from_secs(15), "it was cut off, not drained");
    let log = server.process.err();
    assert!(log.contains("stopping: no new work is taken") && log.contains("stopped"), "{log}");
    assert!(!log.contains("cut off"), "{log}");
    assert!(TcpStream::connect(server.address).is_err(), "somebody still listens");

    let server = Server::start(folder.path(), &[]);
    server.until_up(machine.gpu, &[minute]).await;
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_cuts_off_who_does_not_finish_and_still_ends_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &["--drain-seconds", "1"]);
    let machine = Machine::join(&server, &Person::enter(&server, &server.link.clone()).await).await;
    // A body that never comes whole. The server says when it begins to wait for it.
    let signed = Signed::new(&server, &machine, "POST", "/api/v1/machine/beats", b"{}", 0);
    let mut slow = TcpStream::connect(server.address).unwrap();
    slow.set_read_timeout(Some(live::LIMIT)).unwrap();
    let mut head = format!(
        "POST {} HTTP/1.1\r\nhost: {}\r\nexpect: 100-continue\r\ncontent-length: 2\r\n",
        signed.path, server.address
    );
    signed.headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
    slow.write_all((head + "\r\n").as_bytes()).unwrap();
    let mut go_on = [0; 12];
    slow.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100");

    assert_eq!(server.process.stop(), 0, "{}", server.process.err());
    let log = server.process.err();
    assert!(log.contains("some requests did not finish in time and were cut off"), "{log}");
    Server::start(folder.path(), &[]).stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_under_beats_loses_none_that_was_acknowledged() {
    const WRITERS: u32 = 4;
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &[]);
    let address = server.address.to_string();
    let machine = Machine::join(&server, &Person::enter(&server, &server.link.clone()).await).await;
    let all: Vec<Minute> = minutes().collect();
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    for round in 0..3 {
        let before = acknowledged.lock().unwrap().len();
        // One client for all: it numbers the key's requests, and two in one microsecond are none of two clients' then.
        let client = Arc::new(server.client(&machine.key));
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                let mine: Vec<Minute> =
                    all.iter().copied().skip((round * WRITERS + n) as usize).step_by(12).collect();
                let (client, gpu, acknowledged) =
                    (Arc::clone(&client), machine.gpu, Arc::clone(&acknowledged));
                tokio::spawn(async move {
                    for minute in mine.iter().cycle() {
                        match network::beat(&client, gpu, *minute).await {
                            Ok(receipt) => {
                                assert_eq!(receipt.credited, 1);
                                acknowledged.lock().unwrap().push(*minute);
                            }
                            // Nobody answered: whether it counts is not known, and not asked here.
                            Err(ClientError::Unreachable { .. }) => return,
                            Err(error) => panic!("{error:?}"),
                        }
                    }
                })
            })
            .collect();
        live::until("beats to be acknowledged", || {
            (acknowledged.lock().unwrap().len() >= before + 20).then_some(())
        });
        server.process.crash();
        for writer in writers {
            writer.await.unwrap();
        }
        server = Server::start_at(folder.path(), &address, &[]);
        let held = acknowledged.lock().unwrap().clone();
        server.until_up(machine.gpu, &held).await;
        assert_eq!(machine.beat(this_minute()).await.unwrap().credited, 1, "the key does not work any more");
    }
    server.stop();
}
