//! Keys that ask to be bound to an account, and the decision.

use gangline_guard::{
    Permit, Principal, act,
    log::{Event, entry::Approved},
    policy::on,
};
use gangline_types::{EnrolmentId, KeyId, MachineId, UnixSeconds};
use gangline_wire::api::enrol::KeyKind;

use super::{Books, audit::audit, log::log_entry, open::commit};
use crate::{
    EnrolmentRow, NewEnrolment, StoreError,
    books::enrolment::enrolment,
    sql::{Columns, Id, word},
};

/// Requests that may be open at once, over all: a bound for a table anyone can ask into.
const OPEN_MAX: i64 = 10_000;

impl Books {
    pub(crate) async fn request_enrolment(
        &self,
        permit: Permit<act::RequestEnrolment>,
        new: NewEnrolment,
    ) -> Result<(), StoreError> {
        let doing = "writing an enrolment request down";
        let now = permit.at().0 as i64;
        let mut tx = self.begin_alone(doing).await?;
        sqlx::query("DELETE FROM enrolment WHERE state = 'pending' AND (key = $1 OR expires_at < $2)")
            .bind(new.public_key.id().blob())
            .bind(now - 3600)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let made = sqlx::query(
            "INSERT INTO enrolment (id, key, public_key, kind, host, summary, code, state, created_at, expires_at) SELECT $1, $2, $3, $4, $5, $6, $7, 'pending', $8, $9 WHERE (SELECT count(*) FROM enrolment WHERE state = 'pending') < $10",
        )
        .bind(new.id.blob())
        .bind(new.public_key.id().blob())
        .bind(new.public_key.as_bytes().to_vec())
        .bind(word(&new.kind))
        .bind(new.host.as_str())
        .bind(new.summary.as_str())
        .bind(&new.code)
        .bind(now)
        .bind(new.expires_at.0 as i64)
        .bind(OPEN_MAX)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        if made.rows_affected() == 0 {
            return Err(StoreError::Gone("too many enrolment requests are open; ask again in some minutes"));
        }
        audit(&mut tx, &permit, &format!("{} for a {}", new.id, new.kind.words())).await?;
        commit(tx, doing).await
    }

    pub(crate) async fn enrolment_by_code(
        &self,
        code: &str,
        now: UnixSeconds,
    ) -> Result<Option<EnrolmentRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM enrolment WHERE code = $1 AND state = 'pending' AND expires_at > $2 ORDER BY created_at DESC LIMIT 1")
            .bind(code)
            .bind(now.0 as i64)
            .fetch_optional(self.reading())
            .await
            .map_err(StoreError::sql("looking a code up"))?;
        row.map(|r| enrolment(&r, now)).transpose()
    }

    pub(crate) async fn enrolment(
        &self,
        id: EnrolmentId,
        now: UnixSeconds,
    ) -> Result<Option<EnrolmentRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM enrolment WHERE id = $1")
            .bind(id.blob())
            .fetch_optional(self.reading())
            .await
            .map_err(StoreError::sql("reading an enrolment request"))?;
        row.map(|r| enrolment(&r, now)).transpose()
    }

    pub(crate) async fn decide_enrolment(
        &self,
        permit: Permit<act::DecideEnrolment>,
        approve: bool,
        machine: MachineId,
    ) -> Result<(), StoreError> {
        let doing = "deciding an enrolment";
        let Principal::Person { account, .. } = *permit.principal() else {
            return Err(StoreError::Gone("only a person decides"));
        };
        let now = permit.at().0 as i64;
        let on::Enrolment { enrolment, kind } = *permit.on();
        let mut tx = self.begin_alone(doing).await?;
        let row = sqlx::query("UPDATE enrolment SET state = $1 WHERE id = $2 AND state = 'pending' AND expires_at > $3 RETURNING key, public_key, host")
            .bind(if approve { "approved" } else { "denied" })
            .bind(enrolment.blob())
            .bind(now)
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .ok_or(StoreError::Gone("this request was decided or ran out"))?;
        let key: KeyId = row.id("key")?;
        if approve {
            let machine = (kind == KeyKind::Machine).then_some(machine);
            if let Some(machine) = machine {
                sqlx::query("INSERT INTO machine (id, account, joined_at) VALUES ($1, $2, $3)")
                    .bind(machine.blob())
                    .bind(account.blob())
                    .bind(now)
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::sql(doing))?;
            }
            let made = sqlx::query(
                "INSERT INTO key (id, public_key, kind, account, machine, host, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
            )
            .bind(key.blob())
            .bind(row.bytes("public_key")?)
            .bind(word(&kind))
            .bind(account.blob())
            .bind(machine.map(|m| m.blob()))
            .bind(row.text("host")?)
            .bind(now)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
            if made.rows_affected() == 0 {
                return Err(StoreError::Gone("this key was enrolled before; a new one has to be made"));
            }
        }
        let detail = format!("{} {key}", if approve { "approved" } else { "denied" });
        let what = if approve { kind.into() } else { Approved::Denied };
        log_entry(&mut tx, &permit, Event::Approval { what }, &detail).await?;
        audit(&mut tx, &permit, &detail).await?;
        commit(tx, doing).await
    }
}
