//! A server with a certificate of an authority of its own, and commands that believe that authority once told.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Child, Stdio},
};

use common::{gangline, run, told};

/// A server that ends with the test.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write(file: &Path, text: &str) {
    let mut out = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).unwrap();
    out.write_all(text.as_bytes()).unwrap();
}

/// An authority's certificate, and a certificate for this machine with its key, in `folder`.
fn certificates(folder: &Path) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(vec![]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    write(&folder.join("ca.pem"), &ca.self_signed(&ca_key).unwrap().pem());
    let issuer = rcgen::Issuer::new(ca, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    write(&folder.join("cert.pem"), &params.signed_by(&key, &issuer).unwrap().pem());
    write(&folder.join("key.pem"), &key.serialize_pem());
}

/// A server with that certificate: it, and what it said at its start.
fn serving(folder: &Path) -> (Serving, serde_json::Value) {
    let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
    certificates(folder);
    let mut server = gangline(folder)
        .args(["serve", "--json", "--listen", "127.0.0.1:0", "--data", &at("data")])
        .args(["--tls-cert", &at("cert.pem"), "--tls-key", &at("key.pem")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = server.stdout.take().unwrap();
    let server = Serving(server);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(said["origin"].as_str().unwrap().starts_with("https://127.0.0.1:"), "{line}");
    (server, said)
}

#[test]
fn the_drill_holds_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (_server, said) = serving(folder.path());
    let url = said["origin"].as_str().unwrap();
    write(&folder.path().join("link"), said["operator_link"].as_str().unwrap());
    let (link, report) = (at("link"), at("report.json"));
    let drill = ["drill", url, "--link-file", &link, "--writes", "200", "--report", &report];
    let (code, _, stderr) = told(&run(folder.path(), &drill));
    assert_eq!(code, 2, "a stranger's certificate was believed: {stderr}");
    let authority = at("ca.pem");
    let believing = [&["--ca-file", authority.as_str()], &drill[..]].concat();
    let (code, stdout, stderr) = told(&run(folder.path(), &believing));
    assert_eq!(code, 0, "{stdout}{stderr}");
    let report = std::fs::read_to_string(folder.path().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 14);
    assert!(rows.iter().all(|row| row["ok"] == true), "{report}");
}

#[test]
fn a_network_with_an_authority_of_its_own_is_believed_once_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (_server, said) = serving(folder.path());
    let port = said["address"].as_str().unwrap().rsplit_once(':').unwrap().1;
    let url = format!("https://localhost:{port}");

    let (code, _, stderr) = told(&run(folder.path(), &["audit", "verify", &url]));
    assert_eq!(code, 2, "a stranger's certificate was believed: {stderr}");
    let (code, stdout, stderr) =
        told(&run(folder.path(), &["--ca-file", &at("ca.pem"), "audit", "verify", &url]));
    assert_eq!(code, 0, "{stdout}{stderr}");
    let by_name = gangline(folder.path())
        .args(["audit", "verify", &url])
        .env("GANGLINE_CA_FILE", at("ca.pem"))
        .output()
        .unwrap();
    assert_eq!(told(&by_name).0, 0);
    for (file, why) in [("key.pem", "holds no certificate"), ("none.pem", "none.pem cannot be used")] {
        let (code, _, stderr) = told(&run(folder.path(), &["--ca-file", &at(file), "audit", "verify", &url]));
        assert_eq!(code, 2, "{stderr}");
        assert!(stderr.contains(why), "{stderr}");
    }
}
