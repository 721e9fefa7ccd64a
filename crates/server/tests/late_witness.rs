//! A witness that does not answer is told of, and asked on.

#![allow(clippy::unwrap_used)]

mod net;

use std::time::{Duration, Instant};

use gangline_guard::{
    log::{VerifierKey, note::KeyUse},
    outbound::Exceptions,
};
use gangline_server::{
    config::{WitnessAt, Witnesses},
    outbound::THIS_MACHINE,
};
use gangline_wire::api::{enrol::KeyKind, operate::IncidentView};
use net::Net;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn a_witness_that_does_not_answer_opens_one_incident() {
    // Nobody listens there.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    let key = VerifierKey::new("w", KeyUse::Witness, net::new_key().public()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = net::quick_config(folder.path());
    config.outbound.exceptions = Exceptions::of_networks(THIS_MACHINE).unwrap();
    config.witnesses = Witnesses { all: vec![WitnessAt { url: url.parse().unwrap(), key }], late_seconds: 2 };
    let net = Net::start_in(folder, config).await;
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all: Vec<IncidentView> =
            net.call(&operator, "GET", "/api/v1/operate/incidents", &Value::Null).await.json();
        if let Some(late) = all.iter().find(|i| i.what == "witness_late") {
            assert_eq!(
                (late.subject.as_str(), late.severity.as_str(), late.count),
                ("witness w", "warning", 1)
            );
            break;
        }
        assert!(Instant::now() < deadline, "{all:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let page = net.page(&net.operator, "/console/security").await.text();
    assert!(page.contains("does not decide") && page.contains("never"), "{page}");
    let front = net.get("/").await.text();
    assert!(front.contains("Not cosigned yet by any of 1 witness"), "{front}");
    assert_eq!(net.get("/log/cosigned").await.status, 404);
    let checkpoint = net.get("/log/checkpoint").await.text();
    assert_eq!(checkpoint.matches('\u{2014}').count(), 1, "the log's own signature: {checkpoint}");
    net.stop().await;
}
