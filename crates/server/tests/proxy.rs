//! Where a request comes from, with a proxy before the server and without: for quotas and for the record.

#![allow(clippy::unwrap_used)]

mod net;

use std::time::{Duration, Instant};

use gangline_guard::forwarded::Proxies;
use gangline_types::GpuId;
use gangline_wire::api::{enrol::KeyKind, operate::RefusalView};
use net::Net;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(90);

async fn network(proxies: &[&str]) -> Net {
    let folder = tempfile::tempdir().unwrap();
    let mut config = net::quick_config(folder.path());
    config.proxies = Proxies::of(proxies.iter().copied()).unwrap();
    Net::start_in(folder, config).await
}

/// Tries a link that is none.
async fn guess(net: &Net, headers: &[(&str, &str)]) -> u16 {
    let url = format!("{}/enter/{}", net.origin, "0".repeat(64));
    let mut request = net.http.post(url).header("origin", &net.origin).body("");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap().status().as_u16()
}

/// Addresses of refused renamings, once there are so many.
async fn addresses(net: &Net, how_many: usize) -> Vec<String> {
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let path = "/api/v1/operate/refusals?action=label_gpu";
        let rows: Vec<RefusalView> = net.call(&operator, "GET", path, &Value::Null).await.json();
        let found: Vec<String> = rows.into_iter().rev().map(|row| row.address).collect();
        if found.len() >= how_many {
            return found;
        }
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A renaming that is refused, sent with these headers beside what is signed.
async fn rename(net: &Net, headers: &[(&str, &str)]) {
    let path = format!("/api/v1/gpus/{}/label", GpuId::from_bytes([9; 16]));
    let mut signed = net.sign(&net::new_key(), "PUT", &path, &json!({"label": "x"}));
    signed.headers.extend(headers.iter().map(|(n, v)| (n.to_string(), v.to_string())));
    assert_eq!(net.send(&signed).await.error().code, "unknown_key");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_named_proxy_each_visitor_has_a_quota_and_a_record_of_their_own() {
    let net = network(&["127.0.0.1"]).await;
    let mut told = 0;
    while guess(&net, &[("forwarded", "for=203.0.113.7")]).await != 429 {
        told += 1;
        assert!(told < 200, "no quota at all");
    }
    assert_ne!(guess(&net, &[("forwarded", "for=198.51.100.1")]).await, 429, "somebody else");
    // What somebody puts before the proxy's own word makes nobody else of them.
    assert_eq!(guess(&net, &[("forwarded", "for=192.0.2.1, for=203.0.113.7")]).await, 429);
    assert_eq!(guess(&net, &[("forwarded", "for=192.0.2.1"), ("forwarded", "for=203.0.113.7")]).await, 429);
    // No other header says anything.
    let other =
        [("forwarded", "for=203.0.113.7"), ("x-forwarded-for", "192.0.2.1"), ("x-real-ip", "192.0.2.1")];
    assert_eq!(guess(&net, &other).await, 429);
    rename(&net, &[("forwarded", "for=\"[2001:db8::7]:4711\"")]).await;
    rename(&net, &[("x-forwarded-for", "192.0.2.1")]).await;
    assert_eq!(addresses(&net, 2).await, ["2001:db8::7", "127.0.0.1"]);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_one_no_header_is_believed() {
    for proxies in [&[][..], &["10.0.0.0/8"]] {
        let net = network(proxies).await;
        for name in ["forwarded", "x-forwarded-for", "x-real-ip", "true-client-ip", "cf-connecting-ip"] {
            let value = if name == "forwarded" { "for=192.0.2.1" } else { "192.0.2.1" };
            rename(&net, &[(name, value)]).await;
        }
        assert_eq!(addresses(&net, 5).await, ["127.0.0.1"; 5]);
        net.stop().await;
    }
}
