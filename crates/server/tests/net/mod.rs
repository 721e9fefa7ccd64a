//! A real server in this process, and the people and machines who use it: signed requests, browser
//! forms, joins. What a test needs to say is then only what it is about.
#![allow(dead_code, clippy::unwrap_used)]

pub mod beating;
pub mod routes;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
};

use gangline_proof::{
    CpuProver, GpuKey, Prover,
    epoch::{ChainParams, MemoryParams, Params},
};
use gangline_server::{Config, serve};
use gangline_types::{
    AdapterKind, Backend, GpuClaim, GpuId, Hash, Label, Text, UnixSeconds, public::PublicGpu,
};
use gangline_wire::{
    ErrorBody, SigningKey,
    api::{cluster::*, enrol::*, epoch::BellGpu, machine::*, proof::*},
    sig,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

/// Numbers for keys and sequences: unique in this process.
pub(crate) static NEXT: AtomicU64 = AtomicU64::new(1);

pub fn now() -> UnixSeconds {
    UnixSeconds(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
}

/// A network in this process.
pub struct Net {
    pub origin: String,
    pub address: SocketAddr,
    /// Where beats are taken by UDP, and by HTTP of the intake's own.
    pub beat_udp: SocketAddr,
    pub beat_http: Option<SocketAddr>,
    pub http: reqwest::Client,
    pub operator: Browser,
    stop: Option<oneshot::Sender<()>>,
    served: Option<tokio::task::JoinHandle<Result<(), gangline_server::ServeError>>>,
    pub folder: tempfile::TempDir,
    pub config: Config,
}

/// Somebody in a browser.
#[derive(Clone)]
pub struct Browser {
    pub cookie: String,
    pub csrf: String,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub fn json<T: DeserializeOwned>(&self) -> T {
        assert!(self.status < 300, "refused with {}: {}", self.status, self.text());
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
    pub fn error(&self) -> ErrorBody {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("not an error body ({e}): {} {}", self.status, self.text()))
    }
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// A signed request, not sent yet, so that a test can spoil it.
#[derive(Clone, Debug)]
pub struct Signed {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

pub fn new_key() -> SigningKey {
    let mut seed = [7u8; 32];
    seed[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    seed[8..16].copy_from_slice(&(std::process::id() as u64).to_le_bytes());
    SigningKey::from_seed(&Zeroizing::new(seed))
}

/// An epoch that a processor answers at once.
pub fn small_epoch() -> Params {
    let chain = ChainParams { units: 64, segments: 2, steps: 32, opened: 8 };
    Params { memory: MemoryParams::whole(1024, 4), walk: chain, alu: chain, matrix: None }
}

pub fn quick_config(folder: &std::path::Path) -> Config {
    Config {
        data: folder.to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        period_minutes: 1,
        snapshot_grace_seconds: 0,
        beat_udp: gangline_server::config::BeatUdp::At(SocketAddr::from(([127, 0, 0, 1], 0))),
        software_epoch: small_epoch(),
        software_joining: gangline_proof::MatrixParams { n: 256, steps: 2, rows: 4 },
        // A debug build multiplies slowly; the test of matrices asks for them.
        matrix_epochs_of_256: 0,
        ..Config::default()
    }
}

impl Net {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = quick_config(folder.path());
        Self::start_in(folder, config).await
    }

    pub async fn start_in(folder: tempfile::TempDir, config: Config) -> Self {
        Self::start_trusting(folder, config, None).await
    }

    /// The same, by clients that believe an authority.
    pub async fn start_trusting(folder: tempfile::TempDir, config: Config, authority: Option<&str>) -> Self {
        let server =
            serve(Config { operator_link: true, ..config.clone() }).await.unwrap_or_else(|e| panic!("{e:?}"));
        let (stop, stopped) = oneshot::channel();
        let (origin, address) = (server.origin.clone(), server.address);
        let (beat_udp, beat_http) = (server.beat_udp.expect("beats are taken by UDP"), server.beat_http);
        let link = server.operator_link.clone().expect("a link was asked for");
        let served = tokio::spawn(server.run(async {
            let _ = stopped.await;
        }));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
        if let Some(pem) = authority {
            http = http.add_root_certificate(reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
        }
        let http = http.build().unwrap();
        let mut net = Self {
            origin,
            address,
            beat_udp,
            beat_http,
            http,
            operator: Browser { cookie: String::new(), csrf: String::new() },
            stop: Some(stop),
            served: Some(served),
            folder,
            config,
        };
        net.operator = net.enter(&link).await;
        net
    }

    /// Stops the server in order and gives the folder back.
    pub async fn stop(mut self) -> tempfile::TempDir {
        self.stop.take().map(|s| s.send(()));
        self.served.take().unwrap().await.unwrap().unwrap();
        self.folder
    }

    /// Waits until the server ends by itself: its folder, and why.
    pub async fn until_ended(mut self) -> (tempfile::TempDir, gangline_server::ServeError) {
        let served = self.served.take().unwrap();
        let ended = tokio::time::timeout(std::time::Duration::from_secs(120), served).await;
        (self.folder, ended.expect("it went on").unwrap().expect_err("it ended as if it had been asked to"))
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.http.get(format!("{}{path}", self.origin)).send().await.unwrap()).await
    }

    pub async fn json<T: DeserializeOwned>(&self, path: &str) -> T {
        self.get(path).await.json()
    }

    // -- browsers ---------------------------------------------------------------------------------

    /// Uses a one-time link as a browser does.
    pub async fn enter(&self, link: &str) -> Browser {
        let path = link.strip_prefix(&self.origin).expect("a link of this network");
        let url = format!("{}{path}", self.origin);
        let response = self.http.post(url).header("origin", &self.origin).body("").send().await.unwrap();
        let cookie = response
            .headers()
            .get("set-cookie")
            .unwrap_or_else(|| panic!("no session: {}", response.status()))
            .to_str()
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        let page =
            self.page(&Browser { cookie: cookie.clone(), csrf: String::new() }, "/account").await.text();
        Browser { cookie, csrf: hidden(&page, "csrf") }
    }

    pub async fn page(&self, who: &Browser, path: &str) -> Answer {
        Answer::of(
            self.http
                .get(format!("{}{path}", self.origin))
                .header("cookie", &who.cookie)
                .send()
                .await
                .unwrap(),
        )
        .await
    }

    pub async fn form(&self, who: &Browser, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut encoder = form_urlencoded::Serializer::new(String::new());
        encoder.append_pair("csrf", &who.csrf).extend_pairs(fields);
        let request = self
            .http
            .post(format!("{}{path}", self.origin))
            .header("cookie", &who.cookie)
            .header("origin", &self.origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(encoder.finish());
        Answer::of(request.send().await.unwrap()).await
    }

    /// The operator invites; the invited signs in.
    pub async fn invite(&self, role: &str, name: &str) -> Browser {
        self.invite_as(&self.operator, role, name).await
    }

    /// The same, by this operator.
    pub async fn invite_as(&self, operator: &Browser, role: &str, name: &str) -> Browser {
        let page = self.form(operator, "/console/invite", &[("role", role), ("name", name)]).await;
        assert_eq!(page.status, 200, "{}", page.text());
        let text = page.text();
        let at = text.find("/enter/").unwrap_or_else(|| panic!("no link in {text}"));
        self.enter(&format!("{}{}", self.origin, &text[at..at + "/enter/".len() + 64])).await
    }

    /// The operator approves or declines what was asked for.
    pub async fn decide(
        &self,
        who: &Browser,
        approval: gangline_types::ApprovalId,
        decision: &str,
    ) -> Answer {
        self.form(who, &format!("/console/approvals/{approval}"), &[("decision", decision)]).await
    }

    /// Sends a request of the operator's command line that takes the operator's own confirmation, confirms, and sends
    /// it once more.
    pub async fn confirmed(
        &self,
        key: &SigningKey,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Answer {
        let refused = self.call(key, method, path, body).await.error();
        assert_eq!(refused.code, "approval_needed", "{refused}");
        let asked = refused.approval.expect("what was asked for");
        let decided = self.decide(&self.operator, asked.approval, "approve").await;
        assert_eq!(decided.status, 303, "{}", decided.text());
        self.call(key, method, path, body).await
    }

    // -- signed requests ----------------------------------------------------------------------------

    pub fn sign(&self, key: &SigningKey, method: &str, path: &str, body: &impl Serialize) -> Signed {
        let bytes = serde_json::to_vec(body).unwrap();
        self.sign_bytes(key, method, path, bytes, now())
    }

    pub fn sign_bytes(
        &self,
        key: &SigningKey,
        method: &str,
        path: &str,
        body: Vec<u8>,
        created: UnixSeconds,
    ) -> Signed {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let authority = self.address.to_string();
        let sequence = now().0 * 1_000_000 + NEXT.fetch_add(1, Ordering::Relaxed);
        let covered = sig::Covered {
            method,
            authority: &authority,
            path,
            query,
            body_digest: sig::digest(&body),
            sequence,
        };
        let headers = sig::sign(&covered, created, key).into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
        Signed { method: method.into(), path: path.into(), query: query.into(), headers, body }
    }

    pub async fn send(&self, signed: &Signed) -> Answer {
        let query = if signed.query.is_empty() { String::new() } else { format!("?{}", signed.query) };
        let method = reqwest::Method::from_bytes(signed.method.as_bytes()).unwrap();
        let mut request = self.http.request(method, format!("{}{}{query}", self.origin, signed.path));
        for (name, value) in &signed.headers {
            request = request.header(name, value);
        }
        Answer::of(request.body(signed.body.clone()).send().await.unwrap()).await
    }

    pub async fn call(&self, key: &SigningKey, method: &str, path: &str, body: &impl Serialize) -> Answer {
        let signed = match method {
            "GET" | "DELETE" => self.sign_bytes(key, method, path, Vec::new(), now()),
            _ => self.sign(key, method, path, body),
        };
        self.send(&signed).await
    }

    // -- machines and command lines -------------------------------------------------------------------

    /// A new key, approved by `who`.
    pub async fn enrol(&self, who: &Browser, kind: KeyKind) -> SigningKey {
        let key = new_key();
        let request = EnrolmentRequest {
            public_key: key.public(),
            kind,
            host: Label::new("testhost").unwrap(),
            summary: Text::new("a test").unwrap(),
        };
        let ticket: EnrolmentTicket = self.call(&key, "POST", "/api/v1/enrolments", &request).await.json();
        let page = self.page(who, &format!("/approve?code={}", ticket.user_code)).await.text();
        assert!(page.contains(&key.public().fingerprint()), "the page does not show the key's fingerprint");
        let enrolment = hidden(&page, "enrolment");
        let done = self.form(who, "/approve", &[("enrolment", &enrolment), ("decision", "approve")]).await;
        assert_eq!(done.status, 200, "{}", done.text());
        let poll = EnrolmentPoll { enrolment: ticket.enrolment, public_key: key.public() };
        let state: EnrolmentState = self.call(&key, "POST", "/api/v1/enrolments/poll", &poll).await.json();
        assert_eq!(state, EnrolmentState::Approved);
        key
    }

    /// A machine with one GPU that claims to be `model`, registered but not proven.
    pub async fn machine(&self, supplier: &Browser, model: &str, kind: AdapterKind) -> (SigningKey, GpuId) {
        let key = self.enrol(supplier, KeyKind::Machine).await;
        let registered: Registered =
            self.call(&key, "PUT", "/api/v1/machine/inventory", &inventory(model, kind)).await.json();
        (key, registered.gpus[0].gpu)
    }

    pub async fn beat(&self, key: &SigningKey, gpu: GpuId) -> BeatReceipt {
        let report = BeatReport {
            beats: vec![MinuteBeat { minute: now().minute(), gpus: vec![gpu] }],
            worker_version: Text::new("test").unwrap(),
        };
        self.call(key, "POST", "/api/v1/machine/beats", &report).await.json()
    }

    /// One proof, computed honestly on the processor. On a machine that is loaded an answer may come after its minute: that
    /// one is missed, and the network asks again.
    pub async fn prove_once(&self, key: &SigningKey, gpu: GpuId) -> Verdict {
        loop {
            let asked = proof_request(key, &[gpu]);
            let begun: ProofChallenges =
                self.call(key, "POST", "/api/v1/machine/proofs", &asked).await.json();
            if let Some(verdict) = self.answered(key, &begun.challenges[0]).await {
                return verdict;
            }
        }
    }

    /// The answer to one challenge, signed if it is bound to its GPU's key.
    pub async fn answer_proof(&self, key: &SigningKey, challenge: &GpuChallenge) -> Verdict {
        self.answered(key, challenge).await.expect("it came too late")
    }

    /// The same; none if it came too late.
    async fn answered(&self, key: &SigningKey, given: &GpuChallenge) -> Option<Verdict> {
        let is_late = |answer: &Answer| {
            answer.status == 409 && ["late", "already_judged"].contains(&answer.error().code.as_str())
        };
        let mut prover = CpuProver::default();
        let roots = CommitRequest { commitment: prover.commit(&given.challenge, &mut |_| ()).unwrap() };
        let path = format!("/api/v1/machine/proofs/{}", given.proof);
        let committed = self.call(key, "POST", &format!("{path}/commit"), &roots).await;
        if is_late(&committed) {
            return None;
        }
        let nonce = committed.json::<CommitReceipt>().nonce;
        let opening = prover.open(&nonce).unwrap();
        let gpu_key = GpuKey::derive(&key.seed(), given.gpu);
        let signature = (given.challenge.binding == gpu_key.binding())
            .then(|| gpu_key.sign_matrix(&given.challenge, &roots.commitment, &nonce, &opening));
        let open = OpenRequest { opening, signature };
        let opened = self.call(key, "POST", &format!("{path}/open"), &open).await;
        (!is_late(&opened)).then(|| opened.json())
    }

    /// Hires whatever there is, once this GPU can be: its beats come into the books a moment later.
    pub async fn hire(&self, key: &SigningKey, gpu: GpuId) -> ClusterView {
        self.until(&format!("/api/v1/public/gpus/{gpu}"), |gpu: &PublicGpu| gpu.rentable).await;
        let wish = HireRequest { software_ok: true, ..HireRequest::default() };
        self.call(key, "POST", "/api/v1/clusters", &wish).await.json()
    }

    /// Waits until `path` answers something that `holds`.
    pub async fn until<T: DeserializeOwned>(&self, path: &str, holds: impl Fn(&T) -> bool) -> T {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(90);
        loop {
            let answer = self.get(path).await;
            if answer.status == 200 {
                let value: T = answer.json();
                if holds(&value) {
                    return value;
                }
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{path} never came to hold: {}",
                self.get(path).await.text()
            );
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
}

/// Asks for proofs of these GPUs of the machine with this key, and names the keys that will sign them.
pub fn proof_request(key: &SigningKey, gpus: &[GpuId]) -> ProofRequest {
    let named = |gpu: &GpuId| BellGpu { gpu: *gpu, key: GpuKey::derive(&key.seed(), *gpu).public() };
    ProofRequest { gpus: gpus.to_vec(), keys: gpus.iter().map(named).collect() }
}

pub fn inventory(model: &str, kind: AdapterKind) -> Inventory {
    Inventory {
        host: HostFacts {
            name: Label::new("testhost").unwrap(),
            os: Text::new("Debian 12").unwrap(),
            kernel: Text::new("6.1").unwrap(),
            cpu: Text::new("a processor").unwrap(),
            cores: 2,
            memory_bytes: 1 << 30,
            disks: vec![],
            nvidia_driver: None,
        },
        gpus: vec![GpuClaim {
            slot: Hash([3; 32]),
            model: Text::new(model).unwrap(),
            kind,
            backend: Backend::Vulkan,
            driver: Text::new("a driver").unwrap(),
            pci_vendor: 0,
            pci_device: 0,
            memory_bytes: 1 << 30,
        }],
        worker_version: Text::new("0.1.0").unwrap(),
        isolation: vec![Text::new("bubblewrap").unwrap()],
    }
}

/// Value of a hidden form field.
pub fn hidden(page: &str, name: &str) -> String {
    let needle = format!("name=\"{name}\" value=\"");
    let at = page.find(&needle).unwrap_or_else(|| panic!("no field {name} in {page}")) + needle.len();
    page[at..].split('"').next().unwrap().to_owned()
}

/// Any JSON at all, as `Value`.
pub fn value(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
}
