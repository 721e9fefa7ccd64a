//! A key takes the place of another: both work for a while, the machine stays the same one, and whoever may not
//! do this is refused.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod net;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use gangline_server::Config;
use gangline_types::{AdapterKind, Text};
use gangline_wire::{
    SigningKey,
    api::{
        account::Whoami,
        enrol::{KeyKind, Rotation, RotationRequest, Settled, rotation_bytes},
        machine::Registered,
    },
};
use net::{Answer, Net};
use serde_json::json;

const ROTATE: &str = "/api/v1/key/rotate";
const SETTLE: &str = "/api/v1/key/settle";
const INVENTORY: &str = "/api/v1/machine/inventory";

fn request(net: &Net, old: &SigningKey, new: &SigningKey, prover: &SigningKey) -> RotationRequest {
    let bytes = rotation_bytes(&net.address.to_string(), old.public().id(), &new.public());
    let proof = Text::new(&URL_SAFE_NO_PAD.encode(prover.sign(&bytes))).unwrap();
    RotationRequest { public_key: new.public(), proof }
}

async fn rotate(net: &Net, old: &SigningKey, new: &SigningKey) -> Answer {
    net.call(old, "POST", ROTATE, &request(net, old, new, new)).await
}

/// A network whose replaced keys end `seconds` after their successor's first use.
async fn with_overlap(seconds: u64) -> Net {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { key_overlap_seconds: seconds, ..net::quick_config(folder.path()) };
    Net::start_in(folder, config).await
}

/// Waits until a request signed by `key` is answered with this code.
async fn until_refused(net: &Net, key: &SigningKey, code: &str) {
    for _ in 0..600 {
        let answer = net.call(key, "GET", "/api/v1/me", &()).await;
        if answer.status == 401 && answer.error().code == code {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the key was never refused as {code}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_stays_the_same_one_and_its_old_key_ends_after_the_new_one_was_used() {
    let net = with_overlap(1).await;
    let supplier = net.invite("supplier", "Ada").await;
    let (old, gpu) = net.machine(&supplier, "llvmpipe", AdapterKind::Software).await;
    let new = net::new_key();
    let made: Rotation = rotate(&net, &old, &new).await.json();
    assert_eq!((made.key, made.follows, made.overlap.0), (new.public().id(), old.public().id(), 1));
    // The answer was lost: asking again changes nothing. And the old one works for as long as the new is unused.
    let again: Rotation = rotate(&net, &old, &new).await.json();
    assert_eq!(again, made);
    let page = net.page(&supplier, "/console").await.text();
    assert!(page.contains(&new.public().fingerprint()) && page.contains("in the place of"), "{page}");

    let described = net::inventory("llvmpipe", AdapterKind::Software);
    let seen: Registered = net.call(&new, "PUT", INVENTORY, &described).await.json();
    assert_eq!(seen.gpus[0].gpu, gpu, "the machine is another one by its new key");
    assert_eq!(net.beat(&new, gpu).await.refused.len(), 0);
    until_refused(&net, &old, "ended_key").await;
    assert!(net.page(&supplier, "/console").await.text().contains("ended"));
    assert_eq!(net.beat(&new, gpu).await.refused.len(), 0, "the new key ended with the old");
    // An old key is of no use to whoever finds it: it makes no other.
    assert_eq!(rotate(&net, &old, &net::new_key()).await.error().code, "ended_key");
    // And the line goes on.
    let third = net::new_key();
    let made: Rotation = rotate(&net, &new, &third).await.json();
    assert_eq!(made.follows, new.public().id());
    assert_eq!(net.beat(&third, gpu).await.refused.len(), 0);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_key_ends_the_old_one_at_once_if_it_says_so() {
    let net = with_overlap(3600).await;
    let renter = net.invite("renter", "Rae").await;
    let old = net.enrol(&renter, KeyKind::CommandLine).await;
    assert_eq!(net.call(&old, "POST", SETTLE, &json!({})).await.error().code, "nothing_to_settle");
    let new = net::new_key();
    rotate(&net, &old, &new).await.json::<Rotation>();
    let before: Whoami = net.call(&old, "GET", "/api/v1/me", &()).await.json();
    let after: Whoami = net.call(&new, "GET", "/api/v1/me", &()).await.json();
    assert_eq!((before.account, before.role), (after.account, after.role));
    net.call(&old, "GET", "/api/v1/me", &()).await.json::<Whoami>();
    let settled: Settled = net.call(&new, "POST", SETTLE, &json!({})).await.json();
    assert_eq!(settled.ended, old.public().id());
    assert_eq!(net.call(&old, "GET", "/api/v1/me", &()).await.error().code, "ended_key");
    assert_eq!(net.call(&new, "POST", SETTLE, &json!({})).await.error().code, "nothing_to_settle");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_put_a_key_in_the_place_of_another_is_refused() {
    let net = with_overlap(3600).await;
    let (ada, eve) = (net.invite("supplier", "Ada").await, net.invite("renter", "Eve").await);
    let (key, _) = net.machine(&ada, "llvmpipe", AdapterKind::Software).await;
    let hers = net.enrol(&eve, KeyKind::CommandLine).await;
    let new = net::new_key();

    // A new key that nobody has shown to hold; one proved for another old key; and one for another server.
    let by_old = request(&net, &key, &new, &key);
    assert_eq!(net.call(&key, "POST", ROTATE, &by_old).await.error().code, "key_not_held");
    let for_other = request(&net, &hers, &new, &new);
    assert_eq!(net.call(&key, "POST", ROTATE, &for_other).await.error().code, "key_not_held");
    let elsewhere = rotation_bytes("gangline.example", key.public().id(), &new.public());
    let proof = Text::new(&URL_SAFE_NO_PAD.encode(new.sign(&elsewhere))).unwrap();
    let elsewhere = RotationRequest { public_key: new.public(), proof };
    assert_eq!(net.call(&key, "POST", ROTATE, &elsewhere).await.error().code, "key_not_held");
    // A weak key.
    let weak = json!({"public_key": URL_SAFE_NO_PAD.encode([0u8; 32]), "proof": ""});
    let refused = net.call(&key, "POST", ROTATE, &weak).await;
    assert!(refused.status == 400 && refused.error().message.contains("weak"), "{}", refused.text());
    // A key that is somebody else's, although she herself asks.
    assert_eq!(rotate(&net, &key, &hers).await.error().code, "key_taken");
    // A third one that is alive, by the first and by the second.
    rotate(&net, &key, &new).await.json::<Rotation>();
    assert_eq!(rotate(&net, &key, &net::new_key()).await.error().code, "third_key");
    assert_eq!(rotate(&net, &new, &net::new_key()).await.error().code, "third_key");
    // The new key itself cannot be put elsewhere.
    assert_eq!(rotate(&net, &hers, &new).await.error().code, "key_taken");
    // Whoever revokes one of the two revokes both: the thief of the first may have made the second.
    let path = format!("/console/keys/{}/revoke", key.public().id());
    assert_eq!(net.form(&ada, &path, &[]).await.status, 303);
    for key in [&key, &new] {
        assert_eq!(rotate(&net, key, &net::new_key()).await.error().code, "revoked_key");
    }
    // In the network's log, for anyone.
    let mut log = String::new();
    for _ in 0..600 {
        log = net.get("/log/tile/entries/000.p/1").await.text();
        let size: u64 =
            net.get("/log/checkpoint").await.text().lines().nth(1).unwrap_or("0").parse().unwrap_or(0);
        if size > 0 {
            log = net.get(&format!("/log/tile/entries/000.p/{size}")).await.text();
        }
        if log.contains("kind rotation") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(log.contains("kind rotation\n") && log.contains("holder machine"), "{log}");
    assert!(log.contains("kind revocation") && log.contains("keys 2"), "{log}");
    net.stop().await;
}
