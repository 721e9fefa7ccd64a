//! An appeal from quarantine to a new series of proofs, with a verifier that lies, and one that is dismissed.

use std::ops::ControlFlow;

use crate::net::{self, Net};
use gangline_proof::epoch::{CpuProver, GpuKey, Opening, Prover};
use gangline_rules::appeals::message;
use gangline_types::{AdapterKind, GpuId, Hash, Seconds, Standing, Text, public::PublicGpu};
use gangline_wire::{
    Nothing, SigningKey,
    api::{appeal::*, enrol::KeyKind, epoch::*, machine::*},
};

const BEGIN: &str = "/api/v1/machine/epochs";

/// Answers the bell that the machine is told of, with this change to the opening.
async fn answer(net: &Net, key: &SigningKey, gpu: GpuId, change: impl Fn(&mut Opening)) -> EpochVerdict {
    let report = SyncReport { paused: false, offers: vec![], clusters: vec![], wait: Seconds(0) };
    let orders: SyncOrders = net.call(key, "POST", "/api/v1/machine/sync", &report).await.json();
    assert!(orders.epoch.is_some_and(|called| called.gpus[0].gpu == gpu), "it was not called");
    let gpu_key = GpuKey::derive(&key.seed(), gpu);
    let asked = BellRequest { gpus: vec![BellGpu { gpu, key: gpu_key.public() }], unable: vec![] };
    let begun: EpochChallenges = net.call(key, "POST", BEGIN, &asked).await.json();
    let EpochChallenge { proof, challenge, .. } = begun.challenges[0].clone();
    let mut prover = CpuProver::new();
    let commitment = prover.commit(&challenge, &mut |_| ControlFlow::Continue(())).unwrap();
    let roots = EpochCommit { commitment: commitment.clone() };
    let receipt: EpochReceipt =
        net.call(key, "POST", &format!("{BEGIN}/{proof}/commit"), &roots).await.json();
    let mut opening = prover.open(&receipt.nonce).unwrap();
    change(&mut opening);
    let signature = gpu_key.sign(&challenge, &commitment, &receipt.nonce, &opening);
    let with = EpochOpen { opening, signature };
    net.call(key, "POST", &format!("{BEGIN}/{proof}/open"), &with).await.json()
}

fn verdict(key: &SigningKey, appeal: &PublicAppeal, right: bool) -> SignedVerdict {
    let digest = appeal.digest.unwrap();
    let signature: String =
        key.sign(&message(appeal.id, &digest, right).0).iter().map(|byte| format!("{byte:02x}")).collect();
    SignedVerdict {
        verifier: Hash(*key.public().as_bytes()),
        digest,
        right,
        signature: Text::new(&signature).unwrap(),
    }
}

async fn say(net: &Net, appeal: &PublicAppeal, verdict: &SignedVerdict) -> net::Answer {
    let url = format!("{}/api/v1/public/appeals/{}", net.origin, appeal.id);
    net::Answer::of(net.http.post(url).json(verdict).send().await.unwrap()).await
}

/// The appeal once its re-run is public.
async fn answered(net: &Net, of: &PublicAppeal) -> PublicAppeal {
    let is_answered = |all: &Vec<PublicAppeal>| all.iter().any(|one| one.id == of.id && one.proof.is_some());
    let all = net.until("/api/v1/public/appeals", is_answered).await;
    all.into_iter().find(|one| one.id == of.id).unwrap()
}

/// From quarantine over an appeal that is dismissed and one that is upheld to proven again, in a new network.
pub async fn decided(net: Net) {
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    let supplier = net.invite("supplier", "Ada").await;
    let (key, gpu) = net.machine(&supplier, "llvmpipe (LLVM 15.0.6, 256 bits)", AdapterKind::Software).await;
    net.beat(&key, gpu).await;
    for _ in 0..3 {
        net.prove_once(&key, gpu).await;
    }
    let path = format!("/api/v1/machine/appeals/{gpu}");
    assert_eq!(net.call(&key, "POST", &path, &Nothing {}).await.error().code, "nothing_to_appeal");
    let forged = answer(&net, &key, gpu, |opening| opening.alu.states[0] ^= 1).await;
    assert_eq!(forged.standing, Standing::Quarantined);
    assert_eq!(net.call(&key, "POST", &path, &Nothing {}).await.error().code, "too_few_verifiers");

    let verifiers: Vec<SigningKey> = (0..3).map(|_| net::new_key()).collect();
    for (n, verifier) in verifiers.iter().enumerate() {
        let name = Text::new(&format!("Verifier {n}")).unwrap();
        let verifier = Verifier { key: Hash(*verifier.public().as_bytes()), name };
        let change = VerifierChange { verifier, on: true };
        let all: Vec<Verifier> =
            net.call(&operator, "POST", "/api/v1/operate/verifiers", &change).await.json();
        assert_eq!(all.len(), n + 1);
    }
    let stranger = net::new_key();

    // Measured again and still false: enough verifiers say so, and it stays where it was.
    let appeal: PublicAppeal = net.call(&key, "POST", &path, &Nothing {}).await.json();
    assert_eq!((appeal.quorum, appeal.verifiers.len()), (2, 3));
    assert_eq!(net.call(&key, "POST", &path, &Nothing {}).await.status, 409, "one appeal at a time");
    answer(&net, &key, gpu, |opening| opening.walk.states[0] ^= 1).await;
    let appeal = answered(&net, &appeal).await;
    for verifier in &verifiers[..2] {
        assert_eq!(say(&net, &appeal, &verdict(verifier, &appeal, false)).await.status, 200);
    }
    assert_eq!(say(&net, &appeal, &verdict(&verifiers[2], &appeal, true)).await.status, 409, "it is decided");
    let ended = |upheld| move |all: &Vec<PublicAppeal>| all.iter().any(|one| one.upheld == Some(upheld));
    net.until("/api/v1/public/appeals", ended(false)).await;
    let shown: PublicGpu = net.get(&format!("/api/v1/public/gpus/{gpu}")).await.json();
    assert_eq!(shown.standing, Standing::Quarantined);

    // Measured again and right: one verifier lies, two do not, strangers and second thoughts do not count.
    let appeal: PublicAppeal = net.call(&key, "POST", &path, &Nothing {}).await.json();
    assert!(answer(&net, &key, gpu, |_| {}).await.accepted);
    let appeal = answered(&net, &appeal).await;
    assert_eq!(say(&net, &appeal, &verdict(&stranger, &appeal, true)).await.error().code, "no_verifier");
    let forged = SignedVerdict { right: false, ..verdict(&verifiers[0], &appeal, true) };
    assert_eq!(say(&net, &appeal, &forged).await.error().code, "no_verifier");
    // A key of small order, under which anybody can sign, is nobody's.
    let mut weak = SignedVerdict { verifier: Hash([0; 32]), ..verdict(&verifiers[0], &appeal, true) };
    weak.verifier.0[0] = 1;
    weak.signature = Text::new(&format!("01{}", "0".repeat(126))).unwrap();
    assert_eq!(say(&net, &appeal, &weak).await.error().code, "no_verifier");
    let lie = verdict(&verifiers[2], &appeal, false);
    assert_eq!(say(&net, &appeal, &lie).await.status, 200);
    assert_eq!(say(&net, &appeal, &lie).await.status, 409, "a verifier speaks once");
    let one: PublicAppeal = say(&net, &appeal, &verdict(&verifiers[0], &appeal, true)).await.json();
    assert_eq!(one.upheld, None);
    let two: PublicAppeal = say(&net, &appeal, &verdict(&verifiers[1], &appeal, true)).await.json();
    assert_eq!(two.upheld, Some(true));
    let shown = net
        .until(&format!("/api/v1/public/gpus/{gpu}"), |g: &PublicGpu| g.standing == Standing::Unproven)
        .await;
    assert!(shown.standing_reason.as_str().contains("2 of 3 verifiers"), "{}", shown.standing_reason);
    for _ in 0..3 {
        net.prove_once(&key, gpu).await;
    }
    net.until(&format!("/api/v1/public/gpus/{gpu}"), |g: &PublicGpu| g.standing == Standing::Proven).await;
    let page = net.get(&format!("/gpu/{gpu}")).await.text();
    assert!(page.contains("found it wrong") && page.contains("Verifier 2"), "the page shows who found what");
    net.stop().await;
}
