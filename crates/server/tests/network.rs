//! A machine from join to share, a renter's hire as far as the books go, and what must not be seen.

mod net;

use gangline_rules::snapshot::check_inclusion;
use gangline_types::{AdapterKind, GpuId, MicroCredits, Standing, Text, cluster::ClusterState, public::*};
use gangline_wire::{
    api::{account::*, cluster::*, enrol::KeyKind, machine::*, proof::*, public::*},
    endpoints,
};
use net::{Net, value};

const SOFTWARE: &str = "llvmpipe (LLVM 15.0.6, 256 bits)";

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_joins_proves_beats_earns_and_is_hired() {
    let net = Net::start().await;
    let supplier = net.invite("supplier", "Ada").await;
    let (key, gpu) = net.machine(&supplier, SOFTWARE, AdapterKind::Software).await;
    assert_eq!(net.beat(&key, gpu).await.credited, 1);

    for n in 1..=3 {
        let verdict = net.prove_once(&key, gpu).await;
        assert!(verdict.accepted, "{verdict:?}");
        assert_eq!(verdict.again, n < 3, "{verdict:?}");
    }
    let public: PublicGpu = net
        .until(&format!("/api/v1/public/gpus/{gpu}"), |g: &PublicGpu| g.standing == Standing::Proven)
        .await;
    assert!(public.connected && public.profile.matrix_mmacs > 0 && !public.rentable, "{public:?}");
    assert!(public.standing_reason.as_str().contains("software device"), "{}", public.standing_reason);

    // Anyone can verify the transcript, with what is public.
    let proofs: Vec<PublicProof> =
        net.until(&format!("/api/v1/public/gpus/{gpu}/proofs"), |p: &Vec<PublicProof>| p.len() == 3).await;
    let transcript: Transcript = net.json(&format!("/api/v1/public/proofs/{}", proofs[0].id)).await;
    gangline_proof::verify(
        &transcript.challenge,
        &transcript.commitment,
        &transcript.nonce,
        &transcript.opening,
    )
    .unwrap();

    // A snapshot comes by itself when its minute has ended; the GPU is alone and gets all of it.
    let is_in = |list: &SnapshotList| list.snapshots.iter().any(|s| s.gpus == 1 && s.shared.0 > 0);
    let beat_again = async {
        loop {
            net.beat(&key, gpu).await;
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        }
    };
    let list = tokio::select! {
        list = net.until("/api/v1/public/snapshots", is_in) => list,
        () = beat_again => unreachable!(),
    };
    let head = list.snapshots.iter().find(|s| s.shared.0 > 0).unwrap();
    let whole: SnapshotWithEntries = net.json(&format!("/api/v1/public/snapshots/{}", head.period)).await;
    assert_eq!(whole.entries.iter().map(|e| e.share.0).sum::<u64>(), head.budget.0);

    // The supplier's statement has the line and the way to the root.
    let cli = net.enrol(&supplier, KeyKind::CommandLine).await;
    let statement: Statement = net.call(&cli, "GET", "/api/v1/statement", &()).await.json();
    let line =
        statement.lines.iter().find(|l| l.snapshot.period == head.period).expect("a line for that period");
    assert!(check_inclusion(&line.snapshot, &line.entry, &line.inclusion));
    assert!(statement.season_total.0 >= line.entry.share.0);
    assert_eq!(statement.next, None);
    // After that GPU there is none, and before it there is.
    let ask = async |after: &str| {
        let path = format!("/api/v1/statement?from={}&limit=1&after={after}", head.period);
        net.call(&cli, "GET", &path, &()).await.json::<Statement>().lines.len()
    };
    assert_eq!((ask(&gpu.to_string()).await, ask(&GpuId::from_bytes([0; 16]).to_string()).await), (0, 1));

    // The machine offers its GPU; a renter hires it and no one else can.
    let offer = Offer {
        gpu,
        price_per_hour: MicroCredits(3_600_000),
        hours_max: 2,
        memory_bytes: 1 << 30,
        cpus_millis: 1000,
    };
    let sync = |clusters: Vec<ObservedCluster>| SyncReport {
        paused: false,
        offers: vec![offer.clone()],
        clusters,
        wait: gangline_types::Seconds(0),
    };
    net.call(&key, "POST", "/api/v1/machine/sync", &sync(vec![])).await.json::<SyncOrders>();
    let renter = net.enrol(&net.invite("renter", "Bob").await, KeyKind::CommandLine).await;
    let wish = HireRequest { software_ok: true, ..HireRequest::default() };
    let refused = net.call(&renter, "POST", "/api/v1/clusters", &HireRequest::default()).await;
    assert_eq!(
        refused.error().code,
        "none_fits",
        "a software device was given to one who did not say it will do"
    );
    let cluster: ClusterView = net.call(&renter, "POST", "/api/v1/clusters", &wish).await.json();
    assert_eq!((cluster.gpu, cluster.state), (gpu, ClusterState::Requested));
    assert_eq!(net.call(&renter, "POST", "/api/v1/clusters", &wish).await.error().code, "none_fits");

    let orders: SyncOrders = net.call(&key, "POST", "/api/v1/machine/sync", &sync(vec![])).await.json();
    assert!(matches!(&orders.clusters[..], [Order { want: Want::Run(_), .. }]), "{orders:?}");
    let seen = |state, signature: Option<String>| {
        vec![ObservedCluster {
            cluster: cluster.id,
            state,
            detail: Text::default(),
            evidence: None,
            receipt_signature: signature.map(|s| Text::new(&s).unwrap()),
        }]
    };
    net.call(&key, "POST", "/api/v1/machine/sync", &sync(seen(Observed::Running, None)))
        .await
        .json::<SyncOrders>();
    let path = format!("/api/v1/clusters/{}", cluster.id);
    let running: ClusterView = net.call(&renter, "GET", &path, &()).await.json();
    assert_eq!(running.state, ClusterState::Running);

    // Somebody else's cluster is not there; its Ray is not reachable without a tunnel, and says so.
    let other = net.enrol(&net.invite("renter", "Eve").await, KeyKind::CommandLine).await;
    for (method, path) in
        [("GET", path.clone()), ("DELETE", path.clone()), ("GET", format!("{path}/ray/api/version"))]
    {
        assert_eq!(net.call(&other, method, &path, &()).await.status, 404, "{method} {path}");
    }
    assert_eq!(
        net.call(&renter, "GET", &format!("{path}/ray/api/version"), &()).await.error().code,
        "cluster_not_reachable"
    );

    // Released, gone, receipted, countersigned.
    let released: ClusterView = net.call(&renter, "DELETE", &path, &()).await.json();
    assert_eq!(released.state, ClusterState::Releasing);
    let orders: SyncOrders =
        net.call(&key, "POST", "/api/v1/machine/sync", &sync(seen(Observed::Gone, None))).await.json();
    let Want::Sign(receipt) = &orders.clusters[0].want else { panic!("{orders:?}") };
    let signature = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        key.sign(&receipt.signing_bytes()),
    );
    let forged = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, [7; 64]);
    net.call(&key, "POST", "/api/v1/machine/sync", &sync(seen(Observed::Gone, Some(forged))))
        .await
        .json::<SyncOrders>();
    let unsigned: ClusterView = net.call(&renter, "GET", &path, &()).await.json();
    assert_eq!(unsigned.receipt.unwrap().machine_signature, None, "a forged signature was kept");
    net.call(&key, "POST", "/api/v1/machine/sync", &sync(seen(Observed::Gone, Some(signature))))
        .await
        .json::<SyncOrders>();
    let closed: ClusterView = net.call(&renter, "GET", &path, &()).await.json();
    let signed = closed.receipt.unwrap();
    assert_eq!(closed.state, ClusterState::Released);
    assert!(signed.machine_signature.is_some());
    assert!(gangline_rules::metering::adds_up(&signed.receipt));

    // The machine leaves: its GPU is retired, its key ends.
    net.call(&key, "POST", "/api/v1/machine/leave", &serde_json::json!({})).await.json::<serde_json::Value>();
    let gone = net.call(&key, "POST", "/api/v1/machine/sync", &sync(vec![])).await;
    assert_eq!(gone.error().code, "revoked_key");
    net.until(&format!("/api/v1/public/gpus/{gpu}"), |g: &PublicGpu| g.standing == Standing::Retired).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_software_device_that_claims_to_be_a_card_is_refused_by_its_proof() {
    let net = Net::start().await;
    let supplier = net.invite("supplier", "Mallory").await;
    let (key, gpu) = net.machine(&supplier, "NVIDIA GeForce GTX 1660", AdapterKind::Discrete).await;
    net.beat(&key, gpu).await;
    let mut last = net.prove_once(&key, gpu).await;
    while last.again {
        last = net.prove_once(&key, gpu).await;
    }
    assert_eq!(last.standing, Standing::Suspect, "{last:?}");
    assert!(last.reason.as_str().contains("claims to be NVIDIA GeForce GTX 1660"), "{}", last.reason);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_bits_quarantine_and_are_never_asked_again() {
    let net = Net::start().await;
    let supplier = net.invite("supplier", "Mallory").await;
    let (key, gpu) = net.machine(&supplier, SOFTWARE, AdapterKind::Software).await;
    let asked = ProofRequest { gpus: vec![gpu], keys: vec![] };
    let begun: ProofChallenges = net.call(&key, "POST", "/api/v1/machine/proofs", &asked).await.json();
    let again = net.call(&key, "POST", "/api/v1/machine/proofs", &asked).await;
    assert_eq!(again.error().code, "already_running");
    let challenge = &begun.challenges[0];
    let mut prover = gangline_proof::CpuProver::default();
    let commitment = gangline_proof::Prover::commit(&mut prover, &challenge.challenge, &mut |_| ()).unwrap();
    let path = format!("/api/v1/machine/proofs/{}", challenge.proof);
    let early =
        net.call(&key, "POST", &format!("{path}/open"), &serde_json::json!({"opening": {"steps": []}})).await;
    assert_eq!(early.error().code, "not_committed");
    let receipt: CommitReceipt = net
        .call(&key, "POST", &format!("{path}/commit"), &CommitRequest { commitment: commitment.clone() })
        .await
        .json();
    let twice = net.call(&key, "POST", &format!("{path}/commit"), &CommitRequest { commitment }).await;
    assert_eq!(twice.error().code, "conflict", "roots were taken twice");
    let mut opening = gangline_proof::Prover::open(&mut prover, &receipt.nonce).unwrap();
    opening.steps[0].rows[0] ^= 1;
    let open = OpenRequest { opening, signature: None };
    let verdict: Verdict = net.call(&key, "POST", &format!("{path}/open"), &open).await.json();
    assert_eq!((verdict.accepted, verdict.standing), (false, Standing::Quarantined), "{verdict:?}");
    let more = net.call(&key, "POST", "/api/v1/machine/proofs", &asked).await;
    assert_eq!(more.error().code, "not_wanted");
    net.stop().await;
}

/// Over every endpoint of `/openapi.json` that anyone may read: no answer holds an account, machine, key
/// or address, neither by its form nor by the values that this network really has.
#[tokio::test(flavor = "multi_thread")]
async fn no_public_answer_holds_what_is_private() {
    let net = Net::start().await;
    let supplier = net.invite("supplier", "Ada-Unmistakable").await;
    let (key, gpu) = net.machine(&supplier, SOFTWARE, AdapterKind::Software).await;
    net.beat(&key, gpu).await;
    let verdict = net.prove_once(&key, gpu).await;
    assert!(verdict.accepted);
    let proofs: Vec<PublicProof> =
        net.until(&format!("/api/v1/public/gpus/{gpu}/proofs"), |p: &Vec<PublicProof>| !p.is_empty()).await;
    net.until("/api/v1/public/snapshots", |l: &SnapshotList| !l.snapshots.is_empty()).await;

    let console = net.page(&net.operator, "/console").await.text();
    let mut private: Vec<String> = vec![
        "Ada-Unmistakable".into(),
        "testhost".into(),
        key.public().to_string(),
        key.public().fingerprint(),
    ];
    for prefix in ["acct_", "key_"] {
        let ids: Vec<String> = console
            .match_indices(prefix)
            .map(|(at, _)| console[at..at + prefix.len() + 26].to_owned())
            .collect();
        assert!(!ids.is_empty(), "the operator's console names no {prefix}: the test would see nothing");
        private.extend(ids);
    }
    let forms = ["acct_", "mach_", "key_", "enr_", "ses_", "lnk_", "clu_", "inc_", "apr_"];

    // What stands in the log is published a moment after it came about.
    let published = async {
        while net.get("/log/tile/entries/000.p/5").await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), published)
        .await
        .expect("five entries are published");
    let doc: serde_json::Value = net.json("/openapi.json").await;
    let mut asked = 0;
    for (path, operations) in doc["paths"].as_object().unwrap() {
        let Some(get) = operations.get("get") else { continue };
        if get["security"] != serde_json::json!([])
            || path == "/events"
            || path.starts_with("/enter/")
            || path.starts_with("/signin/")
        {
            continue;
        }
        let filled = path
            .replace("{gpu}", &gpu.to_string())
            .replace("{proof}", &proofs[0].id.to_string())
            .replace("{period}", "0")
            .replace("{path}", "entries/000.p/5");
        assert!(!filled.contains('{'), "{path} has a parameter this test does not know");
        let answer = net.get(&filled).await;
        // This GPU has answered no epoch; what an epoch's transcript holds is looked at in `epochs.rs`. This network asks no
        // witness; a cosigned checkpoint is looked at in `witnesses.rs`.
        let nothing = path.starts_with("/api/v1/public/epochs/") || path == "/log/cosigned";
        let status = if nothing { 404 } else { 200 };
        assert_eq!(answer.status, status, "{filled}: {}", answer.text());
        let text = answer.text();
        asked += 1;
        for secret in &private {
            assert!(!text.contains(secret.as_str()), "{filled} holds {secret}");
        }
        // The document and its page speak about ids by pattern; every other answer has none at all.
        if path != "/openapi.json" && path != "/api" {
            for form in forms {
                assert!(
                    !text.contains(form),
                    "{filled} holds something that looks like a private id: {form}"
                );
            }
            assert!(
                !text.contains("127.0.0.1:") || answer.text().contains("gangline verify"),
                "{filled} holds an address"
            );
        }
    }
    assert!(asked >= 15, "only {asked} endpoints were asked");
    // The stream, too: its first event.
    let mut events = net.http.get(format!("{}/events", net.origin)).send().await.unwrap();
    let first = String::from_utf8_lossy(&events.chunk().await.unwrap().unwrap()).into_owned();
    assert!(first.starts_with("event: totals"), "{first}");
    assert!(forms.iter().all(|f| !first.contains(f)));
    drop(events);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_after_a_restart_and_a_copy_stays_a_copy() {
    let net = Net::start().await;
    let supplier = net.invite("supplier", "Ada").await;
    let (key, gpu) = net.machine(&supplier, SOFTWARE, AdapterKind::Software).await;
    let minute = net::now().minute();
    net.beat(&key, gpu).await;
    // Its authority is this port, so the second server has to listen on it, too.
    let label = LabelWrite { label: gangline_types::Label::new("first").unwrap() };
    let copied = net.sign(&key, "PUT", &format!("/api/v1/gpus/{gpu}/label"), &label);
    assert_eq!(net.send(&copied).await.status, 200);
    let (address, config) = (net.address, net.config.clone());
    let folder = net.stop().await;

    let net = Net::start_in(folder, gangline_server::Config { listen: address, ..config }).await;
    let uptime: UptimePage = net.json(&format!("/api/v1/public/gpus/{gpu}/uptime")).await;
    assert!(
        uptime.hours.iter().any(|h| h.hour == minute.hour() && h.bits.has(minute.of_hour())),
        "{uptime:?}"
    );
    assert_eq!(net.send(&copied).await.error().code, "replayed");
    assert_eq!(net.beat(&key, gpu).await.credited, 1, "the key no longer works");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beats_for_other_times_and_other_machines_are_not_credited() {
    let net = Net::start().await;
    let supplier = net.invite("supplier", "Ada").await;
    let (key, gpu) = net.machine(&supplier, SOFTWARE, AdapterKind::Software).await;
    let (other, _) = net.machine(&supplier, SOFTWARE, AdapterKind::Software).await;
    let this = net::now().minute().0;
    let beat = |minute: u32| MinuteBeat { minute: gangline_types::Minute(minute), gpus: vec![gpu] };
    let report = |beats| BeatReport { beats, worker_version: Text::new("test").unwrap() };
    let mixed = report(vec![beat(this), beat(this + 10), beat(this - 60 * 24), beat(this - 1)]);
    let receipt: BeatReceipt = net.call(&key, "POST", "/api/v1/machine/beats", &mixed).await.json();
    assert_eq!((receipt.credited, receipt.refused.len()), (2, 2), "{receipt:?}");
    let stolen: BeatReceipt =
        net.call(&other, "POST", "/api/v1/machine/beats", &report(vec![beat(this)])).await.json();
    assert_eq!((stolen.credited, stolen.refused.len()), (0, 1), "{stolen:?}");
    let flood = net
        .call(&key, "POST", "/api/v1/machine/beats", &report((0..1441).map(|_| beat(this)).collect()))
        .await;
    let error = flood.error();
    assert!(error.code == "malformed" && error.message.contains("a list of at most 1440"), "{error}");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_key_did_is_undone_and_nothing_else() {
    let net = Net::start().await;
    let (stolen, gpu) =
        net.machine(&net.invite("supplier", "Ada").await, SOFTWARE, AdapterKind::Software).await;
    let (honest, other) =
        net.machine(&net.invite("supplier", "Ben").await, SOFTWARE, AdapterKind::Software).await;
    let name = async |key, gpu, label| {
        let label = LabelWrite { label: gangline_types::Label::new(label).unwrap() };
        assert_eq!(net.call(key, "PUT", &format!("/api/v1/gpus/{gpu}/label"), &label).await.status, 200);
    };
    name(&stolen, gpu, "render one").await;
    name(&honest, other, "kept").await;
    // Whole seconds: what follows is after what came before.
    let since = net::now().plus(1);
    net.until("/api/v1/public/network", |t: &NetworkTotals| t.as_of >= since).await;
    name(&stolen, gpu, "owned").await;

    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    let wish = |dry_run| serde_json::json!({"doer": {"key": stolen.public().id()}, "since": since, "dry_run": dry_run});
    let path = "/api/v1/operate/restore";
    assert_eq!(net.call(&honest, "POST", path, &wish(false)).await.status, 403, "a machine restored");
    let planned: serde_json::Value = net.call(&operator, "POST", path, &wish(true)).await.json();
    let done: serde_json::Value = net.confirmed(&operator, "POST", path, &wish(false)).await.json();
    assert_eq!(planned, done, "what was announced is not what was done");
    assert_eq!(done["restored"], serde_json::json!([{"gpu": gpu, "before": "owned", "after": "render one"}]));
    let again: serde_json::Value = net.confirmed(&operator, "POST", path, &wish(false)).await.json();
    assert_eq!(again["restored"], serde_json::json!([]), "twice is once");
    for (gpu, label) in [(gpu, "render one"), (other, "kept")] {
        net.until(&format!("/api/v1/public/gpus/{gpu}"), |g: &PublicGpu| g.label.as_str() == label).await;
    }
    net.stop().await;
}

#[test]
fn the_table_and_the_document_agree() {
    let text = gangline_server::routes::network::openapi_text();
    let doc: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(doc["openapi"], "3.1.0");
    assert_eq!(
        doc["paths"].as_object().unwrap().values().map(|p| p.as_object().unwrap().len()).sum::<usize>(),
        endpoints::ALL.len()
    );
    let _ = value;
}
