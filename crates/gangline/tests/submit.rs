//! `rent submit` from a folder to the last line of output, against a server that answers as Ray does.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod common;

use std::{
    io::{BufRead, BufReader, Cursor, Read},
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
};

use common::{Answer, Asked, Stub, cluster, cluster_view, gangline, json, logged_in, told};
use serde_json::json as value;

/// What Ray answers; `status` gives the state of the job at the n-th time it is asked.
fn ray(status: fn(usize) -> &'static str, logs: &'static str) -> impl Fn(&Asked) -> Answer + Send + Sync {
    let times = AtomicUsize::new(0);
    let stopped = AtomicUsize::new(0);
    move |asked: &Asked| {
        let Some((_, path)) = asked.path.split_once("/ray/") else {
            return match (asked.method.as_str(), asked.path.as_str()) {
                ("GET", "/api/v1/clusters") => json(200, value!([])),
                ("DELETE", _) => json(200, cluster_view("released")),
                _ => json(200, cluster_view("running")),
            };
        };
        match (asked.method.as_str(), path) {
            ("GET", path) if path.starts_with("api/packages/gcs/") => {
                common::text(404, "Package does not exist")
            }
            ("PUT", path) if path.starts_with("api/packages/gcs/") => common::text(200, ""),
            ("POST", "api/jobs/") => {
                let body: serde_json::Value = serde_json::from_slice(&asked.body).unwrap();
                json(200, value!({"job_id": body["submission_id"], "submission_id": body["submission_id"]}))
            }
            ("POST", path) if path.ends_with("/stop") => {
                stopped.store(1, Ordering::SeqCst);
                json(200, value!({"stopped": true}))
            }
            ("GET", path) if path.ends_with("/logs") => json(200, value!({"logs": logs})),
            ("GET", _) => {
                let status = if stopped.load(Ordering::SeqCst) == 1 {
                    "STOPPED"
                } else {
                    status(times.fetch_add(1, Ordering::SeqCst))
                };
                json(
                    200,
                    value!({
                        "type": "SUBMISSION", "submission_id": "x", "status": status, "entrypoint": "python job.py",
                        "message": format!("the driver says\u{1b}[2J {status}"), "driver_exit_code": null,
                    }),
                )
            }
            _ => common::text(404, "no such thing"),
        }
    }
}

fn program() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("job.py"), "print('hello')\n").unwrap();
    folder
}

#[test]
fn a_job_is_sent_run_and_printed_and_its_cluster_given_back() {
    let logs = "one\ntwo \u{1b}[31mred\r\nthree\n";
    let stub = Stub::start(
        ray(|n| if n < 2 { "RUNNING" } else { "SUCCEEDED" }, logs),
        &["one\n", "two \u{1b}[31mred\r\n", "."],
    );
    let (state, folder) = (logged_in(&stub.url), program());
    let output = gangline(state.path())
        .args([
            "rent",
            "submit",
            "--software-ok",
            "--working-dir",
            folder.path().to_str().unwrap(),
            "--",
            "python",
            "job.py",
            "a b",
        ])
        .output();
    let (code, out, err) = told(&output.unwrap());
    assert_eq!((code, out.as_str()), (0, "one\ntwo ␛[31mred\nthree\n"), "{err}");
    assert!(
        err.contains("succeeded.") && err.contains(&format!("Released {}: 5 s used", cluster())),
        "{err}"
    );

    let asked = stub.asked();
    let find = |method: &str, part: &str| {
        asked.iter().find(|a| a.method == method && a.path.contains(part)).unwrap()
    };
    let hire: serde_json::Value = serde_json::from_slice(&find("POST", "/api/v1/clusters").body).unwrap();
    assert_eq!(hire["software_ok"], true);
    let put = find("PUT", "/ray/api/packages/gcs/_ray_pkg_");
    let name = put.path.rsplit('/').next().unwrap();
    let mut zip = zip::ZipArchive::new(Cursor::new(put.body.to_vec())).unwrap();
    let mut program = String::new();
    zip.by_name("job.py").unwrap().read_to_string(&mut program).unwrap();
    assert_eq!(program, "print('hello')\n");
    let job: serde_json::Value = serde_json::from_slice(&find("POST", "/ray/api/jobs/").body).unwrap();
    assert_eq!(job["entrypoint"], "python job.py 'a b'");
    assert_eq!(job["runtime_env"]["working_dir"], format!("gcs://{name}"));
    let tail = find("GET", "/logs/tail");
    assert!(tail.headers.contains_key("signature") && !tail.headers.contains_key("authorization"));
    assert_eq!(find("DELETE", "/api/v1/clusters/").path, format!("/api/v1/clusters/{}", cluster()));
}

#[test]
fn a_job_that_fails_is_exit_code_1_and_a_named_cluster_is_kept() {
    let stub = Stub::start(ray(|_| "FAILED", "Traceback\n"), &["."]);
    let (state, folder) = (logged_in(&stub.url), program());
    let output = gangline(state.path())
        .current_dir(folder.path())
        .args(["rent", "submit", "--cluster", &cluster().to_string(), "--", "python", "job.py"])
        .output();
    let (code, out, err) = told(&output.unwrap());
    assert_eq!((code, out.as_str()), (1, "Traceback\n"), "{err}");
    assert!(err.contains(" failed: the driver says␛[2J FAILED\n"), "{err}");
    assert!(!stub.asked().iter().any(|asked| asked.method == "DELETE"), "the cluster was released");
}

#[test]
fn an_interrupt_stops_the_job_and_says_so() {
    let stub = Stub::start(ray(|_| "RUNNING", "working\n"), &["working\n"]);
    let (state, folder) = (logged_in(&stub.url), program());
    let mut child = gangline(state.path())
        .current_dir(folder.path())
        .args(["rent", "submit", "--cluster", &cluster().to_string(), "--", "python", "job.py"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "working\n");
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let (code, _, err) = told(&child.wait_with_output().unwrap());
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("Stopping gangline_") && err.contains(" was stopped\n"), "{err}");
    assert!(stub.asked().iter().any(|asked| asked.method == "POST" && asked.path.ends_with("/stop")));
}

#[test]
fn a_folder_that_cannot_be_packed_costs_nothing() {
    let stub = Stub::start(ray(|_| "RUNNING", ""), &[]);
    let state = logged_in(&stub.url);
    let output = gangline(state.path())
        .args(["rent", "submit", "--working-dir", "/nowhere/at/all", "--", "true"])
        .output();
    let (code, _, err) = told(&output.unwrap());
    assert_eq!(code, 1);
    assert!(err.contains("could not find the folder /nowhere/at/all"), "{err}");
    assert!(stub.asked().is_empty(), "something was asked");
}
