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
    sql::{Columns, Id, json},
    sqlite::SqliteStore,
    sqlite::audit::audit,
    sqlite::label::set_label,
    sqlite::log::log_entry,
    sqlite::open::commit,
};

impl SqliteStore {
    /// Writes an inventory down. A slot seen before keeps its GPU id; a claim that says something else
    /// than before has to be proven anew; a GPU that is no longer there stays, but is not present.
    /// `new_ids` has one fresh id for each claim.
    pub async fn describe(
        &self,
        permit: Permit<act::DescribeMachine>,
        inventory: &Inventory,
        new_ids: &[GpuId],
    ) -> Result<Vec<RegisteredGpu>, StoreError> {
        let doing = "writing an inventory down";
        let now = permit.at().0 as i64;
        let machine = permit.on().machine;
        let mut tx = self.begin(doing).await?;
        sqlx::query("UPDATE machine SET inventory = ?, seen_at = ? WHERE id = ? AND left_at IS NULL")
            .bind(json(inventory))
            .bind(now)
            .bind(machine.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("UPDATE gpu SET present = 0 WHERE machine = ?")
            .bind(machine.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let mut registered = Vec::with_capacity(inventory.gpus.len());
        for (claim, new_id) in inventory.gpus.iter().zip(new_ids) {
            let known = sqlx::query("SELECT g.*, m.account FROM gpu g JOIN machine m ON m.id = g.machine WHERE g.machine = ? AND g.slot = ?")
                .bind(machine.blob())
                .bind(claim.slot.0.to_vec())
                .fetch_optional(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
            let (gpu, standing, reason) = match known.map(|r| gpu_row(&r)).transpose()? {
                None => {
                    sqlx::query(
                        "INSERT INTO gpu (id, machine, slot, claim, registered_at) VALUES (?, ?, ?, ?, ?)",
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
                    sqlx::query("UPDATE gpu SET claim = ?, present = 1 WHERE id = ?")
                        .bind(json(claim))
                        .bind(gpu.blob())
                        .execute(&mut *tx)
                        .await
                        .map_err(StoreError::sql(doing))?;
                    if reset {
                        sqlx::query("UPDATE gpu SET standing = 'unproven', reason = 'It says it is something else than before; that has to be proven.', matrix_mmacs = 0, memory_bytes = 0, proof = NULL, shown_as = NULL, round = round + 1 WHERE id = ?")
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

    /// Notes that a machine was heard of, and whether its owner paused it and what it offers.
    pub async fn heard_of(
        &self,
        permit: &Permit<act::Supply>,
        paused: bool,
        offers: &[Offer],
    ) -> Result<bool, StoreError> {
        let doing = "noting a machine's offers";
        let machine = permit.on().machine;
        let mut tx = self.begin(doing).await?;
        let before = sqlx::query("SELECT paused FROM machine WHERE id = ? AND left_at IS NULL")
            .bind(machine.blob())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .ok_or(StoreError::Gone("this machine left the network"))?
            .flag("paused")?;
        sqlx::query("UPDATE machine SET paused = ?, seen_at = ? WHERE id = ?")
            .bind(paused as i64)
            .bind(permit.at().0 as i64)
            .bind(machine.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let mut changed = before != paused;
        let gpus = sqlx::query("SELECT id, offer FROM gpu WHERE machine = ?")
            .bind(machine.blob())
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        for row in gpus {
            let gpu: GpuId = row.id("id")?;
            let offer = offers.iter().find(|o| o.gpu == gpu).map(json);
            if offer != row.text_or_none("offer")? {
                changed = true;
                sqlx::query("UPDATE gpu SET offer = ? WHERE id = ?")
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

    /// Takes the permit's machine out: its GPUs are retired and its keys end.
    pub async fn retire_machine(&self, permit: Permit<act::RetireMachine>) -> Result<(), StoreError> {
        let doing = "retiring a machine";
        let now = permit.at().0 as i64;
        let machine = permit.on().machine.blob();
        let mut tx = self.begin(doing).await?;
        sqlx::query("UPDATE machine SET left_at = ? WHERE id = ? AND left_at IS NULL")
            .bind(now)
            .bind(&machine)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let retired = sqlx::query("SELECT id FROM gpu WHERE machine = ? AND standing <> 'retired'")
            .bind(&machine)
            .fetch_all(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        sqlx::query("UPDATE gpu SET standing = 'retired', reason = 'Its machine left the network.', present = 0, offer = NULL WHERE machine = ?")
            .bind(&machine)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let keys = sqlx::query("UPDATE key SET revoked_at = ? WHERE machine = ? AND revoked_at IS NULL")
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

    /// Names the permit's GPU.
    pub async fn label_gpu(&self, permit: Permit<act::LabelGpu>, label: &Label) -> Result<(), StoreError> {
        let doing = "naming a GPU";
        let mut tx = self.begin(doing).await?;
        set_label(&mut tx, &permit, permit.on().gpu, label, Change::Set).await?;
        audit(&mut tx, &permit, label.as_str()).await?;
        commit(tx, doing).await
    }

    /// A machine as a resource; none if it left.
    pub async fn machine_resource(&self, machine: MachineId) -> Result<Option<on::Machine>, StoreError> {
        let row = sqlx::query("SELECT id, account FROM machine WHERE id = ? AND left_at IS NULL")
            .bind(machine.blob())
            .fetch_optional(&self.read)
            .await
            .map_err(StoreError::sql("looking a machine up"))?;
        row.map(|r| Ok(on::Machine { machine: r.id("id")?, account: r.id("account")? })).transpose()
    }

    /// A GPU, whoever's it is: for deciding about it.
    pub async fn gpu(&self, gpu: GpuId) -> Result<Option<GpuRow>, StoreError> {
        let row =
            sqlx::query("SELECT g.*, m.account FROM gpu g JOIN machine m ON m.id = g.machine WHERE g.id = ?")
                .bind(gpu.blob())
                .fetch_optional(&self.read)
                .await
                .map_err(StoreError::sql("looking a GPU up"))?;
        row.map(|r| gpu_row(&r)).transpose()
    }

    /// GPUs of the permit's machine that are there.
    pub async fn gpus_on(&self, permit: &Permit<act::Supply>) -> Result<Vec<GpuRow>, StoreError> {
        let rows = sqlx::query("SELECT g.*, m.account FROM gpu g JOIN machine m ON m.id = g.machine WHERE g.machine = ? AND g.present = 1 ORDER BY g.id")
            .bind(permit.on().machine.blob())
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("listing a machine's GPUs"))?;
        rows.iter().map(gpu_row).collect()
    }

    /// A machine's public key, for binding proofs to it.
    pub async fn machine_public_key(&self, machine: MachineId) -> Result<Option<[u8; 32]>, StoreError> {
        let row = sqlx::query("SELECT public_key FROM key WHERE machine = ? AND revoked_at IS NULL ORDER BY created_at DESC LIMIT 1")
            .bind(machine.blob())
            .fetch_optional(&self.read)
            .await
            .map_err(StoreError::sql("looking a machine's key up"))?;
        row.map(|r| r.hash("public_key").map(|h: Hash| h.0)).transpose()
    }
}
