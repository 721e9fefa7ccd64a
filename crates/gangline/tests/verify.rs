//! `verify` against a network that a test makes up: with real transcripts, so that a forged one is one.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod common;

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use common::{Stub, json, run, told};
use gangline_proof::{Challenge, CpuProver, MatrixParams, Prover, binding};
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
    proof::Transcript,
    public::{GpuPage, SnapshotList, SnapshotWithEntries, UptimePage},
};

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

fn transcript(gpu: GpuId, n: u8) -> Transcript {
    let params = MatrixParams { n: 64, steps: 2, rows: 8 };
    let challenge = Challenge { params, beacon: Hash([n; 32]), binding: binding(&[1; 32], gpu) };
    let mut prover = CpuProver::default();
    let commitment = prover.commit(&challenge, &mut |_| {}).unwrap();
    let nonce = Hash([n ^ 0xff; 32]);
    let opening = prover.open(&nonce).unwrap();
    Transcript {
        proof: ProofId::from_bytes([n; 16]),
        gpu,
        challenge,
        commitment,
        nonce,
        opening,
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
    };
    Network { season, snapshots, gpus: vec![public(1), public(2)], hours, proofs }
}

/// A server that publishes `network`.
fn serve(network: Network) -> Stub {
    let network = Arc::new(network);
    let not_found = || json(404, serde_json::json!({"code": "unknown", "message": "no such thing"}));
    Stub::start(
        move |asked| {
            let path = asked.path.split('?').next().unwrap().strip_prefix("/api/v1/public/").unwrap();
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
    assert!(out.contains("6 proofs verified, 0 not answered\n150 minutes of 2 GPUs counted\n2 snapshots with 3 entries recomputed, 2.000000 credits shared\n"), "{out}");
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
    check(|n| some_proof(n, 12).1 = None, "expected a transcript, for it was accepted, found none");
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
