//! Incidents told by mail, through a real mail server (aiosmtpd): with TLS from the start, with STARTTLS, with a
//! password; one that is down, refuses, or is slow; and with texts that would be headers if they could.

#![allow(clippy::unwrap_used)]

#[path = "../net/mod.rs"]
mod net;
#[path = "../pki/mod.rs"]
mod pki;

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use gangline_guard::{notice::tell::Retry, outbound::Exceptions};
use gangline_server::{
    config::{Mail, MailSecurity, Outlets},
    outbound::THIS_MACHINE,
};
use gangline_types::AdapterKind;
use gangline_wire::{
    SigningKey,
    api::{enrol::KeyKind, operate::DeliveryView},
};
use net::Net;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

const PATIENCE: Duration = Duration::from_secs(120);
const PASSWORD: &str = "correct horse \u{e9} battery";

/// A mail server; it ends with the test.
struct Server {
    port: u16,
    lines: mpsc::UnboundedReceiver<Value>,
    process: Child,
}

impl Server {
    async fn start(args: &[&str]) -> Self {
        let python = std::env::var_os("GANGLINE_MAIL_PYTHON").expect(
            "GANGLINE_MAIL_PYTHON names a Python with aiosmtpd; `cargo xtask test --only mail` sets it",
        );
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mail/server.py");
        let mut process = Command::new(python)
            .args(["-B", script])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap()).lines();
        let (send, mut lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(Some(line)) = out.next_line().await {
                let _ = send.send(serde_json::from_str(&line).unwrap());
            }
        });
        let first: Value = tokio::time::timeout(PATIENCE, lines.recv()).await.unwrap().expect("it started");
        Self { port: first["port"].as_u64().unwrap() as u16, lines, process }
    }

    /// The next mail it takes, or the next it refuses.
    async fn next(&mut self) -> Value {
        tokio::time::timeout(PATIENCE, self.lines.recv()).await.expect("a mail came").unwrap()
    }

    async fn stop(mut self) {
        self.process.kill().await.unwrap();
    }
}

/// Certificates of `localhost`, by an authority that the network believes, and a password.
struct Files(tempfile::TempDir);

impl Files {
    fn make() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let authority = pki::Authority::new();
        std::fs::write(files.at("ca.pem"), &authority.pem).unwrap();
        authority.write([&files.at("cert.pem"), &files.at("key.pem")], &["localhost"]);
        pki::write_private(&files.at("password"), format!("{PASSWORD}\n").as_bytes());
        files
    }
    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn text(&self, name: &str) -> String {
        self.at(name).to_str().unwrap().to_owned()
    }
}

fn mail(port: u16, security: MailSecurity) -> Mail {
    Mail {
        host: "localhost".into(),
        port,
        security,
        user: None,
        password_file: None,
        from: "Gangline <net@gangline.test>".into(),
        to: vec!["ada@ops.test".into(), "Bob <bob@ops.test>".into()],
    }
}

/// A network that sends mails so, on which somebody has touched what is another's.
async fn breached(mail: Mail, ca: Option<&Path>, exceptions: &[&str]) -> (Net, SigningKey) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = net::quick_config(folder.path());
    config.outbound.exceptions = Exceptions::of_networks(exceptions.iter().copied()).unwrap();
    config.outbound.ca_file = ca.map(Path::to_owned);
    config.outlets = Outlets {
        webhook: None,
        mail: Some(mail),
        retry: Retry { first_millis: 50, longest_millis: 400, tries_max: 4 },
    };
    let net = Net::start_in(folder, config).await;
    let operator = net.enrol(&net.operator, KeyKind::CommandLine).await;
    touch(&net, "llvmpipe").await;
    (net, operator)
}

async fn touch(net: &Net, model: &str) {
    let (_, target) = net.machine(&net.invite("supplier", "Ada").await, model, AdapterKind::Software).await;
    let (thief, _) =
        net.machine(&net.invite("supplier", "Mallory").await, model, AdapterKind::Software).await;
    let path = format!("/api/v1/gpus/{target}/label");
    assert_eq!(net.call(&thief, "PUT", &path, &json!({"label": "owned"})).await.status, 404);
}

async fn delivery(net: &Net, operator: &SigningKey, wanted: impl Fn(&DeliveryView) -> bool) -> DeliveryView {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all: Vec<DeliveryView> =
            net.call(operator, "GET", "/api/v1/operate/deliveries", &Value::Null).await.json();
        if let Some(found) = all.iter().find(|d| wanted(d)) {
            return found.clone();
        }
        assert!(Instant::now() < deadline, "no message came to be as wanted: {all:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Head and text of a mail as it came, folded lines put together.
fn parts(mail: &Value) -> (Vec<(String, String)>, String) {
    let data = mail["data"].as_str().unwrap();
    let (head, text) = data.split_once("\r\n\r\n").unwrap();
    let head = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let fields = head.split("\r\n").map(|line| {
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?} is no field"));
        (name.to_ascii_lowercase(), value.to_owned())
    });
    // Quoted-printable, as far as it is used here.
    (fields.collect(), text.replace("=\r\n", "").replace("=3D", "="))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_says_what_was_noticed_over_tls_and_with_a_password() {
    let files = Files::make();
    let (cert, key) = (files.text("cert.pem"), files.text("key.pem"));
    for (word, security) in [("tls", MailSecurity::Tls), ("starttls", MailSecurity::StartTls)] {
        let args = [word, "--cert", &cert, "--key", &key, "--user", "net", "--password", PASSWORD];
        // aiosmtpd offers AUTH over implicit TLS only where it is told not to ask for STARTTLS.
        let mut server = Server::start(&args).await;
        let wanted = Mail {
            user: Some("net".into()),
            password_file: Some(files.at("password")),
            ..mail(server.port, security)
        };
        let (net, operator) = breached(wanted, Some(&files.at("ca.pem")), &THIS_MACHINE).await;
        let came = server.next().await;
        assert_eq!((came["tls"].as_bool(), came["user"].as_str()), (Some(true), Some("net")), "{came}");
        assert_eq!(came["sender"], "net@gangline.test");
        assert_eq!(came["to"], json!(["ada@ops.test", "bob@ops.test"]));
        let (head, text) = parts(&came);
        let field =
            |name: &str| head.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str()).unwrap_or_default();
        assert!(field("subject").starts_with("[gangline] opened, urgent: foreign touch by key_"), "{head:?}");
        assert_eq!(field("auto-submitted"), "auto-generated");
        assert!(text.contains("label_gpu") && text.contains("/console/security"), "{text}");
        let sent = delivery(&net, &operator, |d| d.state == "sent").await;
        assert_eq!(field("message-id"), format!("<{}@gangline.test>", sent.delivery));
        net.stop().await;
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_or_certificate_sends_nothing() {
    let files = Files::make();
    let (cert, key) = (files.text("cert.pem"), files.text("key.pem"));
    let args = ["starttls", "--cert", &cert, "--key", &key, "--user", "net", "--password", "another"];
    let mut server = Server::start(&args).await;
    let with_password = Mail {
        user: Some("net".into()),
        password_file: Some(files.at("password")),
        ..mail(server.port, MailSecurity::StartTls)
    };
    // A password may be corrected: it is tried again until that is given up.
    let (net, operator) = breached(with_password.clone(), Some(&files.at("ca.pem")), &THIS_MACHINE).await;
    let dead = delivery(&net, &operator, |d| d.state == "dead").await;
    assert!(dead.tries == 4 && dead.error.contains("535"), "{dead:?}");
    net.stop().await;
    for (mail, ca, exceptions, why) in [
        // An authority that nobody named.
        (with_password.clone(), None, &THIS_MACHINE[..], ""),
        // A name that is not the certificate's.
        (
            Mail { host: "127.0.0.1".into(), ..with_password.clone() },
            Some(files.at("ca.pem")),
            &THIS_MACHINE,
            "",
        ),
        // A network that nobody named.
        (with_password.clone(), Some(files.at("ca.pem")), &[], "loopback"),
        // A server that speaks no TLS at all where it has to.
        (mail(server.port, MailSecurity::Tls), Some(files.at("ca.pem")), &THIS_MACHINE, ""),
    ] {
        let (net, operator) = breached(mail, ca.as_deref(), exceptions).await;
        let dead = delivery(&net, &operator, |d| d.state == "dead").await;
        assert!(dead.error.contains(why), "{dead:?}");
        net.stop().await;
    }
    assert!(server.lines.try_recv().is_err(), "a mail was taken");
    let plain = Server::start(&["plain"]).await;
    let (net, operator) = breached(mail(plain.port, MailSecurity::StartTls), None, &THIS_MACHINE).await;
    delivery(&net, &operator, |d| d.state == "dead").await;
    net.stop().await;
    server.stop().await;
    plain.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_slow_or_refuses_loses_no_mail() {
    // Nobody listens: given up after a while, and sent again once somebody does.
    let gone = Server::start(&["plain"]).await;
    let port = gone.port;
    gone.stop().await;
    let (net, operator) = breached(mail(port, MailSecurity::Plain), None, &THIS_MACHINE).await;
    let dead = delivery(&net, &operator, |d| d.state == "dead").await;
    assert_eq!(dead.tries, 4);
    let mut back = Server::start(&["plain", "--port", &port.to_string(), "--slow", "2"]).await;
    let again = format!("/api/v1/operate/deliveries/{}/send", dead.delivery);
    assert_eq!(net.call(&operator, "POST", &again, &json!({})).await.status, 200);
    let came = back.next().await;
    assert!(came["data"].as_str().unwrap().contains(&dead.delivery.to_string()));
    delivery(&net, &operator, |d| d.delivery == dead.delivery && d.state == "sent").await;
    net.stop().await;
    back.stop().await;

    // "Not now" is tried again; "never" is given up at once.
    for (code, tries) in [("451", 4), ("550", 1)] {
        let mut server = Server::start(&["plain", "--refuse", code]).await;
        let to_one = Mail { to: vec!["ada@ops.test".into()], ..mail(server.port, MailSecurity::Plain) };
        let (net, operator) = breached(to_one, None, &THIS_MACHINE).await;
        let dead = delivery(&net, &operator, |d| d.state == "dead").await;
        assert_eq!(dead.tries, tries, "{dead:?}");
        for _ in 0..tries {
            assert_eq!(server.next().await["refused"], code);
        }
        net.stop().await;
        server.stop().await;
    }

    // One address that is none keeps it from nobody else, and is named.
    let mut server = Server::start(&["plain", "--refuse-to", "ada@ops.test"]).await;
    let (net, operator) = breached(mail(server.port, MailSecurity::Plain), None, &THIS_MACHINE).await;
    assert_eq!(server.next().await["to"], json!(["bob@ops.test"]));
    let dead = delivery(&net, &operator, |d| d.state == "dead").await;
    assert!(dead.error.contains("ada@ops.test") && !dead.error.contains("bob@"), "{dead:?}");
    net.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_text_from_outside_becomes_a_header_or_another_mail() {
    let mut server = Server::start(&["plain"]).await;
    let (net, operator) = breached(mail(server.port, MailSecurity::Plain), None, &THIS_MACHINE).await;
    server.next().await;
    // What somebody writes of an incident, and what a machine calls its card: the type lets no line break in; the
    // books are written to as if it had.
    let hostile = "x\r\nBcc: all@evil.test\r\n\r\n.\r\nMAIL FROM:<a@evil.test>\r\nRCPT TO:<b@evil.test>";
    let url = format!("sqlite://{}/gangline.sqlite", net.folder.path().display());
    let books = sqlx::SqlitePool::connect(&url).await.unwrap();
    sqlx::query(
        "UPDATE incident SET subject = ?1, note = ?1, resource = ?1, state = 'closed', changed_by = 'x'",
    )
    .bind(hostile)
    .execute(&books)
    .await
    .unwrap();
    books.close().await;
    let came = server.next().await;
    assert_eq!(came["to"], json!(["ada@ops.test", "bob@ops.test"]));
    let (head, text) = parts(&came);
    let mut names: Vec<&str> = head.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let expected = [
        "auto-submitted",
        "content-transfer-encoding",
        "content-type",
        "date",
        "from",
        "message-id",
        "mime-version",
        "subject",
        "to",
    ];
    assert_eq!(names, expected);
    assert!(text.contains("Bcc: all@evil.test"), "it is there, as text: {text}");
    assert!(!text.lines().any(|line| line.starts_with("Bcc") || line.starts_with("RCPT")), "{text}");
    delivery(&net, &operator, |d| d.subject.contains("closed") && d.state == "sent").await;
    // And it was one mail.
    net.stop().await;
    assert!(server.lines.try_recv().is_err());
    server.stop().await;
}
