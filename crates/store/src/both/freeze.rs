//! What is frozen, by whom and why.

use gangline_guard::{Act, Permit, act, freeze::Freeze};
use gangline_types::{FreezeId, UnixSeconds};

use super::{Books, audit::audit, open::commit};
use crate::{
    FreezeRow, NewFreeze, StoreError,
    books::freeze::freeze,
    sql::{Columns, Id},
};

impl Books {
    pub(crate) async fn frozen(&self, now: UnixSeconds) -> Result<Vec<Freeze>, StoreError> {
        let rows = sqlx::query("SELECT id, target, since, until FROM frozen WHERE lifted_at IS NULL AND (until IS NULL OR until > $1) ORDER BY target")
            .bind(now.0 as i64)
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("reading what is frozen"))?;
        rows.iter().map(freeze).collect()
    }

    pub(crate) async fn freezes(&self, _: &Permit<act::Operate>) -> Result<Vec<FreezeRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM frozen ORDER BY since DESC, id LIMIT 100")
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("listing freezes"))?;
        rows.iter()
            .map(|row| {
                Ok(FreezeRow {
                    freeze: freeze(row)?,
                    made_by: row.text("made_by")?,
                    reason: row.text("reason")?,
                    incident: row.id_or_none("incident")?,
                    lifted_at: row.at_or_none("lifted_at")?,
                    lifted_by: row.text("lifted_by")?,
                })
            })
            .collect()
    }

    pub(crate) async fn freeze(
        &self,
        permit: Permit<act::Freeze>,
        new: &NewFreeze,
    ) -> Result<FreezeId, StoreError> {
        self.make_freeze(&permit, &new.as_permitted(&permit)).await
    }

    pub(crate) async fn freeze_by_rule(
        &self,
        permit: &Permit<act::Watch>,
        new: &NewFreeze,
    ) -> Result<FreezeId, StoreError> {
        self.make_freeze(permit, new).await
    }

    async fn make_freeze<A: Act>(&self, permit: &Permit<A>, new: &NewFreeze) -> Result<FreezeId, StoreError> {
        let doing = "freezing";
        let target = new.target.to_string();
        let mut tx = self.begin(doing).await?;
        // One that has ended by itself makes room.
        sqlx::query("UPDATE frozen SET lifted_at = until, lifted_by = 'time' WHERE target = $1 AND lifted_at IS NULL AND until <= $2")
            .bind(&target)
            .bind(permit.at().0 as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let row = sqlx::query("INSERT INTO frozen (id, target, since, until, made_by, reason, incident) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (target) WHERE lifted_at IS NULL DO UPDATE SET target = excluded.target RETURNING id")
            .bind(new.id.blob())
            .bind(&target)
            .bind(permit.at().0 as i64)
            .bind(new.until.map(|until| until.0 as i64))
            .bind(permit.principal().to_string())
            .bind(&new.reason)
            .bind(new.incident.map(|incident| incident.blob()))
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let id: FreezeId = row.id("id")?;
        if id == new.id {
            audit(&mut tx, permit, &format!("{id} freezes {target}: {}", new.reason)).await?;
        }
        commit(tx, doing).await?;
        Ok(id)
    }

    pub(crate) async fn thaw(&self, permit: Permit<act::Thaw>) -> Result<(), StoreError> {
        let doing = "lifting a freeze";
        let id = permit.on().freeze;
        let mut tx = self.begin_alone(doing).await?;
        let lifted = sqlx::query(
            "UPDATE frozen SET lifted_at = $1, lifted_by = $2 WHERE id = $3 AND lifted_at IS NULL",
        )
        .bind(permit.at().0 as i64)
        .bind(permit.principal().to_string())
        .bind(id.blob())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        if lifted.rows_affected() == 0 {
            return Err(StoreError::Gone("there is no such freeze, or it is lifted"));
        }
        audit(&mut tx, &permit, &format!("{id} is lifted")).await?;
        commit(tx, doing).await
    }
}
