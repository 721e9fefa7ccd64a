//! The operator's console.

use std::collections::HashMap;

use axum::response::Response;
use gangline_guard::{act, policy::on};
use gangline_pages::{AccountRow, FreshLink, MachineCounts, OperatorView, RefusalRow};
use gangline_rules::uptime::CONNECTED_SECONDS;
use gangline_store::RecordQuery;
use gangline_types::{AccountId, UnixSeconds};
use gangline_wire::Endpoint;

use super::{
    chrome,
    chrome::role,
    console::{cluster_row, key_row},
    page,
};
use crate::{error::ApiError, request::Ctx};

const DAY_SECONDS: u64 = 24 * 3600;

fn ago(now: UnixSeconds, seconds: u64) -> UnixSeconds {
    UnixSeconds(now.0.saturating_sub(seconds))
}

/// Draws it, with the link that was just made, if one was.
pub async fn show<E: Endpoint>(ctx: &Ctx<E>, fresh_link: Option<FreshLink>) -> Result<Response, ApiError> {
    let permit = ctx.permit_also::<act::Operate>(on::Network)?;
    let (store, now) = (&ctx.app.store, ctx.now);
    let accounts = store.accounts(&permit).await?;
    let names: HashMap<AccountId, String> =
        accounts.iter().map(|a| (a.account, a.name.to_string())).collect();
    let name = |account: AccountId| names.get(&account).cloned().unwrap_or_else(|| account.to_string());
    let since = ago(ctx.app.lanes.beats_until(now), CONNECTED_SECONDS);
    let counted = async || store.machine_counts(&permit, since).await;
    let (registered, connected) = ctx.app.machines.get(counted).await?;
    let counted = async || store.refusals_since(&permit, ago(now, DAY_SECONDS)).await;
    let refusals_day = ctx.app.refused.get(counted).await?;
    let keys = store.all_keys(&permit).await?.into_iter().map(|row| {
        let account = name(row.resource.account);
        key_row(row, account, now)
    });
    let clusters = store.all_clusters(&permit).await?;
    let refusals = store
        .refusals(&permit, &RecordQuery { limit: 100, ..RecordQuery::default() })
        .await?
        .into_iter()
        .map(|r| RefusalRow {
            at: r.at,
            reason: reason(r.code, &r.message),
            action: r.action,
            key: r.actor,
            resource: r.request,
            address: r.address,
            count: r.count,
        });
    let view = OperatorView {
        now,
        fresh_link,
        totals: store.public().totals().await?,
        machines: MachineCounts { registered, connected },
        incidents: store.incidents(&permit, false).await?.len() as u64,
        approvals: store.approvals_waiting(&permit).await?,
        freezes: ctx.app.noticer.freezes().current().all().len() as u64,
        refusals: refusals.collect(),
        refusals_day,
        keys: keys.collect(),
        clusters: clusters.iter().map(|row| cluster_row(row, name(row.resource.renter), now)).collect(),
        accounts: accounts
            .into_iter()
            .map(|a| AccountRow {
                id: a.account,
                name: a.name.to_string(),
                role: role(a.role),
                machines: a.machines,
                clusters: a.clusters,
                created_at: a.created_at,
                last_seen_at: a.seen_at.unwrap_or_default(),
            })
            .collect(),
    };
    Ok(page(gangline_pages::operator(&chrome(ctx), &view)))
}

/// A refusal's code, and beside it what the refused input resembled, if it did.
fn reason(code: String, message: &str) -> String {
    match message.rfind("[inspection ") {
        Some(at) => format!("{code} {}", &message[at..]),
        None => code,
    }
}
