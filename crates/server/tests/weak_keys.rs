//! A weak key of small order verifies signatures that nobody made. Every endpoint that takes a public key, found by the
//! shape of what it takes and not by a list of hand, refuses all fourteen spellings of them, although each comes with a
//! signature that a lenient verifier would believe.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod net;
mod passkey;

use std::collections::BTreeSet;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use gangline_types::{AdapterKind, EnrolmentId, GpuId, KeyId};
use gangline_wire::{SigningKey, api::enrol::KeyKind, endpoints};
use net::{Answer, Browser, Net};
use serde_json::{Value, json};

/// Every spelling of the eight points of small order, in hex.
const WEAK: &str = include_str!("../../wire/tests/weak_keys.txt");

/// Endpoints whose body holds a public key of the asker's choice, each with who shows that a weak one is refused: a case
/// below, or a test elsewhere.
const TAKE_A_KEY: [&str; 8] = [
    "AppealVerdict", // only of verifiers that were registered: `appeals::decided`
    "BeatEpoch",
    "CalibrationAdd",
    "Enrol",
    "EnrolPoll",
    "EpochBegin",
    "KeyRotate",
    "ProofBegin",
];
/// The same, where what is registered is somebody else's key.
const TAKE_ANOTHER_S: [&str; 1] = ["VerifierSet"];

/// Whether a field of this name and shape holds a public key; an id of one is none.
fn holds_a_key(name: &str, shape: &Value) -> bool {
    let is_id = shape.to_string().contains("KeyId");
    (name.ends_with("key") || ["signer", "verifier"].contains(&name)) && !is_id
}

fn walk(shape: &Value, definitions: &serde_json::Map<String, Value>, seen: &mut BTreeSet<String>) -> bool {
    let own = shape["properties"].as_object().into_iter().flatten();
    let mut found = own.clone().any(|(name, shape)| holds_a_key(name, shape));
    let text = shape.to_string();
    for (name, definition) in definitions {
        if text.contains(&format!("/{name}\"")) && seen.insert(name.clone()) {
            found |= walk(definition, definitions, seen);
        }
    }
    found
}

/// Names of the endpoints whose body holds a public key.
fn taking_a_key() -> BTreeSet<&'static str> {
    let takes = |described: &&endpoints::Described| {
        let mut generator = schemars::SchemaGenerator::default();
        let [_, request, _] = (described.schemas)(&mut generator);
        walk(&request.to_value(), &generator.take_definitions(true), &mut BTreeSet::new())
    };
    endpoints::ALL.iter().filter(takes).map(|described| described.spec.name).collect()
}

#[test]
fn every_endpoint_that_takes_a_key_is_among_those_that_are_tried() {
    let tried: BTreeSet<&str> = TAKE_A_KEY.into_iter().chain(TAKE_ANOTHER_S).collect();
    assert_eq!(taking_a_key(), tried);
}

fn bytes(hex: &str) -> [u8; 32] {
    std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap())
}

/// A signature that a lenient verifier takes under the identity, for any message: R is the identity, and the scalar 0.
fn forged() -> [u8; 64] {
    let mut signature = [0; 64];
    signature[0] = 1;
    signature
}

/// A request that says to be signed by a weak key, which nobody holds.
async fn as_weak(net: &Net, weak: &[u8; 32], path: &str, body: &Value) -> Answer {
    let other = net::new_key();
    let mut signed = net.sign(&other, "POST", path, body);
    let id = KeyId::of_public_key(weak).to_string();
    for (name, value) in &mut signed.headers {
        *value = value.replace(&other.public().id().to_string(), &id);
        if name == "signature" {
            let label = value.split('=').next().unwrap();
            *value = format!("{label}=:{}:", STANDARD.encode(forged()));
        }
    }
    net.send(&signed).await
}

struct World {
    net: Net,
    operator: SigningKey,
    machine: SigningKey,
    gpu: GpuId,
    renter: Browser,
}

async fn world() -> World {
    let net = Net::start().await;
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    let supplier = net.invite("supplier", "Ada").await;
    let (machine, gpu) =
        net.machine(&supplier, "llvmpipe (LLVM 15.0.6, 256 bits)", AdapterKind::Software).await;
    net.beat(&machine, gpu).await;
    for _ in 0..3 {
        net.prove_once(&machine, gpu).await;
    }
    let renter = net.invite("renter", "Rae").await;
    World { net, operator, machine, gpu, renter }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weak_key_gets_in_nowhere() {
    let World { net, operator, machine, gpu, renter } = world().await;
    let hex_of = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let starts = net::now().minute().0;
    for weak in WEAK.lines() {
        let key = bytes(weak);
        let text = URL_SAFE_NO_PAD.encode(key);
        let refused = |what: &str, answer: &Answer, status: u16, code: &str| {
            let said = answer.error();
            assert_eq!((answer.status, said.code.as_str()), (status, code), "{what} {weak}: {said}");
        };
        let request = json!({"public_key": text, "kind": "machine", "host": "h", "summary": "s"});
        let answer = as_weak(&net, &key, "/api/v1/enrolments", &request).await;
        refused("Enrol", &answer, 400, "bad_key");
        let poll = json!({"enrolment": EnrolmentId::from_bytes([1; 16]), "public_key": text});
        let answer = as_weak(&net, &key, "/api/v1/enrolments/poll", &poll).await;
        refused("EnrolPoll", &answer, 400, "bad_key");

        let rotation = json!({"public_key": text, "proof": URL_SAFE_NO_PAD.encode(forged())});
        let answer = net.call(&machine, "POST", "/api/v1/key/rotate", &rotation).await;
        refused("KeyRotate", &answer, 400, "malformed");
        let chain = json!({
            "gpu": gpu, "tip": "0".repeat(32), "uptime_key": text, "signature": hex_of(&forged()),
        });
        let epoch = json!({"starts": starts, "chains": [chain]});
        let answer = net.call(&machine, "POST", "/api/v1/machine/beat-epoch", &epoch).await;
        refused("BeatEpoch", &answer, 400, "malformed");
        assert!(answer.error().message.contains("Ed25519"), "{}", answer.text());
        let bell = json!({"gpus": [{"gpu": gpu, "key": weak}], "unable": []});
        let answer = net.call(&machine, "POST", "/api/v1/machine/epochs", &bell).await;
        refused("EpochBegin", &answer, 422, "weak_key");
        let joining = json!({"gpus": [gpu], "keys": [{"gpu": gpu, "key": weak}]});
        let answer = net.call(&machine, "POST", "/api/v1/machine/proofs", &joining).await;
        refused("ProofBegin", &answer, 422, "weak_key");

        let verifier = json!({"verifier": {"key": weak, "name": "nobody"}, "on": true});
        let answer = net.call(&operator, "POST", "/api/v1/operate/verifiers", &verifier).await;
        refused("VerifierSet", &answer, 422, "weak_key");
        let table = json!({
            "table": {"version": 1, "entries": []}, "signer": weak, "signature": hex_of(&forged()),
        });
        let answer = net.call(&operator, "POST", "/api/v1/operate/calibrations", &table).await;
        refused("CalibrationAdd", &answer, 422, "wrong_signature");
        assert!(answer.error().message.contains("no sound key"), "{}", answer.text());
    }
    // A passkey's key comes within the words of a browser. Fewer are asked for at once than there are weak keys.
    for weak in WEAK.lines().take(3) {
        let key = net::new_key();
        let (_, answer) = passkey::made_of(&net, &renter, key.clone()).await;
        let answer = with_key(&answer, key.public().as_bytes(), &bytes(weak));
        let added = net.form(&renter, "/account/passkeys", &[("credential", &answer)]).await;
        assert_eq!(added.status, 403, "{weak}: {}", added.text());
        assert!(added.text().contains("bad_passkey"), "{weak}: {}", added.text());
    }
    assert!(!net.page(&renter, "/account").await.text().contains("Remove"), "a weak passkey was kept");
    // The same requests with sound keys are taken: it is the key that was refused.
    passkey::added(&net, &renter).await;
    let sound = net::new_key();
    let request = json!({"public_key": sound.public(), "kind": "machine", "host": "h", "summary": "s"});
    assert_eq!(net.call(&sound, "POST", "/api/v1/enrolments", &request).await.status, 200);
    let verifier = json!({"verifier": {"key": hex_of(sound.public().as_bytes()), "name": "n"}, "on": true});
    assert_eq!(net.call(&operator, "POST", "/api/v1/operate/verifiers", &verifier).await.status, 200);
    net.stop().await;
}

/// The answer of an authenticator with another key in the place of its own, wherever that stands.
fn with_key(answer: &str, own: &[u8; 32], other: &[u8; 32]) -> String {
    let mut answer: Value = serde_json::from_str(answer).unwrap();
    for field in ["authenticatorData", "attestationObject", "publicKey"] {
        let text = answer["response"][field].as_str().unwrap();
        let mut whole = URL_SAFE_NO_PAD.decode(text).unwrap();
        let at = whole.windows(32).position(|part| part == own).unwrap();
        whole[at..at + 32].copy_from_slice(other);
        answer["response"][field] = json!(URL_SAFE_NO_PAD.encode(whole));
    }
    answer.to_string()
}
