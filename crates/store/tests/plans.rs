//! No statement looks at everybody for the sake of a few: each that stands in this room is put before the database, which
//! says how it would answer. Whoever has to walk along a whole large table is named here, with why.
//!
//! Statements are found in the sources, so that nobody can forget to have theirs looked at. Those that are put together by a
//! macro from a part that differs are not whole there; tests of their own say how long they take among many rows.

#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use gangline_store::Store;
use sqlx::{AssertSqlSafe, Row, SqlitePool, sqlite::SqliteConnectOptions};

/// Tables with a row or more for each machine, or for each act of somebody.
const LARGE: [&str; 28] = [
    "account",
    "machine",
    "key",
    "gpu",
    "session",
    "link",
    "uptime",
    "uptime_month",
    "uptime_older",
    "uptime_link",
    "uptime_chain",
    "uptime_shown",
    "beat_lane",
    "proof",
    "epoch",
    "entry",
    "entries",
    "entries_packed",
    "entries_span",
    "season_share",
    "cluster",
    "audit",
    "refusal",
    "log_entry",
    "log_tile",
    "label_history",
    "gpu_changed",
    "machines_here",
];

/// Statements that walk along a whole large table: how they begin, and why that is right.
const WALKS: &[(&str, &str)] = &[
    (
        "DELETE FROM beat_lane WHERE epoch < ?",
        "once an hour: indexes that openings would have to write cost more",
    ),
    (
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE (i + 1) * 16 < length(?1)) SELECT alias",
        "lanes of keys that have just ended, for the same reason",
    ),
    (
        "SELECT alias, epoch, machine, account, key, gpus FROM beat_lane",
        "at the start: every lane is taken into memory",
    ),
    ("DELETE FROM link WHERE", "once an hour: what has ended goes"),
    ("DELETE FROM session WHERE expires_at", "once an hour: what has ended goes"),
    (
        "SELECT CAST((SELECT coalesce(sum(machines), 0) FROM machines_here)",
        "a row for each supplier, for a twentieth of the time",
    ),
    (
        "SELECT g.*, m.account, EXISTS (SELECT 1 FROM cluster c WHERE c.gpu = g.id AND c.state IN ('requested', 'starting', 'running', 'releasing')) AS hired FROM gpu g JOIN machine m ON m.id = g.machine WHERE g.offer IS NOT NULL",
        "what nobody may hire is explained in small networks alone",
    ),
    ("SELECT g.id, g.round FROM gpu g JOIN machine m", "at a bell everybody who is connected is asked about"),
    ("SELECT gpu, bits FROM uptime WHERE hour = ?", "`gangline fleet audit` compares an hour of everybody"),
];

/// The string literals of a source that are whole statements.
fn statements(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(at) = rest.find('"') {
        rest = &rest[at + 1..];
        let mut text = String::new();
        let mut characters = rest.char_indices();
        let mut end = rest.len();
        while let Some((at, character)) = characters.next() {
            match character {
                '"' => {
                    end = at + 1;
                    break;
                }
                '\\' => match characters.next() {
                    // A line that goes on.
                    Some((_, '\n')) => {}
                    Some((_, escaped)) => text.push(escaped),
                    None => {}
                },
                other => text.push(other),
            }
        }
        rest = &rest[end..];
        let is_statement =
            ["SELECT ", "WITH ", "UPDATE ", "DELETE ", "INSERT "].iter().any(|verb| text.starts_with(verb));
        if is_statement {
            found.push(text);
        }
    }
    found
}

/// Every statement for SQLite in this room's sources.
fn all() -> BTreeSet<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeSet::new();
    for folder in ["sqlite", "both"] {
        for entry in std::fs::read_dir(sources.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            // Tests ask what they like.
            if path.file_stem().unwrap().to_string_lossy().ends_with("_tests") {
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            let text = text.split("\n#[cfg(test)]").next().unwrap();
            found.extend(statements(text));
        }
    }
    found
}

/// The large table that a name in a plan stands for: the one of that alias, or of that name. None where the statement does not
/// name it: foreign keys and triggers follow from other statements.
fn table<'a>(statement: &'a str, name: &str) -> Option<&'a str> {
    let words: Vec<&str> = statement
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .collect();
    let is_large = |word: &&&str| LARGE.contains(*word);
    let alias = words.windows(3).find_map(|three| match three {
        [table, "AS", alias] | [_, table, alias] if *alias == name && LARGE.contains(table) => Some(*table),
        _ => None,
    });
    alias.or_else(|| words.iter().filter(is_large).find(|word| **word == name).copied())
}

/// What of a plan walks along a whole large table. An index that is walked along for some rows is no such walk: a statement
/// with a limit that need not sort ends after a few.
fn walks(statement: &str, plan: &[String], partial: &BTreeSet<String>) -> Vec<String> {
    let sorts = plan.iter().any(|step| step.starts_with("USE TEMP B-TREE"));
    let ends_early = statement.contains(" LIMIT ") && !sorts;
    let is_walk = |step: &&String| {
        let Some(rest) = step.strip_prefix("SCAN ") else { return false };
        let name = rest.split(' ').next().unwrap_or_default();
        let index = rest.split(" INDEX ").nth(1).map(|index| index.split(' ').next().unwrap_or_default());
        // An index that has only some of the rows is there to be walked along.
        let few = index.is_some_and(|index| partial.contains(index));
        table(statement, name).is_some() && !few && !(index.is_some() && ends_early)
    };
    plan.iter().filter(is_walk).cloned().collect()
}

async fn plan(pool: &SqlitePool, statement: &str) -> Result<Vec<String>, sqlx::Error> {
    let rows = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"))).fetch_all(pool).await?;
    Ok(rows.iter().map(|row| row.get("detail")).collect())
}

/// Indexes that have only some of a table's rows.
async fn partial(pool: &SqlitePool) -> BTreeSet<String> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'index' AND sql LIKE '% WHERE %'";
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap().into_iter().collect()
}

#[tokio::test]
async fn no_statement_walks_along_a_large_table_for_a_few_rows() {
    let folder = tempfile::tempdir().unwrap();
    Store::open(folder.path()).await.unwrap().close().await;
    let open = async |file: &str| {
        let options = SqliteConnectOptions::new().filename(folder.path().join(file)).read_only(true);
        SqlitePool::connect_with(options).await.unwrap()
    };
    let files = [open("gangline.sqlite").await, open("public.sqlite").await];
    let (mut found, mut whole, mut parts) = (BTreeMap::new(), 0, Vec::new());
    for statement in all() {
        let mut is_whole = false;
        for file in &files {
            let Ok(plan) = plan(file, &statement).await else { continue };
            is_whole = true;
            let walks = walks(&statement, &plan, &partial(file).await);
            if !walks.is_empty() {
                found.insert(statement.clone(), walks);
            }
        }
        match is_whole {
            true => whole += 1,
            false => parts.push(statement),
        }
    }
    println!("{whole} statements, and {} parts of some: {parts:#?}", parts.len());
    assert!(whole > 300 && parts.len() < 30, "{whole} whole statements and {} parts", parts.len());
    let named = |statement: &str| WALKS.iter().any(|(begins, _)| statement.starts_with(begins));
    let unnamed: Vec<_> = found.iter().filter(|(statement, _)| !named(statement)).collect();
    assert!(unnamed.is_empty(), "{} statements walk along a large table: {unnamed:#?}", unnamed.len());
    for (begins, why) in WALKS {
        let stands = found.keys().any(|statement| statement.starts_with(begins));
        assert!(stands && !why.is_empty(), "no statement that begins so walks any more: {begins}");
    }
}

#[test]
fn a_walk_is_told_from_a_look() {
    let check = |statement: &str, step: &str, more: &[&str], expected: bool| {
        let plan: Vec<String> = [step].iter().chain(more).map(|step| (*step).to_owned()).collect();
        let partial = BTreeSet::from(["gpu_hired".to_owned()]);
        assert_eq!(!walks(statement, &plan, &partial).is_empty(), expected, "{statement}: {plan:?}");
    };
    check("SELECT * FROM gpu", "SCAN gpu", &[], true);
    check("SELECT * FROM gpu g", "SCAN g", &[], true);
    check("SELECT * FROM gpu AS g", "SCAN g", &[], true);
    check("SELECT * FROM totals", "SCAN totals", &[], false);
    check("SELECT * FROM gpu WHERE id = ?", "SEARCH gpu USING PRIMARY KEY (id=?)", &[], false);
    check("SELECT * FROM gpu ORDER BY id", "SCAN gpu USING INDEX gpu_beat", &[], true);
    check("SELECT * FROM gpu ORDER BY id LIMIT 5", "SCAN gpu USING INDEX gpu_beat", &[], false);
    let sorted = &["USE TEMP B-TREE FOR ORDER BY"];
    check("SELECT * FROM gpu ORDER BY id LIMIT 5", "SCAN gpu USING INDEX gpu_beat", sorted, true);
    check("SELECT * FROM gpu WHERE hired", "SCAN gpu USING INDEX gpu_hired", &[], false);
    assert_eq!(
        statements(
            r#"x("SELECT \
 1") "no" "DELETE FROM \"a\"""#
        ),
        ["SELECT  1", "DELETE FROM \"a\""]
    );
}
