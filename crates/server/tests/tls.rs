//! What a server does with connections before anybody has asked for anything: TLS with a certificate from
//! files, a new certificate while connections are open, and the limits on all of them.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod net;
mod pki;

use std::{path::Path, time::Duration};

use gangline_server::{
    Config, ServeError,
    config::{Connections, Tls},
    serve,
};
use pki::{Authority, Server, client, connect, files, shown};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

/// Long enough for a loaded machine.
const PATIENCE: Duration = Duration::from_secs(90);

fn with_files(folder: &Path) -> Config {
    let [cert, key] = files(folder);
    Config { tls: Some(Tls::Files { cert, key }), ..net::quick_config(&folder.join("data")) }
}

/// One request on an open connection, and its status line.
async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), host: &str) -> String {
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    answer(stream).await
}

/// What comes until the body of `/healthz` or the end.
async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut read = Vec::new();
    let mut chunk = [0; 1024];
    let whole = |read: &[u8]| read.windows(4).any(|w| w == b"\r\n\r\n");
    while !whole(&read) {
        match tokio::time::timeout(PATIENCE, stream.read(&mut chunk)).await.expect("an answer or the end") {
            Ok(n) if n > 0 => read.extend_from_slice(&chunk[..n]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_and_open_connections_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let [cert, key] = files(folder.path());
    authority.write([&cert, &key], &["localhost"]);
    let server = Server::start(with_files(folder.path())).await;
    assert_eq!(server.origin, format!("https://{}", server.address));
    let host = server.address.to_string();

    let mut first =
        connect(server.address, "localhost", &authority.pem, &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(first.get_ref().1.alpn_protocol(), Some(b"http/1.1".as_slice()));
    let head = ask(&mut first, &host).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("strict-transport-security: max-age=31536000"), "{head}");
    let before = shown(&first);

    // Another one, and one that belongs to another key: the first is shown, the second is not.
    authority.write([&cert, &key], &["localhost"]);
    let deadline = std::time::Instant::now() + PATIENCE;
    let after = loop {
        let now = shown(&connect(server.address, "localhost", &authority.pem, &[]).await.unwrap());
        if now != before {
            break now;
        }
        assert!(std::time::Instant::now() < deadline, "the new certificate was never shown");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(ask(&mut first, &host).await.starts_with("HTTP/1.1 200"), "an open connection was ended");
    pki::write_private(&cert, b"-----BEGIN CERTIFICATE-----\n");
    let metrics = client(&authority.pem).build().unwrap();
    for _ in 0..3 {
        // Each look of the server finds the broken file; what was shown is shown on.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let text = metrics.get(format!("https://localhost:{}/metrics", server.address.port())).send();
        assert_eq!(text.await.unwrap().status().as_u16(), 200);
    }
    assert_eq!(shown(&connect(server.address, "localhost", &authority.pem, &[]).await.unwrap()), after);

    // Plain HTTP on that port gets nothing, nor does an older TLS or another authority's believer.
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    assert!(!ask(&mut plain, &host).await.starts_with("HTTP"), "plain HTTP was answered on a TLS port");
    let stranger = Authority::new();
    assert!(connect(server.address, "localhost", &stranger.pem, &[]).await.is_err());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_cannot_be_used_keeps_a_server_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = files(folder.path());
    let check = async |expected: &str| match serve(with_files(folder.path())).await {
        Err(ServeError::Tls(error)) => assert!(error.to_string().contains(expected), "{error}"),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("started: {expected}"),
    };
    check("cannot be read").await;
    let authority = Authority::new();
    authority.write([&cert, &key], &["localhost"]);
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    check("every user can read the private key").await;
    authority.write([&folder.path().join("other.pem"), &key], &["localhost"]);
    check("it is not the key of the certificate").await;
    pki::write_private(&cert, b"nothing");
    check("holds no certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_take_too_much_are_ended() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        connections: Connections { max: 16, per_address_max: 1 },
        ..net::quick_config(folder.path())
    };
    let server = Server::start(config).await;
    let host = server.address.to_string();

    // A head that is too long, and one of too many fields.
    let long = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\nx: {}\r\n\r\n", "x".repeat(40_000));
    let many = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n{}\r\n", "x: y\r\n".repeat(120));
    for head in [long, many] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let (mut read, mut write) = stream.split();
        let (_, told) = tokio::join!(write.write_all(head.as_bytes()), answer(&mut read));
        assert!(told.starts_with("HTTP/1.1 431"), "{told}");
    }

    // Places are given back only as their connections end.
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut held = Vec::new();
    while held.len() < 16 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if ask(&mut stream, &host).await.starts_with("HTTP/1.1 200") {
            held.push(stream);
        }
        assert!(std::time::Instant::now() < deadline, "{} places", held.len());
    }
    let mut turned_away = TcpStream::connect(server.address).await.unwrap();
    let _ = turned_away.write_all(b"GET /healthz HTTP/1.1\r\n").await;
    assert_eq!(answer(&mut turned_away).await, "", "the seventeenth connection was kept");
    let mut stream = held.pop().unwrap();
    assert!(ask(&mut stream, &host).await.starts_with("HTTP/1.1 200"), "the others are served on");
    drop((stream, held));

    // One that begins and never ends its head, and one that says nothing.
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut slow = loop {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        if ask(&mut stream, &host).await.starts_with("HTTP/1.1 200") {
            break TcpStream::connect(server.address).await.unwrap();
        }
        assert!(std::time::Instant::now() < deadline, "no place was given back");
    };
    slow.write_all(b"GET /healthz HTTP/1.1\r\nx: ").await.unwrap();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let (slow, silent) = tokio::join!(answer(&mut slow), answer(&mut silent));
    assert!(!slow.starts_with("HTTP/1.1 200") && silent.is_empty(), "{slow} {silent}");
    server.stop().await;
}
