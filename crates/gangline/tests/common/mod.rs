//! What the tests of the built binary share: a place of its own for each, and a server that answers as
//! a test says and remembers what it was asked.

#![allow(dead_code, reason = "each test file uses its own part")]

pub mod log;

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use gangline_types::ClusterId;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The built binary with nothing of this machine's user in its environment.
pub fn gangline(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gangline"));
    command
        .env_clear()
        .env("XDG_STATE_HOME", state)
        .env("HOME", state)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

/// Runs it and waits for its end.
pub fn run(state: &Path, args: &[&str]) -> Output {
    gangline(state).args(args).output().unwrap()
}

/// Exit code, stdout and stderr of a run.
pub fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// The cluster of these tests.
pub fn cluster() -> ClusterId {
    ClusterId::from_bytes([7; 16])
}

/// That cluster as its renter sees it.
pub fn cluster_view(state: &str) -> serde_json::Value {
    serde_json::json!({
        "id": cluster(), "gpu": gangline_types::GpuId::from_bytes([3; 16]), "model": "llvmpipe", "state": state,
        "detail": "as asked", "price_per_hour": 2_000_000, "created_at": 1_700_000_000u64, "started_at": 1_700_000_010u64,
        "ended_at": null, "until": 1_700_003_600u64, "used": 5, "cost": 2778, "receipt": null,
    })
}

/// A state folder that is logged in at `url`.
pub fn logged_in(url: &str) -> tempfile::TempDir {
    use std::os::unix::fs::OpenOptionsExt;
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("gangline/rent");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("login.toml"), format!("server = \"{url}\"\n")).unwrap();
    let mut key = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(folder.join("cli.key"))
        .unwrap();
    std::io::Write::write_all(&mut key, &[5; 32]).unwrap();
    state
}

/// A request as the stub got it.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// An answer of the stub.
pub type Answer = Response<Full<Bytes>>;

/// JSON with a status.
pub fn json(status: u16, value: serde_json::Value) -> Answer {
    let body = Full::from(value.to_string());
    Response::builder().status(status).header("content-type", "application/json").body(body).unwrap()
}

/// Plain text with a status.
pub fn text(status: u16, text: &str) -> Answer {
    Response::builder()
        .status(status)
        .header("content-type", "text/plain")
        .body(Full::from(text.to_owned()))
        .unwrap()
}

/// A server on loopback. It stands for the network where a test is about the command line; the real
/// one is met in the demonstration.
pub struct Stub {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _ends: tokio::sync::oneshot::Sender<()>,
}

impl Stub {
    /// Answers every request by `answer`; `/logs/tail` becomes a WebSocket that echoes, after it has
    /// sent `greeting` (and that closes where `greeting` ends with `.`).
    pub fn start(
        answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
        greeting: &'static [&'static str],
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (asked.clone(), Arc::new(answer));
        let (ends, ended) = tokio::sync::oneshot::channel::<()>();
        let serving = async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (seen.clone(), answer.clone());
                let service =
                    service_fn(move |request| serve(request, seen.clone(), answer.clone(), greeting));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades(),
                );
            }
        };
        // On a thread of its own: tests may or may not run a runtime themselves.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! { () = serving => {}, _ = ended => {} }
            });
        });
        Self { url, asked, _ends: ends }
    }

    /// What it was asked.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    mut request: Request<Incoming>,
    seen: Arc<Mutex<Vec<Asked>>>,
    answer: Arc<impl Fn(&Asked) -> Answer>,
    greeting: &'static [&'static str],
) -> Result<Answer, hyper::Error> {
    let upgrade = request.headers().contains_key("upgrade").then(|| hyper::upgrade::on(&mut request));
    let (parts, body) = request.into_parts();
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.to_string(),
        headers: parts.headers,
        body: body.collect().await?.to_bytes(),
    };
    seen.lock().unwrap().push(asked.clone());
    let Some(upgrade) = upgrade else { return Ok(answer(&asked)) };
    let key = asked.headers["sec-websocket-key"].as_bytes();
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key);
    tokio::spawn(async move {
        let socket = TokioIo::new(upgrade.await.unwrap());
        let _ = socket_session(socket, greeting).await;
    });
    let headers =
        [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", accept.as_str())];
    let response =
        headers.iter().fold(Response::builder().status(101), |r, (name, value)| r.header(*name, *value));
    Ok(response.body(Full::default()).unwrap())
}

async fn socket_session(
    socket: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    greeting: &[&str],
) -> Result<(), tokio_tungstenite::tungstenite::Error> {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::{
        WebSocketStream,
        tungstenite::{Message, protocol::Role},
    };
    let mut socket = WebSocketStream::from_raw_socket(socket, Role::Server, None).await;
    for piece in greeting {
        if *piece == "." {
            return socket.close(None).await;
        }
        socket.send(Message::text(*piece)).await?;
    }
    while let Some(message) = socket.next().await {
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
            Message::Close(_) => break,
            _ => {}
        }
    }
    Ok(())
}
