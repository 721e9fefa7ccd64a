//! Deciding on dangerous acts that were asked for.

use axum::{http::StatusCode, response::Response};
use gangline_guard::{
    Principal, act,
    policy::{decide as may, on},
};
use gangline_pages::{ApprovalRow, ApprovalState, ApprovalsView, Done, paths};
use gangline_types::{ApprovalId, UnixSeconds};
use gangline_wire::{Action, api::operate::Approver, endpoints as e};

use super::{chrome, done, page};
use crate::{error::ApiError, request::Ctx};

pub async fn show(ctx: Ctx<e::ApprovalsPage>) -> Result<Response, ApiError> {
    let permit = ctx.permit::<act::Operate>(on::Network)?;
    let rows = ctx.app.store.approvals(&permit).await?;
    let (who, now) = (ctx.actor.principal(), ctx.now);
    let view = ApprovalsView { now, rows: rows.into_iter().map(|row| shown(row, who, now)).collect() };
    Ok(page(gangline_pages::approvals(&chrome(&ctx), &view)))
}

/// What an act does, in words.
fn words(action: Action) -> &'static str {
    match action {
        Action::Invite => "make a one-time link",
        Action::Freeze => "freeze",
        Action::Thaw => "lift a freeze",
        Action::Restore => "undo names",
        Action::MoveCalibration => "move a calibration",
        Action::RevokeKey => "end a key",
        Action::RetireMachine => "retire a machine",
        Action::ReleaseCluster => "release a cluster",
        other => other.as_str(),
    }
}

fn shown(row: gangline_store::ApprovalRow, who: &Principal, now: UnixSeconds) -> ApprovalRow {
    let resource = on::Approval { approval: row.id, asked_by: row.asked_by, approver: row.approver };
    let approver = match row.approver {
        Approver::Oneself => "confirmation by whoever asked",
        Approver::Another => "another operator",
        Approver::Alone => "a delay: there is no other operator",
    };
    let state = match (row.used_at, &row.decision) {
        (Some(at), decision) => {
            ApprovalState::Done { by: decision.as_ref().map(|d| d.name.to_string()).unwrap_or_default(), at }
        }
        (None, Some(decision)) => match decision.ready_at {
            None => ApprovalState::Declined { by: decision.name.to_string(), at: decision.at },
            Some(_) if row.expires_at <= now => ApprovalState::Lapsed,
            Some(from) => {
                let own = who.account() == Some(row.asked_by) && row.key.is_none();
                let form = (own && from <= now && !row.path.is_empty()).then(|| {
                    let fields = form_urlencoded::parse(row.form.as_bytes()).into_owned().collect();
                    (row.path.clone(), fields)
                });
                ApprovalState::Approved { by: decision.name.to_string(), from, until: row.expires_at, form }
            }
        },
        (None, None) if row.expires_at <= now => ApprovalState::Lapsed,
        (None, None) => ApprovalState::Waiting {
            until: row.expires_at,
            may_approve: may(who, Action::DecideApproval, &resource.into()).is_ok(),
        },
    };
    ApprovalRow {
        id: row.id,
        act: words(row.action).to_owned(),
        what: row.what,
        account: row.name.to_string(),
        key: row.key.map(|(_, public, host)| (host.to_string(), public.fingerprint())),
        asked_at: row.asked_at,
        approver: approver.to_owned(),
        state,
    }
}

pub async fn decide(ctx: Ctx<e::ApprovalForm>) -> Result<Response, ApiError> {
    let approval: ApprovalId = ctx.param("approval")?;
    let row = ctx.app.store.approval(approval).await?.ok_or_else(ApiError::hidden)?;
    let resource = on::Approval { approval, asked_by: row.asked_by, approver: row.approver };
    let told = match ctx.body.decision.as_str() {
        "approve" => {
            let permit = ctx.permit::<act::DecideApproval>(resource)?;
            let alone = row.approver == Approver::Alone;
            let delay_seconds = if alone { ctx.app.config.alone_delay_seconds } else { 0 };
            ctx.app.store.approve(permit, delay_seconds).await?;
            if alone { Done::ApprovedAlone } else { Done::Approved }
        }
        "decline" => {
            let permit = ctx.permit_also::<act::DeclineApproval>(resource)?;
            ctx.app.store.decline(permit).await?;
            Done::Declined
        }
        _ => {
            return Err(ApiError::bad(
                StatusCode::UNPROCESSABLE_ENTITY,
                "malformed",
                "the decision is neither approve nor decline",
            ));
        }
    };
    Ok(done(paths::APPROVALS, told))
}
