//! A server's process, a person's browser, and keys that sign.

use std::{net::SocketAddr, path::Path, process::Command, time::Duration};

use gangline_types::{
    AdapterKind, Backend, GpuClaim, GpuId, Hash, Label, Minute, Text, public::PublicUptime,
};
use gangline_wire::{
    Endpoint, Nothing, SigningKey,
    api::{enrol::*, machine::*, public::UptimePage},
    endpoints::{Beats, DescribeInventory, Enrol, EnrolPoll},
};
use gangline_worker::client::{Client, ClientError};
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::{LIMIT, Running, gangline};

/// A server that listens.
pub struct Server {
    pub process: Running,
    pub origin: String,
    pub address: SocketAddr,
    /// What it is called among those on its database.
    pub replica: Option<String>,
    /// Where it takes beats by UDP, and by HTTP of the intake's own.
    pub beat_udp: Option<SocketAddr>,
    pub beat_http: Option<SocketAddr>,
    /// A one-time link for its operator.
    pub link: String,
    pub http: reqwest::Client,
}

impl Server {
    /// Starts a server on a port of its own with its books in `data`.
    pub fn start(data: &Path, more: &[&str]) -> Self {
        Self::start_at(data, "127.0.0.1:0", more)
    }

    /// The same at this address.
    pub fn start_at(data: &Path, listen: &str, more: &[&str]) -> Self {
        Self::start_with(data, listen, more, |_| {})
    }

    /// The same in another environment.
    pub fn start_with(data: &Path, listen: &str, more: &[&str], change: impl FnOnce(&mut Command)) -> Self {
        let mut command = gangline(data);
        change(&mut command);
        command
            .args(["serve", "--json", "--operator-link", "--listen", listen, "--data"])
            .arg(data)
            .args(more);
        let mut process = Running::start(&mut command);
        let serving = process.event("serving");
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .timeout(LIMIT)
            .build()
            .unwrap();
        Self {
            process,
            origin: serving["origin"].as_str().unwrap().to_owned(),
            address: serving["address"].as_str().unwrap().parse().unwrap(),
            beat_udp: serving["beat_udp"].as_str().map(|at| at.parse().unwrap()),
            beat_http: serving["beat_http"].as_str().map(|at| at.parse().unwrap()),
            replica: serving["replica"].as_str().map(str::to_owned),
            link: serving["operator_link"].as_str().unwrap().to_owned(),
            http,
        }
    }

    /// Ends it in order.
    pub fn stop(mut self) {
        self.process.signal(Signal::SIGTERM);
        let code = self.process.ended(Duration::from_secs(30));
        assert_eq!(code, 0, "{}", self.process.err());
    }

    /// Status and text of a page or of an answer of the API.
    pub async fn get(&self, path: &str) -> (u16, String) {
        told(self.http.get(format!("{}{path}", self.origin)).send().await.unwrap()).await
    }

    /// Waits until `path` answers something that `holds`.
    pub async fn until<T: DeserializeOwned>(&self, path: &str, holds: impl Fn(&T) -> bool) -> T {
        self.until_within(LIMIT, path, holds).await
    }

    async fn until_within<T: DeserializeOwned>(
        &self,
        limit: Duration,
        path: &str,
        holds: impl Fn(&T) -> bool,
    ) -> T {
        let limit = tokio::time::Instant::now() + limit;
        loop {
            let (status, text) = self.get(path).await;
            if status == 200 {
                let value: T = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
                if holds(&value) {
                    return value;
                }
            }
            assert!(tokio::time::Instant::now() < limit, "{path} never came to hold: {status} {text}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until the public sees that the GPU was up in each of these minutes.
    pub async fn until_up(&self, gpu: GpuId, minutes: &[Minute]) {
        let up = |page: &UptimePage, minute: &Minute| {
            page.hours.iter().any(|h| h.hour == minute.hour() && h.bits.has(minute.of_hour()))
        };
        let all = |page: &UptimePage| minutes.iter().all(|minute| up(page, minute));
        self.until(&format!("/api/v1/public/gpus/{gpu}/uptime"), all).await;
    }

    /// Waits until the public sees that the GPU was up in this minute or a later one. A worker whose clock is stepped may
    /// beat for no minute during two of ours.
    pub async fn until_up_since(&self, gpu: GpuId, minute: Minute) {
        let since = |h: &PublicUptime| {
            let at = |m: u8| h.hour.start().0 + u32::from(m);
            (0..60).any(|m| h.bits.has(m) && at(m) >= minute.0)
        };
        let path = format!("/api/v1/public/gpus/{gpu}/uptime");
        self.until_within(2 * LIMIT, &path, |page: &UptimePage| page.hours.iter().any(since)).await;
    }

    /// A client that signs with this key.
    pub fn client(&self, key: &SigningKey) -> Client {
        Client::new(&self.origin, Some(SigningKey::from_seed(&key.seed()))).unwrap()
    }
}

/// Status and text of an answer.
pub async fn told(response: reqwest::Response) -> (u16, String) {
    (response.status().as_u16(), response.text().await.unwrap())
}

/// Somebody at a browser who is signed in.
#[derive(Clone)]
pub struct Person {
    origin: String,
    http: reqwest::Client,
    cookie: String,
    csrf: String,
}

impl Person {
    /// Somebody who has not come in yet.
    pub fn nobody() -> Self {
        let (origin, cookie, csrf) = Default::default();
        Self { origin, http: reqwest::Client::new(), cookie, csrf }
    }

    /// Uses a one-time link.
    pub async fn enter(server: &Server, link: &str) -> Self {
        let asked = server.http.post(link).header("origin", &server.origin).body("").send().await.unwrap();
        let cookie = asked.headers().get("set-cookie").expect("a session").to_str().unwrap();
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let (origin, http) = (server.origin.clone(), server.http.clone());
        let mut person = Self { origin, http, cookie, csrf: String::new() };
        person.csrf = hidden(&person.page("/console").await.1, "csrf");
        person
    }

    /// The same person with the same session at another server of the network.
    pub fn at(&self, server: &Server) -> Self {
        Self { origin: server.origin.clone(), ..self.clone() }
    }

    /// A page as this person sees it.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let asked = self.http.get(format!("{}{path}", self.origin)).header("cookie", &self.cookie);
        told(asked.send().await.unwrap()).await
    }

    /// Sends a form.
    pub async fn form(&self, path: &str, fields: &[(&str, &str)]) -> (u16, String) {
        let mut body = reqwest::Url::parse("http://form/").unwrap();
        body.query_pairs_mut().append_pair("csrf", &self.csrf).extend_pairs(fields);
        let asked = self
            .http
            .post(format!("{}{path}", self.origin))
            .header("cookie", &self.cookie)
            .header("origin", &self.origin)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.query().unwrap_or_default().to_owned());
        told(asked.send().await.unwrap()).await
    }

    /// As the operator: a one-time link for somebody.
    pub async fn link_for(&self, role: &str, name: &str) -> String {
        let (status, page) = self.form("/console/invite", &[("role", role), ("name", name)]).await;
        assert_eq!(status, 200, "{page}");
        let at = page.find("/enter/").unwrap_or_else(|| panic!("no link in {page}"));
        format!("{}{}", self.origin, &page[at..at + "/enter/".len() + 64])
    }

    /// Approves what waits under a code; the page must show the key that asks.
    pub async fn approve(&self, code: &str, fingerprint: &str) {
        let (_, page) = self.page(&format!("/approve?code={code}")).await;
        assert!(page.contains(fingerprint), "the page does not show the key {fingerprint}: {page}");
        let enrolment = hidden(&page, "enrolment");
        let (status, page) =
            self.form("/approve", &[("enrolment", &enrolment), ("decision", "approve")]).await;
        assert_eq!(status, 200, "{page}");
    }
}

/// Value of a hidden form field.
pub fn hidden(page: &str, name: &str) -> String {
    let needle = format!("name=\"{name}\" value=\"");
    let at = page.find(&needle).unwrap_or_else(|| panic!("no field {name} in {page}")) + needle.len();
    page[at..].split('"').next().unwrap().to_owned()
}

/// A key made on the spot.
pub fn new_key() -> SigningKey {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).unwrap();
    SigningKey::from_seed(&seed)
}

/// What a new key asks for.
pub fn enrolment_of(key: &SigningKey, kind: KeyKind) -> EnrolmentRequest {
    EnrolmentRequest {
        public_key: key.public(),
        kind,
        host: Label::new("testhost").unwrap(),
        summary: Text::new("a test").unwrap(),
    }
}

/// Calls an endpoint without parameters.
pub async fn call<E: Endpoint<Query = Nothing>>(
    client: &Client,
    body: &E::Request,
) -> Result<E::Response, ClientError> {
    client.call::<E>(&[], &Nothing {}, body).await
}

/// A machine that is no process: its key signs, and it has one GPU.
pub struct Machine {
    pub key: SigningKey,
    pub client: Client,
    pub gpu: GpuId,
    /// Its owner.
    pub supplier: Person,
}

impl Machine {
    /// Enrolled by a supplier that the operator just invited, and registered.
    pub async fn join(server: &Server, operator: &Person) -> Self {
        let supplier = Person::enter(server, &operator.link_for("supplier", "Ada").await).await;
        let key = new_key();
        let client = server.client(&key);
        let ticket = call::<Enrol>(&client, &enrolment_of(&key, KeyKind::Machine)).await.unwrap();
        supplier.approve(&ticket.user_code, &key.public().fingerprint()).await;
        let poll = EnrolmentPoll { enrolment: ticket.enrolment, public_key: key.public() };
        assert_eq!(call::<EnrolPoll>(&client, &poll).await.unwrap(), EnrolmentState::Approved);
        let registered = call::<DescribeInventory>(&client, &inventory()).await.unwrap();
        Self { key, client, gpu: registered.gpus[0].gpu, supplier }
    }

    /// Beats for one minute.
    pub async fn beat(&self, minute: Minute) -> Result<BeatReceipt, ClientError> {
        beat(&self.client, self.gpu, minute).await
    }
}

/// Beats for one minute.
pub async fn beat(client: &Client, gpu: GpuId, minute: Minute) -> Result<BeatReceipt, ClientError> {
    let beats = vec![MinuteBeat { minute, gpus: vec![gpu] }];
    call::<Beats>(client, &BeatReport { beats, worker_version: Text::new("test").unwrap() }).await
}

/// This minute.
pub fn this_minute() -> Minute {
    gangline_worker::client::now().seconds().minute()
}

/// This minute and those before it, newest first: five hours, which is less than beats may be late.
pub fn minutes() -> impl Iterator<Item = Minute> {
    let now = this_minute();
    (0..300).map(move |back| Minute(now.0 - back))
}

/// What the machine says it has.
pub fn inventory() -> Inventory {
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
            model: Text::new("llvmpipe").unwrap(),
            kind: AdapterKind::Software,
            backend: Backend::Vulkan,
            driver: Text::new("a driver").unwrap(),
            pci_vendor: 0,
            pci_device: 0,
            memory_bytes: 1 << 30,
        }],
        worker_version: Text::new("0.1.0").unwrap(),
        isolation: vec![],
    }
}
