//! People as identity providers name them: by issuer and subject, never by e-mail address. No token of a
//! provider is kept here.

use gangline_guard::{Began, Permit, Principal, SessionRecord, act};
use gangline_types::{AccountId, Hash};
use gangline_wire::api::account::Role;

use super::{Books, Connection, account::begin_session, audit::audit, open::commit};
use crate::{
    NewSession, Once, StoreError, VouchedPerson,
    sql::{Columns, Id, word},
};

/// Takes note of `once`; `false` if it was used before.
async fn use_once(tx: &mut Connection, once: Once, now: i64) -> Result<bool, StoreError> {
    let doing = "noting that something was used";
    sqlx::query("DELETE FROM used_once WHERE expires_at <= $1")
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    let noted =
        sqlx::query("INSERT INTO used_once (hash, expires_at) VALUES ($1, $2) ON CONFLICT (hash) DO NOTHING")
            .bind(once.hash.0.to_vec())
            .bind(once.expires_at.0 as i64)
            .execute(tx)
            .await
            .map_err(StoreError::sql(doing))?;
    Ok(noted.rows_affected() == 1)
}

impl Books {
    pub(crate) async fn sign_in(
        &self,
        permit: Permit<act::SignIn>,
        person: VouchedPerson,
        sign_in: Once,
        session: NewSession,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let doing = "signing somebody in";
        let now = permit.at().0 as i64;
        let identity = permit.on().identity.0.to_vec();
        let mut tx = self.begin_alone(doing).await?;
        if !use_once(&mut tx, sign_in, now).await? {
            return Ok(None);
        }
        let known = sqlx::query(
            "SELECT a.id, a.role FROM identity i JOIN account a ON a.id = i.account WHERE i.identity = $1",
        )
        .bind(identity.clone())
        .fetch_optional(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        let role = word(&person.role);
        let (account, change) = match known {
            Some(row) => {
                let account: AccountId = row.id("id")?;
                let before: Role = row.word("role")?;
                sqlx::query("UPDATE account SET role = $1, name = $2 WHERE id = $3")
                    .bind(&role)
                    .bind(person.name.as_str())
                    .bind(account.blob())
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::sql(doing))?;
                sqlx::query("UPDATE identity SET seen_at = $1 WHERE identity = $2")
                    .bind(now)
                    .bind(identity.clone())
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::sql(doing))?;
                let change = (before != person.role).then(|| format!(", role {} before", word(&before)));
                (account, change.unwrap_or_default())
            }
            None => {
                sqlx::query("INSERT INTO account (id, name, role, created_at) VALUES ($1, $2, $3, $4)")
                    .bind(person.new_account.blob())
                    .bind(person.name.as_str())
                    .bind(&role)
                    .bind(now)
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::sql(doing))?;
                sqlx::query("INSERT INTO identity (identity, issuer, subject, account, created_at, seen_at) VALUES ($1, $2, $3, $4, $5, $6)")
                    .bind(identity.clone())
                    .bind(&person.issuer)
                    .bind(&person.subject)
                    .bind(person.new_account.blob())
                    .bind(now)
                    .bind(now)
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::sql(doing))?;
                (person.new_account, ", a new account".to_owned())
            }
        };
        let began = Began::Provider { is_strong: person.is_strong };
        let record = begin_session(&mut tx, &session, account, began, permit.at()).await?;
        sqlx::query("INSERT INTO vouched_session (session, identity, provider_session) VALUES ($1, $2, $3)")
            .bind(session.id.blob())
            .bind(identity)
            .bind(person.provider_session.map(|h| h.0.to_vec()))
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        audit(&mut tx, &permit, &format!("a session of {account} as {role}{change}")).await?;
        commit(tx, doing).await?;
        Ok(Some(record))
    }

    pub(crate) async fn end_vouched_sessions(
        &self,
        permit: Permit<act::EndSessions>,
        once: Option<Once>,
        why: &str,
    ) -> Result<Option<u64>, StoreError> {
        let doing = "ending the sessions of somebody";
        let mut tx = self.begin_alone(doing).await?;
        if let Some(once) = once
            && !use_once(&mut tx, once, permit.at().0 as i64).await?
        {
            return Ok(None);
        }
        let ended = sqlx::query("DELETE FROM session WHERE id IN (SELECT session FROM vouched_session WHERE identity = $1 OR provider_session = $1)")
            .bind(permit.on().identity.0.to_vec())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .rows_affected();
        // Whoever has no session here is told so every time they try: that is no news for the audit.
        if ended > 0 || once.is_some() {
            audit(&mut tx, &permit, &format!("{ended} sessions ended: {why}")).await?;
        }
        commit(tx, doing).await?;
        Ok(Some(ended))
    }

    pub(crate) async fn end_account_sessions(
        &self,
        permit: Permit<act::EndAccountSessions>,
    ) -> Result<u64, StoreError> {
        let doing = "ending an account's sessions";
        let mut tx = self.begin(doing).await?;
        let ended = sqlx::query("DELETE FROM session WHERE account = $1")
            .bind(permit.on().account.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .rows_affected();
        audit(&mut tx, &permit, &format!("{ended} sessions ended")).await?;
        commit(tx, doing).await?;
        Ok(ended)
    }

    pub(crate) async fn came_from_provider(
        &self,
        permit: &Permit<act::ReadAccount>,
    ) -> Result<bool, StoreError> {
        let Principal::Person { session, .. } = permit.principal() else { return Ok(false) };
        let row = sqlx::query("SELECT 1 FROM vouched_session WHERE session = $1")
            .bind(session.blob())
            .fetch_optional(self.reading())
            .await
            .map_err(StoreError::sql("reading where a session came from"))?;
        Ok(row.is_some())
    }

    pub(crate) async fn is_used(&self, hash: &Hash) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM used_once WHERE hash = $1")
            .bind(hash.0.to_vec())
            .fetch_optional(self.reading())
            .await
            .map_err(StoreError::sql("looking whether something was used"))?;
        Ok(row.is_some())
    }
}
