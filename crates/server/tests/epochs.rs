//! Epochs from notice to verdict, forgeries in them, and tables of calibration from canary to promotion.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod net;

use std::ops::ControlFlow;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gangline_proof::epoch::{self, CpuProver, GpuKey, Prover, Transcript};
use gangline_rules::{
    bells::has_matrix,
    calibration::{ACCOUNTS_MIN, Entry, Key, Table},
};
use gangline_types::{
    AdapterKind, Backend, GpuId, Hash, ProofId, Seconds, Standing, Text, public::PublicGpu,
};
use gangline_wire::{
    SigningKey,
    api::{
        enrol::{KeyKind, Rotation, RotationRequest, rotation_bytes},
        epoch::*,
        machine::*,
    },
};
use net::Net;

const SOFTWARE: &str = "llvmpipe (LLVM 15.0.6, 256 bits)";
const BEGIN: &str = "/api/v1/machine/epochs";

/// A machine whose one GPU is proven.
async fn proven(net: &Net, name: &str) -> (SigningKey, GpuId) {
    let supplier = net.invite("supplier", name).await;
    let (key, gpu) = net.machine(&supplier, SOFTWARE, AdapterKind::Software).await;
    net.beat(&key, gpu).await;
    for _ in 0..3 {
        net.prove_once(&key, gpu).await;
    }
    (key, gpu)
}

async fn notice(net: &Net, key: &SigningKey) -> Option<EpochNotice> {
    let report = SyncReport { paused: false, offers: vec![], clusters: vec![], wait: Seconds(0) };
    let orders: SyncOrders = net.call(key, "POST", "/api/v1/machine/sync", &report).await.json();
    orders.epoch
}

/// An epoch that was committed to and not opened.
struct Committed {
    proof: ProofId,
    key: GpuKey,
    challenge: epoch::Challenge,
    commitment: epoch::Commitment,
    nonce: Hash,
    opening: epoch::Opening,
}

impl Committed {
    fn opened(&self, opening: epoch::Opening) -> EpochOpen {
        let signature = self.key.sign(&self.challenge, &self.commitment, &self.nonce, &opening);
        EpochOpen { opening, signature }
    }
}

async fn commit(net: &Net, key: &SigningKey, gpu: GpuId) -> Committed {
    let gpu_key = GpuKey::derive(&key.seed(), gpu);
    let asked = BellRequest { gpus: vec![BellGpu { gpu, key: gpu_key.public() }], unable: vec![] };
    let begun: EpochChallenges = net.call(key, "POST", BEGIN, &asked).await.json();
    let EpochChallenge { proof, challenge, deadline_millis, .. } = begun.challenges[0].clone();
    assert_eq!(deadline_millis, None, "nothing was calibrated");
    assert_eq!(challenge.binding, gpu_key.binding());
    let mut prover = CpuProver::new();
    let commitment = prover.commit(&challenge, &mut |_| ControlFlow::Continue(())).unwrap();
    let roots = EpochCommit { commitment: commitment.clone() };
    let receipt: EpochReceipt =
        net.call(key, "POST", &format!("{BEGIN}/{proof}/commit"), &roots).await.json();
    assert_eq!(receipt.open_in_millis, 0, "two GPUs need no spreading");
    let opening = prover.open(&receipt.nonce).unwrap();
    Committed { proof, key: gpu_key, challenge, commitment, nonce: receipt.nonce, opening }
}

async fn open(net: &Net, key: &SigningKey, of: &Committed, with: &EpochOpen) -> net::Answer {
    net.call(key, "POST", &format!("{BEGIN}/{}/open", of.proof), with).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proven_gpu_answers_three_epochs_that_anyone_can_check() {
    let net = Net::start().await;
    let supplier = net.invite("supplier", "Ada").await;
    let (key, gpu) = net.machine(&supplier, SOFTWARE, AdapterKind::Software).await;
    let early = BellRequest {
        gpus: vec![BellGpu { gpu, key: GpuKey::derive(&key.seed(), gpu).public() }],
        unable: vec![],
    };
    assert_eq!(net.call(&key, "POST", BEGIN, &early).await.error().code, "not_wanted");
    net.beat(&key, gpu).await;
    for _ in 0..3 {
        net.prove_once(&key, gpu).await;
    }
    let mut beacons = vec![];
    for _ in 0..3 {
        let called = notice(&net, &key).await.expect("the bell of enrolment was told of");
        assert_eq!((called.gpus[0].gpu, called.gpus[0].params), (gpu, net::small_epoch()));
        let of = commit(&net, &key, gpu).await;
        let verdict: EpochVerdict = open(&net, &key, &of, &of.opened(of.opening.clone())).await.json();
        assert!(verdict.accepted && verdict.standing == Standing::Proven, "{verdict:?}");
        assert!(verdict.finding.as_str().contains("MB/s read at random"), "{}", verdict.finding);
        let again = open(&net, &key, &of, &of.opened(of.opening.clone())).await;
        assert_eq!(again.error().code, "nothing_to_open");
        beacons.push(of.challenge.beacon);
    }
    beacons.dedup();
    assert_eq!(beacons.len(), 3);
    let path = format!("/api/v1/public/gpus/{gpu}/epochs");
    let listed: Vec<PublicEpoch> = net.until(&path, |all: &Vec<PublicEpoch>| all.len() == 3).await;
    for one in &listed {
        assert!(one.accepted && one.transcript && one.memory_bytes == 64 * 1024, "{one:?}");
        let answer = net.get(&format!("/api/v1/public/epochs/{}", one.id)).await;
        let (text, bytes) = (answer.text(), answer.body);
        let private = [key.public().to_string(), key.public().fingerprint(), key.public().id().to_string()];
        for secret in
            private.iter().map(String::as_str).chain(["acct_", "mach_", "key_", "ses_", "127.0.0.1:"])
        {
            assert!(!text.contains(secret), "the transcript of {} holds {secret}", one.id);
        }
        let transcript = Transcript::parse(&bytes).unwrap();
        assert_eq!(transcript.check().unwrap().memory_bytes, 64 * 1024);
        assert_eq!(transcript.gpu, gpu);
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_epoch_is_quarantined_and_anothers_signature_is_not_taken() {
    let net = Net::start().await;
    let (key, gpu) = proven(&net, "Mallory").await;
    let of = commit(&net, &key, gpu).await;
    // Signed by the key of another GPU of the same machine.
    let other = GpuKey::derive(&key.seed(), GpuId::from_bytes([9; 16]));
    let signature = other.sign(&of.challenge, &of.commitment, &of.nonce, &of.opening);
    let answer = open(&net, &key, &of, &EpochOpen { opening: of.opening.clone(), signature }).await;
    assert_eq!((answer.status, answer.error().code.as_str()), (422, "wrong_signature"));
    // Too short: not an answer, and no fraud.
    let mut short = of.opening.clone();
    short.walk.states.pop();
    assert_eq!(open(&net, &key, &of, &of.opened(short)).await.status, 422);
    // Well formed and false.
    let mut forged = of.opening.clone();
    forged.alu.states[0] ^= 1;
    let verdict: EpochVerdict = open(&net, &key, &of, &of.opened(forged)).await.json();
    assert!(!verdict.accepted && verdict.standing == Standing::Quarantined, "{verdict:?}");
    assert!(verdict.reason.as_str().contains("wrong bits"), "{}", verdict.reason);
    let path = format!("/api/v1/public/gpus/{gpu}");
    net.until(&path, |g: &PublicGpu| g.standing == Standing::Quarantined).await;
    assert_eq!(notice(&net, &key).await, None, "a quarantined GPU is asked no more");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_that_cannot_answer_becomes_suspect_and_its_page_says_why() {
    let net = Net::start().await;
    let (key, gpu) = proven(&net, "Ada").await;
    let why = Text::new("it gives 60 buffers to a kernel, and 64 are needed").unwrap();
    let unable = BellRequest { gpus: vec![], unable: vec![BellUnable { gpu, why }] };
    for _ in 0..2 {
        assert!(notice(&net, &key).await.is_some());
        let begun: EpochChallenges = net.call(&key, "POST", BEGIN, &unable).await.json();
        assert!(begun.challenges.is_empty());
    }
    let path = format!("/api/v1/public/gpus/{gpu}");
    let found = net.until(&path, |g: &PublicGpu| g.standing == Standing::Suspect).await;
    assert!(found.standing_reason.as_str().contains("64 are needed"), "{}", found.standing_reason);
    let listed: Vec<PublicEpoch> =
        net.until(&format!("{path}/epochs"), |all: &Vec<PublicEpoch>| all.len() == 2).await;
    assert!(
        listed.iter().all(|one| !one.accepted && one.finding.as_str().contains("64 are needed")),
        "{listed:?}"
    );
    // Nobody says so of another's.
    let (stranger, _) = proven(&net, "Eve").await;
    assert_eq!(net.call(&stranger, "POST", BEGIN, &unable).await.status, 404);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_machine_key_changes_nothing_in_the_middle_of_an_epoch_or_after() {
    let net = Net::start().await;
    let (old, gpu) = proven(&net, "Ada").await;
    // Begun and committed under the old key, opened under the new: the GPU signs with the key it named.
    let of = commit(&net, &old, gpu).await;
    let new = net::new_key();
    let bytes = rotation_bytes(&net.address.to_string(), old.public().id(), &new.public());
    let proof = Text::new(&URL_SAFE_NO_PAD.encode(new.sign(&bytes))).unwrap();
    let rotate = RotationRequest { public_key: new.public(), proof };
    let rotated: Rotation = net.call(&old, "POST", "/api/v1/key/rotate", &rotate).await.json();
    assert_eq!(rotated.key, new.public().id());
    let verdict: EpochVerdict = open(&net, &new, &of, &of.opened(of.opening.clone())).await.json();
    assert!(verdict.accepted, "{verdict:?}");
    // From now on its GPU's key is another one, which follows from the new key: nothing ties epochs to each other's.
    for _ in 0..2 {
        assert!(notice(&net, &new).await.is_some());
        let next = commit(&net, &new, gpu).await;
        assert_ne!(next.key.public(), of.key.public());
        let verdict: EpochVerdict = open(&net, &new, &next, &next.opened(next.opening.clone())).await.json();
        assert!(verdict.accepted && verdict.standing == Standing::Proven, "{verdict:?}");
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gpus_of_one_machine_share_a_beacon_and_matrices_are_drawn_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = gangline_server::Config { matrix_epochs_of_256: 128, ..net::quick_config(folder.path()) };
    let net = Net::start_in(folder, config).await;
    let supplier = net.invite("supplier", "Ada").await;
    let key = net.enrol(&supplier, KeyKind::Machine).await;
    let mut inventory = net::inventory(SOFTWARE, AdapterKind::Software);
    let other = gangline_types::GpuClaim { slot: Hash([4; 32]), ..inventory.gpus[0].clone() };
    inventory.gpus.push(other);
    let registered: Registered = net.call(&key, "PUT", "/api/v1/machine/inventory", &inventory).await.json();
    let gpus: Vec<GpuId> = registered.gpus.iter().map(|gpu| gpu.gpu).collect();
    for gpu in &gpus {
        for _ in 0..3 {
            net.prove_once(&key, *gpu).await;
        }
    }
    let called = notice(&net, &key).await.expect("both are called");
    // Nobody knows before the bell whether there are matrices, so everybody is ready for them.
    assert!(called.gpus.iter().all(|ready| ready.params.matrix == Some(epoch::Params::MATRIX)));
    let keys: Vec<GpuKey> = gpus.iter().map(|gpu| GpuKey::derive(&key.seed(), *gpu)).collect();
    let bell = gpus.iter().zip(&keys).map(|(gpu, key)| BellGpu { gpu: *gpu, key: key.public() }).collect();
    let asked = BellRequest { gpus: bell, unable: vec![] };
    let begun: EpochChallenges = net.call(&key, "POST", BEGIN, &asked).await.json();
    assert_eq!(begun.challenges[0].challenge.beacon, begun.challenges[1].challenge.beacon);
    for (given, gpu_key) in begun.challenges.iter().zip(&keys) {
        let EpochChallenge { proof, challenge, .. } = given.clone();
        let drawn = has_matrix(&challenge.beacon, &challenge.binding, 128);
        assert_eq!(challenge.params.matrix.is_some(), drawn, "drawn by the beacon and the binding");
        let mut prover = CpuProver::new();
        let commitment = prover.commit(&challenge, &mut |_| ControlFlow::Continue(())).unwrap();
        let roots = EpochCommit { commitment: commitment.clone() };
        let path = format!("{BEGIN}/{proof}");
        let receipt: EpochReceipt = net.call(&key, "POST", &format!("{path}/commit"), &roots).await.json();
        let opening = prover.open(&receipt.nonce).unwrap();
        let signature = gpu_key.sign(&challenge, &commitment, &receipt.nonce, &opening);
        let with = EpochOpen { opening, signature };
        let verdict: EpochVerdict = net.call(&key, "POST", &format!("{path}/open"), &with).await.json();
        assert!(verdict.accepted, "{verdict:?}");
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_has_no_part_in_anothers_epoch() {
    let net = Net::start().await;
    let (key, gpu) = proven(&net, "Ada").await;
    let (stranger, _) = proven(&net, "Eve").await;
    let wish = BellRequest {
        gpus: vec![BellGpu { gpu, key: GpuKey::derive(&stranger.seed(), gpu).public() }],
        unable: vec![],
    };
    assert_eq!(net.call(&stranger, "POST", BEGIN, &wish).await.status, 404);
    let of = commit(&net, &key, gpu).await;
    assert_eq!(open(&net, &stranger, &of, &of.opened(of.opening.clone())).await.status, 404);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_a_canary_until_it_was_seen_to_be_fair() {
    let net = Net::start().await;
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    const PATH: &str = "/api/v1/operate/calibrations";
    let learned: CalibrationTable = net.call(&operator, "GET", &format!("{PATH}/learned"), &()).await.json();
    assert_eq!((learned.version, learned.entries.len()), (1, 0), "nobody proved, so nothing is learned");

    let entry = Entry {
        key: Key {
            model: Text::new(SOFTWARE).unwrap(),
            backend: Backend::Vulkan,
            build: Text::new("llvmpipe").unwrap(),
            work: Hash([1; 32]),
        },
        accounts: ACCOUNTS_MIN as u32,
        median_millis: 900,
    };
    let table = Table { version: 1, entries: vec![entry.clone()] };
    let wire = CalibrationTable {
        version: 1,
        entries: vec![CalibrationEntry {
            model: entry.key.model,
            backend: entry.key.backend,
            build: entry.key.build,
            work: entry.key.work,
            accounts: entry.accounts,
            median_millis: entry.median_millis,
        }],
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let signed = |key: &SigningKey, table: &Table| CalibrationSubmit {
        table: wire.clone(),
        signer: Hash(*key.public().as_bytes()),
        signature: Text::new(&hex(&key.sign(&table.digest().0))).unwrap(),
    };
    let stranger = net::new_key();
    for refused in [
        signed(&stranger, &table),
        signed(&operator, &Table { version: 2, ..table.clone() }),
        CalibrationSubmit { signature: Text::new("zz").unwrap(), ..signed(&operator, &table) },
    ] {
        let answer = net.call(&operator, "POST", PATH, &refused).await;
        assert_eq!((answer.status, answer.error().code.as_str()), (422, "wrong_signature"));
    }
    let mut unsound = signed(&operator, &table);
    unsound.table.entries[0].accounts = 1;
    assert_eq!(net.call(&operator, "POST", PATH, &unsound).await.error().code, "unsound_table");

    let added: PublicCalibration = net.call(&operator, "POST", PATH, &signed(&operator, &table)).await.json();
    assert_eq!((added.state.as_str(), added.digest), ("canary", table.digest()));
    assert_eq!(net.call(&operator, "POST", PATH, &signed(&operator, &table)).await.status, 409);
    let promote = CalibrationMove { promote: true };
    let early = net.call(&operator, "POST", &format!("{PATH}/1"), &promote).await;
    assert_eq!((early.status, early.error().code.as_str()), (409, "not_yet"), "{}", early.text());
    assert!(early.text().contains("has watched 0 proofs"), "{}", early.text());
    let withdrawn: PublicCalibration = net
        .confirmed(&operator, "POST", &format!("{PATH}/1"), &CalibrationMove { promote: false })
        .await
        .json();
    assert_eq!(withdrawn.state.as_str(), "withdrawn");
    let shown = |all: &Vec<PublicCalibration>| all.iter().any(|one| one.state.as_str() == "withdrawn");
    net.until("/api/v1/public/calibrations", shown).await;

    let supplier = net.invite("supplier", "Ada").await;
    let nobody = net.enrol(&supplier, KeyKind::CommandLine).await;
    assert_eq!(net.call(&nobody, "POST", PATH, &signed(&nobody, &table)).await.status, 403);
    net.stop().await;
}
