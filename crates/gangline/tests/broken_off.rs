//! A server that is killed in the middle of an act of several steps: the audit row before the act stands, the one after
//! it does not. The next server finds that, writes it down and tells somebody; asked for once more, the act is done.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod live;

use std::path::Path;

use gangline_types::AccountId;
use gangline_wire::{
    SigningKey,
    api::{
        enrol::KeyKind,
        operate::{Doer, RestoreReport, RestoreRequest},
    },
    endpoints as e,
};
use gangline_worker::client::{Client, ClientError};
use live::{
    finish, gangline,
    network::{Person, Server, call, enrolment_of, new_key},
    until,
};
use sqlx::{Row, SqlitePool, sqlite::SqliteConnectOptions};

/// GPUs that somebody renamed: twenty steps of the act that undoes it.
const GPUS: u32 = 10_000;
/// Longer than an act may do nothing, in seconds.
const IDLE: i64 = 121;

async fn books(data: &Path) -> SqlitePool {
    let options = SqliteConnectOptions::new().filename(data.join("gangline.sqlite"));
    SqlitePool::connect_with(options).await.unwrap()
}

async fn count(books: &SqlitePool, of: &'static str) -> i64 {
    sqlx::query_scalar(of).fetch_one(books).await.unwrap()
}

const RENAMED: &str = "SELECT count(*) FROM gpu WHERE label = 'taken'";
const BEGUN: &str = "SELECT count(*) FROM begun";

/// Sends the restoration; where the operator has to confirm it, they do.
async fn restore(
    client: &Client,
    operator: &Person,
    wish: &RestoreRequest,
) -> Result<RestoreReport, ClientError> {
    match call::<e::RestoreLabels>(client, wish).await {
        Err(ClientError::Refused { body, .. }) if body.code == "approval_needed" => {
            let asked = body.approval.unwrap();
            let path = format!("/console/approvals/{}", asked.approval);
            assert_eq!(operator.form(&path, &[("decision", "approve")]).await.0, 303);
            call::<e::RestoreLabels>(client, wish).await
        }
        other => other,
    }
}

/// The operator's command line.
async fn command_line(server: &Server, operator: &Person) -> SigningKey {
    let key = new_key();
    let ticket =
        call::<e::Enrol>(&server.client(&key), &enrolment_of(&key, KeyKind::CommandLine)).await.unwrap();
    operator.approve(&ticket.user_code, &key.public().fingerprint()).await;
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn an_act_that_a_kill_broke_off_is_found_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let machines = GPUS.to_string();
    let seeded =
        finish(gangline(folder.path()).args(["fleet", "seed", "--machines", &machines, "--data"]).arg(&data));
    assert_eq!(seeded.code, 0, "{}", seeded.err);
    let allowed = ["--allow-simulated"];
    let mut server = Server::start(&data, &allowed);
    let operator = Person::enter(&server, &server.link.clone()).await;
    let key = command_line(&server, &operator).await;

    // Somebody has renamed everything.
    let books = books(&data).await;
    let row = sqlx::query("SELECT account FROM machine LIMIT 1").fetch_one(&books).await.unwrap();
    let account: Vec<u8> = row.get(0);
    let now = gangline_worker::client::now().seconds();
    sqlx::query("INSERT INTO label_history (gpu, at, account, actor, before, after) SELECT id, ?, ?, 'somebody', label, 'taken' FROM gpu")
        .bind(now.0 as i64)
        .bind(&account)
        .execute(&books)
        .await
        .unwrap();
    sqlx::query("UPDATE gpu SET label = 'taken'").execute(&books).await.unwrap();
    assert_eq!(count(&books, RENAMED).await, i64::from(GPUS));

    // The operator undoes it, and the server is killed in between.
    let doer = Doer::Account(AccountId::from_bytes(account.try_into().unwrap()));
    let wish = RestoreRequest { doer, since: now, dry_run: false };
    let waiting = {
        let (client, operator, wish) = (server.client(&key), operator.clone(), wish);
        tokio::spawn(async move { restore(&client, &operator, &wish).await })
    };
    let limit = std::time::Instant::now() + live::LIMIT;
    while count(&books, BEGUN).await == 0 || count(&books, RENAMED).await == i64::from(GPUS) {
        assert!(std::time::Instant::now() < limit && !waiting.is_finished(), "no step was seen");
    }
    server.process.crash();
    assert!(matches!(waiting.await.unwrap(), Err(ClientError::Unreachable { .. })), "it was answered");
    let left = count(&books, RENAMED).await;
    assert!(left > 0 && left < i64::from(GPUS), "{left} of {GPUS} are left: that is no middle");
    let begun: i64 = sqlx::query_scalar("SELECT audit FROM begun").fetch_one(&books).await.unwrap();
    let rows = |like: String| {
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM audit WHERE detail LIKE ?")
            .bind(like)
            .fetch_one(&books)
    };
    assert_eq!(rows("begun: restoring labels".into()).await.unwrap(), 1, "the row before is gone");
    assert_eq!(rows("completed%".into()).await.unwrap(), 0, "it was completed");

    // Two minutes pass in which nothing is done. The next server finds it.
    sqlx::query("UPDATE begun SET touched_at = touched_at - ?").bind(IDLE).execute(&books).await.unwrap();
    let server = Server::start(&data, &allowed);
    let never = format!("never completed, begun in row {begun}");
    let limit = std::time::Instant::now() + live::LIMIT;
    while rows(never.clone()).await.unwrap() == 0 {
        assert!(std::time::Instant::now() < limit, "it was not found:\n{}", server.process.err());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(count(&books, BEGUN).await, 0);
    until("a line of the log", || server.process.err().contains("an act broke off").then_some(()));
    let operator = Person::enter(&server, &server.link.clone()).await;
    let page = operator.page("/console/security").await.1;
    assert!(page.contains("broken off") && page.contains(&format!("act {begun}")), "no incident: {page}");

    // Once more, and it is done whole.
    let done = restore(&server.client(&key), &operator, &wish).await.unwrap();
    assert_eq!(done.restored.len() as i64, left);
    assert_eq!(count(&books, RENAMED).await, 0);
    assert_eq!(rows(format!("completed%restored {left} labels")).await.unwrap(), 1);
    assert_eq!(rows(never).await.unwrap(), 1);
    books.close().await;
    server.stop();
}
