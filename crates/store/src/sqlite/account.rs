//! Accounts, the one-time links that make and open them, and browser sessions.

use gangline_guard::{
    Began, Permit, SessionRecord, act,
    log::{Event, entry::Approved},
};
use gangline_types::{AccountId, Hash, Label, SessionId, UnixSeconds};
use gangline_wire::api::account::Role;
use sqlx::SqliteConnection;

use crate::{
    AccountRow, LinkRow, NewLink, NewSession, OwnSession, SessionRow, StoreError,
    books::account::{OPERATOR_IDLE_SECONDS, SEEN_EVERY_SECONDS, SESSION_IDLE_SECONDS, began},
    sql::{Columns, Id, word},
    sqlite::SqliteStore,
    sqlite::audit::audit,
    sqlite::log::log_entry,
    sqlite::open::commit,
};

/// Begins a session of `account`, and ends the one that this browser had: what was known before somebody signed in
/// opens nothing after.
pub(crate) async fn begin_session(
    tx: &mut SqliteConnection,
    session: &NewSession,
    account: AccountId,
    began: Began,
    now: UnixSeconds,
) -> Result<SessionRecord, StoreError> {
    let doing = "beginning a session";
    if let Some(replaced) = session.replaces {
        sqlx::query("DELETE FROM session WHERE secret = ?")
            .bind(replaced.0.to_vec())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
    }
    sqlx::query("INSERT INTO session (id, secret, account, created_at, seen_at, expires_at, how, two_factors) VALUES (?, ?, ?, ?, ?, ?, ?, ?)")
        .bind(session.id.blob())
        .bind(session.secret.0.to_vec())
        .bind(account.blob())
        .bind(now.0 as i64)
        .bind(now.0 as i64)
        .bind(session.expires_at.0 as i64)
        .bind(began.as_str())
        .bind(began.is_two_factors())
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
    let role = sqlx::query("UPDATE account SET here_at = ? WHERE id = ? RETURNING role")
        .bind(now.0 as i64)
        .bind(account.blob())
        .fetch_one(tx)
        .await
        .map_err(StoreError::sql(doing))?
        .word("role")?;
    Ok(SessionRecord { session: session.id, account, role, signed_in_at: now, began })
}

impl SqliteStore {
    /// Makes a one-time link, and the account it opens if that is new.
    pub async fn invite(
        &self,
        permit: Permit<act::Invite>,
        new: AccountId,
        link: NewLink,
    ) -> Result<AccountId, StoreError> {
        let doing = "making a one-time link";
        let mut tx = self.begin(doing).await?;
        let asked = permit.on();
        let account = match asked.account {
            Some(known) => known,
            None => {
                sqlx::query("INSERT INTO account (id, name, role, created_at) VALUES (?, ?, ?, ?)")
                    .bind(new.blob())
                    .bind(asked.name.as_str())
                    .bind(word(&asked.role))
                    .bind(permit.at().0 as i64)
                    .execute(&mut *tx)
                    .await
                    .map_err(StoreError::sql(doing))?;
                new
            }
        };
        let made = sqlx::query(
            "INSERT INTO link (id, secret, account, created_at, expires_at) SELECT ?, ?, id, ?, ? FROM account WHERE id = ? AND role = ?",
        )
        .bind(link.id.blob())
        .bind(link.secret.0.to_vec())
        .bind(permit.at().0 as i64)
        .bind(link.expires_at.0 as i64)
        .bind(account.blob())
        .bind(word(&asked.role))
        .execute(&mut *tx)
        .await
        .map_err(StoreError::sql(doing))?;
        if made.rows_affected() == 0 {
            return Err(StoreError::Gone("there is no such account, or its role is another by now"));
        }
        let detail = format!("a one-time link for {account}");
        let event = match asked.account {
            None => Event::RoleChange { role: asked.role },
            Some(_) => Event::Approval { what: Approved::Link },
        };
        log_entry(&mut tx, &permit, event, &detail).await?;
        audit(&mut tx, &permit, &detail).await?;
        commit(tx, doing).await?;
        Ok(account)
    }

    /// What a link is for.
    pub async fn link(&self, secret: &Hash, now: UnixSeconds) -> Result<Option<LinkRow>, StoreError> {
        let row = sqlx::query(
            "SELECT a.name, a.role, l.expires_at, l.used_at IS NULL AND l.expires_at > ? AS usable FROM link l JOIN account a ON a.id = l.account WHERE l.secret = ?",
        )
        .bind(now.0 as i64)
        .bind(secret.0.to_vec())
        .fetch_optional(&self.read)
        .await
        .map_err(StoreError::sql("reading a one-time link"))?;
        row.map(|r| {
            Ok(LinkRow {
                name: label(&r.text("name")?),
                role: r.word("role")?,
                expires_at: r.at("expires_at")?,
                usable: r.flag("usable")?,
            })
        })
        .transpose()
    }

    /// Ends a link and begins a session; `None` if it was used or ran out.
    pub async fn use_link(
        &self,
        permit: Permit<act::UseLink>,
        secret: &Hash,
        session: NewSession,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let doing = "using a one-time link";
        let now = permit.at().0 as i64;
        let mut tx = self.begin(doing).await?;
        let row = sqlx::query("UPDATE link SET used_at = ?1 WHERE secret = ?2 AND used_at IS NULL AND expires_at > ?1 RETURNING account")
            .bind(now)
            .bind(secret.0.to_vec())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let Some(row) = row else { return Ok(None) };
        let account: AccountId = row.id("account")?;
        let record = begin_session(&mut tx, &session, account, Began::Link, permit.at()).await?;
        audit(&mut tx, &permit, &format!("a session of {account}")).await?;
        commit(tx, doing).await?;
        Ok(Some(record))
    }

    /// The session with this secret, if it is alive.
    pub async fn session(&self, secret: &Hash, now: UnixSeconds) -> Result<Option<SessionRow>, StoreError> {
        let doing = "reading a session";
        let row = sqlx::query(
            "SELECT s.id, s.account, s.created_at, s.seen_at, s.how, s.two_factors, a.role, a.name FROM session s JOIN account a ON a.id = s.account WHERE s.secret = ? AND s.expires_at > ? AND s.seen_at > ? - CASE a.role WHEN 'operator' THEN ? ELSE ? END",
        )
        .bind(secret.0.to_vec())
        .bind(now.0 as i64)
        .bind(now.0 as i64)
        .bind(OPERATOR_IDLE_SECONDS as i64)
        .bind(SESSION_IDLE_SECONDS as i64)
        .fetch_optional(&self.read)
        .await
        .map_err(StoreError::sql(doing))?;
        let Some(row) = row else { return Ok(None) };
        let record = SessionRecord {
            session: row.id("id")?,
            account: row.id("account")?,
            role: row.word("role")?,
            signed_in_at: row.at("created_at")?,
            began: began(&row)?,
        };
        if now.since(row.at("seen_at")?) > SEEN_EVERY_SECONDS {
            sqlx::query("UPDATE session SET seen_at = ? WHERE id = ?")
                .bind(now.0 as i64)
                .bind(record.session.blob())
                .execute(&self.write)
                .await
                .map_err(StoreError::sql(doing))?;
        }
        Ok(Some(SessionRow { record, name: label(&row.text("name")?) }))
    }

    /// Ends the permit's own session.
    pub async fn sessions_of(
        &self,
        permit: &Permit<act::ReadAccount>,
    ) -> Result<Vec<OwnSession>, StoreError> {
        let now = permit.at().0 as i64;
        let rows = sqlx::query("SELECT s.id, s.how, s.created_at, s.seen_at FROM session s JOIN account a ON a.id = s.account WHERE s.account = ?1 AND s.expires_at > ?2 AND s.seen_at > ?2 - CASE a.role WHEN 'operator' THEN ?3 ELSE ?4 END ORDER BY s.seen_at DESC, s.id LIMIT 100")
            .bind(permit.on().account.blob())
            .bind(now)
            .bind(OPERATOR_IDLE_SECONDS as i64)
            .bind(SESSION_IDLE_SECONDS as i64)
            .fetch_all(&self.read)
            .await
            .map_err(StoreError::sql("listing sessions"))?;
        rows.iter()
            .map(|row| {
                Ok(OwnSession {
                    session: row.id("id")?,
                    how: row.text("how")?,
                    created_at: row.at("created_at")?,
                    seen_at: row.at("seen_at")?,
                })
            })
            .collect()
    }

    pub async fn end_own_session(
        &self,
        permit: Permit<act::ManageWaysIn>,
        session: SessionId,
    ) -> Result<bool, StoreError> {
        let doing = "ending a session";
        let mut tx = self.begin(doing).await?;
        let ended = sqlx::query("DELETE FROM session WHERE id = ? AND account = ?")
            .bind(session.blob())
            .bind(permit.on().account.blob())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?
            .rows_affected();
        if ended > 0 {
            audit(&mut tx, &permit, &format!("session {session} ended")).await?;
        }
        commit(tx, doing).await?;
        Ok(ended > 0)
    }

    pub async fn end_session(&self, permit: Permit<act::ReadAccount>) -> Result<(), StoreError> {
        let gangline_guard::Principal::Person { session, .. } = permit.principal() else {
            return Err(StoreError::Gone("only a browser has a session to end"));
        };
        sqlx::query("DELETE FROM session WHERE id = ?")
            .bind(session.blob())
            .execute(&self.write)
            .await
            .map_err(StoreError::sql("ending a session"))?;
        Ok(())
    }

    /// Whether anyone has ever been made operator.
    pub async fn has_operator(&self) -> Result<Option<AccountId>, StoreError> {
        let row = sqlx::query("SELECT id FROM account WHERE role = 'operator' ORDER BY created_at LIMIT 1")
            .fetch_optional(&self.read)
            .await
            .map_err(StoreError::sql("looking for the operator"))?;
        row.map(|r| r.id("id")).transpose()
    }

    /// Name of an account.
    pub async fn account_name(&self, permit: &Permit<act::ReadAccount>) -> Result<Label, StoreError> {
        let row = sqlx::query("SELECT name FROM account WHERE id = ?")
            .bind(permit.on().account.blob())
            .fetch_one(&self.read)
            .await
            .map_err(StoreError::sql("reading an account"))?;
        Ok(label(&row.text("name")?))
    }

    /// Name and role of any account, for whoever invites.
    pub async fn account(
        &self,
        account: AccountId,
        _: &Permit<act::Operate>,
    ) -> Result<Option<(Label, Role)>, StoreError> {
        let row = sqlx::query("SELECT name, role FROM account WHERE id = ?")
            .bind(account.blob())
            .fetch_optional(&self.read)
            .await
            .map_err(StoreError::sql("reading an account"))?;
        row.map(|r| Ok((label(&r.text("name")?), r.word("role")?))).transpose()
    }

    /// Every account, newest first, at most 500.
    pub async fn accounts(&self, _: &Permit<act::Operate>) -> Result<Vec<AccountRow>, StoreError> {
        sqlx::query(
            "SELECT a.id, a.name, a.role, a.created_at, coalesce((SELECT h.machines FROM machines_here h WHERE h.account = a.id), 0) AS machines, (SELECT count(*) FROM cluster c WHERE c.account = a.id AND c.state IN ('requested', 'starting', 'running', 'releasing')) AS clusters, (SELECT max(seen_at) FROM session s WHERE s.account = a.id) AS seen_at FROM account a ORDER BY a.created_at DESC, a.id LIMIT 500",
        )
        .fetch_all(&self.read)
        .await
        .map_err(StoreError::sql("listing accounts"))?
        .iter()
        .map(|r| {
            Ok(AccountRow {
                account: r.id("id")?,
                name: label(&r.text("name")?),
                role: r.word("role")?,
                created_at: r.at("created_at")?,
                machines: r.int("machines")?,
                clusters: r.int("clusters")?,
                seen_at: r.at_or_none("seen_at")?,
            })
        })
        .collect()
    }
}

pub(crate) fn label(text: &str) -> Label {
    Label::lossy(text)
}
