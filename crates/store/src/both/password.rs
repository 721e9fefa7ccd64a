//! Passwords: hashes, by account and by name.

use gangline_guard::{
    Began, Permit, SessionRecord, act,
    log::{Event, entry::Approved},
};
use gangline_types::{Label, SessionId};

use super::{Books, account::begin_session, audit::audit, log::log_entry, open::commit};
use crate::{NewSession, PasswordRow, StoreError, books::password::password, sql::Id};

impl Books {
    pub(crate) async fn set_password(
        &self,
        permit: Permit<act::ManageWaysIn>,
        login: &Label,
        hash: &str,
        keep: Option<SessionId>,
    ) -> Result<(), StoreError> {
        let doing = "setting a password";
        let account = permit.on().account.blob();
        let mut tx = self.begin_alone(doing).await?;
        let set = sqlx::query("INSERT INTO password (account, login, hash, set_at) SELECT $1, $2, $3, $4 WHERE NOT EXISTS (SELECT 1 FROM password WHERE login = $2 AND account <> $1) ON CONFLICT (account) DO UPDATE SET login = excluded.login, hash = excluded.hash, set_at = excluded.set_at")
            .bind(&account)
            .bind(login.as_str())
            .bind(hash)
            .bind(permit.at().0 as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if set.rows_affected() == 0 {
            return Err(StoreError::Gone("another account has this name; choose another one"));
        }
        // Whoever knew the old one is out.
        sqlx::query("DELETE FROM session WHERE account = $1 AND id <> $2")
            .bind(&account)
            .bind(keep.map(|session| session.blob()).unwrap_or_default())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        log_entry(&mut tx, &permit, Event::Approval { what: Approved::Password }, "a password").await?;
        audit(&mut tx, &permit, "a password set, other sessions ended").await?;
        commit(tx, doing).await
    }

    pub(crate) async fn own_password(
        &self,
        permit: &Permit<act::ReadAccount>,
    ) -> Result<Option<PasswordRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM password WHERE account = $1")
            .bind(permit.on().account.blob())
            .fetch_optional(self.reading())
            .await
            .map_err(StoreError::sql("reading a password"))?;
        row.as_ref().map(password).transpose()
    }

    pub(crate) async fn password(&self, login: &str) -> Result<Option<PasswordRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM password WHERE login = $1")
            .bind(login)
            .fetch_optional(self.reading())
            .await
            .map_err(StoreError::sql("reading a password"))?;
        row.as_ref().map(password).transpose()
    }

    pub(crate) async fn sign_in_by_password(
        &self,
        permit: Permit<act::UsePassword>,
        shown: &PasswordRow,
        session: NewSession,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let doing = "signing somebody in by a password";
        let mut tx = self.begin(doing).await?;
        let same =
            sqlx::query("UPDATE password SET hash = hash WHERE account = $1 AND hash = $2 RETURNING account")
                .bind(shown.account.blob())
                .bind(&shown.hash)
                .fetch_optional(&mut *tx)
                .await
                .map_err(StoreError::sql(doing))?;
        if same.is_none() {
            return Ok(None);
        }
        let record = begin_session(&mut tx, &session, shown.account, Began::Password, permit.at()).await?;
        audit(&mut tx, &permit, &format!("a session of {} by password", shown.account)).await?;
        commit(tx, doing).await?;
        Ok(Some(record))
    }
}
