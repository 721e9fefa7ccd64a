//! An account's own things: who a key belongs to, and what its GPUs earned.

use axum::http::StatusCode;
use gangline_guard::{Permit, act, policy::on};
use gangline_wire::{
    Endpoint,
    api::{
        account::{Statement, StatementLine, Whoami},
        enrol::KeyKind,
    },
    endpoints as e,
};

use crate::{app::App, error::ApiError, request::Ctx, router::Api};

/// Periods in a statement unless asked otherwise.
const PERIODS: u32 = 24;
/// And at most.
const PERIODS_MAX: u32 = 200;
/// A statement ends with the period in which it reaches so many lines.
const LINES_MAX: usize = 2_000;

pub(super) fn routes(api: Api) -> Api {
    api.json::<e::Me, _, _>(me).json::<e::AccountStatement, _, _>(statement)
}

/// The asker's own account, as a permit.
pub fn own_account<E: Endpoint>(ctx: &Ctx<E>) -> Result<Permit<act::ReadAccount>, ApiError> {
    let account = ctx.actor.principal().account().ok_or(gangline_guard::Refusal::Unsigned)?;
    ctx.permit_also::<act::ReadAccount>(on::Account { account })
}

async fn me(ctx: Ctx<e::Me>) -> Result<Whoami, ApiError> {
    let permit = own_account(&ctx)?;
    let principal = ctx.actor.principal();
    match (principal.role(), principal.key()) {
        (Some(role), Some(key)) => Ok(Whoami {
            account: ctx.app.store.account_name(&permit).await?,
            role,
            key,
            kind: KeyKind::CommandLine,
        }),
        _ => Err(ApiError::bad(StatusCode::FORBIDDEN, "forbidden", "only a command line's key asks this")),
    }
}

async fn statement(ctx: Ctx<e::AccountStatement>) -> Result<Statement, ApiError> {
    let permit = own_account(&ctx)?;
    statement_of(&ctx.app, &permit, ctx.query.from, ctx.query.limit.unwrap_or(PERIODS)).await
}

/// A statement: the newest `limit` periods, or those from `from` on.
pub async fn statement_of(
    app: &App,
    permit: &Permit<act::ReadAccount>,
    from: Option<u32>,
    limit: u32,
) -> Result<Statement, ApiError> {
    let Some(season) = app.store.season().await? else { return Err(ApiError::hidden()) };
    let limit = limit.clamp(1, PERIODS_MAX);
    let newest = app.store.last_snapshot(season.number).await?.map_or(0, |s| s.period);
    let from = from.unwrap_or((newest + 1).saturating_sub(limit));
    let gpus = app.store.gpu_ids_of(permit).await?;
    let mut lines = Vec::new();
    for period in from..from.saturating_add(limit).min(newest + 1) {
        // Not projected yet: it comes with the next look.
        let Some(snapshot) = app.store.public().snapshot(season.number, period).await? else { continue };
        for (entry, inclusion) in app.store.public().lines(season.number, period, &gpus).await? {
            lines.push(StatementLine { snapshot: snapshot.clone(), entry, inclusion });
        }
        if lines.len() >= LINES_MAX {
            break;
        }
    }
    Ok(Statement {
        season: season.number,
        season_total: app.store.season_total(permit, season.number).await?,
        lines,
    })
}
