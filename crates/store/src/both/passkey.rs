//! Passkeys: questions that are answered once, and what authenticators made. Knows no signature.

use gangline_guard::{
    Began, Permit, SessionRecord, act,
    log::{Event, entry::Approved},
};
use gangline_types::{AccountId, PasskeyId, UnixSeconds};

use super::{Books, account::begin_session, audit::audit, log::log_entry, open::commit};
use crate::{
    NewPasskey, NewSession, PasskeyQuestion, PasskeyRow, Removed, StoreError,
    books::passkey::{PASSKEYS_MAX, QUESTIONS_MAX, passkey},
    sql::{Columns, Id},
};

impl Books {
    async fn ask(
        &self,
        question: PasskeyQuestion,
        account: Option<AccountId>,
        now: UnixSeconds,
    ) -> Result<(), StoreError> {
        let doing = "keeping a question for a passkey";
        let mut tx = self.begin(doing).await?;
        sqlx::query("DELETE FROM passkey_question WHERE expires_at <= $1")
            .bind(now.0 as i64)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let kept = sqlx::query("INSERT INTO passkey_question (challenge, asked, account, expires_at) SELECT $1, $2, $3, $4 WHERE (SELECT count(*) FROM passkey_question) < $5")
            .bind(question.challenge.to_vec())
            .bind(question.asked)
            .bind(account.map(|account| account.blob()))
            .bind(question.expires_at.0 as i64)
            .bind(QUESTIONS_MAX)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if kept.rows_affected() == 0 {
            return Err(StoreError::Gone("too many sign-ins are open; try again in some minutes"));
        }
        commit(tx, doing).await
    }

    pub(crate) async fn ask_for_passkey(
        &self,
        permit: &Permit<act::ManageWaysIn>,
        question: PasskeyQuestion,
    ) -> Result<(), StoreError> {
        self.ask(question, Some(permit.on().account), permit.at()).await
    }

    pub(crate) async fn ask_by_passkey(
        &self,
        permit: &Permit<act::UsePasskey>,
        question: PasskeyQuestion,
    ) -> Result<(), StoreError> {
        self.ask(question, None, permit.at()).await
    }

    pub(crate) async fn take_passkey_question(
        &self,
        challenge: [u8; 16],
        account: Option<AccountId>,
        now: UnixSeconds,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sqlx::query("DELETE FROM passkey_question WHERE challenge = $1 AND account IS NOT DISTINCT FROM $2 AND expires_at > $3 RETURNING asked")
            .bind(challenge.to_vec())
            .bind(account.map(|account| account.blob()))
            .bind(now.0 as i64)
            .fetch_optional(self.writing())
            .await
            .map_err(StoreError::sql("taking a question for a passkey"))?;
        row.map(|row| row.bytes("asked")).transpose()
    }

    pub(crate) async fn add_passkey(
        &self,
        permit: Permit<act::ManageWaysIn>,
        new: NewPasskey,
    ) -> Result<(), StoreError> {
        let doing = "keeping a passkey";
        let account = permit.on().account.blob();
        let mut tx = self.begin_alone(doing).await?;
        let kept = sqlx::query("INSERT INTO passkey (id, credential, account, name, key, state, created_at) SELECT $1, $2, $3, $4, $5, $6, $7 WHERE (SELECT count(*) FROM passkey WHERE account = $3) < $8 ON CONFLICT DO NOTHING")
            .bind(new.id.blob())
            .bind(new.credential)
            .bind(account)
            .bind(new.name.as_str())
            .bind(new.key)
            .bind(new.state)
            .bind(permit.at().0 as i64)
            .bind(if new.only_first { 1 } else { PASSKEYS_MAX })
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if kept.rows_affected() == 0 {
            return Err(StoreError::Gone(
                "this passkey is known already, or the account has as many as it may; remove one first",
            ));
        }
        let detail = format!("passkey {} ({:?})", new.id, new.name);
        log_entry(&mut tx, &permit, Event::Approval { what: Approved::Passkey }, &detail).await?;
        audit(&mut tx, &permit, &format!("{detail} added")).await?;
        commit(tx, doing).await
    }

    pub(crate) async fn remove_passkey(
        &self,
        permit: Permit<act::ManageWaysIn>,
        passkey: PasskeyId,
    ) -> Result<Removed, StoreError> {
        let doing = "removing a passkey";
        let account = permit.on().account.blob();
        let mut tx = self.begin_alone(doing).await?;
        let row = sqlx::query("SELECT (SELECT count(*) FROM passkey WHERE account = $1) + (SELECT count(*) FROM identity WHERE account = $1) AS ways FROM passkey WHERE id = $2 AND account = $1")
            .bind(&account)
            .bind(passkey.blob())
            .fetch_optional(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        let Some(row) = row else { return Ok(Removed::NotThere) };
        if row.int("ways")? < 2 {
            return Ok(Removed::OnlyWayIn);
        }
        sqlx::query("DELETE FROM passkey WHERE id = $1 AND account = $2")
            .bind(passkey.blob())
            .bind(&account)
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        audit(&mut tx, &permit, &format!("passkey {passkey} removed")).await?;
        commit(tx, doing).await?;
        Ok(Removed::Gone)
    }

    pub(crate) async fn passkeys_of(
        &self,
        permit: &Permit<act::ReadAccount>,
    ) -> Result<Vec<PasskeyRow>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM passkey WHERE account = $1 ORDER BY created_at DESC, id LIMIT 20")
                .bind(permit.on().account.blob())
                .fetch_all(self.reading())
                .await
                .map_err(StoreError::sql("listing passkeys"))?;
        rows.iter().map(passkey).collect()
    }

    pub(crate) async fn passkey(&self, credential: &[u8]) -> Result<Option<PasskeyRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM passkey WHERE credential = $1")
            .bind(credential.to_vec())
            .fetch_optional(self.reading())
            .await
            .map_err(StoreError::sql("looking a passkey up"))?;
        row.as_ref().map(passkey).transpose()
    }

    pub(crate) async fn sign_in_by_passkey(
        &self,
        permit: Permit<act::UsePasskey>,
        shown: &PasskeyRow,
        state: Vec<u8>,
        session: NewSession,
    ) -> Result<Option<SessionRecord>, StoreError> {
        let doing = "signing somebody in by a passkey";
        let mut tx = self.begin(doing).await?;
        let used = sqlx::query("UPDATE passkey SET state = $1, used_at = $2 WHERE id = $3 AND state = $4")
            .bind(state)
            .bind(permit.at().0 as i64)
            .bind(shown.id.blob())
            .bind(shown.state.clone())
            .execute(&mut *tx)
            .await
            .map_err(StoreError::sql(doing))?;
        if used.rows_affected() == 0 {
            return Ok(None);
        }
        let record = begin_session(&mut tx, &session, shown.account, Began::Passkey, permit.at()).await?;
        audit(&mut tx, &permit, &format!("a session of {} by passkey {}", shown.account, shown.id)).await?;
        commit(tx, doing).await?;
        Ok(Some(record))
    }
}
