//! The children that open adapters, as separate processes, on whatever adapters this machine has.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use gangline_proof::{Challenge, Commitment, MatrixParams, Opening, verify};
use gangline_types::Hash;
use serde_json::{Value, json};

/// The example beside this test's own program, built now: a single test does not build examples. With all features of
/// all crates, as everything is built that is tested, so that what is built is built once.
fn program() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--workspace", "--all-features", "--example", "adapters"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success());
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples/adapters")
}

fn probe(program: &Path) -> Value {
    let output = Command::new(program).arg("adapter-probe").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_adapter_found_proves_in_a_process_of_its_own() {
    let program = program();
    let probe = probe(&program);
    let adapters = probe["adapters"].as_array().unwrap();
    if adapters.is_empty() {
        eprintln!("no adapter on this machine: nothing to prove on");
    }
    for adapter in adapters {
        let mut child = Command::new(&program)
            .arg("adapter-prove")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut requests = child.stdin.take().unwrap();
        let mut replies = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut ask = |request: Value| -> Value {
            writeln!(requests, "{request}").unwrap();
            loop {
                let reply: Value = serde_json::from_str(&replies.next().unwrap().unwrap()).unwrap();
                if reply["is"] != "progress" {
                    return reply;
                }
            }
        };
        let opened = json!({"do": "adapter", "index": adapter["index"], "name": adapter["name"], "pci_address": adapter["pci_address"]});
        assert_eq!(ask(opened)["is"], "ready");
        let params = MatrixParams { n: 128, steps: 2, rows: 8 };
        assert_eq!(ask(json!({"do": "warm_up", "params": params}))["is"], "ready");
        let challenge = Challenge { params, beacon: Hash([1; 32]), binding: Hash([2; 32]) };
        let committed = ask(json!({"do": "commit", "challenge": challenge}));
        let commitment: Commitment = serde_json::from_value(committed["commitment"].clone()).unwrap();
        let nonce = Hash([3; 32]);
        let opened = ask(json!({"do": "open", "nonce": nonce}));
        let opening: Opening = serde_json::from_value(opened["opening"].clone()).unwrap();
        verify(&challenge, &commitment, &nonce, &opening).unwrap();

        // Another adapter at that place is noticed; the end of its input ends the child.
        let swapped = ask(
            json!({"do": "adapter", "index": adapter["index"], "name": "another card", "pci_address": ""}),
        );
        assert!(swapped["why"].as_str().unwrap().contains("is "), "{swapped}");
        drop(requests);
        assert!(child.wait().unwrap().success());
    }
}
