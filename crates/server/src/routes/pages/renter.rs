//! The renter's console: own clusters with their cost so far, receipts, keys.

use axum::response::Response;
use gangline_pages::{ReceiptRow, RenterView};
use gangline_types::Hash;
use gangline_wire::endpoints as e;

use super::{
    chrome,
    console::{cluster_row, key_row},
    page,
};
use crate::{error::ApiError, request::Ctx, routes::account::own_account};

pub async fn show(ctx: &Ctx<e::ConsolePage>) -> Result<Response, ApiError> {
    let permit = own_account(ctx)?;
    let store = &ctx.app.store;
    let clusters = store.clusters_of(&permit).await?;
    let receipts = clusters.iter().filter_map(|row| row.receipt.as_ref()).map(|signed| ReceiptRow {
        receipt: signed.receipt,
        hash: Hash(*blake3::hash(&signed.receipt.signing_bytes()).as_bytes()),
    });
    let keys = store.keys_of(&permit).await?.into_iter().map(|row| key_row(row, String::new(), ctx.now));
    let view = RenterView {
        now: ctx.now,
        origin: ctx.app.origin.clone(),
        totals: store.public().totals().await?,
        receipts: receipts.collect(),
        keys: keys.collect(),
        clusters: clusters.iter().map(|row| cluster_row(row, String::new(), ctx.now)).collect(),
    };
    Ok(page(gangline_pages::renter(&chrome(ctx), &view)))
}
