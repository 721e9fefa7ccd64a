//! The operator's search of permitted acts.

use axum::response::Response;
use gangline_guard::{act, policy::on};
use gangline_pages::{ActRow, ActsView};
use gangline_store::RecordQuery;
use gangline_types::UnixSeconds;
use gangline_wire::endpoints as e;

use super::{chrome, page, security::who_is_meant};
use crate::{error::ApiError, request::Ctx};

/// Acts on one page.
const ACTS: u32 = 100;

pub async fn show(ctx: Ctx<e::ActsPage>) -> Result<Response, ApiError> {
    let permit = ctx.permit::<act::Operate>(on::Network)?;
    let asked = &ctx.query;
    let who = who_is_meant(asked.who.as_ref());
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let ago = |hours: Option<u32>| {
        hours.map(|hours| UnixSeconds(ctx.now.0.saturating_sub(u64::from(hours) * 3_600)))
    };
    let query = RecordQuery {
        key: who.key,
        account: who.account,
        action: text(asked.action.as_ref().map(ToString::to_string)),
        resource: text(asked.on.as_ref().map(ToString::to_string)),
        code: None,
        from: ago(asked.hours),
        to: ago(asked.until),
        before: asked.before,
        limit: ACTS,
    };
    let acts = ctx.app.store.acts(&permit, &query).await?;
    let older = acts.last().filter(|_| acts.len() == ACTS as usize).map(|row| row.id);
    let view = ActsView {
        acts: acts
            .into_iter()
            .map(|a| ActRow {
                at: a.at,
                actor: a.actor,
                account: a.account.map(|account| account.to_string()).unwrap_or_default(),
                action: a.action,
                resource: a.resource,
                reason: a.reason,
                detail: a.detail,
            })
            .collect(),
        older,
        problem: who.problem,
        who: who.text,
        action: query.action.unwrap_or_default(),
        on: query.resource.unwrap_or_default(),
        hours: asked.hours,
        until: asked.until,
    };
    Ok(page(gangline_pages::acts(&chrome(&ctx), &view)))
}
