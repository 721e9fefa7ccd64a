//! A job's output as it comes: over a WebSocket that is signed at its start, begun again where it
//! breaks, and without a byte lost or printed twice.
//!
//! Knows no terminal; whoever prints makes it inert.

use anyhow::{Context, bail};
use futures_util::StreamExt;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

use super::ray::{JobId, Ray};

/// Largest piece of output in one message, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What has been printed of a job's output.
#[derive(Debug, Default)]
pub struct Printed {
    /// Bytes since its beginning.
    bytes: usize,
}

impl Printed {
    /// The rest of `text`, which begins at byte `at` of the output, that was not printed before.
    fn rest<'t>(&mut self, at: usize, text: &'t str) -> &'t str {
        let known = self.bytes.saturating_sub(at).min(text.len());
        // The same output is cut at the same places; if it is not, rather print a piece again.
        let rest = text.get(known..).unwrap_or(text);
        self.bytes = self.bytes.max(at + text.len());
        rest
    }
    /// The rest of the whole output that was not printed before.
    pub fn rest_of_all<'t>(&mut self, all: &'t str) -> &'t str {
        self.rest(0, all)
    }
}

/// Follows the output of `job` until the cluster closes it; `print` gets every piece that is new.
///
/// # Errors
/// When the WebSocket cannot be opened or breaks; it can be followed again with the same `printed`.
pub async fn follow(
    ray: Ray<'_>,
    job: &JobId,
    printed: &mut Printed,
    mut print: impl FnMut(&str) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut socket = open(ray, &format!("api/jobs/{job}/logs/tail")).await?;
    let mut at = 0;
    while let Some(message) = socket.next().await {
        match message.context("the job's output broke off")? {
            Message::Text(text) => {
                print(printed.rest(at, &text))?;
                at += text.len();
            }
            Message::Close(_) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

async fn open(ray: Ray<'_>, path: &str) -> anyhow::Result<WebSocketStream<reqwest::Upgraded>> {
    let key = generate_key();
    let headers = [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", key.as_str()),
    ];
    let response = ray.send("GET", path, &headers, Vec::new(), None).await?;
    if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        let status = response.status();
        super::ray::ok(response).await?;
        bail!("the cluster answered {status} instead of a WebSocket");
    }
    let accept = response.headers().get("sec-websocket-accept").map(|accept| accept.as_bytes().to_vec());
    if accept.as_deref() != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
        bail!("the cluster's WebSocket is the answer to another request");
    }
    let upgraded = response.upgrade().await.context("could not begin the WebSocket")?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(config)).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_followed_twice_is_printed_once() {
        let mut printed = Printed::default();
        let mut out = String::new();
        for run in [vec!["one\n", "two\n"], vec!["one\ntwo\nthr", "ee\n"], vec!["one\n"]] {
            let mut at = 0;
            for piece in run {
                out += printed.rest(at, piece);
                at += piece.len();
            }
        }
        assert_eq!(out, "one\ntwo\nthree\n");
        assert_eq!(printed.rest_of_all("one\ntwo\nthree\nfour\n"), "four\n");
        assert_eq!(printed.rest_of_all("one\n"), "");
    }
}
