//! Tables of calibration: what the network would learn, canaries, promotion. An operator's key signs each
//! table; what a promoted table says sets deadlines from the next bell on.

use axum::http::StatusCode;
use gangline_guard::{Permit, act, policy::on};
use gangline_rules::calibration::{
    Amounts, Bounds, Entry, Key, Observation, Table, bounds, learn, may_promote,
};
use gangline_types::UnixSeconds;
use gangline_wire::{
    PublicKey,
    api::epoch::{CalibrationEntry, CalibrationTable, PublicCalibration},
    endpoints as e,
};

use crate::{app::App, error::ApiError, request::Ctx, router::Api};

/// Epochs of so many seconds are learned from: a week.
const LEARNED_SECONDS: u64 = 7 * 24 * 3600;

pub(super) fn routes(api: Api) -> Api {
    api.json::<e::PublicCalibrations, _, _>(all)
        .json::<e::CalibrationLearned, _, _>(learned)
        .json::<e::CalibrationAdd, _, _>(add)
        .json::<e::CalibrationSet, _, _>(set)
}

async fn all(ctx: Ctx<e::PublicCalibrations>) -> Result<Vec<PublicCalibration>, ApiError> {
    Ok(ctx.app.store.public().public_calibrations().await?)
}

fn shown(table: &Table) -> CalibrationTable {
    let entry = |entry: &Entry| CalibrationEntry {
        model: entry.key.model.clone(),
        backend: entry.key.backend,
        build: entry.key.build.clone(),
        work: entry.key.work,
        accounts: entry.accounts,
        median_millis: entry.median_millis,
    };
    CalibrationTable { version: table.version, entries: table.entries.iter().map(entry).collect() }
}

/// The table that a signature is over, and a digest is made of.
pub fn meant(table: &CalibrationTable) -> Table {
    let entry = |entry: &CalibrationEntry| Entry {
        key: Key {
            model: entry.model.clone(),
            backend: entry.backend,
            build: entry.build.clone(),
            work: entry.work,
        },
        accounts: entry.accounts,
        median_millis: entry.median_millis,
    };
    Table { version: table.version, entries: table.entries.iter().map(entry).collect() }
}

fn sound(table: &CalibrationTable) -> Result<Table, ApiError> {
    meant(table).check().map_err(|why| {
        ApiError::bad(
            StatusCode::UNPROCESSABLE_ENTITY,
            "unsound_table",
            format!("the table is not taken: {why}"),
        )
    })
}

async fn learned(ctx: Ctx<e::CalibrationLearned>) -> Result<CalibrationTable, ApiError> {
    let permit = ctx.permit::<act::Operate>(on::Network)?;
    Ok(shown(&learned_now(&ctx.app, &permit, ctx.now).await?))
}

/// What the network itself learns from the epochs of the last week.
async fn learned_now(app: &App, permit: &Permit<act::Operate>, now: UnixSeconds) -> Result<Table, ApiError> {
    let since = UnixSeconds(now.0.saturating_sub(LEARNED_SECONDS));
    let seen = app.store.epoch_observations(permit, since).await?;
    let newest = app.store.calibrations().await?.iter().map(|row| row.table.version).max().unwrap_or(0);
    // One claim and one size stand for a key: physics is asked of the model and the work alone.
    let mut limits: std::collections::BTreeMap<Key, Bounds> = std::collections::BTreeMap::new();
    for (claim, challenge, one) in &seen {
        limits.entry(one.key.clone()).or_insert_with(|| {
            let params = &challenge.params;
            let amounts = Amounts {
                blocks: u64::from(params.memory.blocks),
                rounds: u64::from(params.memory.rounds),
                reads: params.reads(),
                alu_steps: params.alu.total_steps(),
            };
            bounds(claim, &amounts)
        });
    }
    let observations: Vec<Observation> = seen.into_iter().map(|(_, _, one)| one).collect();
    let any = Bounds { least_millis: 0, most_millis: u64::MAX };
    Ok(learn(newest + 1, &observations, |key| limits.get(key).copied().unwrap_or(any)))
}

async fn add(ctx: Ctx<e::CalibrationAdd>) -> Result<PublicCalibration, ApiError> {
    let permit = ctx.permit::<act::Operate>(on::Network)?;
    let table = sound(&ctx.body.table)?;
    let wrong =
        |why: &str| ApiError::bad(StatusCode::UNPROCESSABLE_ENTITY, "wrong_signature", why.to_owned());
    let signer =
        PublicKey::from_bytes(&ctx.body.signer.0).map_err(|_| wrong("the signer is no sound key"))?;
    if permit.principal().key() != Some(signer.id()) {
        return Err(wrong("the table must be signed by the key that hands it in"));
    }
    let signature = unhex(ctx.body.signature.as_str()).unwrap_or_default();
    if !signer.verifies(&table.digest().0, &signature) {
        return Err(wrong("the signature is not this key's over this table"));
    }
    // An operator may leave entries out, or hand in a table of their own making: the log tells them apart.
    let learned = !table.entries.is_empty()
        && learned_now(&ctx.app, &permit, ctx.now).await?.digest() == table.digest();
    ctx.app.store.add_calibration(&permit, &table, signer, &signature, learned).await?;
    ctx.app.tables.changed();
    ctx.app.changed();
    found(&ctx.app, table.version).await
}

async fn set(ctx: Ctx<e::CalibrationSet>) -> Result<PublicCalibration, ApiError> {
    ctx.permit_also::<act::Operate>(on::Network)?;
    let version: u32 = ctx.param("version")?;
    let tables = ctx.app.store.calibrations().await?;
    let row = tables.iter().find(|row| row.table.version == version).ok_or_else(ApiError::hidden)?;
    if ctx.body.promote {
        let current = crate::jobs::epochs::promoted(&tables);
        may_promote(row.state, &row.table, row.watched, current).map_err(|why| {
            ApiError::bad(
                StatusCode::CONFLICT,
                "not_yet",
                format!("calibration {version} is not promoted: {why}"),
            )
        })?;
    }
    let on = on::Calibration { version, table: row.table.digest(), promote: ctx.body.promote };
    let permit = ctx.permit_approved::<act::MoveCalibration>(on).await?;
    ctx.app.store.move_calibration(permit).await?;
    ctx.app.tables.changed();
    ctx.app.changed();
    found(&ctx.app, version).await
}

async fn found(app: &crate::app::App, version: u32) -> Result<PublicCalibration, ApiError> {
    let tables = app.store.calibrations().await?;
    let row = tables.iter().find(|row| row.table.version == version).ok_or_else(ApiError::hidden)?;
    Ok(row.public())
}

/// Bytes of hex digits; none of anything else.
pub(super) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pairs = (0..text.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
