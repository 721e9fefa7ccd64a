//! Scanners by others against a whole server: sqlmap, schemathesis and wapiti, each also against a twin with
//! holes (`twin.py`) that it must find; a scanner that finds nothing there says nothing here.
//!
//! Minutes of it run in CI, on SQLite and on PostgreSQL:
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | sqlmap, level 5, risk 3 | operations that look something up, and every header of one | those that take text, without time |
//! | schemathesis | every operation | every operation |
//! | wapiti | every module that needs nobody outside | the same, for half as long |
//!
//! With `GANGLINE_SCANNERS_LONG` set, all of it runs on both: sqlmap tries all operations with every header, and every
//! budget is larger. Everything stays on loopback.

#![allow(clippy::unwrap_used, reason = "a helper of a test fails the test")]

#[path = "../net/mod.rs"]
mod net;
#[path = "../../../store/tests/postgres/mod.rs"]
mod postgres;
mod proxy;
mod tools;

use std::path::Path;

use proxy::Proxy;
use serde_json::Value;
use tools::{Books, Twin, is_long, run};

/// Operations whose texts and ids are looked up in the books: what sqlmap tries in CI. In the long mode it tries
/// all there are.
const LOOKED_UP: &str = "PublicGpus,PublicGpuUptime,PublicSnapshots,ExplorerPage,GpuLabel,ApprovePage,\
    SignInCallback,ClusterById,AccountStatement,EnrolPoll,RestoreLabels";
/// Of those, what takes text that reaches a statement, and not ids alone; the explorer's page asks as its API does.
const WITH_TEXT: &str = "PublicGpus,GpuLabel,EnrolPoll,RestoreLabels";

/// What sqlmap is told beside where: every test at every risk, on the databases that Gangline has.
fn sqlmap_args(openapi: &str, folder: &Path, books: &Books) -> Vec<String> {
    let mut args: Vec<String> =
        ["--batch", "--level", "5", "--risk", "3", "--threads", "4", "--disable-coloring"]
            .map(str::to_owned)
            .to_vec();
    args.extend(["--openapi".into(), openapi.into(), "--output-dir".into(), folder.to_string_lossy().into()]);
    args.extend(["--ignore-code".into(), "*".into(), "--headers".into(), "Signature: alice".into()]);
    args.extend(["--dbms".into(), books.name().into(), "--flush-session".into()]);
    if !is_long() {
        if let Books::Postgres(_) = books {
            args.extend(["--technique".into(), "BEUS".into()]);
        }
        // Headers are tried at one address and in the long mode; no header of ours reaches a statement.
        args.extend(["--skip".into(), "user-agent,referer,host,cookie,signature".into()]);
    }
    args
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlmap_finds_the_twin_s_hole_and_none_here() {
    sqlmap(&Books::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlmap_finds_the_twin_s_hole_and_none_in_postgresql() {
    sqlmap(&Books::postgres()).await;
}

async fn sqlmap(books: &Books) {
    let folder = tempfile::tempdir().unwrap();
    let twin = Twin::start(books).await;
    let args = sqlmap_args(&format!("{}/openapi.json", twin.url), folder.path(), books);
    let found = run("sqlmap", &args, folder.path()).await;
    assert!(found.contains("Parameter: q (GET)"), "sqlmap missed the hole of the twin: {found}");

    let proxy = Proxy::start(books).await;
    let only = match books {
        _ if is_long() => "",
        Books::Sqlite => LOOKED_UP,
        Books::Postgres(_) => WITH_TEXT,
    };
    let mut args = sqlmap_args(&format!("{}/openapi.json?only={only}", proxy.url), folder.path(), books);
    let told = run("sqlmap", &args, folder.path()).await;
    let tried = told.matches("do not appear to be injectable").count();
    println!(
        "sqlmap tried {tried} targets on {} with {} requests, {} of them as somebody's",
        books.name(),
        proxy.asked(),
        proxy.signed()
    );
    assert!(!told.contains("Parameter: "), "sqlmap found something: {told}");
    let wanted = if only.is_empty() { 8 } else { only.split(',').count().min(8) };
    assert!(tried >= wanted, "sqlmap tried {tried} targets only: {told}");
    assert!(proxy.asked() > 1_000, "sqlmap asked {} times only", proxy.asked());

    // Every header, at one address whose parameter is looked up: no header comes near a statement on either.
    if !is_long() && !matches!(books, Books::Sqlite) {
        return proxy.stop().await;
    }
    let openapi = args.iter().position(|a| a == "--openapi").unwrap();
    args.splice(openapi..openapi + 2, ["-u".into(), format!("{}/api/v1/public/gpus?q=a", proxy.url)]);
    if let Some(skip) = args.iter().position(|a| a == "--skip") {
        args.drain(skip..skip + 2);
    }
    let told = run("sqlmap", &args, folder.path()).await;
    assert!(told.contains("do not appear to be injectable") && !told.contains("Parameter: "), "{told}");
    proxy.stop().await;
}

/// What schemathesis found, by the check's name and the operation.
async fn schemathesis(url: &str, folder: &Path, examples: u32, seconds: u32) -> Vec<String> {
    std::fs::write(
        folder.join("wfc.yaml"),
        "auth:\n- name: alice\n  fixedHeaders: [{name: Signature, value: alice}]\n- name: bob\n  fixedHeaders: [{name: Signature, value: bob}]\n",
    )
    .unwrap();
    std::fs::write(
        folder.join("schemathesis.toml"),
        "[auth.wfc]\npath = \"wfc.yaml\"\npeers = [\"alice\", \"bob\"]\n",
    )
    .unwrap();
    let report = folder.join("report.json");
    let args = [
        "--config-file",
        "schemathesis.toml",
        "run",
        &format!("{url}/openapi.json"),
        "--checks",
        "ignored_auth,object_level_authorization,not_a_server_error,unsupported_method",
        "--max-examples",
        &examples.to_string(),
        "--max-time",
        &seconds.to_string(),
        "--seed",
        "1",
        "--continue-on-failure",
        "--request-timeout",
        "30",
        "--suppress-health-check",
        "all",
        "--report",
        "ndjson",
        "--report-ndjson-path",
        report.to_str().unwrap(),
        "--no-color",
    ]
    .map(str::to_owned);
    let told = run("schemathesis", &args, folder).await;
    let summary =
        told.split("SUMMARY").nth(1).unwrap_or_else(|| panic!("schemathesis came to no end: {told}"));
    println!("schemathesis: {summary}");
    assert!(!summary.contains("Errors:"), "schemathesis failed itself: {told}");
    told.lines().filter(|line| line.starts_with("- ST")).map(str::to_owned).chain([told.clone()]).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_the_twin_s_holes_and_none_here() {
    schemathesis_on(&Books::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_the_twin_s_holes_and_none_in_postgresql() {
    schemathesis_on(&Books::postgres()).await;
}

async fn schemathesis_on(books: &Books) {
    let folder = tempfile::tempdir().unwrap();
    let twin = Twin::start(books).await;
    let found = schemathesis(&twin.url, folder.path(), 20, 25).await;
    for code in ["ST401", "ST402", "ST101", "ST204"] {
        let is_found = found.iter().any(|line| line.starts_with(&format!("- {code}")));
        assert!(is_found, "schemathesis missed {code} of the twin: {}", found.last().unwrap());
    }

    let proxy = Proxy::start(books).await;
    let (examples, seconds) = match books {
        _ if is_long() => (200, 1200),
        Books::Sqlite => (8, 75),
        Books::Postgres(_) => (4, 45),
    };
    let found = schemathesis(&proxy.url, folder.path(), examples, seconds).await;
    let name = books.name();
    println!("schemathesis asked {name} {} times, {} of them signed", proxy.asked(), proxy.signed());
    let (all, lines) = found.split_last().unwrap();
    assert!(lines.is_empty(), "schemathesis found: {lines:?}\n{all}");
    assert!(proxy.signed() > 300, "only {} requests were somebody's", proxy.signed());
    proxy.stop().await;
}

/// What wapiti found, by kind.
async fn wapiti(url: &str, starts: &[&str], folder: &Path, seconds: u32) -> Vec<(String, usize)> {
    let report = folder.join("wapiti.json");
    let _ = std::fs::remove_file(&report);
    let mut args: Vec<String> = [
        "-u",
        &format!("{url}/"),
        "--scope",
        "folder",
        "-m",
        "sql,timesql,crlf,file,exec,methods,htaccess",
        "--flush-session",
        "--no-bugreport",
        "--max-scan-time",
        &(seconds / 3).to_string(),
        "--max-attack-time",
        &(seconds / 6).to_string(),
        "-H",
        "Signature: alice",
        "-f",
        "json",
        "-o",
        report.to_str().unwrap(),
        "--store-session",
        folder.join("session").to_str().unwrap(),
        "--store-config",
        folder.join("config").to_str().unwrap(),
    ]
    .map(str::to_owned)
    .to_vec();
    for start in starts {
        args.extend(["-s".into(), format!("{url}{start}")]);
    }
    let told = run("wapiti", &args, folder).await;
    let text = std::fs::read(&report).unwrap_or_else(|e| panic!("wapiti left no report ({e}): {told}"));
    let report: Value = serde_json::from_slice(&text).unwrap();
    println!("wapiti crawled {}", report["infos"]["crawled_pages_nbr"]);
    let found = report["vulnerabilities"].as_object().unwrap().iter();
    let found = found.map(|(kind, list)| (kind.clone(), list.as_array().map_or(0, Vec::len)));
    found.filter(|(_, number)| *number > 0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn wapiti_finds_the_twin_s_holes_and_none_here() {
    wapiti_on(&Books::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wapiti_finds_the_twin_s_holes_and_none_in_postgresql() {
    wapiti_on(&Books::postgres()).await;
}

async fn wapiti_on(books: &Books) {
    let folder = tempfile::tempdir().unwrap();
    let twin = Twin::start(books).await;
    let found = wapiti(&twin.url, &[], folder.path(), 60).await;
    for kind in ["SQL Injection", "CRLF Injection", "Path Traversal"] {
        assert!(found.iter().any(|(found, _)| found == kind), "wapiti missed {kind} of the twin: {found:?}");
    }

    let proxy = Proxy::start(books).await;
    let starts = [
        "/?q=a&limit=5",
        "/snapshots?from=0",
        "/signin?back=/console",
        "/console",
        "/api/v1/public/gpus?q=a",
        "/approve?code=AAAA-AAAA",
    ];
    let seconds = match books {
        _ if is_long() => 3600,
        Books::Sqlite => 60,
        Books::Postgres(_) => 30,
    };
    let found = wapiti(&proxy.url, &starts, folder.path(), seconds).await;
    println!("wapiti asked {} times", proxy.asked());
    assert!(found.is_empty(), "wapiti found {found:?}");
    assert!(proxy.asked() > 100, "wapiti asked {} times only", proxy.asked());
    proxy.stop().await;
}
