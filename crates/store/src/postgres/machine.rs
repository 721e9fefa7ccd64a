//! Machines and their GPUs.

use gangline_guard::{
    Permit, act,
    log::{Event, entry::Change},
    policy::on,
};
use gangline_types::{GpuId, Hash, Label, MachineId, Standing, Text};
use gangline_wire::api::machine::{Inventory, Offer, RegisteredGpu};

use crate::{
    GpuRow, StoreError,
    books::machine::{gpu_row, says_the_same},
    postgres::PostgresStore,
    postgres::audit::audit,
    postgres::label::set_label,
    postgres::log::log_entry,
    postgres::open::commit,
    sql::{Columns, Id, json},
};

impl PostgresStore {
    pub(crate) async fn describe(
        &self,
        permit: Permit<act::DescribeMachine>,
        inventory: &Inventory,
        new_ids: &[GpuId],
    ) -> Result<Vec<RegisteredGpu>, StoreError> {
        let doing = "writing an inventory down";
        let now = permit.at().0 as i64;
        let machine = permit.on().machine;
        let mut tx = self.begin_alone(doing).await?;
        sqlx::query("UPDATE machine SET inventory = $1, seen_at = $2 WHERE id = $3 AND left_at IS NULL")
            .bind(json(inventory))
            .bind(now)
            .bind(machine.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("UPDATE gpu SET present = false WHERE machine = $1")
            .bind(machine.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let mut registered = Vec::with_capacity(inventory.gpus.len());
        for (claim, new_id) in inventory.gpus.iter().zip(new_ids) {
            let known = sqlx::query("SELECT g.*, m.account FROM gpu g JOIN machine m ON m.id = g.machine WHERE g.machine = $1 AND g.slot = $2")
                .bind(machine.blob())
                .bind(claim.slot.0.to_vec())
                .fetch_optional(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            let (gpu, standing, reason) = match known.map(|r| gpu_row(&r)).transpose()? {
                None => {
                    sqlx::query(
                        "INSERT INTO gpu (id, machine, slot, claim, registered_at) VALUES ($1, $2, $3, $4, $5)",
                    )
                    .bind(new_id.blob())
                    .bind(machine.blob())
                    .bind(claim.slot.0.to_vec())
                    .bind(json(claim))
                    .bind(now)
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::sql(doing))?;
                    (*new_id, Standing::Unproven, Text::lossy("No proof has been judged yet."))
                }
                Some(known) => {
                    let gpu = known.resource.gpu;
                    let same = says_the_same(&known.claim, claim);
                    // A forger does not become honest by another name.
                    let reset = !same && known.standing != Standing::Quarantined;
                    sqlx::query("UPDATE gpu SET claim = $1, present = true WHERE id = $2")
                        .bind(json(claim))
                        .bind(gpu.blob())
                        .execute(&mut *tx)
                        .await
                        .map_err(StoreError::sql(doing))?;
                    if reset {
                        sqlx::query("UPDATE gpu SET standing = 'unproven', reason = 'It says it is something else than before; that has to be proven.', matrix_mmacs = 0, memory_bytes = 0, proof = NULL, shown_as = NULL, round = round + 1 WHERE id = $1")
                            .bind(gpu.blob())
                            .execute(&mut *tx)
                            .await
                            .map_err(StoreError::sql(doing))?;
                        let why = "It says it is something else than before; that has to be proven.";
                        if known.standing != Standing::Unproven {
                            let event = Event::Standing { gpu, standing: Standing::Unproven };
                            log_entry(&mut tx, &permit, event, why).await?;
                        }
                        (gpu, Standing::Unproven, Text::lossy(why))
                    } else {
                        (gpu, known.standing, known.reason)
                    }
                }
            };
            registered.push(RegisteredGpu { slot: claim.slot, gpu, standing, reason, prove: false });
        }
        audit(&mut tx, &permit, &format!("{} GPUs", inventory.gpus.len())).await?;
        commit(tx, doing).await?;
        Ok(registered)
    }

    pub(crate) async fn heard_of(
        &self,
        permit: &Permit<act::Supply>,
        paused: bool,
        offers: &[Offer],
    ) -> Result<bool, StoreError> {
        let doing = "noting a machine's offers";
        let machine = permit.on().machine;
        let mut tx = self.begin(doing).await?;
        let before = sqlx::query("SELECT paused FROM machine WHERE id = $1 AND left_at IS NULL FOR UPDATE")
            .bind(machine.blob())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .ok_or(StoreError::Gone("this machine left the network"))?
            .flag("paused")?;
        sqlx::query("UPDATE machine SET paused = $1, seen_at = $2 WHERE id = $3")
            .bind(paused)
            .bind(permit.at().0 as i64)
            .bind(machine.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let mut changed = before != paused;
        let gpus = sqlx::query("SELECT id, offer FROM gpu WHERE machine = $1")
            .bind(machine.blob())
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        for row in gpus {
            let gpu: GpuId = row.id("id")?;
            let offer = offers.iter().find(|o| o.gpu == gpu).map(json);
            if offer != row.text_or_none("offer")? {
                changed = true;
                sqlx::query("UPDATE gpu SET offer = $1 WHERE id = $2")
                    .bind(offer)
                    .bind(gpu.blob())
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::sql(doing))?;
            }
        }
        commit(tx, doing).await?;
        Ok(changed)
    }

    pub(crate) async fn retire_machine(&self, permit: Permit<act::RetireMachine>) -> Result<(), StoreError> {
        let doing = "retiring a machine";
        let now = permit.at().0 as i64;
        let machine = permit.on().machine.blob();
        let mut tx = self.begin_alone(doing).await?;
        sqlx::query("UPDATE machine SET left_at = $1 WHERE id = $2 AND left_at IS NULL")
            .bind(now)
            .bind(&machine)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let retired = sqlx::query("SELECT id FROM gpu WHERE machine = $1 AND standing <> 'retired'")
            .bind(&machine)
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("UPDATE gpu SET standing = 'retired', reason = 'Its machine left the network.', present = false, offer = NULL WHERE machine = $1")
            .bind(&machine)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let keys = sqlx::query("UPDATE key SET revoked_at = $1 WHERE machine = $2 AND revoked_at IS NULL")
            .bind(now)
            .bind(&machine)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .rows_affected() as u32;
        for row in retired {
            let event = Event::Standing { gpu: row.id("id")?, standing: Standing::Retired };
            log_entry(&mut tx, &permit, event, "its machine left the network").await?;
        }
        if keys > 0 {
            log_entry(&mut tx, &permit, Event::KeyRevoked { keys }, "its machine left the network").await?;
        }
        audit(&mut tx, &permit, "left").await?;
        commit(tx, doing).await
    }

    pub(crate) async fn label_gpu(
        &self,
        permit: Permit<act::LabelGpu>,
        label: &Label,
    ) -> Result<(), StoreError> {
        let doing = "naming a GPU";
        let mut tx = self.begin_alone(doing).await?;
        set_label(&mut tx, &permit, permit.on().gpu, label, Change::Set).await?;
        audit(&mut tx, &permit, label.as_str()).await?;
        commit(tx, doing).await
    }

    pub(crate) async fn machine_resource(
        &self,
        machine: MachineId,
    ) -> Result<Option<on::Machine>, StoreError> {
        let row = sqlx::query("SELECT id, account FROM machine WHERE id = $1 AND left_at IS NULL")
            .bind(machine.blob())
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::sql("looking a machine up"))?;
        row.map(|r| Ok(on::Machine { machine: r.id("id")?, account: r.id("account")? })).transpose()
    }

    pub(crate) async fn gpu(&self, gpu: GpuId) -> Result<Option<GpuRow>, StoreError> {
        let row = sqlx::query(
            "SELECT g.*, m.account FROM gpu g JOIN machine m ON m.id = g.machine WHERE g.id = $1",
        )
        .bind(gpu.blob())
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::sql("looking a GPU up"))?;
        row.map(|r| gpu_row(&r)).transpose()
    }

    pub(crate) async fn gpus_on(&self, permit: &Permit<act::Supply>) -> Result<Vec<GpuRow>, StoreError> {
        let rows = sqlx::query("SELECT g.*, m.account FROM gpu g JOIN machine m ON m.id = g.machine WHERE g.machine = $1 AND g.present ORDER BY g.id")
            .bind(permit.on().machine.blob())
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::sql("listing a machine's GPUs"))?;
        rows.iter().map(gpu_row).collect()
    }

    pub(crate) async fn machine_public_key(
        &self,
        machine: MachineId,
    ) -> Result<Option<[u8; 32]>, StoreError> {
        let row = sqlx::query("SELECT public_key FROM key WHERE machine = $1 AND revoked_at IS NULL ORDER BY created_at DESC LIMIT 1")
            .bind(machine.blob())
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::sql("looking a machine's key up"))?;
        row.map(|r| r.hash("public_key").map(|h: Hash| h.0)).transpose()
    }
}
