//! What a room does without. Each absence holds up part of the design: a decision that reads no clock can be
//! replayed, a page that knows no store cannot leak, a statement that is not built cannot be injected.

use super::Finding;
use super::source::Source;
use super::tree::{Tree, is_test};

/// Rooms that decide or draw, and touch nothing.
const PURE: [&str; 4] = ["gangline-rules", "gangline-proof", "gangline-guard", "gangline-pages"];

/// Crates that a pure room does without: runtimes, networks, databases, clocks and global randomness.
const IMPURE_CRATES: &[&str] = &[
    "async-std",
    "axum",
    "chrono",
    "fastrand",
    "futures",
    "getrandom",
    "hyper",
    "hyper-util",
    "nix",
    "rand",
    "reqwest",
    "rusqlite",
    "smol",
    "sqlx",
    "tempfile",
    "time",
    "tokio",
    "tokio-postgres",
    "tokio-stream",
    "tokio-util",
    "tower",
    "uuid",
];

/// Modules of `std` that a pure room does without.
const IMPURE_MODULES: [&str; 4] = ["fs", "net", "env", "process"];

/// Names that a pure room does without: the clock, and the randomness hidden in a hash map's order.
const IMPURE_NAMES: [&str; 3] = ["SystemTime", "Instant", "RandomState"];

/// Refuses dependencies that a room does without.
pub fn crates(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &tree.packages {
        let pure = PURE.contains(&package.name.as_str());
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.dev) {
            let name = dependency.name.as_str();
            let (path, line) = tree.manifest_line(package, name);
            if pure && IMPURE_CRATES.contains(&name) {
                let cure = "time, randomness and data come in as arguments; do this in server or worker";
                findings.push(Finding::new(&path, line, format!("{} knows no {name}", package.name), cure));
            }
            if name.starts_with("sqlx") && package.name != "gangline-store" {
                let cure = "add a named operation to store and call that";
                findings.push(Finding::new(
                    &path,
                    line,
                    format!("only store knows SQL, not {}", package.name),
                    cure,
                ));
            }
        }
    }
    findings
}

/// Refuses names of `std` that a pure room does without.
pub fn names(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in tree.packages.iter().filter(|package| PURE.contains(&package.name.as_str())) {
        // Examples and benchmarks measure, and so have a clock; no room is built from them.
        for (path, text) in
            tree.rust_under(&format!("{}/src", package.dir)).filter(|(path, _)| !is_test(path))
        {
            let source = Source::new(text);
            let mut add = |line: usize, name: &str, cure: &str| {
                findings.push(Finding::new(
                    path,
                    line,
                    format!("{} does without {name}", package.name),
                    cure,
                ));
            };
            for module in IMPURE_MODULES {
                for line in source.std_module(module) {
                    add(line, &format!("std::{module}"), "take what was read as an argument");
                }
            }
            for name in IMPURE_NAMES {
                for line in source.uses(name) {
                    add(line, name, "take the time or the randomness as an argument");
                }
            }
            for (at, word) in source.words() {
                if word == "now" && source.code[..at].trim_end().ends_with("::") {
                    add(super::source::line_of(&source.code, at), "a clock", "take the time as an argument");
                }
            }
        }
    }
    findings
}

/// Names that turn a runtime string into SQL; nobody needs them.
const SQL_DOORS: [&str; 3] = ["AssertSqlSafe", "QueryBuilder", "raw_sql"];
const SQL_VERBS: [&str; 12] = [
    "SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH ", "CREATE ", "ALTER ", "DROP ", "REPLACE ", "PRAGMA ",
    "GRANT ", "VACUUM ",
];

/// The test that asks a database how it would answer the statements that stand in the sources. It runs none of them.
const ASKS_FOR_PLANS: &str = "crates/store/tests/plans.rs";

/// Refuses SQL that is put together at run time.
pub fn sql(tree: &Tree) -> Vec<Finding> {
    let cure = "write the whole statement as one string and bind what varies";
    let mut findings = Vec::new();
    for (path, text) in tree.rust_under("") {
        if path == ASKS_FOR_PLANS {
            continue;
        }
        let source = Source::with_tests(text);
        for door in SQL_DOORS {
            for line in source.uses(door) {
                findings.push(Finding::new(
                    path,
                    line,
                    format!("`{door}` lets SQL be built at run time"),
                    cure,
                ));
            }
        }
        if !path.starts_with("crates/store/") {
            continue;
        }
        for line in source.uses("leak") {
            let problem = "a leaked string passes for one that was written";
            findings.push(Finding::new(path, line, problem, cure));
        }
        for name in ["format", "write", "writeln"] {
            for (line, strings) in source.macro_strings(name) {
                let starts = |text: &str| SQL_VERBS.iter().any(|verb| text.to_uppercase().starts_with(verb));
                if strings.iter().any(|text| starts(text.trim_start())) {
                    findings.push(Finding::new(path, line, format!("SQL built with `{name}!`"), cure));
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pure_rooms_have_no_impure_crates() {
        let tree = Tree::default().with_room("gangline-rules", &["serde", "dev:tempfile"]);
        assert_eq!(crates(&tree), []);
        for refused in ["tokio", "sqlx", "rand", "axum"] {
            let tree = Tree::default().with_room("gangline-rules", &[refused]);
            assert!(!crates(&tree).is_empty(), "{refused}");
        }
        assert_eq!(crates(&Tree::default().with_room("gangline-worker", &["tokio"])), []);
    }

    #[test]
    fn only_store_has_sqlx() {
        assert_eq!(crates(&Tree::default().with_room("gangline-store", &["sqlx"])), []);
        assert_eq!(crates(&Tree::default().with_room("gangline-server", &["sqlx"])).len(), 1);
    }

    fn names_in(room: &str, text: &str) -> Vec<usize> {
        let path = format!("crates/{room}/src/gpu.rs");
        let tree = Tree::of(&[(&path, text)]).with_room(&format!("gangline-{room}"), &[]);
        names(&tree).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn pure_rooms_read_no_clock_file_or_network() {
        for refused in [
            "\nuse std::time::{Duration, Instant};",
            "\nlet t = std::time::SystemTime::now();",
            "\nuse std::{fmt, fs::File};",
            "\nstd::net::TcpStream::connect(a);",
            "\nlet t = jiff::Timestamp::now();",
            "\nlet home = std::env::var(name);",
        ] {
            let lines = names_in("proof", refused);
            assert!(!lines.is_empty() && lines.iter().all(|line| *line == 2), "{refused} {lines:?}");
            assert!(names_in("worker", refused).is_empty(), "{refused}");
        }
        for fine in [
            "//! Reads no std::fs and no Instant.",
            "fn f(now: UnixSeconds) { g(now) }",
            "let x = \"std::fs\";",
            "use std::time::Duration;",
            "#[cfg(test)]\nmod tests { use std::fs; }",
        ] {
            assert!(names_in("proof", fine).is_empty(), "{fine}");
        }
    }

    #[test]
    fn sql_is_written_whole() {
        let lines = |path: &str, text: &str| sql(&Tree::of(&[(path, text)])).len();
        let store = "crates/store/src/beats.rs";
        assert_eq!(lines(store, "sqlx::query(\"SELECT a FROM b WHERE c = ?\")"), 0);
        assert_eq!(lines(store, "sqlx::query(&format!(\"SELECT a FROM {table}\"))"), 1);
        assert_eq!(lines(store, "write!(sql, r#\" update b\"#)"), 1);
        assert_eq!(lines(store, "format!(\"cannot read table {table}\")"), 0);
        assert_eq!(lines(store, "let sql: &'static str = sql.leak();"), 1);
        assert_eq!(lines("crates/server/src/a.rs", "use sqlx::{AssertSqlSafe, QueryBuilder};"), 2);
        assert_eq!(lines(store, "// no QueryBuilder here"), 0);
        assert_eq!(lines("crates/store/tests/a.rs", "raw_sql(x)"), 1, "tests follow the same rule");
    }
}
