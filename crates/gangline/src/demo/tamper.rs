//! A man in the middle on loopback: passes GET requests on to the network and changes one share of one
//! snapshot on the way back. Whoever checks must notice.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

/// The man in the middle; gone when dropped.
pub struct Tamper {
    /// Where he listens.
    pub address: SocketAddr,
    /// How many answers he changed.
    pub changed: Arc<AtomicU32>,
    task: tokio::task::JoinHandle<()>,
}

impl Tamper {
    /// Stands between anyone and `origin`; changes the first share of snapshot `period`.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(origin: &str, period: u32) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("could not listen on loopback")?;
        let address = listener.local_addr()?;
        let changed = Arc::new(AtomicU32::new(0));
        let (origin, counter) = (origin.to_owned(), Arc::clone(&changed));
        let http = reqwest::Client::builder().no_proxy().build()?;
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (http, origin, counter) = (http.clone(), origin.clone(), Arc::clone(&counter));
                let service = service_fn(move |request: Request<Incoming>| {
                    let (http, origin, counter) = (http.clone(), origin.clone(), Arc::clone(&counter));
                    async move { pass(&http, &origin, period, &counter, request).await }
                });
                tokio::spawn(async move {
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    if let Err(error) = served.await {
                        tracing::debug!(%error, "a connection through the man in the middle broke");
                    }
                });
            }
        });
        Ok(Self { address, changed, task })
    }
}

impl Drop for Tamper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    http: &reqwest::Client,
    origin: &str,
    period: u32,
    counter: &AtomicU32,
    request: Request<Incoming>,
) -> anyhow::Result<Response<Full<Bytes>>> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let answer = http.get(format!("{origin}{target}")).send().await?;
    let status = answer.status();
    let kind = answer.headers().get("content-type").cloned();
    let mut body = answer.bytes().await?;
    if target == format!("/api/v1/public/snapshots/{period}")
        && let Some(other) = changed(&body)
    {
        counter.fetch_add(1, Ordering::Relaxed);
        body = other;
    }
    let mut response = Response::builder().status(status);
    if let Some(kind) = kind {
        response = response.header("content-type", kind);
    }
    Ok(response.body(Full::new(body))?)
}

/// The same snapshot with one millionth of a credit more for its first GPU.
fn changed(body: &[u8]) -> Option<Bytes> {
    let mut snapshot: Value = serde_json::from_slice(body).ok()?;
    let share = snapshot.pointer_mut("/entries/0/share")?;
    *share = (share.as_u64()? + 1).into();
    Some(serde_json::to_vec(&snapshot).ok()?.into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_share_is_changed_and_nothing_else() {
        let before = br#"{"snapshot":{"root":"r"},"entries":[{"gpu":"g","share":7},{"gpu":"h","share":8}]}"#;
        let after = super::changed(before).unwrap();
        assert_eq!(
            &after[..],
            br#"{"snapshot":{"root":"r"},"entries":[{"gpu":"g","share":8},{"gpu":"h","share":8}]}"#
        );
        assert_eq!(super::changed(b"{}"), None);
    }
}
