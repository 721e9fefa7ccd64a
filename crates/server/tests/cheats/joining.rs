//! Signatures of joining proofs: whose an answer is, and what becomes of one that is signed by somebody else or by nobody.

use gangline_proof::{CpuProver, GpuKey, Opening, Prover, Signature, binding, verify};
use gangline_types::{AdapterKind, GpuId, Hash, ProofId, Standing};
use gangline_wire::{
    SigningKey,
    api::{enrol::KeyKind, epoch::BellGpu, machine::Registered, proof::*},
};

use super::device::MODEL;
use crate::net::{self, Answer, Net};

const BEGIN: &str = "/api/v1/machine/proofs";

/// A machine of somebody new, with so many GPUs.
async fn machine(net: &Net, name: &str, gpus: u8) -> (SigningKey, Vec<GpuId>) {
    let supplier = net.invite("supplier", name).await;
    let key = net.enrol(&supplier, KeyKind::Machine).await;
    let mut inventory = net::inventory(MODEL, AdapterKind::Software);
    let claim = inventory.gpus[0].clone();
    inventory.gpus =
        (1..=gpus).map(|n| gangline_types::GpuClaim { slot: Hash([n; 32]), ..claim.clone() }).collect();
    let registered: Registered = net.call(&key, "PUT", "/api/v1/machine/inventory", &inventory).await.json();
    (key, registered.gpus.iter().map(|gpu| gpu.gpu).collect())
}

/// A proof that waits for its opening, which is made already.
struct Made {
    given: GpuChallenge,
    roots: CommitRequest,
    nonce: Hash,
    opening: Opening,
}

impl Made {
    /// Honest work for the first challenge of what `asked` brings.
    async fn of(net: &Net, key: &SigningKey, asked: &ProofRequest) -> Self {
        let begun: ProofChallenges = net.call(key, "POST", BEGIN, asked).await.json();
        let given = begun.challenges[0].clone();
        let mut prover = CpuProver::default();
        let roots = CommitRequest { commitment: prover.commit(&given.challenge, &mut |_| ()).unwrap() };
        let nonce = Self::commit(net, key, given.proof, &roots).await;
        let opening = prover.open(&nonce).unwrap();
        Self { given, roots, nonce, opening }
    }

    async fn commit(net: &Net, key: &SigningKey, proof: ProofId, roots: &CommitRequest) -> Hash {
        let receipt: CommitReceipt =
            net.call(key, "POST", &format!("{BEGIN}/{proof}/commit"), roots).await.json();
        receipt.nonce
    }

    fn signed_by(&self, key: &GpuKey) -> Signature {
        key.sign_matrix(&self.given.challenge, &self.roots.commitment, &self.nonce, &self.opening)
    }

    async fn open(&self, net: &Net, key: &SigningKey, signature: Option<Signature>) -> Answer {
        let open = OpenRequest { opening: self.opening.clone(), signature };
        net.call(key, "POST", &format!("{BEGIN}/{}/open", self.given.proof), &open).await
    }

    /// As anybody can download it.
    async fn transcript(&self, net: &Net) -> Transcript {
        net.until(&format!("/api/v1/public/proofs/{}", self.given.proof), |_: &Transcript| true).await
    }
}

fn holds(t: &Transcript) -> bool {
    verify(&t.challenge, &t.commitment, &t.nonce, &t.opening).is_ok()
}

fn refused(answer: &Answer, code: &str) {
    assert_eq!((answer.status, answer.error().code.as_str()), (422, code), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joining_proof_is_its_gpus_and_anybody_can_tell() {
    let net = Net::start().await;
    let ((ada, of_ada), (eve, of_eve)) = (machine(&net, "Ada", 1).await, machine(&net, "Eve", 1).await);
    let (ada_key, eve_key) = (GpuKey::derive(&ada.seed(), of_ada[0]), GpuKey::derive(&eve.seed(), of_eve[0]));
    let mut adas = Made::of(&net, &ada, &net::proof_request(&ada, &of_ada)).await;
    assert_eq!(adas.given.challenge.binding, ada_key.binding());
    // Signed by another machine's key, also one for this very GPU, by this machine's for another GPU.
    for other in [
        GpuKey::derive(&eve.seed(), of_eve[0]),
        GpuKey::derive(&eve.seed(), of_ada[0]),
        GpuKey::derive(&ada.seed(), of_eve[0]),
    ] {
        refused(&adas.open(&net, &ada, Some(adas.signed_by(&other))).await, "wrong_signature");
    }
    let right = adas.signed_by(&ada_key);
    let mut text = serde_json::to_string(&right).unwrap().into_bytes();
    text[40] = if text[40] == b'A' { b'B' } else { b'A' };
    let touched: Signature = serde_json::from_slice(&text).unwrap();
    refused(&adas.open(&net, &ada, Some(touched)).await, "wrong_signature");
    // A bit that was flipped on its way accuses nobody: it is not what was signed.
    adas.opening.steps[1].rows[7] ^= 1 << 9;
    refused(&adas.open(&net, &ada, Some(right.clone())).await, "wrong_signature");
    adas.opening.steps[1].rows[7] ^= 1 << 9;
    let verdict: Verdict = adas.open(&net, &ada, Some(right.clone())).await.json();
    assert!(verdict.accepted, "{verdict:?}");
    // What anybody downloads is bound to the key of this GPU and signed by it.
    let published = adas.transcript(&net).await;
    assert!(published.check_signature().unwrap() && holds(&published) && published.accepted);
    let signed = published.signed.as_ref().unwrap();
    assert_eq!((signed.key, &signed.signature), (ada_key.public(), &right));

    // Eve hands Ada's work in as her own: with Ada's signature it is not taken, with hers it is her fraud, which she cannot
    // deny.
    let begun: ProofChallenges =
        net.call(&eve, "POST", BEGIN, &net::proof_request(&eve, &of_eve)).await.json();
    let given = begun.challenges[0].clone();
    let nonce = Made::commit(&net, &eve, given.proof, &adas.roots).await;
    let copied = Made { given, nonce, ..adas };
    refused(&copied.open(&net, &eve, Some(right)).await, "wrong_signature");
    let verdict: Verdict = copied.open(&net, &eve, Some(copied.signed_by(&eve_key))).await.json();
    assert_eq!((verdict.accepted, verdict.standing), (false, Standing::Quarantined), "{verdict:?}");
    let published = copied.transcript(&net).await;
    assert!(published.check_signature().unwrap() && !holds(&published) && !published.accepted);
    assert_eq!(published.signed.unwrap().key, eve_key.public());
    net.stop().await;
}

/// It passes without a signature, and what is published has none.
async fn judged(net: &Net, key: &SigningKey, made: &Made) {
    let verdict: Verdict = made.open(net, key, None).await.json();
    assert!(verdict.accepted, "{verdict:?}");
    let published = made.transcript(net).await;
    assert!(holds(&published) && !published.check_signature().unwrap());
    let path = format!("/api/v1/public/proofs/{}", made.given.proof);
    assert!(!net.get(&path).await.text().contains("signed"), "it is written as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_sign_yet_is_judged_as_ever_and_the_transcript_says_so() {
    let net = Net::start().await;
    let (key, gpus) = machine(&net, "Ada", 1).await;
    let gpu_key = GpuKey::derive(&key.seed(), gpus[0]);
    // An older worker names no key: its challenge is bound to the machine's, and a signature is nobody's.
    let older = ProofRequest { gpus: gpus.clone(), keys: vec![] };
    let made = Made::of(&net, &key, &older).await;
    assert_eq!(made.given.challenge.binding, binding(key.public().as_bytes(), gpus[0]));
    refused(&made.open(&net, &key, Some(made.signed_by(&gpu_key))).await, "wrong_signature");
    judged(&net, &key, &made).await;
    // One that named a key, and left its signature out because an older server behind the same name did not know the field.
    let made = Made::of(&net, &key, &net::proof_request(&key, &gpus)).await;
    judged(&net, &key, &made).await;
    // The third is signed, and the GPU is proven by all of them.
    let verdict = net.prove_once(&key, gpus[0]).await;
    assert_eq!((verdict.accepted, verdict.standing), (true, Standing::Proven), "{verdict:?}");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_gpu_has_its_key_and_its_beacon() {
    let net = Net::start().await;
    let (key, gpus) = machine(&net, "Ada", 2).await;
    let named = |gpu| BellGpu { gpu, key: GpuKey::derive(&key.seed(), gpu).public() };
    let ask = |gpus: &[GpuId], keys: Vec<BellGpu>| ProofRequest { gpus: gpus.to_vec(), keys };
    let twice = ask(&gpus, vec![named(gpus[0]), named(gpus[0])]);
    refused(&net.call(&key, "POST", BEGIN, &twice).await, "gpu_twice");
    let other = ask(&gpus[..1], vec![named(gpus[1])]);
    refused(&net.call(&key, "POST", BEGIN, &other).await, "key_without_gpu");
    // One signs, the other does not; they are asked at once.
    let asked = ask(&gpus, vec![named(gpus[1])]);
    let begun: ProofChallenges = net.call(&key, "POST", BEGIN, &asked).await.json();
    let [one, two] = &begun.challenges[..] else { panic!("{begun:?}") };
    assert_eq!(one.challenge.binding, binding(key.public().as_bytes(), gpus[0]));
    assert_eq!(two.challenge.binding, named(gpus[1]).key.binding(gpus[1]));
    // Nothing in what is published is the same for the GPUs of a machine.
    assert_ne!(one.challenge.beacon, two.challenge.beacon);
    net.stop().await;
}
