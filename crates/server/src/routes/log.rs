//! The network's log as anyone may fetch it, in the layout of c2sp.org/tlog-tiles with `/log` as its prefix.
//! These handlers reach the public projection and nothing else.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};
use gangline_guard::log::{Checkpoint, Note, TILE_WIDTH, TilePath, checkpoint::verifier_of};
use gangline_wire::endpoints as e;

use crate::{error::ApiError, request::Ctx, router::Api};

pub(super) fn routes(api: Api) -> Api {
    api.raw::<e::LogCheckpoint, _, _>(checkpoint)
        .raw::<e::LogCosigned, _, _>(cosigned)
        .raw::<e::LogKey, _, _>(key)
        .raw::<e::LogTile, _, _>(tile)
}

fn text(body: String) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response()
}

async fn checkpoint(ctx: Ctx<e::LogCheckpoint>) -> Result<Response, ApiError> {
    let public = ctx.app.store.public();
    let note = public.log_checkpoint().await?.ok_or_else(ApiError::hidden)?;
    let size =
        note.parse::<Note>().ok().and_then(|note| note.text().parse::<Checkpoint>().ok()).map(|c| c.size);
    let lines = match size {
        Some(size) if ctx.app.witnesses.count() > 0 => public.cosignatures(size).await?,
        _ => Vec::new(),
    };
    Ok(text(lines.iter().fold(note, |note, (line, _)| note + line + "\n")))
}

async fn cosigned(ctx: Ctx<e::LogCosigned>) -> Result<Response, ApiError> {
    let cosigned = ctx.app.store.public().cosigned().await?.ok_or_else(ApiError::hidden)?;
    Ok(text(cosigned.signed()))
}

async fn key(ctx: Ctx<e::LogKey>) -> Result<Response, ApiError> {
    Ok(text(format!("{}\n", verifier_of(&ctx.app.key.public()))))
}

async fn tile(ctx: Ctx<e::LogTile>) -> Result<Response, ApiError> {
    let path: TilePath = ctx.param("path")?;
    let bytes = ctx.app.store.public().log_tile(path).await?.ok_or_else(ApiError::hidden)?;
    // What is full never changes; what is not full yet may be asked for again under its new name.
    let (TilePath::Hashes { width, .. } | TilePath::Entries { width, .. }) = path;
    let keep = if width == TILE_WIDTH { "public, max-age=31536000, immutable" } else { "public, max-age=60" };
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, keep)];
    Ok((headers, bytes).into_response())
}
