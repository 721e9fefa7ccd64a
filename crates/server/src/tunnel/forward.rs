//! Passes one request to a cluster's Ray and its answer back, WebSockets too. A connection serves one
//! request, so that no two renters' requests ever share one.
//!
//! Knows neither who asks nor which paths Ray has; keeps no body longer than it takes to pass it on.

use std::{error::Error as StdError, io, sync::atomic::Ordering, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, uri::PathAndQuery},
    response::Response,
};
use gangline_types::ClusterId;
use hyper::{body::Incoming, client::conn::http1, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::live::Live;

use super::{LinkStream, TunnelError, Tunnels, headers, refusal};

/// What we hold of one answer before it is passed on, its head included: 128 KiB.
const BUFFER_BYTES_MAX: usize = 128 * 1024;
/// How long the second direction of a WebSocket may stay open after the first has ended.
const LINGER: Duration = Duration::from_secs(30);

/// A connection to a cluster, by whichever way.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Why a request got no answer from Ray.
#[derive(Debug, thiserror::Error)]
enum ForwardError {
    #[error(transparent)]
    Tunnel(#[from] TunnelError),
    #[error("{0} requests are not passed on to a cluster")]
    Method(Method),
    #[error("the path to pass on is not one")]
    Path,
    #[error("the cluster's token cannot be sent in a header")]
    Token,
    #[error("the worker refused a connection to the cluster")]
    Refused(#[source] hyper::Error),
    #[error("the connection to the cluster was lost before it answered")]
    Lost(#[source] hyper::Error),
    #[error("the request's body ended early")]
    Body(#[source] hyper::Error),
    #[error("the cluster's answer is not HTTP")]
    Malformed(#[source] hyper::Error),
    #[error("the cluster changed to a protocol nobody asked for")]
    Unasked,
    #[error("the cluster did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
}

impl ForwardError {
    fn of_exchange(error: hyper::Error) -> Self {
        let refused = |e: &(dyn StdError + 'static)| {
            e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)
        };
        if std::iter::successors(error.source(), |&e| e.source()).any(refused) {
            Self::Refused(error)
        } else if error.is_parse() {
            Self::Malformed(error)
        } else if error.is_user() {
            Self::Body(error)
        } else {
            Self::Lost(error)
        }
    }

    /// What the renter is told: status, code, hint.
    fn told(&self) -> (StatusCode, &'static str, Option<&'static str>) {
        let wait = Some("wait until the cluster runs, then try again");
        match self {
            Self::Tunnel(TunnelError::NotOpen(_) | TunnelError::Closed(_)) => {
                (StatusCode::SERVICE_UNAVAILABLE, "cluster_not_reachable", wait)
            }
            Self::Tunnel(TunnelError::TooManyStreams { .. }) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "cluster_busy",
                Some("close connections to the cluster, or wait"),
            ),
            Self::Tunnel(TunnelError::OpenTimeout(_)) | Self::Timeout(_) => (
                StatusCode::GATEWAY_TIMEOUT,
                "cluster_timeout",
                Some("the node may be overloaded: try again"),
            ),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "method_not_forwarded", None),
            Self::Path => (StatusCode::BAD_REQUEST, "bad_path", None),
            Self::Token => (StatusCode::INTERNAL_SERVER_ERROR, "cluster_token_unusable", None),
            Self::Body(_) => (StatusCode::BAD_REQUEST, "body_incomplete", Some("send the request again")),
            Self::Refused(_) => {
                (StatusCode::BAD_GATEWAY, "cluster_refused", Some("Ray may still be starting"))
            }
            Self::Lost(_) => (
                StatusCode::BAD_GATEWAY,
                "cluster_connection_lost",
                Some("see whether the cluster still runs"),
            ),
            Self::Malformed(_) | Self::Unasked => (StatusCode::BAD_GATEWAY, "cluster_answer_malformed", None),
        }
    }
}

impl Tunnels {
    /// Passes `request` on to `cluster`'s Ray as a request for `path_and_query` (begins with `/`,
    /// percent-encoded) with `token` as its bearer token, and gives Ray's answer as it comes. A WebSocket is
    /// joined with the renter's connection once Ray agrees to it; no other upgrade is passed on.
    ///
    /// Dropped on the way in are all hop-by-hop headers, signature, cookies and credentials; on the way back
    /// all that would act on the origin the answer is served from, and `content-security-policy: sandbox` and
    /// `x-content-type-options: nosniff` are put in. Whoever calls has decided that this renter may use this
    /// cluster, and has bounded the body. An answer that breaks off ends in an error of its body.
    ///
    /// Where the tunnel ends at another server, `there` is the way by it.
    ///
    /// A WebSocket ends with `live`: what the renter showed when they opened it. An answer's body ends with
    /// it where the router binds the two.
    ///
    /// Where Ray gives no answer the response is an [`gangline_wire::ErrorBody`]: 503
    /// `cluster_not_reachable` (no tunnel) or `cluster_busy` (too many connections), 504 `cluster_timeout`,
    /// 502 `cluster_refused` (the worker could not reach Ray), `cluster_connection_lost` or
    /// `cluster_answer_malformed`, 400 `bad_path` or `body_incomplete`, 405 `method_not_forwarded`, 500
    /// `cluster_token_unusable`.
    pub async fn forward(
        &self,
        cluster: ClusterId,
        token: &str,
        request: Request,
        path_and_query: &str,
        live: &Live,
        there: Option<LinkStream>,
    ) -> Response {
        match self.try_forward(cluster, token, request, path_and_query, live, there).await {
            Ok(response) => response,
            Err(error) => {
                tracing::debug!(%cluster, error = &error as &dyn StdError, "a request did not reach a cluster");
                let (status, code, hint) = error.told();
                refusal(status, code, error.to_string(), hint)
            }
        }
    }

    async fn try_forward(
        &self,
        cluster: ClusterId,
        token: &str,
        mut request: Request,
        path_and_query: &str,
        live: &Live,
        there: Option<LinkStream>,
    ) -> Result<Response, ForwardError> {
        if [Method::CONNECT, Method::TRACE].contains(request.method()) {
            return Err(ForwardError::Method(request.method().clone()));
        }
        let websocket =
            request.method() == Method::GET && headers::asks_to_upgrade(request.headers(), "websocket");
        let renters_side = websocket.then(|| hyper::upgrade::on(&mut request));
        let for_ray = addressed_to_ray(token, request, path_and_query, websocket)?;

        let (stream, bytes_written): (Box<dyn Io>, _) = match there {
            Some(stream) => {
                let written = stream.bytes_written();
                (Box::new(stream), written)
            }
            None => {
                let stream = self.open(cluster).await?;
                let written = stream.bytes_written();
                (Box::new(stream), written)
            }
        };
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ForwardError::of_exchange)?;
        // Ends with the exchange: when the answer's body is read to its end, or dropped unread. What goes
        // wrong meanwhile is told to whoever waits for the head or reads the body.
        tokio::spawn(async move {
            let _ = connection.with_upgrades().await;
        });

        let first_byte_timeout = self.shared.limits.first_byte_timeout;
        let answer = sender.send_request(for_ray);
        tokio::pin!(answer);
        let mut answer = loop {
            let before = bytes_written.load(Ordering::Relaxed);
            match tokio::time::timeout(first_byte_timeout, &mut answer).await {
                Ok(answer) => break answer.map_err(ForwardError::of_exchange)?,
                // The request was still on its way out: the wait for the answer begins anew.
                Err(_) if bytes_written.load(Ordering::Relaxed) != before => {}
                Err(_) => return Err(ForwardError::Timeout(first_byte_timeout)),
            }
        };

        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(passed_back(answer));
        }
        match renters_side {
            Some(renters_side) if headers::asks_to_upgrade(answer.headers(), "websocket") => {
                let rays_side = hyper::upgrade::on(&mut answer);
                let live = live.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = join(cluster, renters_side, rays_side) => {}
                        () = live.over() => tracing::debug!(%cluster, "a WebSocket's renter may no more"),
                    }
                });
                let mut response = headers::switching(&HeaderValue::from_static("websocket"));
                response.headers_mut().extend(headers::to_renter(answer.headers()));
                Ok(response)
            }
            _ => Err(ForwardError::Unasked),
        }
    }
}

fn addressed_to_ray(
    token: &str,
    request: Request,
    path_and_query: &str,
    websocket: bool,
) -> Result<hyper::Request<Body>, ForwardError> {
    let path: PathAndQuery = path_and_query.parse().map_err(|_| ForwardError::Path)?;
    if !path.as_str().starts_with('/') {
        return Err(ForwardError::Path);
    }
    let mut authorization =
        HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| ForwardError::Token)?;
    authorization.set_sensitive(true);
    let (parts, body) = request.into_parts();
    let mut for_ray = hyper::Request::new(if websocket { Body::empty() } else { body });
    *for_ray.method_mut() = parts.method;
    *for_ray.uri_mut() = path.into();
    *for_ray.headers_mut() = headers::to_ray(&parts.headers, authorization, websocket);
    Ok(for_ray)
}

fn passed_back(answer: hyper::Response<Incoming>) -> Response {
    let (parts, body) = answer.into_parts();
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = parts.status;
    *response.headers_mut() = headers::to_renter(&parts.headers);
    response
}

/// Copies between both sides until both ended, or one did and the other lingers.
async fn join(cluster: ClusterId, renters_side: OnUpgrade, rays_side: OnUpgrade) {
    let (renter, ray) = match tokio::try_join!(renters_side, rays_side) {
        Ok((renter, ray)) => (TokioIo::new(renter), TokioIo::new(ray)),
        Err(error) => {
            tracing::debug!(%cluster, error = &error as &dyn StdError, "joining a WebSocket failed");
            return;
        }
    };
    let (renter_reads, renter_writes) = tokio::io::split(renter);
    let (ray_reads, ray_writes) = tokio::io::split(ray);
    let to_ray = copy(renter_reads, ray_writes);
    let to_renter = copy(ray_reads, renter_writes);
    tokio::pin!(to_ray, to_renter);
    // A direction that failed has nobody left to linger for.
    tokio::select! {
        ended = &mut to_ray => if ended.is_ok() {
            let _ = tokio::time::timeout(LINGER, to_renter).await;
        },
        ended = &mut to_renter => if ended.is_ok() {
            let _ = tokio::time::timeout(LINGER, to_ray).await;
        },
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}
