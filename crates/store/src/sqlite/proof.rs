//! Proofs from challenge to verdict. Standing is written here and nowhere else, with the verifier's
//! permit.

use gangline_guard::{
    Permit, act,
    log::{Event, entry::published_hash},
};
use gangline_proof::{Commitment, Opening, Signature};
use gangline_rules::standing::{Judgement, Outcome};
use gangline_types::{GpuId, Hash, ProofId, ShownAs, Standing, Text, UnixMillis};

use crate::{
    LastProof, NewProof, ProofRow, StoreError,
    books::project::transcript_of,
    books::proof::{proof_row, what_changed},
    sql::{Columns, Id, json},
    sqlite::SqliteStore,
    sqlite::audit::audit,
    sqlite::log::log_entry,
    sqlite::open::commit,
};

impl SqliteStore {
    /// Starts the clocks of challenges to GPUs of the permit's machine.
    pub async fn begin_proofs(
        &self,
        permit: Permit<act::ProveGpu>,
        proofs: &[NewProof],
    ) -> Result<(), StoreError> {
        let doing = "writing challenges down";
        let mut tx = self.begin(doing).await?;
        for p in proofs {
            let made = sqlx::query(
                "INSERT INTO proof (id, gpu, round, challenge, gpu_key, began_at_millis, deadline_at_millis) SELECT ?, id, ?, ?, ?, ?, ? FROM gpu WHERE id = ? AND machine = ?",
            )
            .bind(p.proof.blob())
            .bind(p.round as i64)
            .bind(json(&p.challenge))
            .bind(p.key.map(|key| key.0.0.to_vec()))
            .bind(p.began_at.0 as i64)
            .bind(p.deadline_at.0 as i64)
            .bind(p.gpu.blob())
            .bind(permit.on().machine.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
            if made.rows_affected() == 0 {
                return Err(StoreError::Gone("this is no GPU of this machine"));
            }
        }
        audit(&mut tx, &permit, &format!("{} challenges", proofs.len())).await?;
        commit(tx, doing).await
    }

    /// A proof of the permit's machine.
    pub async fn proof(
        &self,
        permit: &Permit<act::ProveGpu>,
        proof: ProofId,
    ) -> Result<Option<ProofRow>, StoreError> {
        let row = sqlx::query(
            "SELECT p.* FROM proof p JOIN gpu g ON g.id = p.gpu WHERE p.id = ? AND g.machine = ?",
        )
        .bind(proof.blob())
        .bind(permit.on().machine.blob())
        .fetch_optional(&self.read)
        .await
        .map_err(StoreError::sql("reading a proof"))?;
        row.map(|r| proof_row(&r)).transpose()
    }

    /// Whether a GPU has a challenge whose clock still runs.
    pub async fn has_running_proof(
        &self,
        _: &Permit<act::ProveGpu>,
        gpu: GpuId,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let n: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM proof WHERE gpu = ? AND judged_at IS NULL AND deadline_at_millis > ?",
        )
        .bind(gpu.blob())
        .bind(now.0 as i64)
        .fetch_one(&self.read)
        .await
        .map_err(StoreError::sql("looking for a running proof"))?;
        Ok(n > 0)
    }

    /// Stops the clock: the roots are in, once and for all, and only now the nonce exists.
    pub async fn commit_proof(
        &self,
        permit: &Permit<act::ProveGpu>,
        proof: ProofId,
        commitment: &Commitment,
        nonce: Hash,
        elapsed_millis: u64,
    ) -> Result<(), StoreError> {
        let doing = "writing a proof's roots down";
        let done = sqlx::query(
            "UPDATE proof SET commitment = ?, nonce = ?, elapsed_millis = ? WHERE id = ? AND commitment IS NULL AND judged_at IS NULL AND gpu IN (SELECT id FROM gpu WHERE machine = ?)",
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
            return Err(StoreError::Gone("this proof's roots are in already, or it was judged"));
        }
        Ok(())
    }

    /// Writes a verdict down; false if there was one.
    pub async fn judge_proof(
        &self,
        permit: &Permit<act::Judge>,
        proof: ProofId,
        outcome: &Outcome,
        finding: &Text<240>,
        opened: Option<(&Opening, Option<&Signature>)>,
    ) -> Result<bool, StoreError> {
        let doing = "writing a verdict down";
        let mut tx = self.begin(doing).await?;
        let row = sqlx::query(
            "UPDATE proof SET accepted = ?, outcome = ?, finding = ?, opening = ?, signature = ?, judged_at = ? WHERE id = ? AND judged_at IS NULL RETURNING *",
        )
        .bind(outcome.verdict.is_ok() as i64)
        .bind(json(outcome))
        .bind(finding.as_str())
        .bind(opened.map(|(opening, _)| json(opening)))
        .bind(opened.and_then(|(_, signature)| signature).map(json))
        .bind(permit.at().0 as i64)
        .bind(proof.blob())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        let Some(row) = row else { return Ok(false) };
        let gpu: GpuId = row.id("gpu")?;
        sqlx::query("UPDATE gpu SET proof_at = ? WHERE id = ?")
            .bind(permit.at().0 as i64)
            .bind(gpu.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let transcript = transcript_of(&row)?.map(|transcript| published_hash(json(&transcript).as_bytes()));
        let event = Event::Verdict { gpu, proof, accepted: outcome.verdict.is_ok(), transcript };
        log_entry(&mut tx, permit, event, finding.as_str()).await?;
        audit(&mut tx, permit, &format!("{proof} of {gpu}: {finding}")).await?;
        commit(tx, doing).await?;
        Ok(true)
    }

    /// How many of a GPU's proofs of one series were judged, and when the last was.
    pub async fn last_proof(
        &self,
        _: &Permit<act::Judge>,
        gpu: GpuId,
        round: u32,
    ) -> Result<LastProof, StoreError> {
        let row = sqlx::query("SELECT count(*) AS judged, coalesce(max(judged_at), 0) AS judged_at FROM proof WHERE gpu = ? AND round = ? AND judged_at IS NOT NULL")
            .bind(gpu.blob())
            .bind(round as i64)
            .fetch_one(&self.read)
            .await
            .map_err(StoreError::sql("counting verdicts"))?;
        Ok(LastProof { judged: row.int("judged")? as u32, judged_at: row.at("judged_at")? })
    }

    /// Outcomes of a GPU's proofs of one series, oldest first.
    pub async fn outcomes(
        &self,
        _: &Permit<act::Judge>,
        gpu: GpuId,
        round: u32,
    ) -> Result<Vec<Outcome>, StoreError> {
        let rows = sqlx::query("SELECT outcome FROM proof WHERE gpu = ? AND round = ? AND judged_at IS NOT NULL ORDER BY began_at_millis, id")
            .bind(gpu.blob())
            .bind(round as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("reading verdicts"))?;
        rows.iter().map(|r| r.json("outcome")).collect()
    }

    /// Proofs whose clock ran out without a verdict, oldest first, at most 1,000.
    pub async fn overdue_proofs(
        &self,
        _: &Permit<act::Judge>,
        before: UnixMillis,
    ) -> Result<Vec<ProofRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM proof WHERE judged_at IS NULL AND deadline_at_millis < ? ORDER BY deadline_at_millis LIMIT 1000")
            .bind(before.0 as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("looking for overdue proofs"))?;
        rows.iter().map(proof_row).collect()
    }

    /// Sets what follows from a GPU's verdicts.
    pub async fn set_standing(
        &self,
        permit: &Permit<act::Judge>,
        gpu: GpuId,
        judgement: &Judgement,
    ) -> Result<(), StoreError> {
        let doing = "setting a standing";
        let mut tx = self.begin(doing).await?;
        let before = sqlx::query("SELECT standing, shown_as FROM gpu WHERE id = ?")
            .bind(gpu.blob())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .map(|r| -> Result<_, StoreError> {
                Ok((r.word::<Standing>("standing")?, r.json_or_none::<ShownAs>("shown_as")?))
            })
            .transpose()?;
        sqlx::query("UPDATE gpu SET standing = ?, reason = ?, matrix_mmacs = ?, memory_bytes = ?, proof = ?, shown_as = ? WHERE id = ? AND standing <> 'retired'")
            .bind(judgement.standing.as_str())
            .bind(judgement.reason.as_str())
            .bind(judgement.profile.matrix_mmacs as i64)
            .bind(judgement.profile.memory_bytes as i64)
            .bind(judgement.proof.map(|p| p.blob()))
            .bind(judgement.shown_as.as_ref().map(json))
            .bind(gpu.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if let Some((standing, shown_as)) = before.filter(|(standing, _)| *standing != Standing::Retired) {
            for event in what_changed(gpu, standing, shown_as.as_ref(), judgement) {
                log_entry(&mut tx, permit, event, judgement.reason.as_str()).await?;
            }
        }
        audit(&mut tx, permit, &format!("{gpu} is {}: {}", judgement.standing, judgement.reason)).await?;
        commit(tx, doing).await
    }
}
