//! Every route there is, taken from the table and not from a hand-made list, called as nobody, as a
//! stranger, as the wrong owner, with a revoked key, as a copy, and with another body than was signed.
//! Exceptions are named below, may only shrink, and stay within ten.

mod net;

use gangline_types::{AdapterKind, GpuId};
use gangline_wire::{Credential, Media, Method, Spec, api::enrol::KeyKind, endpoints};
use net::{Net, routes::path_of};

/// Endpoints that nobody in particular may call: they read what is public, or are how one becomes
/// somebody. Each is declared so in the table; this test only holds their number.
const FOR_ANYONE: usize = 40;

/// Endpoints with a credential that answer a stranger's valid key or session with something else than a
/// refusal, each with its reason.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("Me", "says who the asking key belongs to"),
    ("AccountStatement", "is the asker's own"),
    ("Clusters", "are the asker's own"),
    ("ConsolePage", "is the asker's own"),
    ("ApprovePage", "asks for a code"),
    ("LeaveForm", "ends the asker's own session"),
    ("AccountPage", "is the asker's own"),
    ("PasskeyAsk", "asks for a passkey of the asker's own"),
];

/// Names of the fields that an endpoint's body has.
fn fields_of(described: &endpoints::Described) -> Vec<String> {
    let mut generator = schemars::SchemaGenerator::default();
    let [_, request, _] = (described.schemas)(&mut generator);
    let request = request.to_value();
    let name = request["$ref"].as_str().and_then(|at| at.rsplit('/').next()).unwrap_or_default().to_owned();
    let definitions = generator.take_definitions(true);
    let schema = definitions.get(&name).unwrap_or(&request);
    schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
}

fn signed_routes() -> Vec<Spec> {
    endpoints::ALL.iter().map(|d| d.spec).filter(|s| s.credential == Credential::Key).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_past_a_route_that_asks_who() {
    let net = Net::start().await;
    let gpu = GpuId::from_bytes([1; 16]);
    let mut open = 0;
    for d in endpoints::ALL {
        let spec = d.spec;
        let path = path_of(&spec, gpu);
        let method = reqwest::Method::from_bytes(spec.method.as_str().as_bytes()).unwrap();
        if matches!(spec.credential, Credential::Nobody | Credential::MaybeSession) {
            open += 1;
            continue;
        }
        let answer = net::Answer::of(
            net.http.request(method, format!("{}{path}", net.origin)).body("{}").send().await.unwrap(),
        )
        .await;
        assert!(
            [401, 403].contains(&answer.status) || answer.status == 413,
            "{} let nobody in: {} {}",
            spec.name,
            answer.status,
            answer.text()
        );
        if answer.status == 413 {
            assert_eq!(spec.body_bytes_max, 0, "{}", spec.name);
        }
    }
    assert_eq!(open, FOR_ANYONE, "endpoints that are open to anyone");
    assert!(EXCEPTIONS.len() <= 10);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_refused_when_revoked_copied_or_of_another_body() {
    let net = Net::start().await;
    let supplier = net.invite("supplier", "Ada").await;
    let (key, gpu) = net.machine(&supplier, "llvmpipe", AdapterKind::Software).await;
    let stranger = net::new_key();
    let mut checked = 0;
    // Leaving ends the key, which is what the second half is about: it comes last.
    let (leave, others): (Vec<_>, Vec<_>) =
        signed_routes().into_iter().partition(|s| s.name == "MachineLeave");
    for spec in others {
        let path = path_of(&spec, gpu);
        let has_body = spec.body_bytes_max > 0 && spec.method != Method::Get && spec.method != Method::Delete;
        let body = if has_body { b"{}".to_vec() } else { Vec::new() };
        let sign = |k| net.sign_bytes(k, spec.method.as_str(), &path, body.clone(), net::now());

        assert_eq!(net.send(&sign(&stranger)).await.error().code, "unknown_key", "{}", spec.name);
        let once = sign(&key);
        net.send(&once).await;
        assert_eq!(net.send(&once).await.error().code, "replayed", "{} took a copy", spec.name);
        let mut other_sequence = sign(&key);
        other_sequence.headers[1].1 = format!("{}0", other_sequence.headers[1].1);
        assert_eq!(net.send(&other_sequence).await.error().code, "bad_signature", "{}", spec.name);
        if has_body {
            let mut other_body = sign(&key);
            other_body.body = b"{\"a\":1}".to_vec();
            assert_eq!(
                net.send(&other_body).await.error().code,
                "wrong_digest",
                "{} took another body",
                spec.name
            );
        }
        let mut other_path = sign(&key);
        other_path.query = "x=1".into();
        assert_eq!(
            net.send(&other_path).await.error().code,
            "bad_signature",
            "{} took another query",
            spec.name
        );
        let late = net.sign_bytes(
            &key,
            spec.method.as_str(),
            &path,
            body.clone(),
            gangline_types::UnixSeconds(net::now().0 - 600),
        );
        let error = net.send(&late).await.error();
        assert_eq!(error.code, "skewed_clock", "{}", spec.name);
        assert!(
            error.message.contains("600 s behind") || error.message.contains("601 s behind"),
            "{}",
            error.message
        );
        checked += 1;
    }
    assert_eq!(checked, signed_routes().len() - 1);
    let left = net.sign_bytes(&key, "POST", leave[0].path, b"{}".to_vec(), net::now());
    assert_eq!(net.send(&left).await.status, 200);
    assert_eq!(net.send(&left).await.error().code, "revoked_key", "a copy of the leave was taken");
    for spec in signed_routes() {
        let path = path_of(&spec, gpu);
        let ended = net.sign_bytes(&key, spec.method.as_str(), &path, Vec::new(), net::now());
        assert_eq!(net.send(&ended).await.error().code, "revoked_key", "{} took a revoked key", spec.name);
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_s_valid_key_changes_nothing_and_sees_nothing() {
    let net = Net::start().await;
    let (_, gpu) = net.machine(&net.invite("supplier", "Ada").await, "llvmpipe", AdapterKind::Software).await;
    let eve = net.invite("renter", "Eve").await;
    let cli = net.enrol(&eve, KeyKind::CommandLine).await;
    let (machine, _) =
        net.machine(&net.invite("supplier", "Mallory").await, "llvmpipe", AdapterKind::Software).await;
    for spec in signed_routes() {
        if EXCEPTIONS.iter().any(|(name, _)| *name == spec.name) {
            continue;
        }
        let path = path_of(&spec, gpu);
        let body = serde_json::json!({"label": "mine now"});
        let has_body = spec.name == "GpuLabel";
        let by_renter = net.call(&cli, spec.method.as_str(), &path, &serde_json::json!({})).await;
        assert!(
            (400..500).contains(&by_renter.status),
            "{} for a renter: {} {}",
            spec.name,
            by_renter.status,
            by_renter.text()
        );
        if has_body {
            let by_machine = net.call(&machine, spec.method.as_str(), &path, &body).await;
            assert_eq!(
                (by_machine.status, by_machine.error().code.as_str()),
                (404, "not_found"),
                "another machine's GPU can be seen"
            );
            let mut with_header = net.sign(&machine, spec.method.as_str(), &path, &body);
            with_header.headers.extend([
                ("x-account-id".to_owned(), "acct_x".to_owned()),
                ("x-user-id".to_owned(), "1".to_owned()),
            ]);
            assert_eq!(net.send(&with_header).await.status, 404, "a header named an owner and was believed");
        }
    }
    let public = format!("/api/v1/public/gpus/{gpu}");
    let gpu_now: gangline_types::public::PublicGpu = net.until(&public, |_| true).await;
    assert_eq!(gpu_now.label.as_str(), "");

    // In a browser: other roles' forms.
    for d in endpoints::ALL.iter().filter(|d| d.spec.credential.is_session() && d.spec.method == Method::Post)
    {
        let spec = d.spec;
        if EXCEPTIONS.iter().any(|(name, _)| *name == spec.name) {
            continue;
        }
        assert_eq!(spec.media, Media::Html);
        let path = path_of(&spec, gpu);
        let enrolment = gangline_types::EnrolmentId::from_bytes([1; 16]).to_string();
        let fields = [
            ("label", "x"),
            ("role", "operator"),
            ("name", "Eve"),
            ("enrolment", enrolment.as_str()),
            ("decision", "approve"),
            ("state", "closed"),
            ("target", "fleet"),
            ("credential", "{}"),
            ("password", "x"),
        ];
        let known = fields_of(d);
        let fields: Vec<_> =
            fields.into_iter().filter(|(name, _)| known.contains(&(*name).to_owned())).collect();
        let answer = net.form(&eve, &path, &fields).await;
        assert!([403, 404].contains(&answer.status), "{} for a renter: {}", spec.name, answer.status);
        let mut without = eve.clone();
        without.csrf = "0".repeat(64);
        let answer = net.form(&without, &path, &fields).await;
        assert_eq!(answer.status, 403, "{} took a form without its token", spec.name);
    }

    // All of it is written down, with who and why.
    let console = net.console_with("label_gpu").await;
    assert!(
        console.contains("label_gpu") && console.contains("not_found"),
        "the operator cannot see the attempt"
    );
    net.stop().await;
}

impl Net {
    /// The operator's console, once `word` is on it: refusals are written down behind the answer.
    async fn console_with(&self, word: &str) -> String {
        let mut page = String::new();
        for _ in 0..100 {
            page = self.page(&self.operator, "/console").await.text();
            if page.contains(word) {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        page
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_gets_a_clear_refusal() {
    let net = Net::start().await;
    let (key, gpu) =
        net.machine(&net.invite("supplier", "Ada").await, "llvmpipe", AdapterKind::Software).await;
    let path = format!("/api/v1/gpus/{gpu}/label");
    let mut inventory = serde_json::to_value(net::inventory("llvmpipe", AdapterKind::Software)).unwrap();
    inventory["gpus"][0]["standing"] = "proven".into();
    let nested = net.call(&key, "PUT", "/api/v1/machine/inventory", &inventory).await;
    let error = nested.error();
    assert_eq!((nested.status, error.code.as_str()), (400, "unknown_fields"), "{error}");
    assert_eq!(*error.fields, ["gpus[].standing"]);
    for (what, body, status, code) in [
        ("not JSON", b"{".to_vec(), 400, "malformed"),
        ("not UTF-8", vec![b'"', 0xff, b'"'], 400, "malformed"),
        ("another type", b"{\"label\":5}".to_vec(), 400, "malformed"),
        ("an unknown field", b"{\"label\":\"a\",\"owner\":\"acct_x\"}".to_vec(), 400, "unknown_fields"),
        ("control characters", b"{\"label\":\"a\\u001b[2J\"}".to_vec(), 400, "malformed"),
        ("a long label", format!("{{\"label\":\"{}\"}}", "x".repeat(65)).into_bytes(), 400, "malformed"),
        (
            "deep nesting",
            format!("{{\"label\":{}1{}}}", "[".repeat(1900), "]".repeat(1900)).into_bytes(),
            400,
            "malformed",
        ),
        ("too large", vec![b' '; 5000], 413, "too_large"),
    ] {
        let answer = net.send(&net.sign_bytes(&key, "PUT", &path, body, net::now())).await;
        let error = answer.error();
        assert_eq!((answer.status, error.code.as_str()), (status, code), "{what}: {error}");
    }
    assert_eq!(net.get("/api/v1/public/gpus/gpu_nonsense").await.error().code, "not_found");
    assert_eq!(net.get(&format!("/api/v1/public/gpus/{}", GpuId::from_bytes([9; 16]))).await.status, 404);
    assert_eq!(net.get("/api/v1/nothing").await.error().code, "not_found");
    let wrong_method = net.http.delete(format!("{}/api/v1/public/network", net.origin)).send().await.unwrap();
    assert_eq!(net::Answer::of(wrong_method).await.error().code, "wrong_method");
    let elsewhere = net
        .http
        .get(format!("{}/api/v1/public/network", net.origin))
        .header("host", "evil.example")
        .send()
        .await
        .unwrap();
    assert_eq!(net::Answer::of(elsewhere).await.error().code, "other_authority");
    // Text that is dangerous elsewhere is only text here.
    for label in [
        "'; DROP TABLE gpu; --",
        "<script>alert(1)</script>",
        "{{7*7}} ${7*7}",
        "../../etc/passwd",
        "%0d%0aSet-Cookie:x=1",
    ] {
        let answer = net.call(&key, "PUT", &path, &serde_json::json!({"label": label})).await;
        assert_eq!(answer.status, 200, "{label}: {}", answer.text());
        let shown: gangline_types::public::PublicGpu = net
            .until(&format!("/api/v1/public/gpus/{gpu}"), |g: &gangline_types::public::PublicGpu| {
                g.label.as_str() == label
            })
            .await;
        assert_eq!(shown.label.as_str(), label);
        let page = net.get(&format!("/gpu/{gpu}")).await.text();
        assert!(!page.contains("<script>alert"), "a label became markup");
    }
    let mut compressed = net.sign(&key, "PUT", &path, &serde_json::json!({"label": "a"}));
    compressed.headers.push(("content-encoding".into(), "gzip".into()));
    let answer = net.send(&compressed).await;
    assert_eq!((answer.status, answer.error().code.as_str()), (415, "compressed"));
    // What is refused is looked at, and what it resembles stands beside the refusal; it decides nothing.
    let injected = b"{\"label\":[\"1' UNION SELECT name FROM account --\"]}".to_vec();
    let answer = net.send(&net.sign_bytes(&key, "PUT", &path, injected, net::now())).await;
    assert_eq!((answer.status, answer.error().code.as_str()), (400, "malformed"));
    assert!(!answer.text().contains("resembles"), "the asker was told how the inspection works");
    let console = net.console_with("label resembles SQL").await;
    assert!(console.contains("label resembles SQL"), "the operator does not see the inspection");
    for q in ["' OR 1=1 --", "%", "_", "\\", "gpu_%"] {
        let encoded: String = form_urlencoded::byte_serialize(q.as_bytes()).collect();
        let page: gangline_wire::api::public::GpuPage =
            net.json(&format!("/api/v1/public/gpus?q={encoded}")).await;
        assert!(page.gpus.is_empty(), "{q} matched {} GPUs", page.gpus.len());
    }
    net.stop().await;
}
