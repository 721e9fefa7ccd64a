//! Epoch proofs from bell to verdict.

use gangline_guard::{
    Permit, act,
    log::{Event, entry::published_hash},
};
use gangline_proof::epoch::{Challenge, Commitment, Opening, Signature, Transcript};
use gangline_rules::{
    calibration::{Key, Observation},
    epochs::{Heard, Outcome},
};
use gangline_types::{GpuClaim, GpuId, Hash, Hour, ProofId, Text, UnixMillis, UnixSeconds};
use gangline_wire::api::epoch::PublicEpoch;
use sqlx::SqliteConnection;

use crate::{
    EpochRow, EpochStand, NewEpoch, StoreError,
    books::epoch::{
        ALIVE_SECONDS, COPIED_AT_ONCE, TOLD_SECONDS, epoch_row, heard_row, opened_transcript, public_epoch,
    },
    sql::{Columns, Id, json},
    sqlite::{SqlitePublic, SqliteStore, audit::audit, log::log_entry, open::commit},
};

impl SqliteStore {
    /// The GPUs of the permit's machine that are there, as the bell sees them.
    pub async fn epoch_stands(&self, permit: &Permit<act::ProveGpu>) -> Result<Vec<EpochStand>, StoreError> {
        let rows = sqlx::query(
            "SELECT g.id, g.claim, g.standing, g.round, (SELECT count(*) FROM epoch e WHERE e.gpu = g.id AND e.round = g.round AND e.judged_at IS NOT NULL) AS judged, (SELECT max(e.hour) FROM epoch e WHERE e.gpu = g.id AND e.hour IS NOT NULL) AS last_hour, (SELECT max(e.bell_millis) FROM epoch e WHERE e.gpu = g.id) AS last_bell, EXISTS (SELECT 1 FROM epoch e WHERE e.gpu = g.id AND e.round = g.round AND e.judged_at IS NULL) AS running, EXISTS (SELECT 1 FROM cluster c WHERE c.gpu = g.id AND c.state IN ('requested', 'starting', 'running', 'releasing')) AS hired, EXISTS (SELECT 1 FROM appeal a WHERE a.gpu = g.id AND a.ended_at IS NULL AND a.proof IS NULL) AS appealed FROM gpu g WHERE g.machine = ? AND g.present = 1 ORDER BY g.id",
        )
        .bind(permit.on().machine.blob())
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql("looking for whom the bell rings"))?;
        rows.iter()
            .map(|row| {
                Ok(EpochStand {
                    gpu: row.id("id")?,
                    claim: row.json("claim")?,
                    standing: row.word("standing")?,
                    round: row.int("round")? as u32,
                    judged: row.int("judged")? as u32,
                    last_hour: row.int_or_none("last_hour")?.map(|hour| Hour(hour as u32)),
                    last_bell: row.int_or_none("last_bell")?.map(UnixMillis),
                    hired: row.flag("hired")?,
                    appealed: row.flag("appealed")?,
                    running: row.flag("running")?,
                })
            })
            .collect()
    }

    /// Writes challenges to GPUs of the permit's machine down.
    pub async fn begin_epochs(
        &self,
        permit: &Permit<act::ProveGpu>,
        epochs: &[NewEpoch],
    ) -> Result<(), StoreError> {
        let doing = "writing an epoch's challenges down";
        let mut tx = self.begin(doing).await?;
        for e in epochs {
            let made = sqlx::query(
                "INSERT INTO epoch (id, gpu, round, hour, bell_millis, gpu_key, work, challenge, deadline_millis) SELECT ?, id, ?, ?, ?, ?, ?, ?, ? FROM gpu WHERE id = ? AND machine = ? ON CONFLICT DO NOTHING",
            )
            .bind(e.proof.blob())
            .bind(e.round as i64)
            .bind(e.hour.map(|hour| hour.0 as i64))
            .bind(e.bell.0 as i64)
            .bind(e.key.0.0.to_vec())
            .bind(e.work.0.to_vec())
            .bind(json(&e.challenge))
            .bind(e.deadline_millis.map(|millis| millis as i64))
            .bind(e.gpu.blob())
            .bind(permit.on().machine.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
            if made.rows_affected() == 0 {
                return Err(StoreError::Gone(
                    "this is no GPU of this machine, or this bell rang for it already",
                ));
            }
        }
        audit(&mut tx, permit, &format!("{} epoch challenges", epochs.len())).await?;
        commit(tx, doing).await
    }

    /// An epoch of the permit's machine.
    pub async fn epoch(
        &self,
        permit: &Permit<act::ProveGpu>,
        proof: ProofId,
    ) -> Result<Option<EpochRow>, StoreError> {
        let row = sqlx::query(
            "SELECT e.* FROM epoch e JOIN gpu g ON g.id = e.gpu WHERE e.id = ? AND g.machine = ?",
        )
        .bind(proof.blob())
        .bind(permit.on().machine.blob())
        .fetch_optional(&self.read)
        .await
        .map_err(StoreError::sql("reading an epoch"))?;
        row.map(|row| epoch_row(&row)).transpose()
    }

    /// Stops the clock: the roots are in, once and for all, and only now the nonce exists.
    pub async fn commit_epoch(
        &self,
        permit: &Permit<act::ProveGpu>,
        proof: ProofId,
        commitment: &Commitment,
        nonce: Hash,
        elapsed_millis: u64,
    ) -> Result<(), StoreError> {
        let doing = "writing an epoch's roots down";
        let done = sqlx::query(
            "UPDATE epoch SET commitment = ?, nonce = ?, elapsed_millis = ? WHERE id = ? AND commitment IS NULL AND judged_at IS NULL AND gpu IN (SELECT id FROM gpu WHERE machine = ?)",
        )
        .bind(json(commitment))
        .bind(nonce.0.to_vec())
        .bind(elapsed_millis as i64)
        .bind(proof.blob())
        .bind(permit.on().machine.blob())
        .execute(&self.write)
        .await
        .map_err(StoreError::sql(doing))?;
        if done.rows_affected() == 0 {
            return Err(StoreError::Gone("this epoch's roots are in already, or it was judged"));
        }
        Ok(())
    }

    /// Writes a verdict down; false if there was one.
    pub async fn judge_epoch(
        &self,
        permit: &Permit<act::Judge>,
        outcome: &Outcome,
        finding: &Text<240>,
        opened: Option<(&Opening, &Signature)>,
    ) -> Result<bool, StoreError> {
        let doing = "writing an epoch's verdict down";
        let mut tx = self.begin(doing).await?;
        let row = sqlx::query(
            "UPDATE epoch SET accepted = ?, outcome = ?, finding = ?, opening = ?, signature = ?, judged_at = ? WHERE id = ? AND judged_at IS NULL RETURNING *",
        )
        .bind(outcome.verdict.is_ok() as i64)
        .bind(json(outcome))
        .bind(finding.as_str())
        .bind(opened.map(|(opening, _)| json(opening)))
        .bind(opened.map(|(_, signature)| json(signature)))
        .bind(permit.at().0 as i64)
        .bind(outcome.proof.blob())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        let Some(row) = row else { return Ok(false) };
        let transcript =
            opened_transcript(&row)?.map(|transcript| published_hash(json(&transcript).as_bytes()));
        tell(&mut tx, permit, row.id("gpu")?, outcome, finding, transcript).await?;
        commit(tx, doing).await?;
        Ok(true)
    }

    /// How the last epochs of a series ended, oldest first, at most `most`.
    pub async fn epoch_outcomes(
        &self,
        _: &Permit<act::Judge>,
        gpu: GpuId,
        round: u32,
        most: u32,
    ) -> Result<Vec<Heard>, StoreError> {
        let rows = sqlx::query("SELECT outcome, hour FROM epoch WHERE gpu = ? AND round = ? AND judged_at IS NOT NULL ORDER BY bell_millis DESC, id LIMIT ?")
            .bind(gpu.blob())
            .bind(round as i64)
            .bind(most as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("reading how epochs ended"))?;
        rows.iter().rev().map(heard_row).collect()
    }

    /// Epochs without a verdict whose bell rang before `before`, oldest first, at most 1,000.
    pub async fn overdue_epochs(
        &self,
        _: &Permit<act::Judge>,
        before: UnixMillis,
    ) -> Result<Vec<EpochRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM epoch WHERE judged_at IS NULL AND bell_millis < ? ORDER BY bell_millis LIMIT 1000",
        )
        .bind(before.0 as i64)
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql("looking for overdue epochs"))?;
        rows.iter().map(epoch_row).collect()
    }

    /// Proven GPUs whose last joining proof was judged before this bell was told of, that were alive when it rang, are
    /// not hired, and have no part in it; at most 1,000. Simulated ones are left alone.
    pub async fn absent_from(
        &self,
        _: &Permit<act::Judge>,
        hour: Hour,
        bell: UnixMillis,
    ) -> Result<Vec<(GpuId, u32)>, StoreError> {
        let alive_since = (bell.0 / 1000).saturating_sub(ALIVE_SECONDS);
        let rows = sqlx::query(
            "SELECT g.id, g.round FROM gpu g JOIN machine m ON m.id = g.machine AND m.simulated = 0 WHERE g.present = 1 AND g.standing = 'proven' AND g.beat_at >= ? AND NOT EXISTS (SELECT 1 FROM proof p WHERE p.gpu = g.id AND p.judged_at >= ?) AND NOT EXISTS (SELECT 1 FROM epoch e WHERE e.gpu = g.id AND e.hour = ?) AND NOT EXISTS (SELECT 1 FROM epoch e WHERE e.gpu = g.id AND e.bell_millis >= ?) AND NOT EXISTS (SELECT 1 FROM cluster c WHERE c.gpu = g.id AND (c.ended_at IS NULL OR c.ended_at >= ?)) ORDER BY g.id LIMIT 1000",
        )
        .bind(alive_since as i64)
        .bind((bell.0 / 1000).saturating_sub(TOLD_SECONDS) as i64)
        .bind(hour.0 as i64)
        .bind(bell.0 as i64)
        .bind(alive_since as i64)
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql("looking for who missed the bell"))?;
        rows.iter().map(|row| Ok((row.id("id")?, row.int("round")? as u32))).collect()
    }

    /// Writes down that a GPU did not answer a bell: an hour's, or one of its machine's own at this moment.
    pub async fn miss_epoch(
        &self,
        permit: &Permit<act::Judge>,
        gpu: GpuId,
        round: u32,
        (hour, bell): (Option<Hour>, UnixMillis),
        outcome: &Outcome,
        finding: &Text<240>,
    ) -> Result<(), StoreError> {
        let doing = "writing a missed epoch down";
        let mut tx = self.begin(doing).await?;
        let made = sqlx::query("INSERT INTO epoch (id, gpu, round, hour, bell_millis, gpu_key, work, challenge, accepted, outcome, finding, judged_at) VALUES (?, ?, ?, ?, ?, zeroblob(32), zeroblob(32), '', 0, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(outcome.proof.blob())
            .bind(gpu.blob())
            .bind(round as i64)
            .bind(hour.map(|hour| hour.0 as i64))
            .bind(bell.0 as i64)
            .bind(json(outcome))
            .bind(finding.as_str())
            .bind(permit.at().0 as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if made.rows_affected() > 0 {
            tell(&mut tx, permit, gpu, outcome, finding, None).await?;
        }
        commit(tx, doing).await
    }

    /// Epochs since `since` whose bits were right, in time or late, newest first, at most 100,000: what medians are learned from.
    pub async fn epoch_observations(
        &self,
        _: &Permit<act::Operate>,
        since: UnixSeconds,
    ) -> Result<Vec<(GpuClaim, Challenge, Observation)>, StoreError> {
        let rows = sqlx::query("SELECT g.claim, m.account, e.challenge, e.work, e.elapsed_millis FROM epoch e JOIN gpu g ON g.id = e.gpu JOIN machine m ON m.id = g.machine WHERE e.judged_at >= ? AND e.opening IS NOT NULL AND (e.accepted = 1 OR e.finding LIKE 'late:%') AND e.round = g.round ORDER BY e.judged_at DESC LIMIT 100000")
            .bind(since.0 as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("reading what epochs took"))?;
        rows.iter()
            .map(|row| {
                let (claim, account): (GpuClaim, gangline_types::AccountId) =
                    (row.json("claim")?, row.id("account")?);
                let mut voice = [0; 32];
                voice[..16].copy_from_slice(account.as_bytes());
                let one = Observation {
                    account: Hash(voice),
                    key: Key::of(&claim, row.hash("work")?),
                    elapsed_millis: row.int("elapsed_millis")?,
                };
                Ok((claim, row.json("challenge")?, one))
            })
            .collect()
    }

    /// Copies what was judged since the last look to the public projection, at most some hundreds; whether there are more.
    pub(crate) async fn project_epochs(&self, tx: &mut SqliteConnection) -> Result<bool, StoreError> {
        let doing = "copying epochs to the public projection";
        let last: i64 = sqlx::query_scalar("SELECT coalesce(max(judged_at), 0) FROM epoch")
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        // Those of the last second may not have been all; what is there already is left.
        let known: i64 = sqlx::query_scalar("SELECT count(*) FROM epoch WHERE judged_at = ?")
            .bind(last)
            .fetch_one(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let most = COPIED_AT_ONCE.saturating_add(known);
        let rows = sqlx::query("SELECT * FROM epoch WHERE judged_at >= ? ORDER BY judged_at LIMIT ?")
            .bind(last)
            .bind(most)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql(doing))?;
        let more = rows.len() as i64 >= most;
        for row in rows {
            let (public, transcript) = public_epoch(&row)?;
            sqlx::query("INSERT INTO epoch (id, gpu, judged_at, row, transcript) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING")
                .bind(public.id.blob())
                .bind(public.gpu.blob())
                .bind(public.judged_at.0 as i64)
                .bind(json(&public))
                .bind(transcript.as_ref().map(json))
                .execute(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        Ok(more)
    }
}

/// What every verdict leaves behind: a changed GPU, an entry of the log, an audit row.
async fn tell(
    tx: &mut SqliteConnection,
    permit: &Permit<act::Judge>,
    gpu: GpuId,
    outcome: &Outcome,
    finding: &Text<240>,
    transcript: Option<Hash>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE gpu SET proof_at = ? WHERE id = ?")
        .bind(permit.at().0 as i64)
        .bind(gpu.blob())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql("writing an epoch's verdict down"))?;
    let proof: ProofId = outcome.proof;
    let event = Event::Verdict { gpu, proof, accepted: outcome.verdict.is_ok(), transcript };
    log_entry(tx, permit, event, finding.as_str()).await?;
    audit(tx, permit, &format!("epoch {proof} of {gpu}: {finding}")).await
}

impl SqlitePublic {
    /// A GPU's epochs, newest first, at most 100.
    pub async fn epochs(&self, gpu: GpuId) -> Result<Vec<PublicEpoch>, StoreError> {
        let rows = sqlx::query("SELECT row FROM epoch WHERE gpu = ? ORDER BY judged_at DESC, id LIMIT 100")
            .bind(gpu.blob())
            .fetch_all(self.pool())
            .await
            .map_err(StoreError::sql("reading the public projection"))?;
        rows.iter().map(|row| row.json("row")).collect()
    }

    /// One epoch's transcript; none if it was never opened.
    pub async fn epoch_transcript(&self, proof: ProofId) -> Result<Option<Transcript>, StoreError> {
        let row = sqlx::query("SELECT transcript FROM epoch WHERE id = ?")
            .bind(proof.blob())
            .fetch_optional(self.pool())
            .await
            .map_err(StoreError::sql("reading the public projection"))?;
        row.map(|row| row.json_or_none("transcript")).transpose().map(Option::flatten)
    }
}
