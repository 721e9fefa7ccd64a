//! Answers that are somebody else's, of another bell, or not what was committed to.

use gangline_proof::epoch::Prover;
use gangline_types::{Standing, public::PublicGpu};
use gangline_wire::api::epoch::*;

use super::device::{BEGIN, Quick, prove};

async fn is_quarantined(net: &crate::net::Net, verdict: &EpochVerdict, gpu: gangline_types::GpuId) {
    assert!(!verdict.accepted && verdict.standing == Standing::Quarantined, "{verdict:?}");
    assert!(verdict.finding.as_str().starts_with("wrong bits"), "{}", verdict.finding);
    net.until(&format!("/api/v1/public/gpus/{gpu}"), |g: &PublicGpu| g.standing == Standing::Quarantined)
        .await;
    let page = net.get(&format!("/gpu/{gpu}")).await.text();
    assert!(page.contains("wrong bits"), "its page does not say why");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machines_transcript_is_no_answer_and_one_that_is_signed_anew_is_fraud() {
    let quick = Quick::start(3_600_000).await;
    let (ada, eve) = (quick.machine("Ada", 1).await, quick.machine("Eve", 1).await);
    // Ada's device answers for both: Eve's machine hands in roots and opening of Ada's challenge as its own.
    let adas = ada.begin(&ada.gpus).await.remove(0);
    let (mut prover, roots) = prove(&adas.challenge);
    let of_ada = ada.committed(&adas, roots.clone()).await;
    let eves = eve.begin(&eve.gpus).await.remove(0);
    assert_ne!(adas.challenge.binding, eves.challenge.binding);
    let of_eve = eve.committed(&eves, roots.clone()).await;
    let opening = prover.open(&of_eve.receipt.nonce).unwrap();
    // Signed by Ada's key it is not taken; nobody is accused of what somebody else may have sent.
    let signature = of_ada.gpu_key.sign(&of_eve.challenge, &roots, &of_eve.receipt.nonce, &opening);
    let copied = EpochOpen { opening: opening.clone(), signature };
    let answer = eve.net.call(&eve.key, "POST", &format!("{BEGIN}/{}/open", of_eve.proof), &copied).await;
    assert_eq!((answer.status, answer.error().code.as_str()), (422, "wrong_signature"));
    // Signed by Eve's own it is her answer, and false: her challenge is bound to her key.
    let verdict: EpochVerdict = eve.open(&of_eve, opening).await.json();
    is_quarantined(&quick.net, &verdict, eve.gpus[0]).await;
    // Ada's own answer is as good as ever.
    let opening = prove(&adas.challenge).0.open(&of_ada.receipt.nonce).unwrap();
    let verdict: EpochVerdict = ada.open(&of_ada, opening).await.json();
    assert!(verdict.accepted, "{verdict:?}");
    quick.net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transcript_of_another_beacon_is_fraud_also_ones_own() {
    let quick = Quick::start(3_600_000).await;
    let eve = quick.machine("Eve", 1).await;
    let first = eve.begin(&eve.gpus).await.remove(0);
    let (mut prover, roots) = prove(&first.challenge);
    let of = eve.committed(&first, roots.clone()).await;
    let opening = prover.open(&of.receipt.nonce).unwrap();
    let verdict: EpochVerdict = eve.open(&of, opening).await.json();
    assert!(verdict.accepted, "{verdict:?}");
    // The same roots at the next bell, whose beacon is another.
    let next = eve.begin(&eve.gpus).await.remove(0);
    assert_ne!(first.challenge.beacon, next.challenge.beacon);
    let replayed = eve.committed(&next, roots).await;
    let opening = prove(&first.challenge).0.open(&replayed.receipt.nonce).unwrap();
    let verdict: EpochVerdict = eve.open(&replayed, opening).await.json();
    is_quarantined(&quick.net, &verdict, eve.gpus[0]).await;
    quick.net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_to_after_the_nonce_and_no_time_but_the_servers_counts() {
    let quick = Quick::start(3_600_000).await;
    let eve = quick.machine("Eve", 1).await;
    let asked = eve.begin(&eve.gpus).await.remove(0);
    let (_, mut guessed) = prove(&asked.challenge);
    guessed.last_walk.0[0] ^= 1;
    // A prover that says how long it took is not understood: there is no such field.
    let boast = serde_json::json!({"commitment": guessed, "elapsed_millis": 1});
    let path = format!("{BEGIN}/{}/commit", asked.proof);
    let answer = quick.net.call(&eve.key, "POST", &path, &boast).await;
    assert!(answer.status == 400 || answer.status == 422, "{}", answer.text());
    assert!(answer.text().contains("elapsed_millis"), "{}", answer.text());
    // Roots first, made in a hurry and false; with the nonce in hand the right ones come too late.
    let of = eve.committed(&asked, guessed).await;
    let (mut prover, right) = prove(&asked.challenge);
    let answer = eve.commit(&asked, &right).await;
    assert_eq!(answer.status, 409, "{}", answer.text());
    let opening = prover.open(&of.receipt.nonce).unwrap();
    let verdict: EpochVerdict = eve.open(&of, opening).await.json();
    is_quarantined(&quick.net, &verdict, eve.gpus[0]).await;
    quick.net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gpu_asks_once_at_a_bell_and_one_key_answers_for_one_gpu() {
    let quick = Quick::start(3_600_000).await;
    let eve = quick.machine("Eve", 2).await;
    // One GPU twice in one request, to have two challenges and keep the easier.
    let bell = |gpu, key| BellGpu { gpu, key };
    let (one, two) = (eve.gpus[0], eve.gpus[1]);
    let twice = [bell(one, eve.gpu_key(one).public()), bell(one, eve.gpu_key(one).public())];
    let asked = BellRequest { gpus: twice.to_vec(), unable: vec![] };
    assert_eq!(quick.net.call(&eve.key, "POST", BEGIN, &asked).await.error().code, "gpu_twice");
    // One key for both GPUs: the challenges differ all the same, for the GPU is in the binding.
    let shared = eve.gpu_key(one);
    let asked =
        BellRequest { gpus: vec![bell(one, shared.public()), bell(two, shared.public())], unable: vec![] };
    let begun: EpochChallenges = quick.net.call(&eve.key, "POST", BEGIN, &asked).await.json();
    let [first, second] = &begun.challenges[..] else { panic!("{begun:?}") };
    assert_ne!(first.challenge.binding, second.challenge.binding);
    assert_eq!(first.challenge.beacon, second.challenge.beacon);
    // While they run, no other is given.
    let again = BellRequest { gpus: vec![bell(one, shared.public())], unable: vec![] };
    assert_eq!(quick.net.call(&eve.key, "POST", BEGIN, &again).await.error().code, "not_wanted");
    let (mut prover, roots) = prove(&first.challenge);
    let of = eve.committed(first, roots).await;
    let opening = prover.open(&of.receipt.nonce).unwrap();
    let verdict: EpochVerdict = eve.open(&of, opening.clone()).await.json();
    assert!(verdict.accepted, "{verdict:?}");
    // The other GPU with the first one's work.
    let of = super::device::Committed { gpu_key: shared, ..eve.committed(second, of.commitment).await };
    let opening = prove(&first.challenge).0.open(&of.receipt.nonce).unwrap();
    let verdict: EpochVerdict = eve.open(&of, opening).await.json();
    is_quarantined(&quick.net, &verdict, two).await;
    quick.net.stop().await;
}
