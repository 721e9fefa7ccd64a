//! Clusters from request to receipt.

use gangline_guard::{Permit, act, policy::on};
use gangline_types::{ClusterId, GpuId, Text, UnixSeconds, cluster::ClusterState, receipt::EndedBecause};
use gangline_wire::api::{cluster::SignedReceipt, machine::Offer};

use crate::{
    Candidate, ClosedCluster, ClusterRow, NewCluster, StoreError,
    books::cluster::{candidate_row, cluster_row},
    sql::{Columns, Id, json, packed, word},
    sqlite::SqliteStore,
    sqlite::audit::audit,
    sqlite::open::commit,
};

impl SqliteStore {
    /// Every offered GPU of machines that are here and not paused.
    pub async fn candidates(&self, _: &Permit<act::Hire>) -> Result<Vec<Candidate>, StoreError> {
        let rows = sqlx::query(
            "SELECT g.*, m.account, EXISTS (SELECT 1 FROM cluster c WHERE c.gpu = g.id AND c.state IN ('requested', 'starting', 'running', 'releasing')) AS hired FROM gpu g JOIN machine m ON m.id = g.machine WHERE g.offer IS NOT NULL AND g.present = 1 AND m.left_at IS NULL AND m.paused = 0",
        )
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql("listing offers"))?;
        rows.iter().map(candidate_row).collect()
    }

    /// One of them, as it is now.
    pub async fn candidate(
        &self,
        _: &Permit<act::Hire>,
        gpu: GpuId,
    ) -> Result<Option<Candidate>, StoreError> {
        let row = sqlx::query(
            "SELECT g.*, m.account, EXISTS (SELECT 1 FROM cluster c WHERE c.gpu = g.id AND c.state IN ('requested', 'starting', 'running', 'releasing')) AS hired FROM gpu g JOIN machine m ON m.id = g.machine WHERE g.id = ? AND g.offer IS NOT NULL AND g.present = 1 AND m.left_at IS NULL AND m.paused = 0",
        )
        .bind(gpu.blob())
        .fetch_optional(&self.read)
        .await
        .map_err(StoreError::sql("reading an offer"))?;
        row.as_ref().map(candidate_row).transpose()
    }

    /// What these GPUs are offered at.
    pub async fn offers_of(
        &self,
        _: &Permit<act::Project>,
        gpus: &[GpuId],
    ) -> Result<Vec<Offer>, StoreError> {
        let rows = sqlx::query(
            "WITH RECURSIVE n (i) AS (SELECT 0 WHERE length(?1) > 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) SELECT g.offer FROM n CROSS JOIN gpu g ON g.id = substr(?1, 1 + 16 * n.i, 16) WHERE g.offer IS NOT NULL",
        )
        .bind(packed(gpus))
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql("reading offers"))?;
        rows.iter().map(|r| r.json("offer")).collect()
    }

    /// Writes a hire down; [`StoreError::Gone`] if somebody else was quicker.
    pub async fn hire(&self, permit: Permit<act::Hire>, new: &NewCluster) -> Result<(), StoreError> {
        let doing = "writing a hire down";
        let renter = permit.principal().account().ok_or(StoreError::Gone("only an account hires"))?;
        let mut tx = self.begin(doing).await?;
        let made = sqlx::query(
            "INSERT INTO cluster (id, account, machine, gpu, state, token, price_per_hour, memory_bytes, cpus_millis, created_at, until, seen_at) VALUES (?, ?, ?, ?, 'requested', ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(new.cluster.blob())
        .bind(renter.blob())
        .bind(new.gpu.machine.blob())
        .bind(new.gpu.gpu.blob())
        .bind(&new.token)
        .bind(new.offer.price_per_hour.0 as i64)
        .bind(new.offer.memory_bytes as i64)
        .bind(new.offer.cpus_millis as i64)
        .bind(permit.at().0 as i64)
        .bind(new.until.0 as i64)
        .bind(permit.at().0 as i64)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        if made.rows_affected() == 0 {
            return Err(StoreError::Gone("somebody else hired this GPU a moment ago; ask again"));
        }
        audit(&mut tx, &permit, &format!("{} on {}", new.cluster, new.gpu.gpu)).await?;
        commit(tx, doing).await
    }

    /// A cluster as a resource.
    pub async fn cluster_resource(&self, cluster: ClusterId) -> Result<Option<on::Cluster>, StoreError> {
        let row = sqlx::query("SELECT id, account, machine FROM cluster WHERE id = ?")
            .bind(cluster.blob())
            .fetch_optional(&self.read)
            .await
            .map_err(StoreError::sql("looking a cluster up"))?;
        row.map(|r| {
            Ok(on::Cluster { cluster: r.id("id")?, renter: r.id("account")?, machine: r.id("machine")? })
        })
        .transpose()
    }

    async fn cluster_row(&self, cluster: ClusterId) -> Result<ClusterRow, StoreError> {
        let row = sqlx::query("SELECT c.*, g.claim, g.shown_as, m.seen_at AS machine_seen_at FROM cluster c JOIN gpu g ON g.id = c.gpu JOIN machine m ON m.id = c.machine WHERE c.id = ?")
            .bind(cluster.blob())
            .fetch_one(&self.read)
            .await
            .map_err(StoreError::sql("reading a cluster"))?;
        cluster_row(&row)
    }

    /// The permit's cluster.
    pub async fn cluster(&self, permit: &Permit<act::UseCluster>) -> Result<ClusterRow, StoreError> {
        self.cluster_row(permit.on().cluster).await
    }

    /// The permit's cluster, for whoever ended it.
    pub async fn released_cluster(
        &self,
        cluster: ClusterId,
        _: &Permit<act::Reconcile>,
    ) -> Result<ClusterRow, StoreError> {
        self.cluster_row(cluster).await
    }

    /// The account's clusters, newest first, at most 100.
    pub async fn clusters_of(
        &self,
        permit: &Permit<act::ReadAccount>,
    ) -> Result<Vec<ClusterRow>, StoreError> {
        let rows = sqlx::query("SELECT c.*, g.claim, g.shown_as, m.seen_at AS machine_seen_at FROM cluster c JOIN gpu g ON g.id = c.gpu JOIN machine m ON m.id = c.machine WHERE c.account = ? ORDER BY c.created_at DESC, c.id LIMIT 100")
            .bind(permit.on().account.blob())
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("listing clusters"))?;
        rows.iter().map(cluster_row).collect()
    }

    /// Every cluster, newest first, at most 100.
    pub async fn all_clusters(&self, _: &Permit<act::Operate>) -> Result<Vec<ClusterRow>, StoreError> {
        let rows = sqlx::query("SELECT c.*, g.claim, g.shown_as, m.seen_at AS machine_seen_at FROM cluster c JOIN gpu g ON g.id = c.gpu JOIN machine m ON m.id = c.machine ORDER BY c.created_at DESC, c.id LIMIT 100")
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("listing clusters"))?;
        rows.iter().map(cluster_row).collect()
    }

    /// Clusters on the permit's machine that are not over, or wait for its signature on their receipt.
    pub async fn clusters_on(&self, permit: &Permit<act::Supply>) -> Result<Vec<ClusterRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT c.*, g.claim, g.shown_as, m.seen_at AS machine_seen_at FROM cluster c JOIN gpu g ON g.id = c.gpu JOIN machine m ON m.id = c.machine WHERE c.machine = ? AND (c.state IN ('requested', 'starting', 'running', 'releasing') OR (c.receipt IS NOT NULL AND json_extract(c.receipt, '$.machine_signature') IS NULL AND c.state <> 'lost')) ORDER BY c.created_at LIMIT 64",
        )
        .bind(permit.on().machine.blob())
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql("listing a machine's clusters"))?;
        rows.iter().map(cluster_row).collect()
    }

    /// Every cluster that is not over.
    pub async fn live_clusters(&self, _: &Permit<act::Reconcile>) -> Result<Vec<ClusterRow>, StoreError> {
        let rows = sqlx::query("SELECT c.*, g.claim, g.shown_as, m.seen_at AS machine_seen_at FROM cluster c JOIN gpu g ON g.id = c.gpu JOIN machine m ON m.id = c.machine WHERE c.state IN ('requested', 'starting', 'running', 'releasing')")
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("listing live clusters"))?;
        rows.iter().map(cluster_row).collect()
    }

    /// Writes down how a cluster of the permit's machine is: from `before` to `after`, or not at all if
    /// it is no longer as it was.
    #[allow(clippy::too_many_arguments)]
    pub async fn observe_cluster(
        &self,
        permit: &Permit<act::Supply>,
        cluster: ClusterId,
        before: ClusterState,
        after: ClusterState,
        because: Option<EndedBecause>,
        detail: &Text<400>,
        evidence: Option<&str>,
    ) -> Result<bool, StoreError> {
        let doing = "noting how a cluster is";
        let now = permit.at().0 as i64;
        let started = after == ClusterState::Running && before != ClusterState::Running;
        let mut tx = self.begin(doing).await?;
        let done = sqlx::query(
            "UPDATE cluster SET state = ?, detail = ?, evidence = coalesce(?, evidence), because = coalesce(because, ?), seen_at = ?, started_at = CASE WHEN ? THEN ? ELSE started_at END WHERE id = ? AND machine = ? AND state = ?",
        )
        .bind(word(&after))
        .bind(detail.as_str())
        .bind(evidence)
        .bind(because.map(|b| word(&b)))
        .bind(now)
        .bind(started)
        .bind(now)
        .bind(cluster.blob())
        .bind(permit.on().machine.blob())
        .bind(word(&before))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?
        .rows_affected()
            == 1;
        if done && before != after {
            audit(&mut tx, permit, &format!("{cluster} is {after}")).await?;
        }
        commit(tx, doing).await?;
        Ok(done)
    }

    /// Asks for the end of the permit's cluster: metering stops now.
    pub async fn release_cluster(
        &self,
        permit: Permit<act::ReleaseCluster>,
        because: EndedBecause,
    ) -> Result<(), StoreError> {
        let doing = "releasing a cluster";
        let mut tx = self.begin(doing).await?;
        release(&mut tx, permit.on().cluster, because, permit.at(), doing).await?;
        audit(&mut tx, &permit, because.words()).await?;
        commit(tx, doing).await
    }

    /// The same, when its hours are over.
    pub async fn expire_cluster(
        &self,
        permit: &Permit<act::Reconcile>,
        cluster: ClusterId,
    ) -> Result<(), StoreError> {
        let doing = "ending a hire whose hours are over";
        let mut tx = self.begin(doing).await?;
        release(&mut tx, cluster, EndedBecause::HoursOver, permit.at(), doing).await?;
        audit(&mut tx, permit, &format!("{cluster}: {}", EndedBecause::HoursOver.words())).await?;
        commit(tx, doing).await
    }

    /// Closes a cluster with the network's half of its receipt; its token ends.
    pub async fn close_cluster(
        &self,
        permit: &Permit<act::Reconcile>,
        closed: &ClosedCluster,
    ) -> Result<bool, StoreError> {
        let doing = "closing a cluster";
        let mut tx = self.begin(doing).await?;
        let done = sqlx::query(
            "UPDATE cluster SET state = ?, because = ?, ended_at = ?, detail = ?, receipt = ?, token = NULL WHERE id = ? AND receipt IS NULL",
        )
        .bind(word(&closed.state))
        .bind(word(&closed.because))
        .bind(closed.ended_at.0 as i64)
        .bind(closed.detail.as_str())
        .bind(json(&closed.receipt))
        .bind(closed.cluster.blob())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?
        .rows_affected()
            == 1;
        if done {
            audit(&mut tx, permit, &format!("{} is {}", closed.cluster, closed.state)).await?;
        }
        commit(tx, doing).await?;
        Ok(done)
    }

    /// Adds the machine's half of a receipt.
    pub async fn countersign(
        &self,
        permit: &Permit<act::Supply>,
        cluster: ClusterId,
        receipt: &SignedReceipt,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE cluster SET receipt = ? WHERE id = ? AND machine = ? AND json_extract(receipt, '$.machine_signature') IS NULL")
            .bind(json(receipt))
            .bind(cluster.blob())
            .bind(permit.on().machine.blob())
            .execute(&self.write)
            .await
            .map_err(StoreError::sql("keeping a receipt's second signature"))?;
        Ok(())
    }
}

async fn release(
    tx: &mut sqlx::SqliteConnection,
    cluster: ClusterId,
    because: EndedBecause,
    at: UnixSeconds,
    doing: &'static str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE cluster SET state = 'releasing', because = coalesce(because, ?), ended_at = coalesce(ended_at, ?) WHERE id = ? AND state IN ('requested', 'starting', 'running')",
    )
    .bind(word(&because))
    .bind(at.0 as i64)
    .bind(cluster.blob())
    .execute(tx)
    .await
    .map_err(StoreError::sql(doing))?;
    Ok(())
}
