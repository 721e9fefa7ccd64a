//! Ending a key from a console.

use axum::response::Response;
use gangline_guard::act;
use gangline_pages::paths;
use gangline_types::KeyId;
use gangline_wire::endpoints as e;

use super::go_on;
use crate::{error::ApiError, request::Ctx};

pub async fn revoke(ctx: Ctx<e::RevokeKeyForm>) -> Result<Response, ApiError> {
    let key: KeyId = ctx.param("key")?;
    let resource = ctx.app.store.key_resource(key).await?.ok_or_else(ApiError::hidden)?;
    ctx.app.store.revoke_key(ctx.permit::<act::RevokeKey>(resource)?).await?;
    Ok(go_on(paths::CONSOLE))
}
