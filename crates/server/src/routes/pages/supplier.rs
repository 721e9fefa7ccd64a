//! The supplier's console: own machines with their GPUs, own keys, own statement.

use std::collections::HashMap;

use axum::response::Response;
use gangline_guard::{Permit, act};
use gangline_pages::{MachineRow, MachineState, Statement, StatementLine, SupplierView};
use gangline_rules::uptime::CONNECTED_SECONDS;
use gangline_store::GpuRow;
use gangline_types::{MachineId, UnixSeconds};
use gangline_wire::{api::account::StatementQuery, endpoints as e};

use super::{chrome, console::key_row, page};
use crate::{
    app::App,
    error::ApiError,
    request::Ctx,
    routes::account::{own_account, statement_of},
};

/// Machines in a page.
const MACHINES: u32 = 50;
/// Lines of the statement in the console; `gangline rent statement` tells all.
const LINES: usize = 200;

pub async fn show(ctx: &Ctx<e::ConsolePage>) -> Result<Response, ApiError> {
    let permit = own_account(ctx)?;
    let store = &ctx.app.store;
    let mut gpus: HashMap<MachineId, Vec<GpuRow>> = HashMap::new();
    let after = ctx.query.after;
    for gpu in store.gpus_of(&permit, after, MACHINES).await? {
        gpus.entry(gpu.resource.machine).or_default().push(gpu);
    }
    let mut machines = Vec::new();
    for row in store.machines_of(&permit, after, MACHINES).await? {
        let own = gpus.remove(&row.resource.machine).unwrap_or_default();
        machines.push(machine(&ctx.app, row, own, ctx.now).await?);
    }
    let keys = store.keys_of(&permit).await?.into_iter().map(|row| key_row(row, String::new(), ctx.now));
    let view = SupplierView {
        now: ctx.now,
        origin: ctx.app.origin.clone(),
        totals: store.public().totals().await?,
        machines_in_all: store.count_machines_of(&permit).await?,
        continued: after.is_some(),
        next: machines.last().map(|last| last.id).filter(|_| machines.len() == MACHINES as usize),
        machines,
        keys: keys.collect(),
        statement: statement(&ctx.app, &permit).await?,
    };
    Ok(page(gangline_pages::supplier(&chrome(ctx), &view)))
}

async fn machine(
    app: &App,
    row: gangline_store::MachineRow,
    own: Vec<GpuRow>,
    now: UnixSeconds,
) -> Result<MachineRow, ApiError> {
    let last_beat_at = own.iter().map(|gpu| gpu.beat_at).max().unwrap_or(row.seen_at);
    let state = match (row.left_at, row.paused) {
        (Some(_), _) => MachineState::Left,
        _ if last_beat_at.0 == 0 || app.lanes.beats_until(now).since(last_beat_at) > CONNECTED_SECONDS => {
            MachineState::Away
        }
        (None, true) => MachineState::Paused,
        (None, false) => MachineState::Connected,
    };
    let mut gpus = Vec::with_capacity(own.len());
    for own in own {
        // What is public lags a moment behind; what its owner just changed is shown as it is.
        if let Some(public) = app.store.public().gpu(own.resource.gpu).await? {
            gpus.push(gangline_types::public::PublicGpu {
                label: own.label,
                standing: own.standing,
                standing_reason: own.reason,
                ..public
            });
        }
    }
    let (name, facts, worker_version) = match row.inventory {
        Some(inventory) => {
            let host = inventory.host;
            let memory_gib = host.memory_bytes >> 30;
            let facts = format!("{}, {}, {} cores, {memory_gib} GiB", host.os, host.cpu, host.cores);
            (host.name.to_string(), facts, inventory.worker_version.to_string())
        }
        None => (
            "a machine that has not run yet".into(),
            "start it with gangline worker run".into(),
            "unknown".into(),
        ),
    };
    Ok(MachineRow { id: row.resource.machine, name, state, worker_version, facts, last_beat_at, gpus })
}

/// The newest periods' lines, newest first, each with its way to the root.
async fn statement(app: &App, permit: &Permit<act::ReadAccount>) -> Result<Statement, ApiError> {
    if app.store.season().await?.is_none() {
        return Ok(Statement::default());
    }
    let told = statement_of(app, permit, &StatementQuery::default(), LINES).await?;
    let mut lines: Vec<_> = told
        .lines
        .into_iter()
        .map(|line| StatementLine {
            period: line.snapshot.period,
            gpu: line.entry.gpu,
            minutes: line.entry.minutes,
            share: line.entry.share,
            inclusion: line.inclusion,
        })
        .collect();
    lines.sort_by_key(|line| std::cmp::Reverse(line.period));
    let more = told.next.is_some() || lines.len() >= LINES;
    lines.truncate(LINES);
    Ok(Statement { season: told.season, total: told.season_total, held: told.season_held, lines, more })
}
