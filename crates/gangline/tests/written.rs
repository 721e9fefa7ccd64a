//! What a server writes, and where: into its data folder, and lines on stderr that a program can read.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test")]

mod live;

use std::collections::BTreeSet;

use live::{Running, gangline};

/// The files of a data folder, as docs/SECURITY.md names them.
const FILES: [&str; 5] = ["gangline.sqlite", "public.sqlite", "network.key", "lock", "journal"];

#[test]
fn a_server_writes_into_its_data_folder_and_json_lines_on_stderr() {
    let folder = tempfile::tempdir().unwrap();
    let (data, home) = (folder.path().join("data"), folder.path().join("home"));
    std::fs::create_dir(&home).unwrap();
    let args = ["--log-json", "serve", "--json", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let mut server = Running::start(gangline(&home).args(args).env("TMPDIR", &home).current_dir(&home));
    let told = server.event("serving");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    // Something is asked, something is refused.
    runtime.block_on(async {
        for path in ["/", "/log/checkpoint", "/api/v1/me", "/api/v1/nothing"] {
            http.get(format!("{}{path}", told["origin"].as_str().unwrap())).send().await.unwrap();
        }
    });
    assert_eq!(server.stop(), 0, "{}", server.err());

    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(&data).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // What SQLite keeps beside a database while it is open belongs to it.
        let of = FILES.iter().find(|file| name.starts_with(**file));
        found.insert(*of.unwrap_or_else(|| panic!("{name} is in no inventory")));
    }
    // A journal is there once there was a beat.
    found.insert("journal");
    assert_eq!(found, FILES.into_iter().collect());
    let elsewhere: Vec<_> = std::fs::read_dir(&home).unwrap().map(|e| e.unwrap().path()).collect();
    assert!(elsewhere.is_empty(), "{elsewhere:?}");
    let beside: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(beside.len(), 2, "{beside:?}");

    let lines: Vec<serde_json::Value> = server
        .err()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    assert!(!lines.is_empty(), "nothing was logged");
    for line in &lines {
        for field in ["timestamp", "level", "message", "target"] {
            assert!(line[field].is_string(), "no {field} in {line}");
        }
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "not UTC: {line}");
    }
}

#[test]
fn a_network_s_key_stays_where_a_store_of_secrets_has_put_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (data, given) = (folder.path().join("data"), folder.path().join("credentials"));
    std::fs::create_dir(&given).unwrap();
    let file = given.join("network.key");
    let start = || {
        let mut command = gangline(folder.path());
        let args = ["serve", "--json", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
        command.args(args).args(["--network-key", file.to_str().unwrap()]);
        command
    };
    // A file that is not there is not made, and one that others may read is not used.
    live::finish(&mut start()).refused(1, &["network's key", "credentials/network.key"]);
    assert!(!file.exists());
    std::fs::write(&file, [7; 32]).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    live::finish(&mut start()).refused(1, &["others may read"]);
    // As a service manager hands it over: root's, and shown to the service by an access list.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o440)).unwrap();
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o400)).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut keys = BTreeSet::new();
    for _ in 0..2 {
        let mut command = start();
        let mut server = Running::start(command.env("CREDENTIALS_DIRECTORY", &given));
        let origin = server.event("serving")["origin"].as_str().unwrap().to_owned();
        let key = async { http.get(format!("{origin}/log/key")).send().await.unwrap().text().await.unwrap() };
        let told = runtime.block_on(key);
        keys.insert(told.rsplit('+').next().unwrap().to_owned());
        assert_eq!(server.stop(), 0, "{}", server.err());
    }
    assert_eq!(keys.len(), 1, "{keys:?}");
    assert!(!data.join("network.key").exists(), "the key was written into the data folder as well");
}
