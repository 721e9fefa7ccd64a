//! Simulated machines: a network that has not allowed them does not start, one that has calls them what they are.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

fn gangline() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gangline"));
    command.env_remove("GANGLINE_ALLOW_SIMULATED");
    command
}

/// A server on a data folder; it is killed when this is dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(data: &Path, more: &[&str]) -> Self {
        let mut command = gangline();
        command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(more);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self { child, address: said["address"].as_str().unwrap().to_owned() }
    }
    fn get(&self, path: &str) -> serde_json::Value {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.address).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        // Sent in one piece or in chunks; the JSON is from the first brace to the last.
        let body = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn simulated_machines_need_to_be_allowed_and_are_called_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let seeded =
        gangline().args(["fleet", "seed", "--machines", "300", "--data"]).arg(&data).output().unwrap();
    assert!(seeded.status.success(), "{}", String::from_utf8_lossy(&seeded.stderr));

    let refused =
        gangline().args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(&data).output().unwrap();
    assert!(!refused.status.success(), "a network that has not allowed them started");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("simulated") && words.contains("--allow-simulated"), "{words}");

    let server = Server::start(&data, &["--allow-simulated"]);
    let network = server.get("/api/v1/public/network");
    assert_eq!(
        (network["registered"].as_u64(), network["simulated"].as_u64()),
        (Some(300), Some(300)),
        "{network}"
    );
    let found = server.get("/api/v1/public/gpus?q=simulated%20rtx&standing=proven&limit=7");
    let gpus = found["gpus"].as_array().unwrap();
    assert_eq!(gpus.len(), 7, "{found}");
    for gpu in gpus {
        assert_eq!(
            (gpu["simulated"].as_bool(), gpu["standing"].as_str()),
            (Some(true), Some("proven")),
            "{gpu}"
        );
        assert!(gpu["model"].as_str().unwrap().starts_with("Simulated "), "{gpu}");
    }
    // A page at a time, every one once, in order.
    let (mut after, mut all) = (String::new(), Vec::new());
    loop {
        let page = server.get(&format!("/api/v1/public/gpus?limit=90{after}"));
        all.extend(page["gpus"].as_array().unwrap().iter().map(|g| g["id"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(all.len(), 300);
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]));
    let one = server.get(&format!("/api/v1/public/gpus?q={}", &all[123][..16]));
    assert_eq!(one["gpus"][0]["id"].as_str(), Some(all[123].as_str()), "{one}");
}

#[test]
fn a_fleet_beats_in_bad_weather_and_nothing_acknowledged_is_lost_to_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (data, account) = (folder.path().join("data"), folder.path().join("account"));
    let seeded =
        gangline().args(["fleet", "seed", "--machines", "60", "--data"]).arg(&data).status().unwrap();
    assert!(seeded.success());
    let server = Server::start(&data, &["--allow-simulated"]);
    let url = format!("http://{}", server.address);
    // More than there are: told what to do about it.
    let refused =
        gangline().args(["fleet", "run", &url, "--machines", "61", "--minutes", "0"]).output().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("hint: ") && words.contains("fleet seed"), "{words}");
    let mut fleet = gangline();
    fleet.args([
        "fleet",
        "run",
        &url,
        "--machines",
        "60",
        "--minutes",
        "1",
        "--spread",
        "1",
        "--again",
        "--json",
    ]);
    fleet.args([
        "--http",
        "200",
        "--lost",
        "50",
        "--hostile",
        "100",
        "--wrong-clocks",
        "100",
        "--slow",
        "100",
    ]);
    let ran = fleet.arg("--account").arg(&account).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let told: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(told["proved"].as_u64(), Some(60), "{told}");
    assert_eq!(told["proved_again"].as_u64(), Some(60), "{told}");
    assert!(told["durable"].as_u64().is_some_and(|durable| durable > 30), "{told}");
    // Dropping it kills it.
    drop(server);
    let audit = |seed: &str| {
        let mut audit = gangline();
        audit.args(["fleet", "audit", "--seed", seed, "--data"]).arg(&data).arg("--account").arg(&account);
        audit.output().unwrap()
    };
    let audited = audit("gangline");
    let words = String::from_utf8_lossy(&audited.stdout).into_owned();
    assert!(audited.status.success() && words.contains(": 0 lost"), "{words}");
    let other = audit("somebody else's");
    assert!(!other.status.success(), "beats of machines that never beat were found");
}
