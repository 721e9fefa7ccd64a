//! Where one request ends and the next begins: what could be read in two ways is refused, or ends the connection,
//! so that nobody in front of this server can be made to see other requests than it does.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod net;

use std::{net::SocketAddr, time::Duration};

use net::Net;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Says `bytes` and hears everything until the server closes.
async fn hears(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that has refused may have closed before all was said.
    let _ = stream.write_all(bytes).await;
    let mut heard = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut heard)).await;
    assert!(read.is_ok(), "the server neither answers nor closes: {}", String::from_utf8_lossy(&heard));
    String::from_utf8_lossy(&heard).into_owned()
}

/// Status codes in the order heard.
fn answers(heard: &str) -> Vec<u16> {
    heard.split("HTTP/1.1 ").skip(1).map(|rest| rest[..3].parse().unwrap()).collect()
}

/// A request that must never be answered as one of its own.
const HIDDEN: &str = "GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn no_request_hides_in_another() {
    let net = Net::start().await;
    let host = net.address.to_string();
    // A form that anybody may send, so that its body is read.
    let post =
        |headers: &str, body: &str| format!("POST /theme HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n{body}");
    const FORM: &str = "theme=dark&back=/";

    // What has one meaning is two requests, each answered: this test hears a second one.
    let length = HIDDEN.len();
    for plain in [
        post("content-length: 17\r\n", FORM) + HIDDEN,
        post("content-length: 17\r\ncontent-length: 17\r\n", FORM) + HIDDEN,
    ] {
        assert_eq!(answers(&hears(net.address, plain.as_bytes()).await), [303, 200], "{plain}");
    }
    let whole = post(&format!("content-length: {length}\r\nconnection: close\r\n"), HIDDEN);
    assert_eq!(answers(&hears(net.address, whole.as_bytes()).await), [400], "a body was read as a request");

    // What has two is one at most, and nothing after it is read.
    let chunked = format!("0\r\n\r\n{HIDDEN}");
    let sized = format!("{length:x}\r\n{HIDDEN}\r\n0\r\n\r\n{HIDDEN}");
    for (what, headers, body, refused) in [
        (
            "length, then coding",
            format!("content-length: {}\r\ntransfer-encoding: chunked\r\n", chunked.len()),
            &chunked,
            false,
        ),
        (
            "coding, then length",
            format!("transfer-encoding: chunked\r\ncontent-length: {}\r\n", chunked.len()),
            &chunked,
            false,
        ),
        (
            "coding and a short length",
            "content-length: 4\r\ntransfer-encoding: chunked\r\n".into(),
            &sized,
            false,
        ),
        (
            "coding twice",
            "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n".into(),
            &chunked,
            true,
        ),
        ("coding that is not the last", "transfer-encoding: chunked, gzip\r\n".into(), &chunked, true),
        ("coding of another name", "transfer-encoding: xchunked\r\n".into(), &chunked, true),
        ("coding in quotes", "transfer-encoding: \"chunked\"\r\n".into(), &chunked, true),
        ("coding after a control character", "transfer-encoding: \u{b}chunked\r\n".into(), &chunked, true),
        ("a space before the colon", "transfer-encoding : chunked\r\n".into(), &chunked, true),
        ("a folded line", "x: a\r\n transfer-encoding: chunked\r\n".into(), &chunked, true),
        ("two lengths", "content-length: 2\r\ncontent-length: 7\r\n".into(), &chunked, true),
        ("two lengths in one", "content-length: 2, 7\r\n".into(), &chunked, true),
        ("a length with a sign", "content-length: +2\r\n".into(), &chunked, true),
        ("a negative length", "content-length: -2\r\n".into(), &chunked, true),
        ("a length in hexadecimal", "content-length: 0x2\r\n".into(), &chunked, true),
        ("a length with a space", "content-length: 1 2\r\n".into(), &chunked, true),
        ("an endless length", "content-length: 99999999999999999999\r\n".into(), &chunked, true),
        ("an empty length", "content-length: \r\n".into(), &chunked, true),
    ] {
        let bytes = post(&headers, body);
        let heard = hears(net.address, bytes.as_bytes()).await;
        let answers = answers(&heard);
        assert!(
            answers.len() == 1 || refused && answers.is_empty(),
            "{what} is {} requests: {heard}",
            answers.len()
        );
        if refused {
            assert!(answers.iter().all(|status| *status == 400), "{what} was taken: {heard}");
        } else {
            assert!(heard.to_ascii_lowercase().contains("connection: close"), "{what}: {heard}");
        }
        assert!(!answers.contains(&200), "{what} hid a request: {heard}");
    }

    // A body in chunks whose sizes cannot be trusted is refused where it is read, and nothing after it is.
    for (what, body) in [
        ("a size that overflows", format!("10000000000000002\r\n{{}}\r\n0\r\n\r\n{HIDDEN}")),
        ("a size with a sign", format!("-2\r\n{{}}\r\n0\r\n\r\n{HIDDEN}")),
        ("a size with 0x", format!("0x2\r\n{{}}\r\n0\r\n\r\n{HIDDEN}")),
        ("a size that is no number", format!("two\r\n{{}}\r\n0\r\n\r\n{HIDDEN}")),
        ("no line end after a chunk", format!("2\r\n{{}}x\r\n0\r\n\r\n{HIDDEN}")),
        ("an extension without end", format!("2;{}\r\n{{}}\r\n0\r\n\r\n{HIDDEN}", "a".repeat(40_000))),
    ] {
        let bytes = post("transfer-encoding: chunked\r\n", &body);
        let heard = hears(net.address, bytes.as_bytes()).await;
        let answers = answers(&heard);
        assert!(answers.len() <= 1 && !answers.iter().any(|status| *status < 400), "{what}: {heard}");
    }

    // Two hosts, none, and one that is not ours.
    const PUBLIC: &str = "/api/v1/public/network";
    for (what, head) in [
        ("two hosts", format!("GET {PUBLIC} HTTP/1.1\r\nhost: {host}\r\nhost: evil.example\r\n")),
        ("no host", format!("GET {PUBLIC} HTTP/1.1\r\n")),
        ("another host in the line", format!("GET http://evil.example{PUBLIC} HTTP/1.1\r\nhost: {host}\r\n")),
    ] {
        let heard = hears(net.address, format!("{head}connection: close\r\n\r\n").as_bytes()).await;
        let answers = answers(&heard);
        assert!(answers.len() == 1 && answers[0] >= 400, "{what} was answered: {heard}");
    }
    assert_eq!(net.get("/readyz").await.status, 200);
    net.stop().await;
}
