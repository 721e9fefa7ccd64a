//! What scanners cannot do themselves: it signs. A request whose `Signature` header is `alice` or `bob` goes on
//! as one of that person's, signed anew with the key or shown with the session that the path is for; any other
//! goes on as it came. Machines, suppliers, renters and operators are real, so that what is tried gets past
//! the door.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use gangline_types::{AdapterKind, GpuId, MicroCredits};
use gangline_wire::{
    SigningKey,
    api::{enrol::KeyKind, machine::*},
};
use serde_json::{Value, json};

use crate::{
    net::{Browser, Net, now, quick_config},
    tools::Books,
};

/// Keys of each person and kind: each may sign ten times a second, so a scanner needs several.
const KEYS: usize = 6;
/// Paths that end what the scan needs, wait for minutes, or never end.
const LEFT_OUT: [&str; 6] = [
    "/events",
    "/leave",
    "/api/v1/machine/leave",
    "/api/v1/machine/clusters/{cluster}/tunnel",
    "/console/keys/{key}/revoke",
    "/signin/provider",
];

/// One person, who has an account of each role.
struct Person {
    supplier: Browser,
    machine: SigningKey,
    gpu: GpuId,
    supplies: Vec<SigningKey>,
    rents: Vec<SigningKey>,
    cluster: Option<String>,
}

struct Shared {
    net: Net,
    people: [(&'static str, Person); 2],
    asked: AtomicUsize,
    signed: AtomicUsize,
}

/// The proxy, and the server behind it.
pub struct Proxy {
    pub url: String,
    shared: Arc<Shared>,
    served: tokio::task::JoinHandle<()>,
}

async fn person(net: &Net, name: &str) -> Person {
    let supplier = net.invite("supplier", name).await;
    let (machine, gpu) = net.machine(&supplier, "llvmpipe", AdapterKind::Software).await;
    let renter = net.invite("renter", name).await;
    let (mut supplies, mut rents) = (vec![], vec![]);
    for _ in 0..KEYS {
        supplies.push(net.enrol(&supplier, KeyKind::CommandLine).await);
        rents.push(net.enrol(&renter, KeyKind::CommandLine).await);
    }
    // A GPU of one's own to hire, so that there is a cluster which the other must not see.
    net.beat(&machine, gpu).await;
    for _ in 0..3 {
        net.prove_once(&machine, gpu).await;
    }
    let price_per_hour = MicroCredits(1_000_000);
    let offer = Offer { gpu, price_per_hour, hours_max: 24, memory_bytes: 1 << 30, cpus_millis: 1000 };
    let report =
        SyncReport { paused: false, offers: vec![offer], clusters: vec![], wait: gangline_types::Seconds(0) };
    net.call(&machine, "POST", "/api/v1/machine/sync", &report).await.json::<SyncOrders>();
    let cluster = net.hire(&rents[0], gpu).await;
    Person { supplier, machine, gpu, supplies, rents, cluster: Some(cluster.id.to_string()) }
}

impl Proxy {
    pub async fn start(books: &Books) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = match books {
            Books::Sqlite => None,
            Books::Postgres(server) => Some(server.url(&server.database().await).parse().unwrap()),
        };
        let config = gangline_server::Config { database, ..quick_config(folder.path()) };
        let net = Net::start_in(folder, config).await;
        let people = [("alice", person(&net, "Alice").await), ("bob", person(&net, "Bob").await)];
        let shared =
            Arc::new(Shared { net, people, asked: AtomicUsize::new(0), signed: AtomicUsize::new(0) });
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(forward).with_state(shared.clone());
        let served = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, shared, served }
    }

    /// Requests that came.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }
    /// And went on as somebody's.
    pub fn signed(&self) -> usize {
        self.shared.signed.load(Ordering::Relaxed)
    }

    pub async fn stop(self) {
        self.served.abort();
        let _ = self.served.await;
        // Still right after all that: the books are whole, and it answers.
        let answer = self.shared.net.get("/readyz").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// The server's own document, with what a scanner needs to know of values, without what must not be called.
async fn document(shared: &Shared, query: &str) -> Value {
    let mut document: Value = shared.net.json("/openapi.json").await;
    // The proxy knows people by this header, also where the server knows them by a cookie.
    let by_header = json!({"type": "apiKey", "in": "header", "name": "Signature"});
    document["components"]["securitySchemes"]["session"] = by_header;
    let alice = &shared.people[0].1;
    let paths = document["paths"].as_object_mut().unwrap();
    paths.retain(|path, _| !LEFT_OUT.contains(&path.as_str()));
    let only = query.strip_prefix("only=").filter(|only| !only.is_empty());
    if let Some(only) = only {
        for operations in paths.values_mut() {
            let operations = operations.as_object_mut().unwrap();
            operations.retain(|_, o| only.split(',').any(|name| o["operationId"] == name));
        }
        paths.retain(|_, operations| !operations.as_object().unwrap().is_empty());
        let left: usize = paths.values().map(|o| o.as_object().unwrap().len()).sum();
        assert_eq!(left, only.split(',').count(), "an operation of the list is not there: {only}");
    } else {
        // What Ray is asked may have any of these methods; the document lists it once.
        let ray = &mut paths["/api/v1/clusters/{cluster}/ray/{path}"];
        for method in ["put", "post", "delete", "patch", "head", "options"] {
            let mut operation = ray["get"].clone();
            operation["operationId"] = format!("RayProxy-{method}").into();
            ray[method] = operation;
        }
    }
    for operation in paths.values_mut().flat_map(|path| path.as_object_mut().unwrap().values_mut()) {
        for parameter in operation["parameters"].as_array_mut().into_iter().flatten() {
            let example = match parameter["name"].as_str().unwrap() {
                "gpu" => alice.gpu.to_string(),
                "cluster" => alice.cluster.clone().unwrap_or_default(),
                "period" => "0".into(),
                "path" => "api/version".into(),
                _ => continue,
            };
            parameter["example"] = example.clone().into();
            parameter["schema"]["example"] = example.into();
        }
    }
    document
}

impl Person {
    /// The key that a path is for.
    fn key(&self, path: &str, turn: usize) -> &SigningKey {
        if path.starts_with("/api/v1/machine") || path.starts_with("/api/v1/gpus") {
            &self.machine
        } else if path.starts_with("/api/v1/clusters") || path == "/api/v1/me" {
            &self.rents[turn % KEYS]
        } else {
            &self.supplies[turn % KEYS]
        }
    }
}

async fn forward(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let turn = shared.asked.fetch_add(1, Ordering::Relaxed);
    let (parts, body) = request.into_parts();
    if parts.uri.path() == "/openapi.json" && parts.method == "GET" {
        return axum::Json(document(&shared, parts.uri.query().unwrap_or_default()).await).into_response();
    }
    let Ok(mut body) = axum::body::to_bytes(body, 2 << 20).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let who = parts.headers.get("signature").and_then(|name| {
        shared.people.iter().find(|(known, _)| name.as_bytes() == known.as_bytes()).map(|(_, person)| person)
    });
    let mut url = reqwest::Url::parse(&shared.net.origin).unwrap();
    url.set_path(parts.uri.path());
    url.set_query(parts.uri.query());
    let mut headers = HeaderMap::new();
    for (name, value) in &parts.headers {
        let is_ours = matches!(name.as_str(), "host" | "content-length" | "connection" | "transfer-encoding");
        let is_name_of_ours = who.is_some() && name == "signature";
        if !is_ours && !is_name_of_ours {
            headers.append(name, value.clone());
        }
    }
    if let Some(person) = who {
        shared.signed.fetch_add(1, Ordering::Relaxed);
        if url.path().starts_with("/api/v1/") {
            let path = match url.query() {
                Some(query) => format!("{}?{query}", url.path()),
                None => url.path().to_owned(),
            };
            let key = person.key(url.path(), turn);
            let signed = shared.net.sign_bytes(key, parts.method.as_str(), &path, body.to_vec(), now());
            for (name, value) in signed.headers {
                headers.insert(axum::http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
            }
        } else {
            let browser = if url.path().starts_with("/console/invite") {
                &shared.net.operator
            } else {
                &person.supplier
            };
            headers.insert("cookie", browser.cookie.parse().unwrap());
            if parts.method == "POST" {
                let sep = if body.is_empty() { "" } else { "&" };
                body = Bytes::from([&body[..], format!("{sep}csrf={}", browser.csrf).as_bytes()].concat());
            }
        }
    }
    match shared.net.http.request(parts.method, url).headers(headers).body(body).send().await {
        Ok(answer) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = answer.status();
            for (name, value) in answer.headers() {
                if !matches!(name.as_str(), "connection" | "transfer-encoding" | "content-length") {
                    response.headers_mut().append(name, value.clone());
                }
            }
            *response.body_mut() = Body::from(answer.bytes().await.unwrap_or_default());
            response
        }
        Err(error) => {
            (StatusCode::BAD_GATEWAY, axum::Json(json!({"proxy": error.to_string()}))).into_response()
        }
    }
}
