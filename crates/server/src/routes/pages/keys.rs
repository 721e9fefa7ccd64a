//! Ending a key, or all sessions of an account, from a console.

use axum::response::Response;
use gangline_guard::{act, policy::on};
use gangline_pages::{Done, paths};
use gangline_types::{AccountId, KeyId};
use gangline_wire::endpoints as e;

use super::done;
use crate::{error::ApiError, request::Ctx};

pub async fn revoke(ctx: Ctx<e::RevokeKeyForm>) -> Result<Response, ApiError> {
    let key: KeyId = ctx.param("key")?;
    let resource = ctx.app.store.key_resource(key).await?.ok_or_else(ApiError::hidden)?;
    ctx.app.store.revoke_key(ctx.permit::<act::RevokeKey>(resource)?).await?;
    Ok(done(paths::CONSOLE, Done::KeyRevoked))
}

pub async fn end_sessions(ctx: Ctx<e::AccountSessionsForm>) -> Result<Response, ApiError> {
    let account: AccountId = ctx.param("account")?;
    let permit = ctx.permit::<act::EndAccountSessions>(on::Account { account })?;
    ctx.app.store.end_account_sessions(permit).await?;
    Ok(done(paths::CONSOLE, Done::SessionsEnded))
}
