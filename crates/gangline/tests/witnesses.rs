//! A server that asks witnesses to cosign its log, all as processes: one that saw the log from its start, and one
//! that was shown a fork.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{Stub, gangline};
use gangline_guard::log::{
    Checkpoint, Edge, Note, VerifierKey,
    checkpoint::{origin_of, verifier_of},
    leaf_hash,
};
use gangline_wire::SigningKey;
use http::Response;
use http_body_util::Full;
use zeroize::Zeroizing;

const PATIENCE: Duration = Duration::from_secs(120);

/// A process that ends with the test, and the first lines that it says.
struct Running(Child, std::io::Lines<BufReader<std::process::ChildStdout>>);

impl Running {
    fn start(folder: &Path, args: &[&str]) -> Self {
        let mut child =
            gangline(folder).args(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self(child, lines)
    }
    fn line(&mut self, start: &str) -> String {
        let line = self.1.next().unwrap().unwrap();
        line.strip_prefix(start).unwrap_or_else(|| panic!("{line}")).to_owned()
    }
    fn serving(folder: &Path, args: &[&str]) -> (Self, serde_json::Value) {
        let mut running = Self::start(folder, &[&["serve", "--json"], args].concat());
        let line = running.line("");
        let told = serde_json::from_str(&line).unwrap();
        (running, told)
    }
    fn witness(folder: &Path, url: &str, name: &str) -> (Self, String) {
        let at = |what: &str| folder.join(format!("{name}.{what}")).to_str().unwrap().to_owned();
        let (key, state) = (at("key"), at("state"));
        let args =
            ["witness", url, "--key", &key, "--state", &state, "--every", "1", "--listen", "127.0.0.1:0"];
        let mut running = Self::start(folder, &args);
        let key = running.line("witness ");
        let url = running.line("listening on ");
        (running, format!("{url}#{key}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks until the answer is as wanted.
async fn until<T>(http: &reqwest::Client, url: &str, wanted: impl Fn(&str) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = match http.get(url).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        if let Some(found) = wanted(&text) {
            return found;
        }
        assert!(Instant::now() < deadline, "{url} never came to be as wanted: {text}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_cosigns_what_the_server_shows_it_and_a_fork_opens_an_incident() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data").to_str().unwrap().to_owned();
    let (server, told) = Running::serving(folder.path(), &["--listen", "127.0.0.1:0", "--data", &data]);
    let address = told["address"].as_str().unwrap().to_owned();
    drop(server);
    let seed: [u8; 32] = std::fs::read(Path::new(&data).join("network.key")).unwrap().try_into().unwrap();
    let key = SigningKey::from_seed(&Zeroizing::new(seed));
    let origin = origin_of(&key.public());

    // Whoever has the network's key shows somebody else another log of one entry.
    let mut edge = Edge::default();
    edge.push(leaf_hash(b"what never was"), &mut |_| ());
    let fork = Checkpoint { origin: origin.clone(), size: 1, root: edge.root() }.sign(&key).to_string();
    let shown = verifier_of(&key.public()).to_string();
    let stub = Stub::start(
        move |asked| match asked.path.as_str() {
            "/log/checkpoint" => Response::new(Full::from(Bytes::from(fork.clone()))),
            "/log/key" => Response::new(Full::from(Bytes::from(shown.clone()))),
            _ => common::text(404, "none"),
        },
        &[],
    );
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().cookie_store(true).build().unwrap();
    let (_honest, honest) = Running::witness(folder.path(), &format!("http://{address}"), "honest");
    let (_misled, misled) = Running::witness(folder.path(), &stub.url, "misled");
    let misled_at = format!("{}/checkpoint/{origin}", misled.split_once('#').unwrap().0);
    until(&http, &misled_at, |text| text.starts_with(&origin).then_some(())).await;

    let args = ["--listen", &address, "--data", &data, "--operator-link", "--outbound-allow", "127.0.0.1"];
    let witnesses = ["--witness", &honest, "--witness", &misled];
    let (_server, told) = Running::serving(folder.path(), &[&args[..], &witnesses[..]].concat());
    let base = told["origin"].as_str().unwrap().to_owned();
    let of = |witness: &str| witness.split_once('#').unwrap().1.parse::<VerifierKey>().unwrap();
    let (honest, misled) = (of(&honest), of(&misled));

    // What is published carries the cosignature of the one and never of the other.
    let log = verifier_of(&key.public());
    let cosigned = |text: &str| {
        let note: Note = text.parse().ok()?;
        assert!(note.verify(&misled).is_err(), "{text}");
        note.verify(&honest).ok()??;
        Checkpoint::of_note(&note, &log).ok()
    };
    let first = until(&http, &format!("{base}/log/cosigned"), cosigned).await;
    let newest = until(&http, &format!("{base}/log/checkpoint"), cosigned).await;
    assert!(newest.size >= first.size && first.size >= 1);

    // The log grows, and the new checkpoint is cosigned as well.
    let link = told["operator_link"].as_str().unwrap();
    let entered = http.post(link).header("origin", &base).body("").send().await.unwrap();
    assert!(entered.status().is_success() || entered.status().is_redirection(), "{}", entered.status());
    let console = http.get(format!("{base}/console")).send().await.unwrap().text().await.unwrap();
    let at = console.find("name=\"csrf\" value=\"").unwrap() + "name=\"csrf\" value=\"".len();
    let csrf = console[at..].split('"').next().unwrap();
    let invite = format!("csrf={csrf}&role=renter&name=Ada");
    let invited = http
        .post(format!("{base}/console/invite"))
        .header("origin", &base)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(invite)
        .send()
        .await
        .unwrap();
    assert!(invited.status().is_success(), "{}", invited.status());
    let grown = until(&http, &format!("{base}/log/checkpoint"), |text| {
        cosigned(text).filter(|checkpoint| checkpoint.size > newest.size)
    })
    .await;
    assert!(grown.size > newest.size);

    // Everybody sees how many have signed, and the operator who does not and why.
    until(&http, &base, |text| text.contains("cosigned</a> by 1 of 2 witnesses").then_some(())).await;
    until(&http, &format!("{base}/console/security"), |text| {
        (text.contains("witness refused") && text.contains(misled.name()) && text.contains("was forked"))
            .then_some(())
    })
    .await;
}
