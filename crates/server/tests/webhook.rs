//! Incidents told to an operator's own program: a real server that fails, hangs, redirects and answers late, over
//! HTTP and HTTPS. Each message is signed with the network's key, is the same at every try, and arrives once.

#![allow(clippy::unwrap_used)]

mod net;
mod pki;

use std::{
    collections::VecDeque,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_guard::notice::tell::Retry;
use gangline_guard::outbound::Exceptions;
use gangline_server::{config::Outlets, outbound::THIS_MACHINE};
use gangline_types::{AdapterKind, GpuId};
use gangline_wire::{
    PublicKey, SigningKey,
    api::{
        enrol::KeyKind,
        operate::{ActView, DeliveryView, IncidentView, Told},
    },
};
use net::{Net, now};
use serde_json::{Value, json};
use tokio_rustls::TlsAcceptor;

const PATIENCE: Duration = Duration::from_secs(90);

/// How the receiver answers one request.
#[derive(Clone, Copy)]
enum Answer {
    Status(u16),
    Redirect,
    Hang,
    Late,
}

/// A request as it came.
#[derive(Clone)]
struct Came {
    id: String,
    at: u64,
    signature: String,
    body: String,
}

/// The operator's program.
#[derive(Clone, Default)]
struct Receiver {
    came: Arc<Mutex<Vec<Came>>>,
    /// How the next ones are answered; 204 once none is left.
    answers: Arc<Mutex<VecDeque<Answer>>>,
}

impl Receiver {
    fn answering(answers: &[Answer]) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.iter().copied().collect())), ..Self::default() }
    }
    fn router(&self) -> Router {
        Router::new().fallback(receive).with_state(self.clone())
    }
    async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let router = self.router();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://127.0.0.1:{port}/hook?team=security")
    }
    fn came(&self) -> Vec<Came> {
        self.came.lock().unwrap().clone()
    }
    async fn until(&self, wanted: impl Fn(&[Came]) -> bool) -> Vec<Came> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let came = self.came();
            if wanted(&came) {
                return came;
            }
            let bodies: Vec<_> = came.iter().map(|c| &c.body).collect();
            assert!(Instant::now() < deadline, "it never came: {bodies:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    receiver.came.lock().unwrap().push(Came {
        id: header("webhook-id"),
        at: header("webhook-timestamp").parse().unwrap(),
        signature: header("webhook-signature"),
        body: String::from_utf8(body.to_vec()).unwrap(),
    });
    let answer = receiver.answers.lock().unwrap().pop_front();
    match answer {
        None => StatusCode::NO_CONTENT.into_response(),
        Some(Answer::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Answer::Redirect) => (StatusCode::FOUND, [("location", "/elsewhere")]).into_response(),
        Some(Answer::Hang) => {
            std::future::pending::<()>().await;
            StatusCode::OK.into_response()
        }
        Some(Answer::Late) => {
            tokio::time::sleep(Duration::from_secs(3)).await;
            StatusCode::OK.into_response()
        }
    }
}

/// A network that tells `url`, and waits little before it tries again.
async fn network(url: &str, exceptions: &[&str], tries_max: u32, ca_file: Option<&Path>) -> Net {
    let folder = tempfile::tempdir().unwrap();
    let mut config = net::quick_config(folder.path());
    config.outbound.exceptions = Exceptions::of_networks(exceptions.iter().copied()).unwrap();
    config.outbound.ca_file = ca_file.map(Path::to_owned);
    config.outlets = Outlets {
        webhook: Some(url.parse().unwrap()),
        mail: None,
        retry: Retry { first_millis: 50, longest_millis: 200, tries_max },
    };
    Net::start_in(folder, config).await
}

/// Somebody who touches what is another's: an incident opens.
struct Breach {
    thief: SigningKey,
    target: GpuId,
}

impl Breach {
    async fn of(net: &Net) -> Self {
        let (_, target) =
            net.machine(&net.invite("supplier", "Ada").await, "llvmpipe", AdapterKind::Software).await;
        let mallory = net.invite("supplier", "Mallory").await;
        let (thief, _) = net.machine(&mallory, "llvmpipe", AdapterKind::Software).await;
        Self { thief, target }
    }
    async fn touch(&self, net: &Net) {
        let path = format!("/api/v1/gpus/{}/label", self.target);
        assert_eq!(net.call(&self.thief, "PUT", &path, &json!({"label": "owned"})).await.status, 404);
    }
}

fn told(came: &Came) -> Told {
    serde_json::from_str(&came.body).unwrap()
}

/// As a receiver verifies: with what the network publishes, and nothing else.
async fn verify(net: &Net, came: &Came) {
    let shown = net.get("/log/key").await.text();
    let material = STANDARD.decode(shown.trim().splitn(3, '+').nth(2).unwrap()).unwrap();
    let key = PublicKey::from_bytes(material[1..].try_into().unwrap()).unwrap();
    let signature = STANDARD.decode(came.signature.strip_prefix("v1a,").unwrap()).unwrap();
    let signed = |body: &str| format!("{}.{}.{body}", came.id, came.at).into_bytes();
    assert!(key.verifies(&signed(&came.body), &signature));
    assert!(!key.verifies(&signed(&came.body.replace("urgent", "notice")), &signature));
    assert!(now().0.abs_diff(came.at) < 300);
}

async fn deliveries(
    net: &Net,
    operator: &SigningKey,
    wanted: impl Fn(&[DeliveryView]) -> bool,
) -> Vec<DeliveryView> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all: Vec<DeliveryView> =
            net.call(operator, "GET", "/api/v1/operate/deliveries", &Value::Null).await.json();
        if wanted(&all) {
            return all;
        }
        assert!(Instant::now() < deadline, "the messages never came to be as wanted: {all:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_is_told_signed_when_it_opens_grows_and_closes() {
    let receiver = Receiver::default();
    let url = receiver.listen().await;
    let net = network(&url, &THIS_MACHINE, 5, None).await;
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    let breach = Breach::of(&net).await;
    breach.touch(&net).await;
    let came = receiver.until(|came| came.iter().any(|c| c.body.contains("foreign_touch"))).await;
    let opened = came.iter().find(|c| c.body.contains("foreign_touch")).unwrap();
    verify(&net, opened).await;
    let message = told(opened);
    let about = &message.data.incidents[0].incident;
    assert_eq!((message.event.as_str(), about.severity.as_str()), ("incident.opened", "urgent"));
    assert_eq!(about.key, Some(breach.thief.public().id()));
    assert_eq!(about.resource, breach.target.to_string());
    assert_eq!(message.data.console, format!("{}/console/security", net.origin));
    assert!(
        jiff::Timestamp::from_second(now().0 as i64)
            .unwrap()
            .duration_since(message.timestamp.parse().unwrap())
            .as_secs()
            < 300
    );

    // Repeats are folded: one message for ten times as many.
    for _ in 0..12 {
        breach.touch(&net).await;
    }
    let of = |event: &'static str| {
        let incident = about.incident;
        move |c: &Came| told(c).event == event && told(c).data.incidents[0].incident.incident == incident
    };
    let came = receiver.until(|came| came.iter().any(of("incident.grew"))).await;
    assert!(
        told(came.iter().find(|c| of("incident.grew")(c)).unwrap()).data.incidents[0].incident.count >= 10
    );
    let close = format!("/api/v1/operate/incidents/{}", about.incident);
    assert_eq!(
        net.call(&operator, "POST", &close, &json!({"state": "closed", "note": "seen"})).await.status,
        200
    );
    let came = receiver.until(|came| came.iter().any(of("incident.closed"))).await;
    let counts = ["incident.opened", "incident.grew", "incident.closed"]
        .map(|event| came.iter().filter(|c| of(event)(c)).count());
    assert_eq!(counts, [1, 1, 1]);
    let closed = told(came.iter().find(|c| of("incident.closed")(c)).unwrap());
    assert_eq!(closed.data.incidents[0].incident.note, "seen");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_arrive_is_tried_again_under_the_same_id() {
    use Answer::*;
    // The other side fails, sends elsewhere, says too much at once, and answers late.
    let receiver = Receiver::answering(&[Status(500), Redirect, Status(429), Hang, Late]);
    let url = receiver.listen().await;
    let net = network(&url, &THIS_MACHINE, 8, None).await;
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    let breach = Breach::of(&net).await;
    breach.touch(&net).await;
    let sent = |all: &[DeliveryView]| !all.is_empty() && all.iter().all(|d| d.state == "sent");
    let all = deliveries(&net, &operator, sent).await;
    let came = receiver.came();
    let first = &came[0];
    let same: Vec<_> = came.iter().filter(|c| c.id == first.id).collect();
    assert!(same.len() >= 2 && same.iter().all(|c| c.body == first.body), "{}", same.len());
    assert!(came.iter().all(|c| !c.body.is_empty()), "a redirect was followed");
    for one in &came {
        verify(&net, one).await;
    }
    let tries: u32 = all.iter().map(|d| d.tries).sum();
    assert_eq!(tries as usize, came.len());
    assert!(tries as usize > all.len() + 3, "four tries failed: {all:#?}");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_shown_survives_a_restart_and_is_sent_again() {
    let receiver = Receiver::answering(&[Answer::Status(500); 3]);
    let url = receiver.listen().await;
    let net = network(&url, &THIS_MACHINE, 3, None).await;
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    let breach = Breach::of(&net).await;
    breach.touch(&net).await;
    let all = deliveries(&net, &operator, |all| all.iter().any(|d| d.state == "dead")).await;
    let dead = all.iter().find(|d| d.state == "dead").unwrap().clone();
    assert!(dead.tries == 3 && dead.error.contains("500"), "{dead:?}");
    let page = net.page(&net.operator, "/console/security").await.text();
    assert!(page.contains("given up") && page.contains(&url[..url.find("/hook").unwrap()]), "{page}");
    assert!(!page.contains("team=security"), "a webhook's path may be a secret");

    let config = net.config.clone();
    let folder = net.stop().await;
    let net = Net::start_in(folder, config).await;
    let again = format!("/console/security/deliveries/{}/send", dead.delivery);
    assert_eq!(net.form(&net.operator, &again, &[]).await.status, 303);
    deliveries(&net, &operator, |all| all.iter().any(|d| d.delivery == dead.delivery && d.state == "sent"))
        .await;
    let same = receiver.came().into_iter().filter(|c| c.id == dead.delivery.to_string()).count();
    assert_eq!(same, 4);
    assert_eq!(net.form(&net.operator, &again, &[]).await.status, 409, "it is no dead letter any more");
    let acts: Vec<ActView> =
        net.call(&operator, "GET", "/api/v1/operate/acts?action=contain", &Value::Null).await.json();
    assert!(acts.iter().any(|a| a.detail.contains(&dead.delivery.to_string())), "{acts:#?}");
    // 410 is for good.
    receiver.answers.lock().unwrap().push_back(Answer::Status(410));
    let incidents: Vec<IncidentView> =
        net.call(&operator, "GET", "/api/v1/operate/incidents", &Value::Null).await.json();
    let path = format!("/api/v1/operate/incidents/{}", incidents[0].incident);
    net.call(&operator, "POST", &path, &json!({"state": "closed"})).await;
    let gone = |d: &DeliveryView| d.state == "dead" && d.error.contains("410") && d.tries == 1;
    deliveries(&net, &operator, |all| all.iter().any(gone)).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_address_is_not_told_unless_it_was_named() {
    let receiver = Receiver::default();
    let url = receiver.listen().await.replace("http://", "https://");
    let net = network(&url, &[], 2, None).await;
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    Breach::of(&net).await.touch(&net).await;
    let all = deliveries(&net, &operator, |all| all.iter().any(|d| d.state == "dead")).await;
    assert!(all.iter().any(|d| d.error.contains("loopback")), "{all:#?}");
    assert!(receiver.came().is_empty());
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_only_a_server_that_is_who_it_says_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let (authority, stranger) = (pki::Authority::new(), pki::Authority::new());
    std::fs::write(file("ca.pem"), &authority.pem).unwrap();
    let listen = async |by: &pki::Authority, names: &[&str], name: &str| {
        let (cert, key) = (file(&format!("{name}.pem")), file(&format!("{name}.key")));
        by.write([&cert, &key], names);
        let receiver = Receiver::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let tls = TlsAcceptor::from(pki::server_config(&cert, &key));
        let router = receiver.router();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, router) = (tls.clone(), router.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = hyper_util::service::TowerToHyperService::new(router);
                    let io = hyper_util::rt::TokioIo::new(stream);
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                });
            }
        });
        (receiver, format!("https://localhost:{port}/hook"))
    };
    for (by, names, is_told) in
        [(&authority, ["localhost"], true), (&stranger, ["localhost"], false), (&authority, ["other"], false)]
    {
        let (receiver, url) = listen(by, &names, if is_told { "good" } else { "bad" }).await;
        let net = network(&url, &THIS_MACHINE, 2, Some(&file("ca.pem"))).await;
        let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
        Breach::of(&net).await.touch(&net).await;
        if is_told {
            receiver.until(|came| !came.is_empty()).await;
        } else {
            deliveries(&net, &operator, |all| all.iter().any(|d| d.state == "dead")).await;
            assert!(receiver.came().is_empty());
        }
        net.stop().await;
    }
}
