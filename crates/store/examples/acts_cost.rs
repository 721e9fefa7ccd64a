//! What a search of permitted acts costs among many, in a database of each kind: rows of a network with 50,000 machines,
//! searched as the console does. `cargo run --release -p gangline-store --example acts_cost [rows]`
#![allow(clippy::unwrap_used, reason = "whoever measures wants to see what broke")]

#[path = "../tests/postgres/mod.rs"]
mod postgres;

use std::time::Instant;

use gangline_guard::{
    Began, Factors, Permit, SessionRecord, act, authenticate::session, permit::permit, policy::on,
};
use gangline_store::{DatabaseUrl, RecordQuery, Store};
use gangline_types::{AccountId, KeyId, SessionId, UnixSeconds};
use gangline_wire::api::account::Role;
use sqlx::{Connection, PgConnection, sqlite::SqliteConnection};

/// The first act's time; they come a second apart.
const FROM: u64 = 1_700_000_000;
const TIMES: usize = 200;

fn operate() -> Permit<act::Operate> {
    let record = SessionRecord {
        session: SessionId::from_bytes([1; 16]),
        account: AccountId::from_bytes([1; 16]),
        role: Role::Operator,
        signed_in_at: UnixSeconds(FROM),
        began: Began::Passkey,
    };
    let who = session(record, &Default::default(), Factors::Two);
    permit::<act::Operate>(&who, on::Network, UnixSeconds(FROM)).unwrap()
}

/// A key by its number, as the statements below write it.
fn id(n: u64) -> [u8; 16] {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    id
}

async fn search(of: &str, store: &Store, rows: u64) {
    let (operate, all) = (operate(), RecordQuery { limit: 100, ..RecordQuery::default() });
    let at = |part: u64| Some(UnixSeconds(FROM + rows * part / 100));
    let key = |n: u64| KeyId::from_bytes(id(n));
    let account = |n: u64| AccountId::from_bytes(id(n % 5_000));
    let day = |from| RecordQuery { from: at(from), to: at(from + 1), ..all.clone() };
    type Query<'a> = Box<dyn Fn(u64) -> RecordQuery + 'a>;
    let queries: [(&str, Query<'_>); 8] = [
        ("the newest", Box::new(|_| all.clone())),
        ("of a key", Box::new(|n| RecordQuery { key: Some(key(n)), ..all.clone() })),
        ("of an account", Box::new(|n| RecordQuery { account: Some(account(n)), ..all.clone() })),
        ("of a rare action", Box::new(|_| RecordQuery { action: Some("freeze".into()), ..all.clone() })),
        ("on one thing", Box::new(|n| RecordQuery { resource: Some(format!("gpu_{n}")), ..all.clone() })),
        ("within a hundredth of the time", Box::new(|n| day(n % 99))),
        (
            "a usual action within a hundredth of the time, long ago",
            Box::new(|n| RecordQuery { action: Some("label_gpu".into()), ..day(n % 50) }),
        ),
        (
            "an account's of one action, within a hundredth of the time",
            Box::new(|n| RecordQuery {
                account: Some(account(n)),
                action: Some("label_gpu".into()),
                ..day(n % 99)
            }),
        ),
    ];
    for (name, query) in queries {
        let mut millis: Vec<f64> = Vec::with_capacity(TIMES);
        let mut found = 0;
        for n in 0..TIMES as u64 {
            let query = query((n * 7_919) % 50_000);
            let begun = Instant::now();
            found += store.acts(&operate, &query).await.unwrap().len();
            millis.push(begun.elapsed().as_secs_f64() * 1e3);
        }
        millis.sort_by(f64::total_cmp);
        let mean = found / TIMES;
        println!(
            "{of:<10} {name:<58} {mean:>4} rows  p50 {:>8.2} ms  p99 {:>8.2} ms",
            millis[TIMES / 2],
            millis[TIMES * 99 / 100]
        );
    }
}

#[tokio::main]
async fn main() {
    let rows: u64 = std::env::args().nth(1).map_or(1_000_000, |n| n.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).await.unwrap();
    let file = format!("sqlite://{}", folder.path().join("gangline.sqlite").display());
    let mut books = SqliteConnection::connect(&file).await.unwrap();
    sqlx::query("WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < $1 - 1) INSERT INTO audit (at, actor, key, account, action, resource, reason, detail) SELECT $2 + n, 'machine of somebody by a key', unhex(printf('%016x', n % 50000) || '0000000000000000'), unhex(printf('%016x', n % 5000) || '0000000000000000'), CASE WHEN n % 10007 = 0 THEN 'freeze' WHEN n % 3 = 0 THEN 'label_gpu' ELSE 'describe_machine' END, 'gpu_' || (n * 7919 % 50000), 'a machine speaks for itself', 'one GPU' FROM n")
        .bind(rows as i64)
        .bind(FROM as i64)
        .execute(&mut books)
        .await
        .unwrap();
    println!("{rows} acts, {TIMES} searches of each kind, 100 rows at most");
    search("SQLite", &store, rows).await;
    store.close().await;

    let server = postgres::shared();
    let url = server.url(&server.database().await);
    let parsed: DatabaseUrl = url.parse().unwrap();
    let store = Store::connect(&parsed, [1; 32], &[2; 32], [3; 16]).await.unwrap();
    let mut books = PgConnection::connect(&url).await.unwrap();
    sqlx::query("INSERT INTO gangline.audit (at, actor, key, account, action, resource, reason, detail) SELECT $2 + n, 'machine of somebody by a key', decode(lpad(to_hex(n % 50000), 16, '0') || '0000000000000000', 'hex'), decode(lpad(to_hex(n % 5000), 16, '0') || '0000000000000000', 'hex'), CASE WHEN n % 10007 = 0 THEN 'freeze' WHEN n % 3 = 0 THEN 'label_gpu' ELSE 'describe_machine' END, 'gpu_' || (n * 7919 % 50000), 'a machine speaks for itself', 'one GPU' FROM generate_series(0, $1 - 1) n")
        .bind(rows as i64)
        .bind(FROM as i64)
        .execute(&mut books)
        .await
        .unwrap();
    sqlx::query("ANALYZE gangline.audit").execute(&mut books).await.unwrap();
    search("PostgreSQL", &store, rows).await;
    store.close().await;
}
