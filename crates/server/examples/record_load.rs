//! Makes a recording for `gangline guard score`: a real server, and people and machines who use it for a while as they
//! do when nothing is wrong, mistakes among them, each from an address of their own.
//!
//!     cargo run -p gangline-server --example record_load -- load.jsonl 600
//!
//! With `breach` after the seconds it records an attack instead: what the breach of April 2024 did, at its own pace.

#![allow(clippy::unwrap_used)]

#[path = "../tests/net/mod.rs"]
mod net;

use std::time::{Duration, Instant};

use gangline_guard::forwarded::Proxies;
use gangline_types::{AdapterKind, GpuId, UnixSeconds};
use gangline_wire::{SigningKey, api::enrol::KeyKind};
use net::{Browser, Net};
use serde_json::json;

/// Xorshift: which thing is done next, and by whom.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
    /// An address of somebody at home.
    fn address(&mut self) -> String {
        format!("for=203.{}.{}.{}", self.below(64), self.below(256), self.below(256))
    }
}

/// Who does the same again and again, beside those who do what chance has them do.
struct Regulars {
    /// A supplier of many machines, with a script.
    large: Supplier,
    /// Keys that were revoked under a script that nobody looks after, and that of a machine whose clock is wrong.
    revoked: SigningKey,
    late: SigningKey,
    /// Somebody who runs a network of their own and comes to this one with keys of that.
    elsewhere: Vec<SigningKey>,
}

struct Supplier {
    browser: Browser,
    from: String,
    machines: Vec<(SigningKey, GpuId)>,
}

async fn get(net: &Net, from: &str, path: &str) {
    let url = format!("{}{path}", net.origin);
    net.http.get(url).header("forwarded", from).send().await.unwrap();
}

async fn signed(net: &Net, key: &SigningKey, from: &str, method: &str, path: &str, body: serde_json::Value) {
    let mut request = match method {
        "GET" => net.sign_bytes(key, method, path, Vec::new(), net::now()),
        _ => net.sign(key, method, path, &body),
    };
    request.headers.push(("forwarded".into(), from.into()));
    net.send(&request).await;
}

async fn form(net: &Net, who: &Browser, from: &str, path: &str, fields: &[(&str, &str)]) {
    let mut encoder = form_urlencoded::Serializer::new(String::new());
    encoder.append_pair("csrf", &who.csrf).extend_pairs(fields);
    let request = net.http.post(format!("{}{path}", net.origin)).header("forwarded", from);
    let request = request.header("cookie", &who.cookie).header("origin", &net.origin);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    request.body(encoder.finish()).send().await.unwrap();
}

async fn page(net: &Net, who: &Browser, from: &str, path: &str) {
    let request = net.http.get(format!("{}{path}", net.origin)).header("forwarded", from);
    request.header("cookie", &who.cookie).send().await.unwrap();
}

/// An id with one character mistyped.
fn mistyped(gpu: GpuId, dice: &mut Dice) -> String {
    let mut text = gpu.to_string();
    let at = text.len() - 1 - dice.below(20) as usize;
    let other = ["a", "b", "7", "k"][dice.below(4) as usize];
    text.replace_range(at..=at, other);
    text
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, file, seconds, more @ ..] = &args[..] else { panic!("record_load FILE SECONDS [breach]") };
    let seconds: u64 = seconds.parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = net::quick_config(folder.path());
    config.proxies = Proxies::of(["127.0.0.1"]).unwrap();
    // An attacker that is stopped at the first touch would leave the other detectors nothing to see.
    config.notice.freeze_by_rule = more.is_empty();
    // People join in the first seconds here, and over weeks elsewhere: that is not recorded.
    let before = net::quick_config(folder.path());
    let net = Net::start_in(folder, before).await;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ seconds);
    let mut suppliers = Vec::new();
    for n in 0..8 {
        let browser = net.invite("supplier", &format!("supplier {n}")).await;
        let mut machines = Vec::new();
        for _ in 0..1 + dice.below(5) {
            machines.push(net.machine(&browser, "llvmpipe", AdapterKind::Software).await);
        }
        suppliers.push(Supplier { browser, from: dice.address(), machines });
    }
    let renter = net.invite("renter", "renter").await;
    let renter = (net.enrol(&renter, KeyKind::CommandLine).await, dice.address());
    let operator = net.operator.clone();
    let browser = net.invite("supplier", "large").await;
    let mut machines = Vec::new();
    for _ in 0..15 {
        machines.push(net.machine(&browser, "llvmpipe", AdapterKind::Software).await);
    }
    let (revoked, late) =
        (net.enrol(&browser, KeyKind::CommandLine).await, net.enrol(&browser, KeyKind::CommandLine).await);
    net.form(&browser, &format!("/console/keys/{}/revoke", revoked.public().id()), &[]).await;
    let large = Supplier { browser, from: "for=192.0.2.77".into(), machines };
    let elsewhere = (0..5).map(|_| net::new_key()).collect();
    let regulars = Regulars { large, revoked, late, elsewhere };
    config.notice.record = Some(file.into());
    let net = Net::start_in(net.stop().await, config).await;

    let began = Instant::now();
    if more.is_empty() {
        let (mut at, mut second) = (Duration::ZERO, 0);
        while at.as_secs() < seconds {
            while second < at.as_secs() {
                regularly(&net, &mut dice, &regulars, &suppliers, &renter, &operator, second).await;
                second += 1;
            }
            // Two a second, apart as chance has it.
            at += Duration::from_millis(dice.below(1_000));
            tokio::time::sleep_until((began + at).into()).await;
            work(&net, &mut dice, &suppliers, &renter, &operator).await;
        }
    } else {
        breach(&net, &mut dice, &suppliers, seconds).await;
    }
    println!("recorded {} s", began.elapsed().as_secs());
    net.stop().await;
}

/// What one of them does next.
async fn work(
    net: &Net,
    dice: &mut Dice,
    suppliers: &[Supplier],
    renter: &(SigningKey, String),
    operator: &Browser,
) {
    let who = &suppliers[dice.below(suppliers.len() as u64) as usize];
    let (key, gpu) = &who.machines[dice.below(who.machines.len() as u64) as usize];
    let (any, label) = (dice.address(), format!("shed-{}", dice.below(100)));
    let path = format!("/api/v1/gpus/{gpu}/label");
    match dice.below(100) {
        // Visitors of the explorer, and programs that read it.
        0..30 => get(net, &any, &format!("/gpu/{gpu}")).await,
        30..45 => get(net, &any, &format!("/api/v1/public/gpus/{gpu}")).await,
        45..52 => get(net, &any, "/").await,
        52..55 => get(net, &any, &format!("/gpu/{}", mistyped(*gpu, dice))).await,
        // Suppliers.
        55..65 => page(net, &who.browser, &who.from, "/console").await,
        65..71 => {
            form(net, &who.browser, &who.from, &format!("/console/gpus/{gpu}/label"), &[("label", &label)])
                .await
        }
        71..76 => signed(net, key, &who.from, "PUT", &path, json!({"label": label})).await,
        76..82 => {
            let inventory = net::inventory("llvmpipe", AdapterKind::Software);
            let inventory = serde_json::to_value(inventory).unwrap();
            signed(net, key, &who.from, "PUT", "/api/v1/machine/inventory", inventory).await;
        }
        82..84 => {
            // A name that is too long, by a script that does not know better.
            signed(net, key, &who.from, "PUT", &path, json!({"label": "x".repeat(80)})).await;
        }
        84..85 => {
            let wrong = format!("/api/v1/gpus/{}/label", mistyped(*gpu, dice));
            signed(net, key, &who.from, "PUT", &wrong, json!({"label": label})).await;
        }
        85..87 => signed(net, &net::new_key(), &any, "GET", "/api/v1/me", json!({})).await,
        87..88 => {
            let ask =
                json!({"public_key": net::new_key().public(), "kind": "machine", "host": "h", "summary": ""});
            signed(net, &net::new_key(), &any, "POST", "/api/v1/enrolments", ask).await;
        }
        88..90 => page(net, &who.browser, &who.from, "/approve?code=ABCD-EFGH").await,
        // A renter who finds nothing to hire, and looks again.
        90..93 => signed(net, &renter.0, &renter.1, "GET", "/api/v1/clusters", json!({})).await,
        93..95 => signed(net, &renter.0, &renter.1, "POST", "/api/v1/clusters", json!({})).await,
        // The operator.
        95..98 => page(net, operator, "for=203.0.113.9", "/console").await,
        _ => page(net, operator, "for=203.0.113.9", "/console/security").await,
    }
}

/// What comes by the clock in this second.
async fn regularly(
    net: &Net,
    dice: &mut Dice,
    who: &Regulars,
    suppliers: &[Supplier],
    renter: &(SigningKey, String),
    operator: &Browser,
    second: u64,
) {
    let every = |seconds: u64, at: u64| second % seconds == at;
    let (me, of) = ("/api/v1/me", |gpu: &GpuId| format!("/api/v1/gpus/{gpu}/label"));
    // A program that reads the whole explorer, slowly.
    if every(4, 0) {
        let all: Vec<_> = suppliers.iter().flat_map(|s| &s.machines).collect();
        let (_, gpu) = all[(second / 4) as usize % all.len()];
        get(net, "for=198.18.0.5", &format!("/api/v1/public/gpus/{gpu}")).await;
    }
    // An office: many people from one block of addresses.
    if every(2, 1) {
        let (_, gpu) = &suppliers[dice.below(8) as usize].machines[0];
        let path =
            ["/".to_owned(), format!("/gpu/{gpu}"), "/snapshots".into()][dice.below(3) as usize].clone();
        get(net, &format!("for=198.18.7.{}", dice.below(40)), &path).await;
    }
    // Scripts that nobody looks after.
    if every(15, 3) {
        signed(net, &who.revoked, "for=192.0.2.78", "GET", me, json!({})).await;
    }
    if every(30, 7) {
        let mut request = net.sign_bytes(&who.late, "GET", me, Vec::new(), UnixSeconds(net::now().0 - 3_600));
        request.headers.push(("forwarded".into(), "for=192.0.2.79".into()));
        net.send(&request).await;
    }
    if every(20, 11) {
        let key = &who.elsewhere[dice.below(5) as usize];
        signed(net, key, &dice.address(), "GET", me, json!({})).await;
    }
    // All machines of somebody are started again, and described again at once.
    if every(400, 60) {
        let inventory = serde_json::to_value(net::inventory("llvmpipe", AdapterKind::Software)).unwrap();
        for (key, _) in &who.large.machines {
            signed(net, key, &who.large.from, "PUT", "/api/v1/machine/inventory", inventory.clone()).await;
        }
    }
    // Or named, by each machine itself, or on the page one after the other.
    if every(500, 200) {
        for (n, (key, gpu)) in who.large.machines.iter().enumerate() {
            let label = json!({"label": format!("rack {n}")});
            signed(net, key, &who.large.from, "PUT", &of(gpu), label).await;
        }
    }
    if every(500, 300) {
        for (n, (_, gpu)) in who.large.machines.iter().enumerate() {
            let (path, label) = (format!("/console/gpus/{gpu}/label"), format!("shelf {n}"));
            form(net, &who.large.browser, &who.large.from, &path, &[("label", &label)]).await;
        }
    }
    // A card that was moved: the machine that had it names it once more.
    if every(600, 350) {
        let [(key, _), (_, gpu), ..] = &who.large.machines[..] else { return };
        signed(net, key, &who.large.from, "PUT", &of(gpu), json!({"label": "moved"})).await;
    }
    // Machines are set up: some enrolments within a minute from one place.
    if every(300, 100) {
        for _ in 0..6 {
            let key = net::new_key();
            let ask = json!({"public_key": key.public(), "kind": "machine", "host": "h", "summary": ""});
            signed(net, &key, "for=198.18.7.200", "POST", "/api/v1/enrolments", ask).await;
        }
    }
    // A renter's script asks for a cluster that is gone, for a while.
    if second % 700 < 60 && every(5, 2) {
        let gone = format!("/api/v1/clusters/{}", gangline_types::ClusterId::from_bytes([9; 16]));
        signed(net, &renter.0, &renter.1, "GET", &gone, json!({})).await;
    }
    // The operator looks through everything.
    if every(450, 40) {
        for path in ["/console", "/console/security", "/console/approvals", "/account", "/log/checkpoint"] {
            page(net, operator, "for=203.0.113.9", path).await;
        }
    }
}

/// What the breach did: look who owns what, touch what is another's, rename far and wide, bring fakes.
async fn breach(net: &Net, dice: &mut Dice, suppliers: &[Supplier], seconds: u64) {
    let from = "for=198.51.100.66";
    let (key, _) = &suppliers[0].machines[0];
    let began = Instant::now();
    let targets: Vec<GpuId> =
        suppliers[1..].iter().flat_map(|s| s.machines.iter().map(|(_, gpu)| *gpu)).collect();
    let mut n = 0;
    while began.elapsed().as_secs() < seconds {
        let target = targets[n % targets.len()];
        get(net, from, &format!("/api/v1/public/gpus/{}", mistyped(target, dice))).await;
        signed(net, key, from, "PUT", &format!("/api/v1/gpus/{target}/label"), json!({"label": "owned"}))
            .await;
        let new = net::new_key();
        let ask = json!({"public_key": new.public(), "kind": "machine", "host": "h", "summary": ""});
        signed(net, &new, from, "POST", "/api/v1/enrolments", ask).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        n += 1;
    }
}
