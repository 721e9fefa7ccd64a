//! The command line as a person meets it: help, bad usage, a server that is away, what is printed and
//! with which exit code.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod common;

use std::os::unix::fs::PermissionsExt;

use common::{Stub, cluster, cluster_view, gangline, json, logged_in, run, told};
use serde_json::json as value;

/// An address where nobody listens: taken and given back.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn help_names_every_command_and_hides_what_is_not_for_people() {
    let state = tempfile::tempdir().unwrap();
    let (code, out, err) = told(&run(state.path(), &["--help"]));
    assert_eq!((code, err.as_str()), (0, ""));
    for command in ["serve", "worker", "rent", "verify", "audit", "witness", "proof", "demo"] {
        assert!(out.lines().any(|line| line.trim_start().starts_with(command)), "{command} is not in\n{out}");
    }
    for hidden in ["adapter", "node"] {
        assert!(!out.contains(&format!("  {hidden}")), "{hidden} is in\n{out}");
    }
    let (code, out, _) = told(&run(state.path(), &["rent", "--help"]));
    assert_eq!(code, 0);
    for command in [
        "login",
        "offers",
        "hire",
        "list",
        "show",
        "release",
        "receipt",
        "statement",
        "submit",
        "job",
        "connect",
    ] {
        assert!(out.lines().any(|line| line.trim_start().starts_with(command)), "{command} is not in\n{out}");
    }
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0, "help wrote something");
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_without_a_word() {
    let state = tempfile::tempdir().unwrap();
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/../guard/tests/recorded/load.jsonl");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = gangline(state.path()).args(["guard", "score", recorded]).stdout(writer).output().unwrap();
    let (code, _, err) = told(&ended);
    assert_eq!((code, err.as_str()), (1, ""), "what was not finished is not done");
}

#[test]
fn bad_usage_is_exit_code_2_and_says_what_is_bad() {
    let state = tempfile::tempdir().unwrap();
    let check = |args: &[&str], says: &str| {
        let (code, out, err) = told(&run(state.path(), args));
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains(says), "{args:?}: {err}");
    };
    check(&["nonsense"], "unrecognized subcommand");
    check(&["rent", "show", "clu_1"], "not a valid cluster id");
    check(&["rent", "show", "gpu_00000000000000000000000000"], "not a valid cluster id");
    check(&["rent", "hire", "--hours", "0"], "0 is not in 1..=168");
    check(&["rent", "hire", "--max-price", "free"], "expected credits");
    check(&["rent", "submit"], "required");
    check(&["rent", "job", "stop", "../x"], "expected the id of a job");
    check(&["rent", "connect", "--listen", "0.0.0.0:8265"], "0.0.0.0 is not loopback");
    check(&["rent", "connect", "--listen", "192.168.0.4:8265"], "is not loopback");
    check(&["rent", "connect", "--listen", "[::]:8265"], "is not loopback");
    check(&["rent", "login", "nonsense"], "nonsense is not a server's URL");
    check(&["rent", "login", "http://example.org"], "plain http is only for this machine itself");
    check(&["rent", "login", "https://example.org/x?y"], "it holds more than scheme, host and port");
    check(&["verify", "ftp://127.0.0.1"], "only http and https are spoken");
    check(&["verify", "http://127.0.0.1:1", "--proofs", "some"], "invalid value");
}

#[test]
fn a_bad_log_filter_is_bad_usage() {
    let state = tempfile::tempdir().unwrap();
    let output = common::gangline(state.path())
        .args(["rent", "list"])
        .env("GANGLINE_LOG", "gangline=loudest")
        .output();
    let (code, _, err) = told(&output.unwrap());
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("error: the log filter") && err.contains("hint: expected for example"), "{err}");
}

#[test]
fn whoever_is_not_logged_in_is_told_how() {
    let state = tempfile::tempdir().unwrap();
    let expected =
        "error: this machine is not logged in at any network\nhint: log in with `gangline rent login URL`\n";
    for args in [
        &["rent", "list"][..],
        &["rent", "hire"],
        &["rent", "connect"],
        &["rent", "receipt", &cluster().to_string()],
    ] {
        assert_eq!(told(&run(state.path(), args)), (1, String::new(), expected.to_owned()), "{args:?}");
    }
}

#[test]
fn a_server_that_is_away_is_not_a_no() {
    let url = nobody();
    let state = logged_in(&url);
    let (code, out, err) = told(&run(state.path(), &["rent", "list"]));
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.starts_with(&format!(
            "error: could not ask {url} for your clusters\ncause: the server at {url} could not be reached\n"
        )),
        "{err}"
    );
    assert!(err.contains("refused") && err.contains("\nhint: check that the server runs"), "{err}");

    let (code, out, err) = told(&run(state.path(), &["verify", &url]));
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.starts_with("error: could not ask for everything, so nothing is said about the network\ncause: could not ask for /api/v1/public/season\n"), "{err}");
    assert!(!err.contains("agree"), "{err}");

    let fresh = tempfile::tempdir().unwrap();
    let (code, _, err) = told(&run(fresh.path(), &["rent", "login", &url]));
    assert_eq!(code, 1);
    assert!(err.starts_with(&format!("error: could not ask {url} to enrol this key\n")), "{err}");
    // The key was made and stays: the next try is for the same one.
    let key = std::fs::metadata(fresh.path().join("gangline/rent/cli.key")).unwrap();
    assert_eq!((key.permissions().mode() & 0o777, key.len()), (0o600, 32));
}

#[test]
fn a_refusal_is_told_with_its_hint_and_without_a_strangers_controls() {
    let stub = Stub::start(
        |_| {
            json(
                403,
                value!({"code": "not_allowed", "message": "a \u{1b}[31msupplier may not hire", "hint": "ask the operator"}),
            )
        },
        &[],
    );
    let state = logged_in(&stub.url);
    let (code, out, err) = told(&run(state.path(), &["rent", "hire"]));
    assert_eq!((code, out.as_str()), (1, ""));
    assert_eq!(
        err,
        "error: could not hire a cluster\ncause: a ␛[31msupplier may not hire (not_allowed)\nhint: ask the operator\n"
    );
    let asked = stub.asked();
    assert_eq!(
        (asked.len(), asked[0].method.as_str(), asked[0].path.as_str()),
        (1, "POST", "/api/v1/clusters")
    );
    for header in ["signature", "signature-input", "content-digest", "gangline-sequence"] {
        assert!(asked[0].headers.contains_key(header), "the request has no {header}");
    }
    for header in ["authorization", "cookie"] {
        assert!(!asked[0].headers.contains_key(header), "the request has {header}");
    }
}

#[test]
fn something_that_is_no_gangline_server_is_told_apart() {
    let stub = Stub::start(|_| common::text(200, "<html>hello</html>"), &[]);
    let state = logged_in(&stub.url);
    let (code, _, err) = told(&run(state.path(), &["rent", "list"]));
    assert_eq!(code, 1);
    assert!(err.contains("is it a Gangline server of this version?"), "{err}");
    let (code, _, err) = told(&run(state.path(), &["verify", &stub.url]));
    assert_eq!(code, 2, "{err}");
}

#[test]
fn login_shows_a_code_waits_and_remembers_the_server() {
    let stub = Stub::start(
        |asked| match asked.path.as_str() {
            "/api/v1/enrolments" => json(
                200,
                value!({
                    "enrolment": gangline_types::EnrolmentId::from_bytes([1; 16]), "user_code": "ABCD-EFGH",
                    "verification_url": "http://127.0.0.1/approve", "verification_url_complete": "http://127.0.0.1/approve?code=ABCD-EFGH",
                    "expires_in_seconds": 600, "interval_seconds": 1,
                }),
            ),
            "/api/v1/enrolments/poll" => json(200, value!("approved")),
            _ => json(
                200,
                value!({"account": "Ada", "role": "renter", "key": gangline_types::KeyId::from_bytes([1; 16]), "kind": "command_line"}),
            ),
        },
        &[],
    );
    let state = tempfile::tempdir().unwrap();
    let (code, out, err) = told(&run(state.path(), &["rent", "login", &stub.url, "--json"]));
    assert_eq!(code, 0, "{err}");
    let lines: Vec<serde_json::Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{out}");
    assert_eq!(lines[0]["event"], "code");
    assert_eq!(lines[0]["user_code"], "ABCD-EFGH");
    assert_eq!(lines[0]["url"], "http://127.0.0.1/approve?code=ABCD-EFGH");
    assert_eq!(lines[0]["fingerprint"].as_str().unwrap().len(), 19);
    assert_eq!(lines[1], value!({"event": "joined"}));
    let body: serde_json::Value = serde_json::from_slice(&stub.asked()[0].body).unwrap();
    assert_eq!(body["kind"], "command_line");

    let (code, out, _) = told(&run(state.path(), &["rent", "whoami"]));
    assert_eq!(code, 0);
    assert!(out.starts_with("Ada (renter) at http://127.0.0.1:"), "{out}");
}

#[test]
fn a_denied_login_is_not_remembered() {
    let stub = Stub::start(
        |asked| match asked.path.as_str() {
            "/api/v1/enrolments" => json(
                200,
                value!({
                    "enrolment": gangline_types::EnrolmentId::from_bytes([1; 16]), "user_code": "ABCD-EFGH", "verification_url": "u",
                    "verification_url_complete": "u", "expires_in_seconds": 600, "interval_seconds": 1,
                }),
            ),
            _ => json(200, value!("denied")),
        },
        &[],
    );
    let state = tempfile::tempdir().unwrap();
    let (code, _, err) = told(&run(state.path(), &["rent", "login", &stub.url]));
    assert_eq!(code, 1);
    assert!(
        err.contains("error: this machine was not logged in\ncause: the enrolment was denied\nhint: "),
        "{err}"
    );
    assert!(!state.path().join("gangline/rent/login.toml").exists());
}

#[test]
fn a_key_that_others_can_read_is_not_used() {
    let stub = Stub::start(|_| json(200, value!([])), &[]);
    let state = logged_in(&stub.url);
    let key = state.path().join("gangline/rent/cli.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (code, _, err) = told(&run(state.path(), &["rent", "list"]));
    assert_eq!(code, 1);
    assert!(err.contains("can be read by others (mode 644)"), "{err}");
    assert!(stub.asked().is_empty(), "it was used");
}

#[test]
fn a_cluster_is_shown_and_the_wrong_one_is_not_guessed() {
    let stub = Stub::start(
        |asked| match asked.path.as_str() {
            "/api/v1/clusters" => {
                let mut second = cluster_view("running");
                second["id"] = value!(gangline_types::ClusterId::from_bytes([8; 16]));
                json(200, value!([cluster_view("running"), second]))
            }
            _ => json(200, cluster_view("running")),
        },
        &[],
    );
    let state = logged_in(&stub.url);
    let (code, out, _) = told(&run(state.path(), &["rent", "show", &cluster().to_string()]));
    assert_eq!(code, 0);
    assert!(
        out.contains("state             running\n") && out.contains("price of an hour  2.000000\n"),
        "{out}"
    );
    let (code, out, _) = told(&run(state.path(), &["rent", "list", "--json"]));
    assert_eq!(code, 0);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap().as_array().unwrap().len(), 2);
    for args in [&["rent", "release"][..], &["rent", "connect"], &["rent", "job", "list"]] {
        let (code, _, err) = told(&run(state.path(), args));
        assert_eq!(code, 2, "{args:?}: {err}");
        assert!(err.contains("more than one cluster") && err.contains("hint: name"), "{args:?}: {err}");
    }
    let (code, _, err) = told(&run(state.path(), &["rent", "receipt", &cluster().to_string()]));
    assert_eq!(code, 1);
    assert!(err.contains("has no receipt yet: it is running"), "{err}");
}

#[test]
fn measurements_of_ones_own_get_verdicts_and_what_is_no_measurement_is_refused() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("times.json");
    let path = file.to_str().unwrap();
    std::fs::write(&file, r#"{"GeForce RTX 2080 Ti|CUDA|2.81": {"classroom": [90.1, 400]}}"#).unwrap();
    let (code, out, err) = told(&run(state.path(), &["proof", "classify", path, "--json"]));
    assert_eq!((code, err.as_str()), (0, ""));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let decided = |at: usize, field: &str| report["measurements"][at][field].clone();
    assert_eq!(decided(0, "decision"), "accepted");
    assert_eq!(
        (decided(1, "decision"), decided(1, "decided_by")),
        (value!("rejected"), value!("render_time"))
    );
    assert_eq!(report["summary"]["all"]["measurements"], 2);

    std::fs::write(&file, r#"{"GeForce RTX 2080 Ti|CUDA|2.81": {"classroom": ["fast"]}}"#).unwrap();
    let (code, out, err) = told(&run(state.path(), &["proof", "classify", path]));
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("no time in seconds above 0") && err.contains("hint: "), "{err}");
}

#[test]
fn error_rates_of_proofs_hold_their_goals_and_say_where_they_come_from() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("roc.json");
    let (code, out, err) =
        told(&run(state.path(), &["proof", "roc", "--simulated-only", "--report", file.to_str().unwrap()]));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("a simulation from real measurements"), "{out}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    for name in ["over_claim_accepted", "honest_rejected_single", "honest_rejected_two_of_three"] {
        let row = report["rows"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
        assert_eq!(row["ok"], true, "{row}");
        assert!(row["value"].as_f64().unwrap() <= row["goal"].as_f64().unwrap(), "{row}");
    }
}
