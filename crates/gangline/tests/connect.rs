//! `rent connect` from outside: who gets through, what goes on, and what never does.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod common;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Stdio},
};

use common::{Stub, cluster, cluster_view, gangline, json, logged_in};
use futures_util::{SinkExt, StreamExt};
use http_body_util::Full;
use reqwest::{Client, Method, Response, StatusCode};

/// A running `rent connect`, ended with the test.
struct Connect {
    child: Child,
    url: String,
    token: String,
    stub: Stub,
    _state: tempfile::TempDir,
}

impl Drop for Connect {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Connect {
    fn start() -> Self {
        let stub = Stub::start(
            |asked| {
                if !asked.path.contains("/ray/") {
                    return json(200, cluster_view("running"));
                }
                let answer = http::Response::builder()
                    .header("set-cookie", "ray-authentication-token=the-clusters-own")
                    .header("access-control-allow-origin", "*")
                    .header("x-ray", "2.60");
                answer.body(Full::from(format!("{} {}", asked.method, asked.path))).unwrap()
            },
            &["hello"],
        );
        let state = logged_in(&stub.url);
        let mut child = gangline(state.path())
            .args(["rent", "connect", "--cluster", &cluster().to_string(), "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        let word = |name: &str| said[name].as_str().unwrap().to_owned();
        Self { child, url: word("url"), token: word("token"), stub, _state: state }
    }

    fn host(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &'static str,
    ) -> Response {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client =
            Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
        let mut request = client.request(method, format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    /// What reached the cluster.
    fn passed(&self) -> Vec<common::Asked> {
        self.stub.asked().into_iter().filter(|asked| asked.path.contains("/ray")).collect()
    }
}

#[tokio::test]
async fn nothing_passes_without_the_token() {
    let connect = Connect::start();
    for headers in [
        &[][..],
        &[("authorization", "Bearer wrong")],
        &[("x-ray-authorization", "Bearer wrong")],
        &[("cookie", "gangline-connect=wrong")],
        &[("authorization", "Basic abc")],
    ] {
        for (method, path) in [
            (Method::GET, "/"),
            (Method::POST, "/api/jobs/"),
            (Method::GET, "/api/authenticate"),
            (Method::GET, "/?gangline_token=x"),
        ] {
            let answer = connect.ask(method, path, headers, "").await;
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path} {headers:?}");
            assert!(answer.headers().get("set-cookie").is_none());
        }
    }
    assert!(connect.passed().is_empty(), "{:?}", connect.passed());
}

#[tokio::test]
async fn another_name_or_another_origin_is_refused_even_with_the_token() {
    let connect = Connect::start();
    let bearer = format!("Bearer {}", connect.token);
    for (name, value, status) in [
        ("host", "evil.example", StatusCode::MISDIRECTED_REQUEST),
        ("host", "127.0.0.1:1", StatusCode::MISDIRECTED_REQUEST),
        ("origin", "http://evil.example", StatusCode::FORBIDDEN),
        ("origin", "null", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "cross-site", StatusCode::FORBIDDEN),
    ] {
        let answer =
            connect.ask(Method::GET, "/api/version", &[("authorization", &bearer), (name, value)], "").await;
        assert_eq!(answer.status(), status, "{name}: {value}");
    }
    let link = format!("/?gangline_token={}", connect.token);
    let answer = connect.ask(Method::GET, &link, &[("host", "evil.example")], "").await;
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    assert!(connect.passed().is_empty());
}

#[tokio::test]
async fn what_passes_is_signed_and_carries_no_credential() {
    let connect = Connect::start();
    let bearer = format!("Bearer {}", connect.token);
    let headers = [
        ("authorization", bearer.as_str()),
        ("cookie", "gangline-connect=x; other=y"),
        ("referer", "http://here/?gangline_token=z"),
        ("content-type", "application/json"),
        ("user-agent", "python-requests/2.32"),
    ];
    let answer = connect.ask(Method::POST, "/api/jobs/?a=b%20c", &headers, "{\"entrypoint\":\"true\"}").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["x-ray"], "2.60");
    // The cluster's own token never reaches a browser, and no other origin is let in.
    assert!(
        answer.headers().get("set-cookie").is_none()
            && answer.headers().get("access-control-allow-origin").is_none()
    );
    let path = format!("/api/v1/clusters/{}/ray/api/jobs/?a=b%20c", cluster());
    assert_eq!(answer.text().await.unwrap(), format!("POST {path}"));

    let passed = connect.passed();
    assert_eq!(passed.len(), 1);
    assert_eq!(passed[0].body, "{\"entrypoint\":\"true\"}");
    assert_eq!(passed[0].headers["user-agent"], "python-requests/2.32");
    for header in ["authorization", "x-ray-authorization", "cookie", "referer", "origin"] {
        assert!(!passed[0].headers.contains_key(header), "{header} went on");
    }
    for header in ["signature", "signature-input", "content-digest", "gangline-sequence"] {
        assert_eq!(passed[0].headers.get_all(header).iter().count(), 1, "{header}");
    }
    assert!(!format!("{:?}", passed[0]).contains(&connect.token), "the token went on");
}

#[tokio::test]
async fn a_browser_gets_in_by_the_link_and_stays_by_its_cookie() {
    let connect = Connect::start();
    let answer = connect.ask(Method::GET, &format!("/?gangline_token={}", connect.token), &[], "").await;
    assert_eq!(
        (answer.status(), answer.headers()["location"].to_str().unwrap()),
        (StatusCode::SEE_OTHER, "/")
    );
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
    assert!(connect.passed().is_empty(), "the link went on");

    let pair = cookie.split(';').next().unwrap();
    let answer =
        connect.ask(Method::GET, "/", &[("cookie", pair), ("sec-fetch-site", "same-origin")], "").await;
    assert_eq!(answer.status(), StatusCode::OK);

    // Ray's own sign-in page works as well, and is answered here.
    let bearer = format!("Bearer {}", connect.token);
    let answer = connect.ask(Method::POST, "/api/authenticate", &[("authorization", &bearer)], "").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.headers()["set-cookie"].to_str().unwrap().starts_with(pair));
    assert_eq!(connect.passed().len(), 1);
}

#[tokio::test]
async fn no_path_reaches_another_endpoint_with_the_renters_signature() {
    let connect = Connect::start();
    let request = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            connect.host(),
            connect.token
        )
    };
    for path in ["/../../../me", "/%2e%2e/%2E%2e/x", "/a/..%2f..%2fme", "/..\\..\\me"] {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(connect.host()).await.unwrap();
        stream.write_all(request(path).as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
    // Only the question whether the cluster runs was asked.
    assert_eq!(connect.stub.asked().len(), 1);
}

#[tokio::test]
async fn a_websocket_passes_both_ways() {
    use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};
    let connect = Connect::start();
    let stream = tokio::net::TcpStream::connect(connect.host()).await.unwrap();
    let mut request = format!("ws://{}/api/jobs/x/logs/tail", connect.host()).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", connect.token).parse().unwrap());
    let (mut socket, answer) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    for text in ["ping", "ünïcode"] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
    }
    let passed = connect.passed();
    assert_eq!(passed[0].path, format!("/api/v1/clusters/{}/ray/api/jobs/x/logs/tail", cluster()));
    assert!(passed[0].headers.contains_key("signature") && !passed[0].headers.contains_key("authorization"));

    let stream = tokio::net::TcpStream::connect(connect.host()).await.unwrap();
    let request = format!("ws://{}/x", connect.host()).into_client_request().unwrap();
    let refused = tokio_tungstenite::client_async(request, stream).await.unwrap_err();
    assert!(refused.to_string().contains("401"), "{refused}");
}

#[test]
fn the_token_can_go_to_a_file_of_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let stub = Stub::start(|_| json(200, cluster_view("running")), &[]);
    let state = logged_in(&stub.url);
    let file = state.path().join("token");
    let mut child = gangline(state.path())
        .args([
            "rent",
            "connect",
            "--cluster",
            &cluster().to_string(),
            "--token-file",
            file.to_str().unwrap(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("The token opens this door only") {
        assert_ne!(out.read_line(&mut text).unwrap(), 0, "{text}");
    }
    let token = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(token.len(), 43);
    assert!(!text.contains(&token) && text.contains("ray job submit"), "{text}");
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success());
    assert!(String::from_utf8_lossy(&done.stderr).contains("it still runs"));
}

#[test]
fn a_port_that_is_taken_is_told() {
    let stub = Stub::start(|_| json(200, cluster_view("running")), &[]);
    let state = logged_in(&stub.url);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, err) = common::told(&common::run(
        state.path(),
        &["rent", "connect", "--cluster", &cluster().to_string(), "--listen", &address],
    ));
    assert_eq!(code, 1);
    assert!(
        err.contains(&format!("could not listen on {address}")) && err.contains("hint: choose another port"),
        "{err}"
    );
}
