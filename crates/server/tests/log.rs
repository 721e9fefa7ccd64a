//! The network's log over HTTP: what the server does is in it within a second, anyone can check it, and it
//! holds nothing private.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod net;

use gangline_guard::log::{
    Checker, Checkpoint, Entry, Event, Kind, TilePath, VerifierKey,
    check::Seen,
    entry::{Change, published_hash},
    tiles::{bundle_entries, paths_of, tile_hashes},
};
use gangline_types::{AdapterKind, public::PublicProof};
use gangline_wire::{api::enrol::KeyKind, api::public::SnapshotList};
use net::Net;

impl Net {
    async fn checkpoint(&self) -> (Checkpoint, String) {
        let key: VerifierKey = self.get("/log/key").await.text().trim().parse().unwrap();
        let text = self.get("/log/checkpoint").await.text();
        (Checkpoint::of_note(&text.parse().unwrap(), &key).unwrap(), text)
    }

    /// Fetches and checks the whole log.
    async fn log(&self, seen: Vec<Seen>) -> (Checkpoint, Vec<Entry>, String) {
        let (checkpoint, text) = self.checkpoint().await;
        let mut checker = Checker::new(checkpoint.clone(), seen).unwrap();
        let (mut entries, mut all) = (Vec::new(), text);
        for path in paths_of(checkpoint.size) {
            let TilePath::Entries { index, width } = path else { continue };
            let bytes = self.get(&format!("/log/tile/{path}")).await.body;
            let leaves = TilePath::Hashes { level: 0, index, width };
            let hashes = tile_hashes(&self.get(&format!("/log/tile/{leaves}")).await.body, width).unwrap();
            let bundle = bundle_entries(&bytes, width).unwrap();
            checker.take(&bundle, &hashes, &mut |_, entry| entries.push(*entry)).unwrap();
            all.push_str(&String::from_utf8_lossy(&bytes));
        }
        checker.end().unwrap();
        (checkpoint, entries, all)
    }

    /// The log, once it holds what `holds` asks for.
    async fn log_with(&self, holds: impl Fn(&Event) -> bool) -> (Checkpoint, Vec<Entry>, String) {
        for _ in 0..300 {
            let log = self.log(vec![]).await;
            if log.1.iter().any(|entry| holds(&entry.event)) {
                return log;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        panic!("it never came into the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_network_does_is_in_its_log_and_nothing_private_is() {
    let net = Net::start().await;
    let supplier = net.invite("supplier", "Ada-Unmistakable").await;
    let (key, gpu) = net.machine(&supplier, "llvmpipe", AdapterKind::Software).await;
    let label = serde_json::json!({"label": "Unmistakable label"});
    assert_eq!(net.call(&key, "PUT", &format!("/api/v1/gpus/{gpu}/label"), &label).await.status, 200);
    let set = |event: &Event| *event == Event::MetadataChange { gpu, change: Change::Set };
    let (early, ..) = net.log_with(set).await;

    net.beat(&key, gpu).await;
    for _ in 0..3 {
        assert!(net.prove_once(&key, gpu).await.accepted);
    }
    let proofs: Vec<PublicProof> =
        net.until(&format!("/api/v1/public/gpus/{gpu}/proofs"), |p: &Vec<PublicProof>| p.len() == 3).await;
    net.until("/api/v1/public/snapshots", |list: &SnapshotList| !list.snapshots.is_empty()).await;
    net.log_with(|event| event.kind() == Kind::Snapshot).await;
    let cli = net.enrol(&supplier, KeyKind::CommandLine).await;
    net.call(&key, "POST", "/api/v1/machine/leave", &serde_json::json!({})).await;
    let (checkpoint, entries, text) = net.log_with(|event| event.kind() == Kind::KeyRevoked).await;

    let kinds: Vec<Kind> = entries.iter().map(|entry| entry.event.kind()).collect();
    for kind in [
        Kind::PolicyChange,
        Kind::RoleChange,
        Kind::Approval,
        Kind::MetadataChange,
        Kind::Verdict,
        Kind::Standing,
        Kind::Snapshot,
        Kind::KeyRevoked,
    ] {
        assert!(kinds.contains(&kind), "no {kind} in {kinds:?}");
    }
    // A verdict's entry holds the hash of the transcript as anyone can fetch it.
    for proof in &proofs {
        let published = net.get(&format!("/api/v1/public/proofs/{}", proof.id)).await;
        let transcript = Some(published_hash(&published.body));
        let verdict = Event::Verdict { gpu, proof: proof.id, accepted: true, transcript };
        assert!(entries.iter().any(|entry| entry.event == verdict), "{verdict:?} is not in the log");
    }

    let private = [
        "Ada-Unmistakable".to_owned(),
        "Unmistakable label".to_owned(),
        "testhost".to_owned(),
        "127.0.0.1".to_owned(),
        key.public().to_string(),
        key.public().fingerprint(),
        cli.public().to_string(),
    ];
    let forms = ["acct_", "mach_", "key_", "enr_", "ses_", "lnk_", "clu_", "inc_"];
    for secret in private.iter().map(String::as_str).chain(forms) {
        assert!(!text.contains(secret), "the log holds {secret}");
    }

    // What was seen earlier is a beginning of what is there now, and stays so over a restart.
    let seen = |checkpoint: &Checkpoint| Seen { checkpoint: checkpoint.clone(), whose: "before".into() };
    assert!(early.size < checkpoint.size);
    net.log(vec![seen(&early), seen(&checkpoint)]).await;
    for refused in
        ["", "0/000", "0/000.p/0", "entries/999", "8/000", "x%2f..%2fcheckpoint", "entries/000.p/257"]
    {
        assert_eq!(net.get(&format!("/log/tile/{refused}")).await.status, 404, "{refused}");
    }
    let config = net.config.clone();
    let folder = net.stop().await;
    let net = Net::start_in(folder, config).await;
    net.log_with(|event| event.kind() == Kind::Approval).await;
    net.log(vec![seen(&early), seen(&checkpoint)]).await;
    net.stop().await;
}
