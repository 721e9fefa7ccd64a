//! Noticing and stopping through the port, as attackers and operators meet it: the first touch of another's
//! GPU opens an incident and freezes the key, beats go on, the operator sees who, what, on which and how many,
//! and lifts it.

#![allow(clippy::unwrap_used)]

mod net;

use std::time::{Duration, Instant};

use gangline_server::Config;
use gangline_types::{AdapterKind, GpuId};
use gangline_wire::{
    SigningKey,
    api::{
        enrol::KeyKind,
        operate::{ActView, FreezeAnswer, FreezeView, IncidentView, RefusalView},
    },
};
use net::{Net, now};
use serde_json::{Value, json};

const SOFTWARE: &str = "llvmpipe";
/// Nothing here is a matter of speed; a loaded machine may take its time.
const PATIENCE: Duration = Duration::from_secs(90);

async fn name(net: &Net, key: &SigningKey, gpu: GpuId, label: &str) -> (u16, String) {
    let path = format!("/api/v1/gpus/{gpu}/label");
    let answer = net.call(key, "PUT", &path, &json!({"label": label})).await;
    let code = if answer.status == 200 { String::new() } else { answer.error().code };
    (answer.status, code)
}

/// The operator's incidents, once they are as wanted.
async fn incidents(
    net: &Net,
    operator: &SigningKey,
    wanted: impl Fn(&[IncidentView]) -> bool,
) -> Vec<IncidentView> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found: Vec<IncidentView> =
            net.call(operator, "GET", "/api/v1/operate/incidents", &Value::Null).await.json();
        if wanted(&found) {
            return found;
        }
        assert!(Instant::now() < deadline, "the incidents never came to be as wanted: {found:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn refusals(net: &Net, operator: &SigningKey, query: &str) -> Vec<RefusalView> {
    net.call(operator, "GET", &format!("/api/v1/operate/refusals?{query}"), &Value::Null).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_touch_freezes_its_key_and_nothing_else() {
    let net = Net::start().await;
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    let (victim, target) =
        net.machine(&net.invite("supplier", "Ada").await, SOFTWARE, AdapterKind::Software).await;
    let mallory = net.invite("supplier", "Mallory").await;
    let (thief, own) = net.machine(&mallory, SOFTWARE, AdapterKind::Software).await;
    let (sibling, _) = net.machine(&mallory, SOFTWARE, AdapterKind::Software).await;
    assert_eq!(name(&net, &thief, own, "mine").await.0, 200);

    // One attempt is enough.
    assert_eq!(name(&net, &thief, target, "owned").await, (404, "not_found".into()));
    let touch = |all: &[IncidentView]| all.iter().any(|i| i.what == "foreign_touch");
    let found = incidents(&net, &operator, touch).await;
    let incident = found.iter().find(|i| i.what == "foreign_touch").unwrap();
    assert_eq!(incident.key, Some(thief.public().id()));
    assert_eq!((incident.severity.as_str(), incident.state.as_str(), incident.count), ("urgent", "open", 1));
    assert_eq!((incident.action.as_str(), incident.resource.as_str()), ("label_gpu", &*target.to_string()));
    assert!(incident.account.is_some());

    // Its writes are frozen: its own GPU's name too. What is not its business stays hidden. It beats all the same.
    let deadline = Instant::now() + PATIENCE;
    while name(&net, &thief, own, "still mine").await.1 != "frozen" {
        assert!(Instant::now() < deadline, "the key was never frozen");
    }
    assert_eq!(name(&net, &thief, target, "owned").await, (404, "not_found".into()));
    assert_eq!(net.beat(&thief, own).await.credited, 1);
    assert_eq!(net.beat(&victim, target).await.credited, 1);
    assert_eq!(name(&net, &victim, target, "ada's").await.0, 200);
    // The other machine of the same account is another key.
    assert_eq!(name(&net, &sibling, target, "owned").await, (404, "not_found".into()));

    // Repeats are counted in the same incident.
    for _ in 0..20 {
        name(&net, &thief, target, "owned").await;
    }
    let key = Some(thief.public().id());
    incidents(&net, &operator, |all| {
        let same: Vec<_> = all.iter().filter(|i| i.what == "foreign_touch" && i.key == key).collect();
        same.len() == 1 && same[0].count == 22
    })
    .await;

    // Every attempt is found by its key, each page follows the one before.
    let query = format!("key={}&code=not_found&limit=500", thief.public().id());
    let deadline = Instant::now() + PATIENCE;
    while refusals(&net, &operator, &query).await.iter().map(|r| r.count).sum::<u64>() != 22 {
        assert!(Instant::now() < deadline, "{:#?}", refusals(&net, &operator, &query).await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let first = refusals(&net, &operator, &query.replace("limit=500", "limit=5")).await;
    let last = first.last().unwrap().number;
    let second = refusals(&net, &operator, &format!("{}&before={last}", query.replace("500", "5"))).await;
    assert!(first.len() == 5 && second.len() == 5 && second[0].number < last);

    // A restart changes nothing of it.
    let config = net.config.clone();
    let folder = net.stop().await;
    let net = Net::start_in(folder, config).await;
    assert_eq!(name(&net, &thief, own, "again").await, (403, "frozen".into()));

    // The operator lifts it on the security page, and closes the incident.
    let page = net.page(&net.operator, "/console/security").await.text();
    let at = page.find("/console/security/freezes/frz_").unwrap();
    let lift = page[at..].split('"').next().unwrap().to_owned();
    let all: Vec<FreezeView> =
        net.call(&operator, "GET", "/api/v1/operate/freezes", &Value::Null).await.json();
    let of_key = all.iter().find(|f| f.target == thief.public().id().to_string()).unwrap();
    assert!(of_key.lifted_at.is_none() && of_key.incident == Some(incident.incident));
    assert!(lift.ends_with("/lift"), "{lift}");
    let lift = format!("/console/security/freezes/{}/lift", of_key.freeze);
    assert_eq!(net.form(&net.operator, &lift, &[]).await.status, 303);
    assert_eq!(name(&net, &thief, own, "mine again").await.0, 200);
    let close = format!("/console/security/incidents/{}", incident.incident);
    assert_eq!(net.form(&net.operator, &close, &[("state", "closed"), ("note", "seen")]).await.status, 303);
    assert_eq!(net.form(&net.operator, &close, &[("state", "closed")]).await.status, 409);
    incidents(&net, &operator, |all| all.iter().all(|i| i.incident != incident.incident)).await;
    let acts: Vec<ActView> =
        net.call(&operator, "GET", "/api/v1/operate/acts?action=thaw", &Value::Null).await.json();
    assert!(acts.iter().any(|a| a.detail.contains("is lifted")), "{acts:#?}");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_fleet_frozen_still_beats() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { alone_delay_seconds: 1, ..net::quick_config(folder.path()) };
    let net = Net::start_in(folder, config).await;
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    let supplier = net.invite("supplier", "Ada").await;
    let (machine, gpu) = net.machine(&supplier, SOFTWARE, AdapterKind::Software).await;
    assert_eq!(name(&net, &machine, gpu, "one").await.0, 200);
    let freezes = "/api/v1/operate/freezes";

    // What it would stop, before it does.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let wish = json!({"target": "fleet", "dry_run": true});
        let told: FreezeAnswer = net.call(&operator, "POST", freezes, &wish).await.json();
        assert_eq!(told.freeze, None);
        if told.preview.requests >= 2 && told.preview.machines == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "{told:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for never in ["beat", "prove_gpu", "supply", "revoke_key", "nonsense"] {
        let refused = net.call(&operator, "POST", freezes, &json!({"target": never})).await;
        assert_eq!((refused.status, refused.error().code.as_str()), (422, "bad_target"), "{never}");
    }
    let by_machine = net.call(&machine, "POST", freezes, &json!({"target": "fleet"})).await;
    assert_eq!(by_machine.status, 403);

    // What stops everybody is confirmed by whoever's command line asks for it.
    let wish = json!({"target": "fleet", "reason": "a drill"});
    let made: FreezeAnswer = net.confirmed(&operator, "POST", freezes, &wish).await.json();
    let id = made.freeze.unwrap();
    // Felt at once, by every kind of change, however it is signed.
    assert_eq!(name(&net, &machine, gpu, "two").await, (403, "frozen".into()));
    let inventory = net::inventory(SOFTWARE, AdapterKind::Software);
    let told = net.call(&machine, "PUT", "/api/v1/machine/inventory", &inventory).await;
    assert_eq!(told.error().code, "frozen");
    assert!(told.error().message.contains(&id.to_string()), "{}", told.error().message);
    assert!(told.error().hint.unwrap().contains("heartbeats"), "no hint");
    let form = net.form(&supplier, &format!("/console/gpus/{gpu}/label"), &[("label", "three")]).await;
    assert_eq!(form.status, 403);
    let invite = net.form(&net.operator, "/console/invite", &[("role", "renter"), ("name", "Eve")]).await;
    assert_eq!(invite.status, 403);
    let key = net::new_key();
    let ask = json!({"public_key": key.public(), "kind": "machine", "host": "h", "summary": ""});
    assert_eq!(net.call(&key, "POST", "/api/v1/enrolments", &ask).await.error().code, "frozen");
    // And by no beat and no proof.
    assert_eq!(net.beat(&machine, gpu).await.credited, 1);
    let prove = net.call(&machine, "POST", "/api/v1/machine/proofs", &json!({"gpus": [gpu]})).await;
    assert_eq!(prove.status, 200, "{}", prove.text());
    // Ending a key and leaving a session are never stopped, and neither is lifting it.
    // For the whole fleet that takes another operator, or a delay where there is none.
    let lift = format!("{freezes}/{id}");
    let asked = net.call(&operator, "DELETE", &lift, &Value::Null).await.error();
    assert_eq!(asked.code, "approval_needed");
    let decided = net.decide(&net.operator, asked.approval.unwrap().approval, "approve").await;
    assert_eq!(decided.status, 303, "{}", decided.text());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lifted = net.call(&operator, "DELETE", &lift, &Value::Null).await;
        if lifted.status == 200 {
            break;
        }
        assert_eq!(lifted.error().code, "approval_waits");
        assert!(Instant::now() < deadline, "it is never lifted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(name(&net, &machine, gpu, "four").await.0, 200);

    // One that is made for a time ends by itself.
    let wish = json!({"target": "label_gpu", "seconds": 1});
    let made = net.confirmed(&operator, "POST", freezes, &wish).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let deadline = Instant::now() + PATIENCE;
    while name(&net, &machine, gpu, "five").await.0 != 200 {
        assert!(Instant::now() < deadline, "it never ended");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crawl_and_a_flood_of_enrolments_are_noticed_and_a_flood_is_counted_whole() {
    let net = Net::start().await;
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    for n in 0..25u8 {
        assert_eq!(net.get(&format!("/api/v1/public/gpus/{}", GpuId::from_bytes([n; 16]))).await.status, 404);
    }
    for _ in 0..20 {
        let key = net::new_key();
        let ask = json!({"public_key": key.public(), "kind": "machine", "host": "h", "summary": ""});
        net.call(&key, "POST", "/api/v1/enrolments", &ask).await;
    }
    incidents(&net, &operator, |all| {
        ["enumeration", "enrolment_flood"].iter().all(|what| all.iter().any(|i| i.what == *what))
    })
    .await;

    // More than one asker's share of rows: none is lost, and the rows are few.
    let before = now();
    let stranger = net::new_key();
    let path = format!("/api/v1/gpus/{}/label", GpuId::from_bytes([9; 16]));
    for _ in 0..600 {
        let answer = net.call(&stranger, "PUT", &path, &json!({"label": "x"})).await;
        assert_eq!(answer.error().code, "unknown_key");
    }
    let query = format!("code=unknown_key&key={}&from={}&limit=500", stranger.public().id(), before.0);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = refusals(&net, &operator, &query).await;
        let (count, rows) = (rows.iter().map(|r| r.count).sum::<u64>(), rows.len());
        if count == 600 {
            assert!(rows < 500, "{rows} rows for one flood");
            break;
        }
        assert!(count < 600 && Instant::now() < deadline, "{count} of 600 in {rows} rows");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    net.stop().await;
}
