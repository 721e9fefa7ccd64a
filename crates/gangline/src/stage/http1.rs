//! One HTTP/1.1 request as the very bytes that travel, for whoever must send a copy of them or something
//! that no honest client would send.

use anyhow::{Context, bail};
use serde_json::Value;
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Longest wait for an answer.
const WAIT: Duration = Duration::from_secs(40);
/// Largest answer kept.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: u16,
    /// Its head as it came.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The stable code of a refusal; empty where there is none.
    pub fn code(&self) -> String {
        let value: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        value["code"].as_str().unwrap_or_default().to_owned()
    }
    /// Status and code for people.
    pub fn words(&self) -> String {
        match self.code() {
            code if code.is_empty() => self.status.to_string(),
            code => format!("{} {code}", self.status),
        }
    }
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// The bytes of a request to `authority`; the connection ends with the answer.
pub fn bytes(
    method: &str,
    target: &str,
    authority: &str,
    headers: &[(&str, String)],
    body: &[u8],
) -> Vec<u8> {
    let mut out = format!("{method} {target} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n");
    for (name, value) in headers {
        out += &format!("{name}: {value}\r\n");
    }
    out += &format!("content-length: {}\r\n\r\n", body.len());
    [out.as_bytes(), body].concat()
}

/// Sends these bytes over plain HTTP and reads the answer.
///
/// # Errors
/// When nobody answers in HTTP.
pub async fn send(authority: &str, request: &[u8]) -> anyhow::Result<Answer> {
    send_to(&format!("http://{authority}"), request).await
}

/// Sends these bytes to a server by its URL, over TLS where that says https, and reads the answer.
///
/// # Errors
/// When nobody answers in HTTP, or their certificate is not believed.
pub async fn send_to(origin: &str, request: &[u8]) -> anyhow::Result<Answer> {
    let url = reqwest::Url::parse(origin).with_context(|| format!("{origin} is no URL"))?;
    match timeout(WAIT, connected(&url, request)).await {
        Ok(answer) => answer.with_context(|| format!("could not exchange a request with {origin}")),
        Err(_) => bail!("{origin} did not answer within {} s", WAIT.as_secs()),
    }
}

async fn connected(url: &reqwest::Url, request: &[u8]) -> anyhow::Result<Answer> {
    let host = url.host_str().context("the URL names no host")?.trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().context("the URL names no port")?;
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    if url.scheme() != "https" {
        return exchange(stream, request).await;
    }
    // One for all: reading the system's authorities takes longer than asking.
    static TLS: OnceLock<TlsConnector> = OnceLock::new();
    let connector = match TLS.get() {
        Some(connector) => connector.clone(),
        None => {
            let made = TlsConnector::from(Arc::new(gangline_worker::client::tls()?));
            TLS.get_or_init(|| made).clone()
        }
    };
    exchange(connector.connect(host.try_into()?, stream).await?, request).await
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> anyhow::Result<Answer> {
    // A server may refuse a body before it has all come, and close: its answer counts.
    let sent = async {
        stream.write_all(request).await?;
        stream.flush().await
    }
    .await;
    let mut answer = Vec::new();
    let read = (&mut stream).take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await;
    if answer.is_empty() {
        sent?;
        read?;
    }
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").context("the answer has no head")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status =
        head.split(' ').nth(1).and_then(|text| text.parse().ok()).context("the answer has no status")?;
    let mut body = answer[end + 4..].to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = unchunk(&body);
    }
    Ok(Answer { status, head, body })
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end])
            .ok()
            .and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        let Some(size) = size.filter(|size| *size > 0) else { break };
        let (from, to) = (end + 2, end + 2 + size);
        out.extend_from_slice(rest.get(from..to).unwrap_or_default());
        rest = rest.get(to + 2..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined() {
        assert_eq!(unchunk(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"), b"abcde");
        assert_eq!(unchunk(b"zz"), b"");
    }
}
