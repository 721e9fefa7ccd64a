//! The API reference, drawn from the very document that `/openapi.json` answers with.

use std::sync::OnceLock;

use axum::response::Response;
use gangline_pages::ApiView;
use gangline_wire::{Endpoint, endpoints as e, openapi};

use super::{chrome, page};
use crate::{error::ApiError, request::Ctx};

pub async fn show(ctx: Ctx<e::ApiPage>) -> Result<Response, ApiError> {
    static VIEW: OnceLock<ApiView> = OnceLock::new();
    let view = VIEW.get_or_init(|| ApiView {
        document: openapi::document(env!("CARGO_PKG_VERSION")),
        document_href: e::OpenApi::path(&[]),
    });
    Ok(page(gangline_pages::api(&chrome(&ctx), view)))
}
