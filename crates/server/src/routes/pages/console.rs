//! The console of whoever is signed in, by role; and rows that more than one of them shows.

use axum::response::Response;
use gangline_guard::Refusal;
use gangline_pages::{ClusterRow, KeyRow};
use gangline_types::UnixSeconds;
use gangline_wire::{api::account::Role, endpoints as e};

use super::{operator, renter, supplier};
use crate::{error::ApiError, request::Ctx, routes::cluster};

pub async fn show(ctx: Ctx<e::ConsolePage>) -> Result<Response, ApiError> {
    match ctx.actor.principal().role().ok_or(Refusal::NotSignedIn)? {
        Role::Operator => operator::show(&ctx, None).await,
        Role::Supplier => supplier::show(&ctx).await,
        Role::Renter => renter::show(&ctx).await,
    }
}

/// A key; `account` is empty where it is the viewer's own.
pub fn key_row(row: gangline_store::KeyRow, account: String, now: UnixSeconds) -> KeyRow {
    KeyRow {
        id: row.resource.key,
        kind: row.kind.words().to_owned(),
        name: row.host.to_string(),
        fingerprint: row.public_key.fingerprint(),
        account,
        enrolled_at: row.created_at,
        // By the signer's clock, which may be a little ahead.
        last_used_at: row.last_used_at.min(now),
        revoked_at: row.revoked_at,
        follows: row.follows,
        ends_at: row.ends_at,
    }
}

/// A cluster with what it used and costs so far; `account` is empty where it is the viewer's own.
pub fn cluster_row(row: &gangline_store::ClusterRow, account: String, now: UnixSeconds) -> ClusterRow {
    let view = cluster::view(row, now);
    ClusterRow {
        id: view.id,
        state: view.state,
        detail: view.detail.to_string(),
        gpu: view.gpu,
        model: view.model.to_string(),
        account,
        asked_at: view.created_at,
        until: view.until,
        ended_at: view.ended_at,
        gpu_seconds: view.used,
        price_per_hour: view.price_per_hour,
        cost: view.cost,
    }
}
