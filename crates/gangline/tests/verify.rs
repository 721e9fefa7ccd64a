//! `verify` against a network that a test makes up: with real transcripts, so that a forged one is one.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod common;
mod live;
#[path = "verify/uptime.rs"]
mod uptime;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    Stub, json,
    log::{Files, log},
    run, text, told,
};
use gangline_guard::log::{
    Entry, Event,
    entry::{self, published_hash},
};
use gangline_proof::{Challenge, CpuProver, GpuKey, MatrixParams, Prover, Signed, binding};
use gangline_rules::{
    snapshot::{self, PeriodInput},
    standing::Shown,
};
use gangline_types::{
    AdapterKind, Backend, GpuId, Hash, Hour, Label, MicroCredits, Minute, ProofId, Standing, Text,
    UnixSeconds, UptimeHour,
    public::{PublicGpu, PublicProof, PublicSeason, PublicUptime},
};
use gangline_wire::api::{
    epoch::{PublicCalibration, PublicEpoch},
    proof::Transcript,
    public::{GpuPage, SnapshotList, SnapshotWithEntries, UptimePage},
};

use http::Response;
use http_body_util::Full;
use live::{LIMIT, finish, gangline, network::Server};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

/// All that a network publishes.
#[derive(Clone)]
struct Network {
    season: PublicSeason,
    snapshots: Vec<SnapshotWithEntries>,
    gpus: Vec<PublicGpu>,
    hours: BTreeMap<GpuId, Vec<PublicUptime>>,
    proofs: BTreeMap<ProofId, (PublicProof, Option<Transcript>)>,
}

fn gpu(n: u8) -> GpuId {
    GpuId::from_bytes([n; 16])
}

/// A proof; every third is of a worker that did not sign yet.
fn transcript(gpu: GpuId, n: u8) -> Transcript {
    let params = MatrixParams { n: 64, steps: 2, rows: 8 };
    let key = GpuKey::derive(&[1; 32], gpu);
    let is_signed = !n.is_multiple_of(3);
    let bound = if is_signed { key.binding() } else { binding(&[1; 32], gpu) };
    let challenge = Challenge { params, beacon: Hash([n; 32]), binding: bound };
    let mut prover = CpuProver::default();
    let commitment = prover.commit(&challenge, &mut |_| {}).unwrap();
    let nonce = Hash([n ^ 0xff; 32]);
    let opening = prover.open(&nonce).unwrap();
    let signature = key.sign_matrix(&challenge, &commitment, &nonce, &opening);
    Transcript {
        proof: ProofId::from_bytes([n; 16]),
        gpu,
        challenge,
        commitment,
        nonce,
        opening,
        signed: is_signed.then(|| Signed { key: key.public(), signature }),
        elapsed_millis: 1 + u64::from(n) % 3,
        judged_at: UnixSeconds(600 * 60),
        accepted: true,
        finding: Text::default(),
    }
}

fn network() -> Network {
    static NETWORK: OnceLock<Network> = OnceLock::new();
    NETWORK.get_or_init(make).clone()
}

/// Two GPUs, three proofs each, two periods.
fn make() -> Network {
    let season = PublicSeason {
        number: 1,
        starts: Minute(600),
        ends: Minute(6000),
        period_minutes: 60,
        period_budget: MicroCredits(1_000_000),
    };
    let mut proofs = BTreeMap::new();
    let mut stands_on = BTreeMap::new();
    for (of, n) in [(1, 11), (1, 12), (1, 13), (2, 21), (2, 22), (2, 23)] {
        let transcript = transcript(gpu(of), n);
        let shown = Shown {
            macs: transcript.challenge.params.macs(),
            memory_bytes: transcript.challenge.params.memory_bytes(),
            elapsed_millis: transcript.elapsed_millis,
        };
        let profile = shown.profile();
        let public = PublicProof {
            id: transcript.proof,
            gpu: gpu(of),
            judged_at: transcript.judged_at,
            accepted: true,
            finding: Text::default(),
            asked: Text::new("64 x 2").unwrap(),
            elapsed_millis: transcript.elapsed_millis,
            profile,
        };
        let slowest = stands_on.entry(gpu(of)).or_insert((profile, transcript.proof));
        if profile.matrix_mmacs < slowest.0.matrix_mmacs {
            *slowest = (profile, transcript.proof);
        }
        proofs.insert(transcript.proof, (public, Some(transcript)));
    }
    let full = |hour| PublicUptime {
        hour: Hour(hour),
        bits: UptimeHour::FULL,
        late: UptimeHour::default(),
        unchained: UptimeHour::default(),
    };
    let half = PublicUptime {
        hour: Hour(10),
        bits: UptimeHour((1 << 30) - 1),
        late: UptimeHour::default(),
        unchained: UptimeHour::default(),
    };
    let hours = BTreeMap::from([(gpu(1), vec![full(10), full(11)]), (gpu(2), vec![half])]);
    let mut snapshots: Vec<SnapshotWithEntries> = Vec::new();
    let mut sums = BTreeMap::<GpuId, u64>::new();
    for (period, ups) in [(0, vec![(1, 60), (2, 30)]), (1, vec![(1, 60)])] {
        let input = |(n, minutes)| PeriodInput {
            gpu: gpu(n),
            standing: Standing::Proven,
            matrix_mmacs: stands_on[&gpu(n)].0.matrix_mmacs,
            proof: Some(stands_on[&gpu(n)].1),
            minutes,
        };
        let previous = snapshots.last().map_or(Hash::default(), |taken| taken.snapshot.root);
        let taken_at = snapshot::period_span(&season, period).1.start().plus(90);
        let (snapshot, entries) =
            snapshot::take(&season, period, taken_at, previous, ups.into_iter().map(input).collect());
        entries.iter().for_each(|entry| *sums.entry(entry.gpu).or_default() += entry.share.0);
        snapshots.push(SnapshotWithEntries { snapshot, entries, next: None });
    }
    let public = |n| PublicGpu {
        id: gpu(n),
        label: Label::default(),
        model: Text::new("llvmpipe").unwrap(),
        kind: AdapterKind::Software,
        backend: Backend::Vulkan,
        memory_bytes: 0,
        standing: Standing::Proven,
        standing_reason: Text::default(),
        profile: stands_on[&gpu(n)].0,
        connected: true,
        rentable: true,
        hired: false,
        simulated: false,
        registered_at: UnixSeconds(0),
        last_beat_at: UnixSeconds(0),
        last_proof_at: UnixSeconds(0),
        uptime_minutes_day: 0,
        season_share: MicroCredits(sums[&gpu(n)]),
        season_held: MicroCredits(0),
        claimed_model: Text::default(),
    };
    Network { season, snapshots, gpus: vec![public(1), public(2)], hours, proofs }
}

/// What a network writes into its log when it judges its proofs.
fn verdicts(network: &Network) -> Vec<Entry> {
    let verdict = |(proof, transcript): &(PublicProof, Option<Transcript>)| {
        let transcript = transcript.as_ref().map(|whole| published_hash(&serde_json::to_vec(whole).unwrap()));
        let event = Event::Verdict { gpu: proof.gpu, proof: proof.id, accepted: proof.accepted, transcript };
        Entry { at: proof.judged_at, event, sealed: Hash([7; 32]) }
    };
    network.proofs.values().map(verdict).collect()
}

/// A log of these entries.
fn log_of(entries: &[Entry]) -> Files {
    log(entries.iter().map(Entry::to_bytes))
}

/// A server that publishes `network`, which has judged what it publishes.
fn serve(network: Network) -> Stub {
    let log = log_of(&verdicts(&network));
    serve_logged(network, vec![log])
}

/// A server that publishes `network`, and its log as it was whenever somebody asked for it: the last of these ever after.
fn serve_logged(network: Network, logs: Vec<Files>) -> Stub {
    let network = Arc::new(network);
    let looks = AtomicUsize::new(0);
    let file = move |path: &str| {
        if path == "/log/checkpoint" {
            looks.fetch_add(1, Ordering::SeqCst);
        }
        let look = looks.load(Ordering::SeqCst).clamp(1, logs.len());
        match logs[look - 1].get(path) {
            Some(bytes) => Response::new(Full::from(bytes.clone())),
            None => text(404, "none"),
        }
    };
    let not_found = || json(404, serde_json::json!({"code": "unknown", "message": "no such thing"}));
    Stub::start(
        move |asked| {
            let path = asked.path.split('?').next().unwrap();
            let Some(path) = path.strip_prefix("/api/v1/public/") else { return file(path) };
            let parts: Vec<&str> = path.split('/').collect();
            let answer = match parts[..] {
                ["season"] => serde_json::to_value(&network.season),
                ["snapshots"] => {
                    let snapshots = network.snapshots.iter().map(|taken| taken.snapshot.clone()).collect();
                    serde_json::to_value(SnapshotList { snapshots, next: None })
                }
                ["snapshots", period] => {
                    match network.snapshots.iter().find(|taken| taken.snapshot.period.to_string() == period) {
                        Some(taken) => serde_json::to_value(taken),
                        None => return not_found(),
                    }
                }
                ["gpus"] => serde_json::to_value(GpuPage { gpus: network.gpus.clone(), next: None }),
                ["gpus", gpu, "uptime"] => {
                    let hours = network.hours.get(&gpu.parse().unwrap()).cloned().unwrap_or_default();
                    serde_json::to_value(UptimePage { hours })
                }
                ["gpus", gpu, "proofs"] => {
                    let proofs: Vec<_> = network
                        .proofs
                        .values()
                        .map(|(public, _)| public)
                        .filter(|p| p.gpu.to_string() == gpu)
                        .collect();
                    serde_json::to_value(proofs)
                }
                ["gpus", _, "epochs"] => serde_json::to_value(Vec::<PublicEpoch>::new()),
                ["calibrations"] => serde_json::to_value(Vec::<PublicCalibration>::new()),
                ["proofs", proof] => match network.proofs.get(&proof.parse().unwrap()) {
                    Some((_, Some(transcript))) => serde_json::to_value(transcript),
                    _ => return not_found(),
                },
                _ => return not_found(),
            };
            json(200, answer.unwrap())
        },
        &[],
    )
}

#[test]
fn an_honest_network_agrees_and_the_report_says_what_was_checked() {
    let stub = serve(network());
    let state = tempfile::tempdir().unwrap();
    let report = state.path().join("report.json");
    let (code, out, err) =
        told(&run(state.path(), &["verify", &stub.url, "--report", report.to_str().unwrap()]));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("6 proofs verified (4 of them signed), 0 not answered\n150 minutes of 2 GPUs counted\n2 snapshots with 3 entries recomputed, 2.000000 credits shared\n"), "{out}");
    assert!(out.ends_with("agrees with its own public data.\n"), "{out}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    assert_eq!(report["agrees"], true);
    assert_eq!(report["checked"]["proofs"], 6);
    assert!(
        stub.asked().iter().all(|asked| asked.method == "GET" && !asked.headers.contains_key("signature"))
    );

    let (code, out, _) = told(&run(state.path(), &["verify", &stub.url, "--proofs", "newest"]));
    assert_eq!((code, out.starts_with("2 proofs verified")), (0, true), "{out}");
    let (code, out, _) = told(&run(state.path(), &["verify", &stub.url, "--proofs", "none"]));
    assert_eq!((code, out.starts_with("0 proofs verified")), (0, true), "{out}");
}

/// What `verify` says of the network after `change`.
fn check(change: impl Fn(&mut Network), says: &str) {
    let mut changed = network();
    change(&mut changed);
    let stub = serve(changed);
    let state = tempfile::tempdir().unwrap();
    let (code, out, err) = told(&run(state.path(), &["verify", &stub.url]));
    assert_eq!(code, 1, "{says}: {out}{err}");
    assert!(err.contains("does not agree with its own public data: ") && err.contains(says), "{says}: {err}");
    assert!(!out.contains("agrees"), "{out}");
}

fn some_proof(network: &mut Network, n: u8) -> &mut (PublicProof, Option<Transcript>) {
    network.proofs.get_mut(&ProofId::from_bytes([n; 16])).unwrap()
}

#[test]
fn a_forged_proof_is_named() {
    let transcript = |network: &mut Network, change: fn(&mut Transcript)| {
        change(some_proof(network, 12).1.as_mut().unwrap())
    };
    check(|n| transcript(n, |t| t.opening.steps[0].rows[5] ^= 1), "accepted: expected false, for row");
    check(|n| transcript(n, |t| t.nonce.0[0] ^= 1), "accepted: expected false");
    check(|n| transcript(n, |t| t.challenge.binding.0[0] ^= 1), "accepted: expected false");
    check(|n| transcript(n, |t| t.elapsed_millis += 1), "elapsed_millis");
    let signed = |network: &mut Network, change: fn(&mut Transcript)| {
        change(some_proof(network, 11).1.as_mut().unwrap())
    };
    check(|n| signed(n, |t| t.opening.steps[0].rows[5] ^= 1), "signature: expected that of the GPU's key");
    check(
        |n| signed(n, |t| t.signed.as_mut().unwrap().key.0.0[0] ^= 1),
        "bound to another GPU or another key",
    );
    check(|n| some_proof(n, 12).1 = None, "expected a transcript, for it was accepted, found none");
}

#[test]
fn a_transcript_is_the_one_that_the_log_holds_the_hash_of() {
    type Change = fn(&mut Network);
    let changes: [(Change, &str); 5] = [
        (|n| some_proof(n, 11).1.as_mut().unwrap().signed = None, "accepted"),
        (|n| some_proof(n, 12).1.as_mut().unwrap().opening.steps[0].rows[5] ^= 1, "accepted"),
        (
            |n| {
                let other = some_proof(n, 22).1.clone().unwrap();
                let (listed, own) = some_proof(n, 13);
                *own = Some(Transcript { proof: listed.id, gpu: listed.gpu, ..other });
            },
            "accepted",
        ),
        (
            |n| {
                let (listed, own) = some_proof(n, 23);
                let own = own.as_mut().unwrap();
                (listed.elapsed_millis, own.elapsed_millis) = (9, 9);
            },
            "accepted",
        ),
        // Kept back, and told as one that was never answered.
        (
            |n| {
                let (listed, own) = some_proof(n, 21);
                (listed.accepted, *own) = (false, None);
            },
            "refused",
        ),
    ];
    let honest = network();
    let told_of = |changed: Network, logged: &[Entry]| {
        let stub = serve_logged(changed, vec![log_of(logged)]);
        let state = tempfile::tempdir().unwrap();
        told(&run(state.path(), &["verify", &stub.url]))
    };
    std::thread::scope(|all| {
        for ((change, found), n) in changes.into_iter().zip([11, 12, 13, 23, 21]) {
            let (honest, told_of) = (&honest, &told_of);
            all.spawn(move || {
                let mut changed = honest.clone();
                change(&mut changed);
                let (code, out, err) = told_of(changed, &verdicts(honest));
                assert_eq!(code, 1, "{n}: {out}{err}");
                let (listed, transcript) = &honest.proofs[&ProofId::from_bytes([n; 16])];
                let (proof, gpu) = (listed.id, listed.gpu);
                let hash = published_hash(&serde_json::to_vec(transcript.as_ref().unwrap()).unwrap());
                let says = format!(
                    "does not agree with its own public data: proof {proof} of {gpu}, verdict: expected accepted, of {gpu}, over the transcript with SHA-256 {hash}, as the log says, found {found}, of {gpu}, "
                );
                assert!(err.contains(&says), "{n}: {err}");
            });
        }
        all.spawn(|| {
            // A verdict that the log never heard of.
            let logged = &verdicts(&honest)[1..];
            let (code, out, err) = told_of(honest.clone(), logged);
            assert_eq!(code, 1, "{out}{err}");
            assert!(err.contains("verdict: expected nothing, as the log says, found accepted"), "{err}");
        });
    });
}

#[test]
fn what_suppliers_never_answered_and_what_comes_into_the_log_late_is_no_difference() {
    let mut network = network();
    let (listed, _) = some_proof(&mut network, 11).clone();
    let id = ProofId::from_bytes([14; 16]);
    let late = PublicProof { id, accepted: false, finding: Text::new("late").unwrap(), ..listed };
    network.proofs.insert(id, (late, None));
    let change = Event::MetadataChange { gpu: gpu(1), change: entry::Change::Set };
    let other = |n| Entry { at: UnixSeconds(n), event: change, sealed: Hash([7; 32]) };
    let logged: Vec<Entry> = (0..300).map(other).chain(verdicts(&network)).collect();
    // What is listed comes into the log within a second: read at once, and once more, it lacks two verdicts.
    let logs = vec![log_of(&logged[..305]), log_of(&logged[..305]), log_of(&logged)];
    let stub = serve_logged(network, logs);
    let state = tempfile::tempdir().unwrap();
    let (code, out, err) = told(&run(state.path(), &["verify", &stub.url]));
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.starts_with("6 proofs verified (4 of them signed), 1 not answered\n"), "{out}");
    let asked = |path: &str| stub.asked().iter().filter(|asked| asked.path == path).count();
    assert_eq!(asked("/log/checkpoint"), 3);
    // What was read once is not read again.
    assert_eq!((asked("/log/tile/entries/000"), asked("/log/tile/0/000"), asked("/log/key")), (1, 1, 1));
    assert_eq!((asked("/log/tile/entries/001.p/49"), asked("/log/tile/entries/001.p/51")), (1, 1));
}

#[test]
fn a_proof_of_another_gpu_carries_nothing() {
    check(
        |n| {
            // One GPU's proof shown for another as well.
            let (mut public, transcript) = some_proof(n, 11).clone();
            let mut transcript = transcript.unwrap();
            (public.gpu, transcript.gpu) = (gpu(2), gpu(2));
            public.id = ProofId::from_bytes([24; 16]);
            transcript.proof = public.id;
            n.proofs.insert(public.id, (public, Some(transcript)));
        },
        "beacon: expected a fresh one",
    );
}

#[test]
fn a_standing_without_its_proofs_is_named() {
    check(
        |n| {
            for proof in [12, 13] {
                n.proofs.remove(&ProofId::from_bytes([proof; 16]));
            }
            let taken = &mut n.snapshots;
            for entry in
                taken.iter_mut().flat_map(|taken| &mut taken.entries).filter(|entry| entry.gpu == gpu(1))
            {
                entry.proof = Some(ProofId::from_bytes([11; 16]));
            }
        },
        "standing: expected unproven while only 1 of 2 proofs passed, found proven",
    );
}

#[test]
fn a_changed_ledger_is_named() {
    check(|n| n.snapshots[0].entries[1].share.0 += 1, &format!("snapshot 0 of season 1, {}, share", gpu(2)));
    check(|n| n.snapshots[1].snapshot.previous_root.0[0] ^= 1, "snapshot 1 of season 1, previous_root");
    check(
        |n| n.hours.get_mut(&gpu(2)).unwrap()[0].bits = UptimeHour(7),
        &format!("snapshot 0 of season 1, {}, minutes: expected 3, found 30", gpu(2)),
    );
    check(|n| n.gpus[0].season_share.0 += 1, &format!("{}, season_share", gpu(1)));
}

#[test]
fn what_cannot_be_asked_is_never_a_difference() {
    let mut broken = network();
    // The list names a snapshot that is not there.
    let head = broken.snapshots[1].snapshot.clone();
    broken.snapshots[1].snapshot.period = 1;
    let stub = Stub::start(
        move |asked| match asked.path.split('?').next().unwrap() {
            "/api/v1/public/season" => json(200, serde_json::to_value(&broken.season).unwrap()),
            "/api/v1/public/snapshots" => json(200, serde_json::json!({"snapshots": [head], "next": null})),
            _ => json(503, serde_json::json!({"code": "busy", "message": "come back later"})),
        },
        &[],
    );
    let state = tempfile::tempdir().unwrap();
    let (code, out, err) = told(&run(state.path(), &["verify", &stub.url]));
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    assert!(err.contains("could not ask for everything") && err.contains("come back later (busy)"), "{err}");
}

/// What a network publishes, in its folder.
async fn projection(data: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(data.join("public.sqlite"));
    SqliteConnection::connect_with(&options).await.unwrap()
}

/// How many spans of old entries are packed there.
async fn packed(data: &Path) -> i64 {
    let mut public = projection(data).await;
    let spans = sqlx::query_scalar("SELECT count(*) FROM entries_span").fetch_one(&mut public).await.unwrap();
    public.close().await.unwrap();
    spans
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_a_server_packed_are_recomputed_and_one_changed_byte_is_named() {
    let work = tempfile::tempdir().unwrap();
    let data = work.path().join("data");
    // Two rows of packed GPUs; four spans of 24 hours, so that the first is old enough.
    let seed = ["fleet", "seed", "--machines", "70", "--days", "4", "--snapshots", "96", "--data"];
    let seeded = finish(gangline(work.path()).args(seed).arg(&data));
    assert_eq!(seeded.code, 0, "{}", seeded.err);
    let verify = |server: &Server, more: &[&str]| {
        finish(gangline(work.path()).args(["verify", &server.origin]).args(more))
    };

    let server = Server::start(&data, &["--allow-simulated"]);
    let limit = tokio::time::Instant::now() + LIMIT;
    while packed(&data).await == 0 {
        assert!(tokio::time::Instant::now() < limit, "nothing was packed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let report = work.path().join("report.json");
    let told = verify(&server, &["--proofs", "none", "--report", report.to_str().unwrap()]);
    assert_eq!(told.code, 0, "{}{}", told.out, told.err);
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let checked = |name: &str| report["checked"][name].as_u64().unwrap();
    assert_eq!(checked("gpus"), 70);
    // Everybody is up in nearly every hour; the server itself took those of today, in which nobody was.
    assert!(checked("snapshots") >= 96 && (6_000..=70 * 96).contains(&checked("entries")), "{report}");
    // What is made up has no proof, and that is seen as well by whoever does not leave proofs out.
    let told = verify(&server, &[]);
    assert_eq!(told.code, 1, "{}", told.out);
    assert!(told.err.contains("proof: expected the proof it stands on, found none"), "{}", told.err);
    server.stop();

    let mut public = projection(&data).await;
    let (id, mut gpus): (i64, Vec<u8>) =
        sqlx::query_as("SELECT id, gpus FROM entries_packed ORDER BY span, first LIMIT 1")
            .fetch_one(&mut public)
            .await
            .unwrap();
    // The lowest byte of the first GPU's rate: behind its id, four masks of three bytes and its standing.
    gpus[16 + 4 * 3 + 1] ^= 1;
    sqlx::query("UPDATE entries_packed SET gpus = ? WHERE id = ?")
        .bind(gpus)
        .bind(id)
        .execute(&mut public)
        .await
        .unwrap();
    public.close().await.unwrap();
    let server = Server::start(&data, &["--allow-simulated"]);
    let told = verify(&server, &["--proofs", "none"]);
    assert_eq!(told.code, 1, "{}", told.out);
    let says = "does not agree with its own public data: snapshot 0 of season 1, ";
    assert!(told.err.contains(says), "{}", told.err);
    server.stop();
}
