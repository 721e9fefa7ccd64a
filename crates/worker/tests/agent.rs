//! A whole worker against a small stand-in for the server: it registers, keeps beats while the server
//! is busy and hands them in when it is back, tells of a pause, and ends when the machine leaves or its
//! key does. Adapters are listed by a script, so that no driver is needed.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use gangline_wire::beat::{
    ANSWER_BYTES, Alias, Answer, BEAT_BYTES, Beat, ClaimedBeat, Epoch, EpochMaster, Outcome,
};
use gangline_worker::{
    agent::{self, AgentError, Connection, DataDir, Ended, Executable, Reporter, RunOptions, Status},
    enrol::load_or_make_key,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

/// How the stand-in answers, and what it was told.
#[derive(Default)]
struct Server {
    beats_refused_with: Option<u16>,
    revoked: bool,
    beats: Vec<Value>,
    paused: Option<bool>,
    left: bool,
    /// It knows frames, and tells of this UDP port.
    udp: Option<u16>,
    /// Beats that came as frames, by UDP and by request.
    by_udp: Vec<Beat>,
    by_request: Vec<Beat>,
}

const SECRET: [u8; 32] = [1; 32];
const ALIAS: Alias = Alias(7);

fn epoch_now() -> Epoch {
    Epoch::of(gangline_worker::client::now().seconds())
}

/// The beat in a frame, and the answer to it.
fn taken(frame: &[u8]) -> (Beat, [u8; ANSWER_BYTES]) {
    let claimed = ClaimedBeat::read(frame).unwrap();
    let key = EpochMaster::of(&SECRET, claimed.epoch()).key(claimed.alias());
    let beat = claimed.verify(&key).unwrap().unwrap();
    (beat, Answer::to(&beat, Outcome::Durable, 0, gangline_worker::client::now().seconds()).seal(&key))
}

type Shared = Arc<Mutex<Server>>;

fn answer(server: &Shared, path: &str, body: &Value) -> (u16, Value) {
    let mut server = server.lock().unwrap();
    let problem = |code: &str| json!({"code": code, "message": "the stand-in says so"});
    if server.revoked || server.left {
        return (401, problem("revoked_key"));
    }
    match path {
        "/api/v1/machine/inventory" => {
            let gpus = body["gpus"].as_array().unwrap().iter().enumerate().map(|(n, claim)| {
                let gpu = gangline_types::GpuId::from_bytes([n as u8 + 1; 16]);
                json!({"slot": claim["slot"], "gpu": gpu, "standing": "unproven", "reason": "no proof yet", "prove": false})
            });
            (200, json!({"gpus": gpus.collect::<Vec<_>>(), "server_time": 1}))
        }
        "/api/v1/machine/beats" => match server.beats_refused_with {
            Some(status) => (status, problem("unavailable")),
            None => {
                server.beats.push(body.clone());
                (200, json!({"credited": 2, "refused": [], "server_time": 1}))
            }
        },
        "/api/v1/machine/beat-epoch" if server.udp.is_some() => {
            let gpus: Vec<Value> =
                body["chains"].as_array().unwrap().iter().map(|chain| chain["gpu"].clone()).collect();
            let key = EpochMaster::of(&SECRET, epoch_now()).key(ALIAS);
            let hex: String = key.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
            (
                200,
                json!({"epoch": epoch_now(), "alias": ALIAS, "key": hex, "gpus": gpus,
                "udp": {"host": null, "port": server.udp}, "http": null, "server_time": 1}),
            )
        }
        "/api/v1/machine/sync" => {
            server.paused = Some(body["paused"].as_bool().unwrap());
            (200, json!({"clusters": [], "prove": [], "server_time": 1}))
        }
        "/api/v1/machine/leave" => {
            server.left = true;
            (200, json!({}))
        }
        _ => (404, problem("not_found")),
    }
}

/// Speaks just enough HTTP/1.1.
async fn serve(listener: TcpListener, server: Shared) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            let (read, mut write) = socket.into_split();
            let mut read = BufReader::new(read);
            loop {
                let mut line = String::new();
                if read.read_line(&mut line).await.unwrap_or(0) == 0 {
                    return;
                }
                let path = line.split(' ').nth(1).unwrap().to_owned();
                let (mut length, mut signed) = (0, false);
                loop {
                    line.clear();
                    read.read_line(&mut line).await.unwrap();
                    let lower = line.to_ascii_lowercase();
                    signed |= lower.starts_with("signature-input: gl=");
                    if let Some(n) = lower.strip_prefix("content-length:") {
                        length = n.trim().parse().unwrap();
                    }
                    if line == "\r\n" {
                        break;
                    }
                }
                let mut body = vec![0; length];
                read.read_exact(&mut body).await.unwrap();
                if path == "/api/v1/beat" {
                    let (beats, answers): (Vec<Beat>, Vec<_>) = body.chunks(BEAT_BYTES).map(taken).unzip();
                    server.lock().unwrap().by_request.extend(beats);
                    let head =
                        format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n", answers.len() * ANSWER_BYTES);
                    if write.write_all(&[head.as_bytes(), &answers.concat()].concat()).await.is_err() {
                        return;
                    }
                    continue;
                }
                assert!(signed, "an unsigned request to {path}");
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let (status, answer) = answer(&server, &path, &body);
                let text = answer.to_string();
                let head = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    text.len()
                );
                if write.write_all((head + &text).as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

struct Machine {
    _folder: tempfile::TempDir,
    data: DataDir,
    executable: Executable,
    server: Shared,
}

/// A machine that joined the stand-in and has two adapters.
async fn machine() -> Machine {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir::resolve(Some(&folder.path().join("data"))).unwrap();
    data.prepare().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = Shared::default();
    tokio::spawn(serve(listener, Arc::clone(&server)));
    load_or_make_key(&data.path().join("machine.key")).unwrap();
    std::fs::write(
        data.path().join("joined.toml"),
        format!("url = \"{url}\"\nfingerprint = \"f\"\njoined_at = 1\n"),
    )
    .unwrap();
    std::fs::write(data.path().join("worker.toml"), "[rent]\nisolation = \"none\"\n").unwrap();
    let adapter = |index| {
        json!({"index": index, "name": "card", "backend": "vulkan", "kind": "discrete", "driver": "d",
            "pci_vendor": 4318, "pci_device": 1, "pci_address": format!("0000:0{index}:00.0")})
    };
    let probe = json!({"adapters": [adapter(1), adapter(2)], "nvidia_driver": null, "nvidia": [], "nvidia_problem": null});
    let script = folder.path().join("program");
    std::fs::write(&script, format!("#!/bin/sh\necho 'a driver says hello'\necho '{probe}'\n")).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o700)).unwrap();
    Machine { data, executable: Executable::at(script), server, _folder: folder }
}

fn status(data: &Path) -> Option<Status> {
    serde_json::from_slice(&std::fs::read(data.join("status.json")).ok()?).ok()
}

/// Waits for a state; the limit is only for a test that would never end.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beats_are_kept_while_the_server_is_busy_and_the_owner_is_heard() {
    let m = machine().await;
    m.server.lock().unwrap().beats_refused_with = Some(503);
    let reporter = Reporter::new(true);
    let options = RunOptions { data: m.data.clone(), executable: m.executable.clone() };
    let running = tokio::spawn(async move { agent::run(options, &reporter).await });

    let folder = m.data.path().to_owned();
    until("two GPUs and a kept beat", || {
        status(&folder).is_some_and(|s| s.gpus.len() == 2 && s.beats_buffered >= 1 && s.beats_credited == 0)
    })
    .await;
    until("the server known to be away", || {
        status(&folder)
            .is_some_and(|s| matches!(s.connection, Connection::Away { .. } | Connection::Connected { .. }))
    })
    .await;
    assert!(
        std::fs::read_to_string(folder.join("beats.json")).unwrap().contains("gpu_"),
        "the beat is not on disk"
    );
    assert!(status(&folder).unwrap().no_renter_work.is_some());

    // A second worker on the same directory is refused.
    let again = RunOptions { data: m.data.clone(), executable: m.executable.clone() };
    let refused = agent::run(again, &Reporter::new(true)).await.unwrap_err();
    assert_eq!(refused.exit_code(), 5, "{refused}");

    m.server.lock().unwrap().beats_refused_with = None;
    until("the kept beat handed in", || !m.server.lock().unwrap().beats.is_empty()).await;
    let beats = m.server.lock().unwrap().beats[0].clone();
    assert_eq!(beats["beats"][0]["gpus"].as_array().unwrap().len(), 2, "{beats}");
    until("nothing kept any more", || std::fs::read_to_string(folder.join("beats.json")).unwrap() == "{}")
        .await;
    until("the acknowledgement shown", || {
        status(&folder).is_some_and(|s| s.beats_credited == 2 && s.beat_acknowledged.is_some())
    })
    .await;

    agent::pause(&m.data, &Reporter::new(true)).unwrap();
    until("the server told of the pause", || m.server.lock().unwrap().paused == Some(true)).await;
    agent::resume(&m.data, &Reporter::new(true)).unwrap();
    until("the server told of its end", || m.server.lock().unwrap().paused == Some(false)).await;

    agent::leave(&m.data, &Reporter::new(true)).await.unwrap();
    assert_eq!(running.await.unwrap().unwrap(), Ended::Left);
    let mut left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|f| f.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["lock", "worker.toml"], "something of the membership stayed");
    let nothing = agent::leave(&m.data, &Reporter::new(true)).await.unwrap_err();
    assert!(matches!(nothing, AgentError::NotJoined { .. }), "{nothing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_ended_ends_the_worker_with_a_code_of_its_own() {
    let m = machine().await;
    m.server.lock().unwrap().revoked = true;
    let options = RunOptions { data: m.data.clone(), executable: m.executable.clone() };
    let ended = agent::run(options, &Reporter::new(true)).await.unwrap_err();
    assert_eq!(ended.exit_code(), 3);
    assert!(ended.to_string().contains("gangline worker join"), "{ended}");
    assert!(status(m.data.path()).unwrap().stopped.unwrap().contains("does not take this machine's key"));
}

/// Runs a worker against a server that takes frames; its UDP socket answers or is silent.
async fn beaten(answers: bool) -> (Vec<Beat>, Vec<Beat>) {
    let m = machine().await;
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    m.server.lock().unwrap().udp = Some(socket.local_addr().unwrap().port());
    let server = Arc::clone(&m.server);
    tokio::spawn(async move {
        let mut bytes = [0; 100];
        loop {
            let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
            let (beat, answer) = taken(&bytes[..length]);
            server.lock().unwrap().by_udp.push(beat);
            if answers {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    let options = RunOptions { data: m.data.clone(), executable: m.executable.clone() };
    let reporter = Reporter::new(true);
    let running = tokio::spawn(async move { agent::run(options, &reporter).await });
    let folder = m.data.path().to_owned();
    until("a beat acknowledged", || {
        status(&folder).is_some_and(|s| s.beats_credited >= 2 && s.beat_acknowledged.is_some())
    })
    .await;
    assert!(folder.join("beat-lane.json").exists(), "the lane is not kept");
    agent::leave(&m.data, &Reporter::new(true)).await.unwrap();
    assert_eq!(running.await.unwrap().unwrap(), Ended::Left);
    assert!(!folder.join("beat-lane.json").exists(), "a beat key stayed behind");
    let server = m.server.lock().unwrap();
    assert!(server.beats.is_empty(), "a report was sent where frames are known");
    (server.by_udp.clone(), server.by_request.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beats_go_by_udp_where_that_is_answered_and_else_as_a_request() {
    let (by_udp, by_request) = beaten(true).await;
    assert!(by_request.is_empty(), "{by_request:?}");
    // Both GPUs in one frame, and the first value of a chain.
    assert_eq!((by_udp[0].gpus, by_udp[0].link.count), (0b11, 1));
    let (by_udp, by_request) = beaten(false).await;
    assert!(by_udp.len() >= 3, "UDP was given up after {} tries", by_udp.len());
    assert!(by_udp.contains(&by_request[0]), "the request carried another beat");
}
