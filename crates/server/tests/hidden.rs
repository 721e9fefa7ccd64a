//! What one may not see answers as if it were not there. Every route that names a thing, taken from the table, is asked
//! for a thing that is really there and somebody else's, and for one that there is not: both answers are the same, for
//! people, command lines and machines alike. Whoever may see it is told something else, or the test would show nothing.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod net;

use std::ops::ControlFlow;

use gangline_guard::secret::Secret;
use gangline_proof::{CpuProver, GpuKey, Prover, epoch, epoch::Prover as _};
use gangline_types::{
    AdapterKind, ApprovalId, ClusterId, DeliveryId, GpuId, IncidentId, PasskeyId, ProofId, SessionId,
};
use gangline_wire::{
    Credential, SigningKey, Spec,
    api::{enrol::KeyKind, epoch::*, operate::FreezeAnswer, proof::*},
    endpoints,
};
use net::{Browser, Net};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

const SOFTWARE: &str = "llvmpipe (LLVM 15.0.6, 256 bits)";

/// Somebody, by each of the ways in which they ask.
enum Who {
    Browser(Browser),
    Key(SigningKey),
}

/// What is there, by the word that stands for it in a path, and bodies that fit it.
struct There {
    gpu: GpuId,
    proof: ProofId,
    epoch: ProofId,
    /// Lifted at a command line; the other one is lifted in a browser.
    freeze: String,
    things: Vec<(&'static str, String)>,
    bodies: Vec<(&'static str, Value)>,
}

impl There {
    /// The path of an endpoint, for what is there or for what is not.
    fn path(&self, spec: &Spec, is_there: bool) -> String {
        let proof = if spec.path.contains("/epochs/") { self.epoch } else { self.proof };
        let mut things = vec![("proof", proof.to_string()), ("gpu", self.gpu.to_string())];
        if spec.credential == Credential::Key {
            things.push(("freeze", self.freeze.clone()));
        }
        let mut path = spec.path.replace("{*path}", "api/version");
        for (word, real) in things.iter().chain(&self.things) {
            let (kind, _) = real.split_once('_').unwrap();
            // Twenty-six zeros are an id that nobody was given.
            let id = if is_there { real.clone() } else { format!("{kind}_{:0>26}", "") };
            path = path.replace(&format!("{{{word}}}"), &id);
        }
        assert!(!path.contains('{'), "nothing is there for {}", spec.path);
        path
    }

    fn body(&self, spec: &Spec) -> Value {
        self.bodies.iter().find(|(name, _)| *name == spec.name).map_or(json!({}), |(_, body)| body.clone())
    }
}

/// Status and sentence of an answer, without the ids that were asked for.
async fn ask(net: &Net, who: &Who, spec: &Spec, there: &There, is_there: bool) -> Option<(u16, String)> {
    let path = there.path(spec, is_there);
    let answer = match (who, spec.credential) {
        (Who::Browser(browser), Credential::Session | Credential::AnySession) => {
            let body = there.body(spec);
            let fields: Vec<(String, String)> = body
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                .collect();
            let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            net.form(browser, &path, &fields).await
        }
        (Who::Key(key), Credential::Key) => {
            let method = if spec.method.as_str() == "ANY" { "GET" } else { spec.method.as_str() };
            net.call(key, method, &path, &there.body(spec)).await
        }
        _ => return None,
    };
    let text = answer.text().replace(&path, "PATH");
    Some((answer.status, text))
}

/// A machine whose GPU is proven, in the middle of an epoch.
async fn in_an_epoch(net: &Net, supplier: &Browser) -> (SigningKey, GpuId, ProofId, Value, Value) {
    let (key, gpu) = net.machine(supplier, SOFTWARE, AdapterKind::Software).await;
    net.beat(&key, gpu).await;
    for _ in 0..3 {
        net.prove_once(&key, gpu).await;
    }
    let gpu_key = epoch::GpuKey::derive(&key.seed(), gpu);
    let asked = BellRequest { gpus: vec![BellGpu { gpu, key: gpu_key.public() }], unable: vec![] };
    let begun: EpochChallenges = net.call(&key, "POST", "/api/v1/machine/epochs", &asked).await.json();
    let EpochChallenge { proof, challenge, .. } = begun.challenges[0].clone();
    let mut prover = epoch::CpuProver::new();
    let commitment = prover.commit(&challenge, &mut |_| ControlFlow::Continue(())).unwrap();
    let roots = EpochCommit { commitment: commitment.clone() };
    let path = format!("/api/v1/machine/epochs/{proof}/commit");
    let receipt: EpochReceipt = net.call(&key, "POST", &path, &roots).await.json();
    let opening = prover.open(&receipt.nonce).unwrap();
    let signature = gpu_key.sign(&challenge, &commitment, &receipt.nonce, &opening);
    let opened = EpochOpen { opening, signature };
    (key, gpu, proof, serde_json::to_value(roots).unwrap(), serde_json::to_value(opened).unwrap())
}

/// A machine in the middle of a joining proof.
async fn in_a_proof(net: &Net, supplier: &Browser) -> (SigningKey, ProofId, Value, Value) {
    let (key, gpu) = net.machine(supplier, SOFTWARE, AdapterKind::Software).await;
    let asked = net::proof_request(&key, &[gpu]);
    let begun: ProofChallenges = net.call(&key, "POST", "/api/v1/machine/proofs", &asked).await.json();
    let begun = &begun.challenges[0];
    let proof = begun.proof;
    let mut prover = CpuProver::default();
    let commitment = prover.commit(&begun.challenge, &mut |_| ()).unwrap();
    let roots = CommitRequest { commitment };
    let path = format!("/api/v1/machine/proofs/{proof}/commit");
    let receipt: CommitReceipt = net.call(&key, "POST", &path, &roots).await.json();
    let opening = prover.open(&receipt.nonce).unwrap();
    let gpu_key = GpuKey::derive(&key.seed(), gpu);
    let signature = gpu_key.sign_matrix(&begun.challenge, &roots.commitment, &receipt.nonce, &opening);
    let opened = OpenRequest { opening, signature: Some(signature) };
    (key, proof, serde_json::to_value(roots).unwrap(), serde_json::to_value(opened).unwrap())
}

/// What takes a browser with a screen, a renter's hire or an alarm to come about is written into the books.
async fn into_the_books(net: &Net, ada: &Browser, rita: &Browser, gpu: GpuId) -> Vec<(&'static str, String)> {
    let books = SqliteConnectOptions::new().filename(net.folder.path().join("gangline.sqlite"));
    let books = SqlitePool::connect_with(books).await.unwrap();
    let session_of = |who: &Browser| {
        let secret = Secret::parse(who.cookie.split_once('=').unwrap().1).unwrap();
        let query =
            sqlx::query_as::<_, (Vec<u8>, Vec<u8>)>("SELECT id, account FROM session WHERE secret = ?");
        query.bind(secret.stored().0.to_vec()).fetch_one(&books)
    };
    let (session, account) = session_of(ada).await.unwrap();
    let (_, renter) = session_of(rita).await.unwrap();
    let id = [3u8; 16];
    for statement in [
        "INSERT INTO passkey (id, credential, account, name, key, state, created_at) VALUES (?1, ?1, ?2, 'a key', x'00', x'00', 1)",
        "INSERT INTO cluster (id, account, machine, gpu, state, price_per_hour, memory_bytes, cpus_millis, created_at, until, seen_at) SELECT ?1, ?3, machine, id, 'running', 0, 1, 1000, unixepoch(), unixepoch() + 3600, unixepoch() FROM gpu WHERE id = ?4",
        "INSERT INTO incident (id, what, subject, severity, opened_at, last_at, count, seen, usual) VALUES (?1, 'surge', 'network', 'warning', 1, 1, 1, 1, 1)",
        "INSERT INTO delivery (id, outlet, event, subject, body, made_at, state, due_at) VALUES (?1, 'mail', 'opened', '', '', unixepoch(), 'dead', 0)",
    ] {
        sqlx::query(statement)
            .bind(id.to_vec())
            .bind(&account)
            .bind(&renter)
            .bind(gpu.as_bytes().to_vec())
            .execute(&books)
            .await
            .unwrap();
    }
    books.close().await;
    let of = |bytes: Vec<u8>| <[u8; 16]>::try_from(bytes).unwrap();
    vec![
        ("passkey", PasskeyId::from_bytes(id).to_string()),
        ("cluster", ClusterId::from_bytes(id).to_string()),
        ("incident", IncidentId::from_bytes(id).to_string()),
        ("delivery", DeliveryId::from_bytes(id).to_string()),
        ("session", SessionId::from_bytes(of(session)).to_string()),
        ("account", gangline_types::AccountId::from_bytes(of(account)).to_string()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_another_s_answers_as_if_it_were_not_there() {
    // All this asking is noticed, and would be stopped.
    let folder = tempfile::tempdir().unwrap();
    let mut config = net::quick_config(folder.path());
    config.notice.freeze_by_rule = false;
    let net = Net::start_in(folder, config).await;
    let (ada, mallory) = (net.invite("supplier", "Ada").await, net.invite("supplier", "Mallory").await);
    let (rita, eve) = (net.invite("renter", "Rita").await, net.invite("renter", "Eve").await);
    let (machine, gpu, epoch, roots, opened) = in_an_epoch(&net, &ada).await;
    let (other_machine, proof, commit, open) = in_a_proof(&net, &ada).await;
    let (stranger, _) = net.machine(&mallory, SOFTWARE, AdapterKind::Software).await;
    let line = async |who: &Browser| Who::Key(net.enrol(who, KeyKind::CommandLine).await);
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;

    let mut things = into_the_books(&net, &ada, &rita, gpu).await;
    things.push(("key", machine.public().id().to_string()));
    // Keys of which nothing else is asked.
    let ben = net.invite("renter", "Ben").await;
    let mut freezes = Vec::new();
    for _ in 0..2 {
        let target = net.enrol(&ben, KeyKind::CommandLine).await.public().id().to_string();
        let wish = json!({"target": target, "reason": "a test", "dry_run": false});
        let frozen: FreezeAnswer = net.call(&operator, "POST", "/api/v1/operate/freezes", &wish).await.json();
        freezes.push(frozen.freeze.unwrap().to_string());
    }
    let freeze = freezes.remove(0);
    things.push(("freeze", freezes.remove(0)));
    let wish = json!({"doer": {"key": machine.public().id()}, "since": 1, "dry_run": false});
    let asked = net.call(&operator, "POST", "/api/v1/operate/restore", &wish).await.error();
    let approval: ApprovalId = asked.approval.unwrap().approval;
    things.push(("approval", approval.to_string()));
    let closed = json!({"state": "closed", "note": ""});
    let bodies = vec![
        ("ProofCommit", commit),
        ("ProofOpen", open),
        ("EpochRoots", roots),
        ("EpochOpened", opened),
        ("GpuLabel", json!({"label": "mine now"})),
        ("LabelGpuForm", json!({"label": "mine now"})),
        ("IncidentById", closed.clone()),
        ("IncidentForm", closed),
        ("ApprovalForm", json!({"decision": "decline"})),
    ];
    let there = There { gpu, proof, epoch, freeze, things, bodies };

    let strangers = [
        ("a supplier's browser", Who::Browser(mallory.clone()), vec![Who::Browser(ada.clone())]),
        ("a supplier's command line", line(&mallory).await, vec![line(&ada).await]),
        ("a machine", Who::Key(stranger), vec![Who::Key(machine), Who::Key(other_machine)]),
        ("a renter's browser", Who::Browser(eve.clone()), vec![Who::Browser(rita.clone())]),
        ("a renter's command line", line(&eve).await, vec![line(&rita).await]),
    ];
    let mut specs: Vec<Spec> = endpoints::ALL
        .iter()
        .map(|d| d.spec)
        .filter(|s| s.credential == Credential::Key || s.credential.is_session())
        // A table of calibration is public, and its number is no secret.
        .filter(|s| s.path.contains('{') && s.name != "CalibrationSet")
        .collect();
    // Whose key or session ended asks nothing any more.
    specs.sort_by_key(|spec| (spec.path.contains("/sessions"), spec.path.contains("/revoke")));
    let mut heard = Vec::new();
    for spec in &specs {
        for (name, who, _) in &strangers {
            let Some(real) = ask(&net, who, spec, &there, true).await else { continue };
            let none = ask(&net, who, spec, &there, false).await.unwrap();
            assert!([403, 404].contains(&real.0), "{} for {name}: {real:?}", spec.name);
            assert_eq!(real, none, "{} tells {name} what is there", spec.name);
            heard.push((spec.name, *name, real.0));
        }
    }
    // And whoever it belongs to is told something else, so that the above was asked of what is there.
    let mut seen = 0;
    for spec in &specs {
        let (mut may, mut others) = (Vec::new(), Vec::new());
        for (name, _, owners) in &strangers {
            for owner in owners {
                let Some((status, text)) = ask(&net, owner, spec, &there, true).await else { continue };
                if ![403, 404].contains(&status) {
                    may.push(text);
                    let told = heard.iter().find(|(of, by, _)| of == &spec.name && by == name).unwrap();
                    assert_eq!(told.2, 404, "{} is refused openly to {name}", spec.name);
                } else {
                    others.push(text);
                }
            }
        }
        for operator in [Who::Browser(net.operator.clone()), Who::Key(operator.clone())] {
            if let Some((status, text)) = ask(&net, &operator, spec, &there, true).await
                && (status != 404)
            {
                may.push(text);
            }
        }
        assert!(!may.is_empty(), "nobody at all sees what {} is about: {others:?}", spec.name);
        seen += 1;
    }
    assert_eq!(seen, specs.len());
    net.stop().await;
}
