//! The process itself: health, readiness, counters, its API as a document.

use std::sync::OnceLock;

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use gangline_wire::{endpoints as e, openapi};

use crate::{error::ApiError, request::Ctx, router::Api};

pub(super) fn routes(api: Api) -> Api {
    api.raw::<e::Healthz, _, _>(healthz)
        .raw::<e::Readyz, _, _>(readyz)
        .raw::<e::Metrics, _, _>(metrics)
        .raw::<e::OpenApi, _, _>(openapi)
}

fn text(body: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

async fn healthz(_: Ctx<e::Healthz>) -> Result<Response, ApiError> {
    Ok(text("up\n".into()))
}

async fn readyz(ctx: Ctx<e::Readyz>) -> Result<Response, ApiError> {
    if ctx.app.is_draining() {
        return Err(ApiError::bad(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "this server is stopping and takes no new work",
        ));
    }
    ctx.app.check_ready().await.map_err(ApiError::Store)?;
    Ok(text("ready\n".into()))
}

async fn metrics(ctx: Ctx<e::Metrics>) -> Result<Response, ApiError> {
    let totals = ctx.app.totals.borrow().clone();
    let mut body = ctx.app.metrics.render(&totals, ctx.app.tunnels.open_count());
    ctx.app.lanes.intake.counters().render(&mut body);
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body).into_response())
}

/// The document as text, made once.
pub fn openapi_text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| openapi::document(env!("CARGO_PKG_VERSION")).to_string())
}

async fn openapi(_: Ctx<e::OpenApi>) -> Result<Response, ApiError> {
    Ok(([(header::CONTENT_TYPE, "application/json")], openapi_text()).into_response())
}
