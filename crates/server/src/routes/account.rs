//! An account's own things: who a key belongs to, and what its GPUs earned.

use axum::http::StatusCode;
use gangline_guard::{Permit, act, policy::on};
use gangline_wire::{
    Endpoint,
    api::{
        account::{Statement, StatementLine, StatementPlace, StatementQuery, Whoami},
        enrol::KeyKind,
    },
    endpoints as e,
};

use crate::{app::App, error::ApiError, request::Ctx, router::Api};

/// Periods in a statement unless asked otherwise.
const PERIODS: u32 = 24;
/// And at most.
const PERIODS_MAX: u32 = 200;
/// Lines in an answer.
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
    statement_of(&ctx.app, &permit, &ctx.query, LINES_MAX).await
}

/// A statement of at most `lines_max` lines: of the newest periods, or of `from` and the next ones. A period whose lines do not
/// fit any more is left for the next question, unless there are no others: then it goes on within that.
pub async fn statement_of(
    app: &App,
    permit: &Permit<act::ReadAccount>,
    query: &StatementQuery,
    lines_max: usize,
) -> Result<Statement, ApiError> {
    let Some(season) = app.store.season().await? else { return Err(ApiError::hidden()) };
    let limit = query.limit.unwrap_or(PERIODS).clamp(1, PERIODS_MAX);
    let newest = app.store.last_snapshot(season.number).await?.map_or(0, |s| s.period);
    let first = query.from.unwrap_or((newest + 1).saturating_sub(limit));
    let mut periods: Vec<u32> = (first..first.saturating_add(limit).min(newest + 1)).collect();
    if query.from.is_none() {
        periods.reverse();
    }
    let gpus = app.store.gpu_ids_of(permit).await?;
    let mut lines = Vec::new();
    let mut next = None;
    let last = periods.last().copied();
    for (n, period) in periods.into_iter().enumerate() {
        // Not projected yet: it comes with the next look.
        let Some(snapshot) = app.store.public().snapshot(season.number, period).await? else { continue };
        let after = query.after.filter(|_| n == 0 && query.from.is_some());
        let told = after.map_or(0, |after| gpus.partition_point(|gpu| *gpu <= after));
        let room = lines_max - lines.len();
        let mut found = app.store.public().lines(season.number, period, &gpus[told..], room + 1).await?;
        let is_cut = found.len() > room;
        if is_cut && !lines.is_empty() {
            next = query.from.map(|_| StatementPlace { from: period, after: None });
            break;
        }
        found.truncate(room);
        let through = found.last().map(|(entry, _)| entry.gpu);
        let line = |(entry, inclusion)| StatementLine { snapshot: snapshot.clone(), entry, inclusion };
        lines.extend(found.into_iter().map(line));
        if is_cut {
            next = Some(StatementPlace { from: period, after: through });
        } else if lines.len() == lines_max && last != Some(period) {
            next = query.from.map(|_| StatementPlace { from: period + 1, after: None });
        }
        if lines.len() == lines_max {
            break;
        }
    }
    lines.sort_by_key(|line| line.snapshot.period);
    let sums = app.store.season_sums(permit, season.number).await?;
    Ok(Statement { season: season.number, season_total: sums.paid, season_held: sums.held, lines, next })
}
