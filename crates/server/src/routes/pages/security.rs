//! The operator's security page: incidents, freezes, and a search of refusals.

use axum::response::Response;
use gangline_guard::{act, policy::on};
use gangline_pages::{FreezeRow, IncidentRow, RefusalRow, SecurityView, StopPreview, paths};
use gangline_store::RecordQuery;
use gangline_types::{IncidentId, UnixSeconds};
use gangline_wire::endpoints as e;

use super::{chrome, go_on, page};
use crate::{
    error::ApiError,
    request::Ctx,
    routes::operate::{incident_state, preview, state_word, target, wished},
};

/// Refusals on one page.
const REFUSALS: u32 = 100;

pub async fn show(ctx: Ctx<e::SecurityPage>) -> Result<Response, ApiError> {
    let permit = ctx.permit::<act::Operate>(on::Network)?;
    let (store, now, asked) = (&ctx.app.store, ctx.now, &ctx.query);
    let who = asked.who.as_ref().map(|who| who.as_str().trim().to_owned()).unwrap_or_default();
    let (key, account) = (who.parse().ok(), who.parse().ok());
    let problem = (!who.is_empty() && key.is_none() && account.is_none())
        .then(|| "That is no id of a key or an account, so it was not looked at.".to_owned());
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let query = RecordQuery {
        key,
        account,
        action: text(asked.action.as_ref().map(ToString::to_string)),
        code: text(asked.code.as_ref().map(ToString::to_string)),
        from: asked.hours.map(|hours| UnixSeconds(now.0.saturating_sub(u64::from(hours) * 3_600))),
        to: None,
        before: asked.before,
        limit: REFUSALS,
    };
    let refusals = store.refusals(&permit, &query).await?;
    let older = refusals.last().filter(|_| refusals.len() == REFUSALS as usize).map(|row| row.id);
    let stop = match asked.freeze.as_ref().map(|text| text.as_str().trim()).filter(|text| !text.is_empty()) {
        Some(text) => {
            let target = target(text)?;
            let found = preview(&ctx.app, &target);
            Some(StopPreview {
                target: target.to_string(),
                minutes: found.minutes,
                keys: found.keys,
                accounts: found.accounts,
                machines: found.machines,
                requests: found.requests,
            })
        }
        None => None,
    };
    let closed = asked.closed == Some(true);
    let view = SecurityView {
        now,
        closed,
        incidents: store.incidents(&permit, closed).await?.into_iter().map(incident).collect(),
        freezes: store.freezes(&permit).await?.into_iter().map(|row| freeze(row, now)).collect(),
        stop,
        problem,
        who,
        action: query.action.unwrap_or_default(),
        code: query.code.unwrap_or_default(),
        hours: asked.hours,
        older,
        refusals: refusals
            .into_iter()
            .map(|r| RefusalRow {
                at: r.at,
                reason: r.code,
                action: r.action,
                key: r.actor,
                resource: r.request,
                address: r.address,
                count: r.count,
            })
            .collect(),
    };
    Ok(page(gangline_pages::security(&chrome(&ctx), &view)))
}

fn incident(row: gangline_store::IncidentRow) -> IncidentRow {
    IncidentRow {
        id: row.id,
        what: row.what.replace('_', " "),
        subject: row.subject,
        severity: row.severity.as_str().to_owned(),
        state: state_word(row.state).to_owned(),
        opened_at: row.opened_at,
        last_at: row.last_at,
        count: row.count,
        account: row.account.map(|account| account.to_string()).unwrap_or_default(),
        from: row.block,
        action: row.action,
        resource: row.resource,
        note: row.note,
    }
}

fn freeze(row: gangline_store::FreezeRow, now: UnixSeconds) -> FreezeRow {
    let over = row.lifted_at.or(row.freeze.until.filter(|until| *until <= now));
    FreezeRow {
        id: row.freeze.id,
        target: row.freeze.target.to_string(),
        since: row.freeze.since,
        until: row.freeze.until,
        made_by: row.made_by,
        reason: row.reason,
        over,
    }
}

pub async fn change_incident(ctx: Ctx<e::IncidentForm>) -> Result<Response, ApiError> {
    let permit = ctx.permit::<act::Contain>(on::Network)?;
    let id: IncidentId = ctx.param("incident")?;
    let state = incident_state(ctx.body.state.as_str())?;
    ctx.app.store.set_incident(permit, id, state, ctx.body.note.as_str()).await?;
    Ok(go_on(paths::SECURITY))
}

pub async fn freeze_form(ctx: Ctx<e::FreezeForm>) -> Result<Response, ApiError> {
    let permit = ctx.permit::<act::Contain>(on::Network)?;
    let target = target(ctx.body.target.as_str().trim())?;
    let seconds = ctx.body.hours.map(|hours| u64::from(hours) * 3_600);
    ctx.app.store.freeze(permit, &wished(ctx.now, target, &ctx.body.reason, seconds)).await?;
    ctx.app.noticer.freezes().reload(&ctx.app.store).await?;
    Ok(go_on(paths::SECURITY))
}

pub async fn lift(ctx: Ctx<e::ThawForm>) -> Result<Response, ApiError> {
    let permit = ctx.permit::<act::Contain>(on::Network)?;
    ctx.app.store.thaw(permit, ctx.param("freeze")?).await?;
    ctx.app.noticer.freezes().reload(&ctx.app.store).await?;
    Ok(go_on(paths::SECURITY))
}
