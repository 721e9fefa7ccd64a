//! Dangerous acts that somebody asked for, and what was decided.

use gangline_guard::{
    Act, Permit, act,
    approval::DECLINED_SECONDS,
    log::{Event, entry::Step},
};
use gangline_types::{AccountId, ApprovalId, Hash, IncidentId, KeyId, UnixSeconds};
use gangline_wire::{Action, api::operate::Approver};

use super::{
    Books, Connection,
    audit::audit,
    incident::{close, note},
    log::log_entry,
    open::{alone, commit},
};
use crate::{
    ApprovalRow, NewApproval, StoreError,
    books::approval::{WAITING_MAX, approval},
    sql::{Columns, Id, word},
};

/// What was asked for, by whom, with which key and who decided; which of it is said behind.
macro_rules! asked_for {
    ($which:literal) => {
        concat!(
            "SELECT p.*, a.name, k.public_key, k.host, d.name AS decided_name FROM approval p JOIN account a ON a.id = p.asked_by LEFT JOIN key k ON k.id = p.key LEFT JOIN account d ON d.id = p.decided_by ",
            $which
        )
    };
}

/// What one account asked for, with one key or in a browser, and can still be decided or done.
macro_rules! asked_for_by_one {
    () => {
        asked_for!("WHERE p.asked_by = $1 AND p.key IS NOT DISTINCT FROM $2 AND p.digest = $3 AND p.used_at IS NULL AND p.expires_at > $4 ORDER BY p.asked_at DESC LIMIT 1")
    };
}

/// Uses up the approval that a permit took, in the transaction of its write: what was done once is not done again.
pub(crate) async fn use_up<A: Act>(tx: &mut Connection, permit: &Permit<A>) -> Result<(), StoreError> {
    let Some(id) = permit.approval() else { return Ok(()) };
    let doing = "using an approval";
    // The log's places are given in the order of commits.
    alone(tx, doing).await?;
    let row = sqlx::query("UPDATE approval SET used_at = $1 WHERE id = $2 AND approved AND used_at IS NULL RETURNING approver, what, incident")
        .bind(permit.at().0 as i64)
        .bind(id.blob())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?
        .ok_or(StoreError::Gone("this approval was used or taken back"))?;
    let event = Event::DangerousAct { act: A::ACTION, approver: row.word("approver")?, step: Step::Done };
    settle(&mut *tx, permit, &row, "done").await?;
    log_entry(tx, permit, event, &format!("{id}: {}", row.text("what")?)).await
}

/// Closes the incident that told of an act, if one did.
async fn settle<A: Act>(
    tx: &mut Connection,
    permit: &Permit<A>,
    row: &impl Columns,
    note: &str,
) -> Result<(), StoreError> {
    match row.id_or_none::<IncidentId>("incident")? {
        Some(incident) => close(tx, permit, incident, note).await,
        None => Ok(()),
    }
}

impl Books {
    pub(crate) async fn ask_approval(
        &self,
        permit: Permit<act::AskApproval>,
        new: NewApproval,
    ) -> Result<ApprovalRow, StoreError> {
        let doing = "asking for an approval";
        let (account, key, now) = (permit.on().account, permit.principal().key(), permit.at());
        let mut tx = self.begin_alone(doing).await?;
        let known = sqlx::query(asked_for_by_one!())
            .bind(account.blob())
            .bind(key.map(|key| key.blob()))
            .bind(new.digest.0.to_vec())
            .bind(now.0 as i64)
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if let Some(row) = known {
            return approval(&row);
        }
        let told = match &new.incident {
            Some(incident) => Some(note(&mut tx, &permit, incident).await?.id),
            None => None,
        };
        let kept = sqlx::query("INSERT INTO approval (id, digest, action, what, approver, asked_by, key, path, form, asked_at, expires_at, incident) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $13 WHERE (SELECT count(*) FROM approval WHERE asked_by = $6 AND decided_by IS NULL AND expires_at > $10) < $12")
            .bind(new.id.blob())
            .bind(new.digest.0.to_vec())
            .bind(new.action.as_str())
            .bind(&new.what)
            .bind(word(&new.approver))
            .bind(account.blob())
            .bind(key.map(|key| key.blob()))
            .bind(&new.path)
            .bind(&new.form)
            .bind(now.0 as i64)
            .bind(new.expires_at(now).0 as i64)
            .bind(WAITING_MAX)
            .bind(told.map(|incident| incident.blob()))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if kept.rows_affected() == 0 {
            return Err(StoreError::Gone("too many acts of this account wait for a decision; decline some"));
        }
        let detail = format!("{}: {} on {}", new.id, new.action, new.what);
        let event = Event::DangerousAct { act: new.action, approver: new.approver, step: Step::Asked };
        log_entry(&mut tx, &permit, event, &detail).await?;
        audit(&mut tx, &permit, &format!("{detail}, to be approved by {}", new.approver.as_str())).await?;
        let row = sqlx::query(asked_for!("WHERE p.id = $1"))
            .bind(new.id.blob())
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        commit(tx, doing).await?;
        approval(&row)
    }

    pub(crate) async fn approval_of(
        &self,
        account: AccountId,
        key: Option<KeyId>,
        digest: Hash,
        now: UnixSeconds,
    ) -> Result<Option<ApprovalRow>, StoreError> {
        let row = sqlx::query(asked_for_by_one!())
            .bind(account.blob())
            .bind(key.map(|key| key.blob()))
            .bind(digest.0.to_vec())
            .bind(now.0 as i64)
            .fetch_optional(self.reading())
            .await
            .map_err(StoreError::sql("looking for an approval"))?;
        row.as_ref().map(approval).transpose()
    }

    pub(crate) async fn approval(&self, id: ApprovalId) -> Result<Option<ApprovalRow>, StoreError> {
        let row = sqlx::query(asked_for!("WHERE p.id = $1"))
            .bind(id.blob())
            .fetch_optional(self.reading())
            .await
            .map_err(StoreError::sql("looking for an approval"))?;
        row.as_ref().map(approval).transpose()
    }

    pub(crate) async fn approvals(&self, _: &Permit<act::Operate>) -> Result<Vec<ApprovalRow>, StoreError> {
        sqlx::query(asked_for!("ORDER BY p.asked_at DESC, p.id LIMIT 100"))
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql("listing approvals"))?
            .iter()
            .map(approval)
            .collect()
    }

    pub(crate) async fn approvals_waiting(&self, permit: &Permit<act::Operate>) -> Result<u64, StoreError> {
        let waiting: i64 =
            sqlx::query_scalar("SELECT count(*) FROM approval WHERE decided_by IS NULL AND expires_at > $1")
                .bind(permit.at().0 as i64)
                .fetch_one(self.reading())
                .await
                .map_err(StoreError::sql("counting approvals"))?;
        Ok(waiting as u64)
    }

    /// Leaves entry and audit row of a decision.
    async fn decided<A: Act>(
        &self,
        tx: &mut Connection,
        permit: &Permit<A>,
        id: ApprovalId,
        step: Step,
        row: &impl Columns,
    ) -> Result<(), StoreError> {
        let (act, approver): (Action, Approver) = (row.word("action")?, row.word("approver")?);
        let detail = format!("{id}: {act} on {}", row.text("what")?);
        log_entry(&mut *tx, permit, Event::DangerousAct { act, approver, step }, &detail).await?;
        audit(tx, permit, &format!("{detail} {}", step.as_str())).await
    }

    pub(crate) async fn approve(
        &self,
        permit: Permit<act::DecideApproval>,
        delay_seconds: u64,
    ) -> Result<(), StoreError> {
        let doing = "approving an act";
        let (id, now) = (permit.on().approval, permit.at());
        let by = permit.principal().account().ok_or(StoreError::Gone("nobody approves"))?;
        let mut tx = self.begin_alone(doing).await?;
        // Whoever is late to approve still leaves the time to do it.
        let row = sqlx::query("UPDATE approval SET decided_by = $1, decided_at = $2, approved = true, ready_at = $2 + $3, expires_at = $3 + CASE WHEN approver = 'oneself' THEN expires_at ELSE $2 + (expires_at - asked_at) END WHERE id = $4 AND decided_by IS NULL AND expires_at > $2 AND asked_by = $5 AND approver = $6 RETURNING action, approver, what, incident")
            .bind(by.blob())
            .bind(now.0 as i64)
            .bind(i64::try_from(delay_seconds).unwrap_or(i64::MAX / 4))
            .bind(id.blob())
            .bind(permit.on().asked_by.blob())
            .bind(word(&permit.on().approver))
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .ok_or(StoreError::Gone("this was decided or ran out"))?;
        // What still waits for its delay can be taken back until then, so people go on being told of it.
        if permit.on().approver == Approver::Another {
            settle(&mut tx, &permit, &row, "approved").await?;
        }
        self.decided(&mut tx, &permit, id, Step::Approved, &row).await?;
        commit(tx, doing).await
    }

    pub(crate) async fn decline(&self, permit: Permit<act::DeclineApproval>) -> Result<(), StoreError> {
        let doing = "declining an act";
        let (id, now) = (permit.on().approval, permit.at());
        let by = permit.principal().account().ok_or(StoreError::Gone("nobody declines"))?;
        let mut tx = self.begin_alone(doing).await?;
        let row = sqlx::query("UPDATE approval SET decided_by = $1, decided_at = $2, approved = false, ready_at = NULL, expires_at = $2 + $3 WHERE id = $4 AND (approved IS NULL OR approved) AND used_at IS NULL AND expires_at > $2 RETURNING action, approver, what, incident")
            .bind(by.blob())
            .bind(now.0 as i64)
            .bind(DECLINED_SECONDS as i64)
            .bind(id.blob())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .ok_or(StoreError::Gone("this was declined, done, or ran out"))?;
        settle(&mut tx, &permit, &row, "declined").await?;
        self.decided(&mut tx, &permit, id, Step::Declined, &row).await?;
        commit(tx, doing).await
    }

    pub(crate) async fn settle_lapsed(&self, permit: &Permit<act::Reconcile>) -> Result<(), StoreError> {
        let doing = "closing incidents of acts that ran out";
        let lapsed = sqlx::query("SELECT p.incident FROM incident i JOIN approval p ON p.incident = i.id WHERE i.what = 'approval_wanted' AND i.state <> 'closed' AND p.used_at IS NULL AND p.expires_at <= $1 LIMIT 100")
            .bind(permit.at().0 as i64)
            .fetch_all(self.reading())
            .await
            .map_err(StoreError::sql(doing))?;
        if lapsed.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin(doing).await?;
        for row in &lapsed {
            settle(&mut tx, permit, row, "it ran out").await?;
        }
        audit(&mut tx, permit, &format!("{} acts that were asked for ran out", lapsed.len())).await?;
        commit(tx, doing).await
    }

    pub(crate) async fn other_operators(
        &self,
        account: AccountId,
        since: UnixSeconds,
    ) -> Result<u64, StoreError> {
        let others: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM account WHERE role = 'operator' AND id <> $1 AND here_at >= $2",
        )
        .bind(account.blob())
        .bind(since.0 as i64)
        .fetch_one(self.reading())
        .await
        .map_err(StoreError::sql("counting operators"))?;
        Ok(others as u64)
    }
}
