//! The operator's security page: incidents, freezes, and a search of refusals.

use axum::response::Response;
use gangline_guard::{act, policy::on};
use gangline_pages::{
    DeliveryRow, Done, FreezeRow, IncidentRow, RefusalRow, SecurityView, StopPreview, WitnessRow, paths,
};
use gangline_store::{RecordQuery, WitnessState};
use gangline_types::{AccountId, IncidentId, KeyId, Text, UnixSeconds};
use gangline_wire::endpoints as e;

use super::{chrome, done, page};
use crate::{
    app::App,
    error::ApiError,
    outbound::host,
    request::Ctx,
    routes::operate::{delivery_word, incident_state, named_freeze, preview, state_word, target, wished},
};

/// Refusals on one page.
const REFUSALS: u32 = 100;

/// Whom a search is for.
pub struct Who {
    /// As it was typed.
    pub text: String,
    /// If it is a key.
    pub key: Option<KeyId>,
    /// If it is an account.
    pub account: Option<AccountId>,
    /// What to say if it is neither.
    pub problem: Option<String>,
}

/// Whom somebody means by what they typed.
pub fn who_is_meant(typed: Option<&Text<64>>) -> Who {
    let text = typed.map(|who| who.as_str().trim().to_owned()).unwrap_or_default();
    let (key, account) = (text.parse().ok(), text.parse().ok());
    let problem = (!text.is_empty() && key.is_none() && account.is_none())
        .then(|| "That is no id of a key or an account, so it was not looked at.".to_owned());
    Who { text, key, account, problem }
}

pub async fn show(ctx: Ctx<e::SecurityPage>) -> Result<Response, ApiError> {
    let permit = ctx.permit::<act::Operate>(on::Network)?;
    let (store, now, asked) = (&ctx.app.store, ctx.now, &ctx.query);
    let Who { text: who, key, account, problem } = who_is_meant(asked.who.as_ref());
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let query = RecordQuery {
        key,
        account,
        action: text(asked.action.as_ref().map(ToString::to_string)),
        resource: None,
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
        witnesses: witnesses(&ctx.app, store.witnesses(&permit).await?),
        outlets: ctx.app.outlets.shown().into_iter().map(|(o, to)| (o.as_str().to_owned(), to)).collect(),
        deliveries: store.deliveries(&permit).await?.into_iter().map(delivery).collect(),
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

/// Those that are configured, as they last answered.
fn witnesses(app: &App, rows: Vec<gangline_store::WitnessRow>) -> Vec<WitnessRow> {
    let all = app.witnesses.all().iter();
    all.map(|(url, key)| {
        let text = key.to_string();
        let row = rows.iter().find(|row| row.key == text);
        let state = match row.map_or(WitnessState::New, |row| row.state) {
            WitnessState::New => "not asked yet",
            WitnessState::Signs => "cosigns",
            WitnessState::Away => "does not decide",
            WitnessState::Refuses => "refuses",
        };
        WitnessRow {
            name: key.name().to_owned(),
            at: host(url),
            state: state.to_owned(),
            size: row.map_or(0, |row| row.size),
            cosigned_at: row.and_then(|row| row.cosigned_at),
            error: row.map(|row| row.error.clone()).unwrap_or_default(),
        }
    })
    .collect()
}

fn delivery(row: gangline_store::DeliveryRow) -> DeliveryRow {
    DeliveryRow {
        id: row.id,
        outlet: row.outlet.as_str().to_owned(),
        subject: row.subject,
        made_at: row.made_at,
        state: delivery_word(row.state).to_owned(),
        tries: row.tries,
        due_at: row.due_at.seconds(),
        settled_at: row.settled_at,
        error: row.error,
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
    Ok(done(paths::SECURITY, Done::Noted))
}

pub async fn send_again(ctx: Ctx<e::SendAgainForm>) -> Result<Response, ApiError> {
    let permit = ctx.permit::<act::Contain>(on::Network)?;
    ctx.app.store.send_again(permit, ctx.param("delivery")?).await?;
    Ok(done(paths::SECURITY, Done::SentAgain))
}

pub async fn freeze_form(ctx: Ctx<e::FreezeForm>) -> Result<Response, ApiError> {
    ctx.permit_also::<act::Operate>(on::Network)?;
    let target = target(ctx.body.target.as_str().trim())?;
    let seconds = ctx.body.hours.map(|hours| u64::from(hours) * 3_600);
    let permit = ctx.permit_approved::<act::Freeze>(on::Halt { target, seconds }).await?;
    ctx.app.store.freeze(permit, &wished(target, &ctx.body.reason)).await?;
    ctx.app.noticer.freezes().reload(&ctx.app.store).await?;
    Ok(done(paths::SECURITY, Done::Frozen))
}

pub async fn lift(ctx: Ctx<e::ThawForm>) -> Result<Response, ApiError> {
    let permit = ctx.permit_approved::<act::Thaw>(named_freeze(&ctx).await?).await?;
    ctx.app.store.thaw(permit).await?;
    ctx.app.noticer.freezes().reload(&ctx.app.store).await?;
    Ok(done(paths::SECURITY, Done::Lifted))
}
