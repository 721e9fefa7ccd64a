//! Naming a GPU from its owner's console.

use axum::response::Response;
use gangline_guard::act;
use gangline_pages::{Done, paths};
use gangline_types::GpuId;
use gangline_wire::endpoints as e;

use super::done;
use crate::{error::ApiError, request::Ctx};

pub async fn label(ctx: Ctx<e::LabelGpuForm>) -> Result<Response, ApiError> {
    let gpu: GpuId = ctx.param("gpu")?;
    let resource = ctx.app.store.gpu(gpu).await?.ok_or_else(ApiError::hidden)?.resource;
    ctx.app.store.label_gpu(ctx.permit::<act::LabelGpu>(resource)?, &ctx.body.label).await?;
    ctx.app.changed();
    Ok(done(paths::CONSOLE, Done::Named))
}
