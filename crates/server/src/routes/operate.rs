//! What an operator does by command line: undoes, looks into incidents, freezes and lifts, searches records.

use axum::http::StatusCode;
use gangline_guard::{
    Permit, act,
    freeze::Target,
    notice::{Preview, recent},
    policy::on,
};
use gangline_store::{DeliveryState, IncidentState, NewFreeze, RecordQuery, RestoredLabel, StoreError};
use gangline_types::{FreezeId, IncidentId, Text};
use gangline_wire::{
    Endpoint, Nothing,
    api::operate::{
        ActView, DeliveryView, FreezeAnswer, FreezePreview, FreezeView, IncidentView, RecordsQuery,
        RefusalView, RestoreReport, RestoredName,
    },
    endpoints as e,
};

use crate::{app::App, edge, error::ApiError, request::Ctx, router::Api};

/// Records in one answer unless asked otherwise, and at most.
const RECORDS: u32 = 100;
/// GPUs that one transaction of a restoration looks at: it holds the books for some milliseconds.
const RESTORED_AT_ONCE: u32 = 500;
const RECORDS_MAX: u32 = 500;

pub(super) fn routes(api: Api) -> Api {
    api.json::<e::RestoreLabels, _, _>(restore)
        .json::<e::Incidents, _, _>(incidents)
        .json::<e::IncidentById, _, _>(change_incident)
        .json::<e::FreezeList, _, _>(freezes)
        .json::<e::FreezeMake, _, _>(freeze)
        .json::<e::FreezeLift, _, _>(lift)
        .json::<e::Deliveries, _, _>(deliveries)
        .json::<e::DeliverySend, _, _>(send_again)
        .json::<e::Refusals, _, _>(refusals)
        .json::<e::Acts, _, _>(acts)
}

async fn restore(ctx: Ctx<e::RestoreLabels>) -> Result<RestoreReport, ApiError> {
    let operate = ctx.permit_also::<act::Operate>(on::Network)?;
    let wish = ctx.body;
    let restored = if wish.dry_run {
        ctx.app.store.restorable_labels(&operate, wish.doer, wish.since).await?
    } else {
        let on = on::Restoration { doer: wish.doer, since: wish.since };
        let permit = ctx.permit_approved::<act::Restore>(on).await?;
        // Whoever hangs up in the middle does not leave it half done.
        let work = tokio::spawn(restored(ctx.app.clone(), permit));
        work.await
            .map_err(|why| ApiError::Store(StoreError::Malformed(format!("restoring broke off: {why}"))))??
    };
    ctx.app.changed();
    let restored =
        restored.into_iter().map(|r| RestoredName { gpu: r.gpu, before: r.before, after: r.after }).collect();
    Ok(RestoreReport { restored })
}

/// Undoes what was permitted: an audit row, some GPUs in each transaction, and a row at the end.
async fn restored(app: App, permit: Permit<act::Restore>) -> Result<Vec<RestoredLabel>, StoreError> {
    let act = app.store.begin_restore(&permit).await?;
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (some, last) = app.store.restore_some(&permit, act, after, RESTORED_AT_ONCE, edge::now()).await?;
        all.extend(some);
        app.changed();
        if last.is_none() {
            break;
        }
        after = last;
    }
    app.store.complete_restore(permit, act, all.len()).await?;
    Ok(all)
}

async fn incidents(ctx: Ctx<e::Incidents>) -> Result<Vec<IncidentView>, ApiError> {
    let permit = ctx.permit::<act::Operate>(on::Network)?;
    let rows = ctx.app.store.incidents(&permit, ctx.query.closed == Some(true)).await?;
    Ok(rows.into_iter().map(incident_view).collect())
}

/// An incident as it is told to programs.
pub fn incident_view(row: gangline_store::IncidentRow) -> IncidentView {
    IncidentView {
        incident: row.id,
        what: row.what,
        subject: row.subject,
        severity: row.severity.as_str().to_owned(),
        state: state_word(row.state).to_owned(),
        opened_at: row.opened_at,
        last_at: row.last_at,
        count: row.count,
        key: row.key,
        account: row.account,
        block: row.block,
        action: row.action,
        resource: row.resource,
        seen: row.seen,
        usual: row.usual,
        note: row.note,
    }
}

/// A state's word.
pub fn state_word(state: IncidentState) -> &'static str {
    match state {
        IncidentState::Open => "open",
        IncidentState::Acknowledged => "acknowledged",
        IncidentState::Closed => "closed",
    }
}

/// What somebody may say becomes of an incident.
pub fn incident_state(word: &str) -> Result<IncidentState, ApiError> {
    match word {
        "acknowledged" => Ok(IncidentState::Acknowledged),
        "closed" => Ok(IncidentState::Closed),
        _ => Err(ApiError::bad(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_state",
            "an incident becomes acknowledged or closed",
        )),
    }
}

async fn change_incident(ctx: Ctx<e::IncidentById>) -> Result<Nothing, ApiError> {
    let permit = ctx.permit::<act::Contain>(on::Network)?;
    let id: IncidentId = ctx.param("incident")?;
    let state = incident_state(ctx.body.state.as_str())?;
    ctx.app.store.set_incident(permit, id, state, ctx.body.note.as_str()).await?;
    Ok(Nothing {})
}

async fn freezes(ctx: Ctx<e::FreezeList>) -> Result<Vec<FreezeView>, ApiError> {
    let permit = ctx.permit::<act::Operate>(on::Network)?;
    let rows = ctx.app.store.freezes(&permit).await?;
    let view = |row: gangline_store::FreezeRow| FreezeView {
        freeze: row.freeze.id,
        target: row.freeze.target.to_string(),
        since: row.freeze.since,
        until: row.freeze.until,
        made_by: row.made_by,
        reason: row.reason,
        incident: row.incident,
        lifted_at: row.lifted_at,
    };
    Ok(rows.into_iter().map(view).collect())
}

/// What somebody wrote, as a target.
pub fn target(text: &str) -> Result<Target, ApiError> {
    text.parse().map_err(|why: gangline_guard::freeze::TargetError| {
        ApiError::bad_hint(
            StatusCode::UNPROCESSABLE_ENTITY,
            "bad_target",
            why.to_string(),
            "heartbeats, proofs, running clusters and the ending of keys and hires cannot be frozen",
        )
    })
}

/// What a freeze of `target` would have stopped.
pub fn preview(app: &App, target: &Target) -> FreezePreview {
    let Preview { keys, accounts, machines, requests } = app.noticer.preview(target, edge::now());
    FreezePreview { minutes: recent::MINUTES, keys, accounts, machines, requests }
}

/// A freeze that somebody asked for; how long it lasts is in what was permitted.
pub fn wished(target: Target, reason: &Text<240>) -> NewFreeze {
    NewFreeze {
        id: FreezeId::from_bytes(edge::random()),
        target,
        until: None,
        reason: reason.to_string(),
        incident: None,
    }
}

/// The freeze that is named in the path, with what it stops.
pub async fn named_freeze<E: Endpoint>(ctx: &Ctx<E>) -> Result<on::Freeze, ApiError> {
    let id: FreezeId = ctx.param("freeze")?;
    let frozen = ctx.app.store.frozen(ctx.now).await?;
    let freeze = frozen.into_iter().find(|freeze| freeze.id == id).ok_or_else(ApiError::hidden)?;
    Ok(on::Freeze { freeze: id, target: freeze.target })
}

async fn freeze(ctx: Ctx<e::FreezeMake>) -> Result<FreezeAnswer, ApiError> {
    ctx.permit_also::<act::Operate>(on::Network)?;
    let target = target(ctx.body.target.as_str())?;
    let preview = preview(&ctx.app, &target);
    if ctx.body.dry_run {
        return Ok(FreezeAnswer { freeze: None, preview });
    }
    let seconds = ctx.body.seconds.map(|seconds| seconds.0);
    let permit = ctx.permit_approved::<act::Freeze>(on::Halt { target, seconds }).await?;
    let new = wished(target, &ctx.body.reason);
    let made = ctx.app.store.freeze(permit, &new).await?;
    ctx.app.noticer.freezes().reload(&ctx.app.store).await?;
    Ok(FreezeAnswer { freeze: Some(made), preview })
}

async fn lift(ctx: Ctx<e::FreezeLift>) -> Result<Nothing, ApiError> {
    let permit = ctx.permit_approved::<act::Thaw>(named_freeze(&ctx).await?).await?;
    ctx.app.store.thaw(permit).await?;
    ctx.app.noticer.freezes().reload(&ctx.app.store).await?;
    Ok(Nothing {})
}

async fn deliveries(ctx: Ctx<e::Deliveries>) -> Result<Vec<DeliveryView>, ApiError> {
    let permit = ctx.permit::<act::Operate>(on::Network)?;
    let rows = ctx.app.store.deliveries(&permit).await?;
    let view = |row: gangline_store::DeliveryRow| DeliveryView {
        delivery: row.id,
        outlet: row.outlet.as_str().to_owned(),
        subject: row.subject,
        made_at: row.made_at,
        due_at: (row.state == DeliveryState::Waiting).then_some(row.due_at),
        state: delivery_word(row.state).to_owned(),
        tries: row.tries,
        settled_at: row.settled_at,
        error: row.error,
    };
    Ok(rows.into_iter().map(view).collect())
}

/// A state's word.
pub fn delivery_word(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Waiting => "waiting",
        DeliveryState::Sent => "sent",
        DeliveryState::Dead => "dead",
    }
}

async fn send_again(ctx: Ctx<e::DeliverySend>) -> Result<Nothing, ApiError> {
    let permit = ctx.permit::<act::Contain>(on::Network)?;
    ctx.app.store.send_again(permit, ctx.param("delivery")?).await?;
    Ok(Nothing {})
}

fn query(asked: &RecordsQuery) -> RecordQuery {
    RecordQuery {
        key: asked.key,
        account: asked.account,
        action: asked.action.as_ref().map(ToString::to_string),
        resource: asked.resource.as_ref().map(ToString::to_string),
        code: asked.code.as_ref().map(ToString::to_string),
        from: asked.from,
        to: asked.to,
        before: asked.before,
        limit: asked.limit.unwrap_or(RECORDS).clamp(1, RECORDS_MAX),
    }
}

async fn refusals(ctx: Ctx<e::Refusals>) -> Result<Vec<RefusalView>, ApiError> {
    let permit = ctx.permit::<act::Operate>(on::Network)?;
    let rows = ctx.app.store.refusals(&permit, &query(&ctx.query)).await?;
    let view = |row: gangline_store::RefusalRow| RefusalView {
        number: row.id,
        at: row.at,
        actor: row.actor,
        key: row.key,
        account: row.account,
        count: row.count,
        action: row.action,
        request: row.request,
        address: row.address,
        code: row.code,
        message: row.message,
    };
    Ok(rows.into_iter().map(view).collect())
}

async fn acts(ctx: Ctx<e::Acts>) -> Result<Vec<ActView>, ApiError> {
    let permit = ctx.permit::<act::Operate>(on::Network)?;
    let rows = ctx.app.store.acts(&permit, &query(&ctx.query)).await?;
    let view = |row: gangline_store::AuditRow| ActView {
        number: row.id,
        at: row.at,
        actor: row.actor,
        key: row.key,
        account: row.account,
        action: row.action,
        resource: row.resource,
        reason: row.reason,
        detail: row.detail,
    };
    Ok(rows.into_iter().map(view).collect())
}
