//! An account's own things: who a key belongs to, and what its GPUs earned.

use axum::http::StatusCode;
use gangline_guard::{Permit, act, policy::on};
use gangline_rules::snapshot::inclusion;
use gangline_types::public::PublicEntry;
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
    let entries =
        app.store.account_entries(permit, season.number, from, from.saturating_add(limit - 1)).await?;
    let mut lines = Vec::with_capacity(entries.len());
    let mut period: Option<(u32, gangline_types::public::PublicSnapshot, Vec<PublicEntry>)> = None;
    for (number, entry) in entries {
        if period.as_ref().is_none_or(|p| p.0 != number) {
            // Not projected yet: it comes with the next look.
            let Some(head) = app.store.public().snapshot(season.number, number).await? else { continue };
            period = Some((number, head, app.store.public().entries(season.number, number).await?));
        }
        let Some((_, snapshot, all)) = &period else { continue };
        if let Some(inclusion) = inclusion(all, entry.gpu) {
            lines.push(StatementLine { snapshot: snapshot.clone(), entry, inclusion });
        }
    }
    Ok(Statement {
        season: season.number,
        season_total: app.store.season_total(permit, season.number).await?,
        lines,
    })
}
