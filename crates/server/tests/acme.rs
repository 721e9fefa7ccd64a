//! A certificate from a real ACME authority that runs here (pebble): got, kept over a restart, renewed, by both
//! challenges, and an authority that is not convinced gives none.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod net;
mod pki;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use gangline_server::{
    Config,
    config::{Acme, Outbound, Tls},
};
use pki::{Authority, Server, client, connect, shown};

/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);
const DOMAIN: &str = "gangline.test";

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody has, and that the system gives nobody who asks for any (it has those from 32768 on): the authority has to
/// be told of ports before somebody listens there.
fn port() -> u16 {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let of_process = std::process::id().wrapping_mul(37);
    let next = || 10_000 + (of_process.wrapping_add(ASKED.fetch_add(1, Ordering::Relaxed)) % 20_000) as u16;
    let is_free = |port: &u16| {
        let here = (Ipv4Addr::LOCALHOST, *port);
        TcpListener::bind(here).is_ok() && UdpSocket::bind(here).is_ok()
    };
    std::iter::repeat_with(next).take(20_000).find(is_free).unwrap()
}

/// A real authority, and the names it looks up.
struct Pebble {
    _processes: [Running; 2],
    directory: String,
    management: u16,
    tls_port: u16,
    http_port: u16,
    /// For whom asks the authority itself.
    ca: Authority,
}

impl Pebble {
    async fn start(folder: &Path, validity_seconds: u64) -> Self {
        let ca = Authority::new();
        let [cert, key] = ["pebble.pem", "pebble-key.pem"].map(|name| folder.join(name));
        ca.write([&cert, &key], &["localhost"]);
        std::fs::write(folder.join("ca.pem"), &ca.pem).unwrap();
        let (listen, management, tls_port, http_port, dns) = (port(), port(), port(), port(), port());
        let config = serde_json::json!({"pebble": {
            "listenAddress": format!("127.0.0.1:{listen}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": cert, "privateKey": key, "httpPort": http_port, "tlsPort": tls_port,
            "certificateValidityPeriod": validity_seconds,
        }});
        std::fs::write(folder.join("pebble.json"), config.to_string()).unwrap();
        let names = Command::new("pebble-challtestsrv")
            .args([
                "-defaultIPv4",
                "127.0.0.1",
                "-defaultIPv6",
                "",
                "-http01",
                "",
                "-https01",
                "",
                "-tlsalpn01",
                "",
            ])
            .args(["-dns01", &format!("127.0.0.1:{dns}"), "-management", &format!("127.0.0.1:{}", port())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pebble-challtestsrv, of Debian's package pebble");
        let authority = Command::new("pebble")
            .args(["-config".as_ref(), folder.join("pebble.json").as_os_str()])
            .args(["-dnsserver", &format!("127.0.0.1:{dns}")])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pebble, of Debian's package pebble");
        let pebble = Self {
            _processes: [Running(names), Running(authority)],
            directory: format!("https://localhost:{listen}/dir"),
            management,
            tls_port,
            http_port,
            ca,
        };
        let http = client(&pebble.ca.pem).build().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while http.get(&pebble.directory).send().await.is_err() {
            assert!(Instant::now() < deadline, "pebble never answered");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        pebble
    }

    /// The root that its certificates lead to.
    async fn root(&self) -> String {
        let http = client(&self.ca.pem).build().unwrap();
        let url = format!("https://localhost:{}/roots/0", self.management);
        http.get(url).send().await.unwrap().text().await.unwrap()
    }

    fn config(&self, folder: &Path, http_listen: Option<SocketAddr>) -> Config {
        let acme = Acme {
            directory: self.directory.clone(),
            domains: vec![DOMAIN.into()],
            contacts: vec!["mailto:ops@gangline.test".into()],
            http_listen,
        };
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], self.tls_port)),
            tls: Some(Tls::Acme(acme)),
            outbound: Outbound { ca_file: Some(folder.join("ca.pem")), ..Outbound::default() },
            ..net::quick_config(&folder.join("data"))
        }
    }
}

/// The certificate that is shown once one is that `root` vouches for and that is not `old`.
async fn certificate(address: SocketAddr, root: &str, old: &[u8]) -> Vec<u8> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(stream) = connect(address, DOMAIN, root, &[b"http/1.1"]).await
            && shown(&stream) != old
        {
            return shown(&stream);
        }
        assert!(Instant::now() < deadline, "no certificate came");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_got_on_the_tls_port_kept_and_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let pebble = Pebble::start(folder.path(), 3600).await;
    let root = pebble.root().await;
    let server = Server::start(pebble.config(folder.path(), None)).await;
    assert_eq!(server.origin, format!("https://{DOMAIN}:{}", pebble.tls_port));
    let first = certificate(server.address, &root, &[]).await;
    let http = client(&root).resolve(DOMAIN, server.address).build().unwrap();
    assert_eq!(http.get(format!("{}/readyz", server.origin)).send().await.unwrap().status().as_u16(), 200);
    // The challenge's own certificate is gone with the challenge.
    assert!(connect(server.address, DOMAIN, &root, &[b"acme-tls/1"]).await.is_err());
    for name in ["account.json", "cert.pem", "key.pem"] {
        let facts = std::fs::metadata(folder.path().join("data/acme").join(name)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&facts.permissions());
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    server.stop().await;

    let again = Server::start(pebble.config(folder.path(), None)).await;
    assert_eq!(certificate(again.address, &root, &[]).await, first, "a certificate that holds was not kept");
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_got_over_plain_http_and_renewed_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let pebble = Pebble::start(folder.path(), 30).await;
    let root = pebble.root().await;
    let listen = SocketAddr::from(([127, 0, 0, 1], pebble.http_port));
    let server = Server::start(pebble.config(folder.path(), Some(listen))).await;
    let first = certificate(server.address, &root, &[]).await;
    // All else on the plain port is sent on to the one name this server has.
    let http = client(&root).build().unwrap();
    let onward =
        http.get(format!("http://{listen}/gpu/x?y=1")).header("host", "evil.test").send().await.unwrap();
    assert_eq!(onward.status().as_u16(), 308);
    assert_eq!(
        onward.headers()["location"].to_str().unwrap(),
        format!("https://{DOMAIN}:{}/gpu/x?y=1", pebble.tls_port)
    );
    for plain in [
        http.get(format!("http://{listen}/api/v1/public/network")),
        http.post(format!("http://{listen}/leave")),
        http.get(format!("http://{listen}//evil.test/")),
    ] {
        assert_eq!(plain.send().await.unwrap().status().as_u16(), 403, "a program was led on");
    }
    let unknown = http.get(format!("http://{listen}/.well-known/acme-challenge/x")).send().await.unwrap();
    assert_eq!(unknown.status().as_u16(), 404);
    certificate(server.address, &root, &first).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_not_convinced_gives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let pebble = Pebble::start(folder.path(), 3600).await;
    let root = pebble.root().await;
    // It looks for the answer at a port where nobody gives one.
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Server::start(pebble.config(folder.path(), Some(listen))).await;
    let deadline = Instant::now() + PATIENCE;
    let account = folder.path().join("data/acme/account.json");
    while !account.exists() {
        assert!(Instant::now() < deadline, "the authority was never asked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(connect(server.address, DOMAIN, &root, &[]).await.is_err(), "something was shown");
    server.stop().await;
    assert!(!folder.path().join("data/acme/cert.pem").exists());
}
