//! How long what is written down is kept: docs/SECURITY.md says it of every table, and this holds it to the schema.

#![allow(clippy::unwrap_used)]

use std::{collections::BTreeSet, path::Path};

/// Tables of a folder of migrations, without their schema.
fn tables(folder: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(folder);
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("CREATE TABLE ") else { continue };
            let name = rest.trim_start_matches("IF NOT EXISTS ").split([' ', '(']).next().unwrap();
            found.insert(name.rsplit('.').next().unwrap().to_owned());
        }
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("DROP TABLE ") else { continue };
            found.remove(rest.trim_end_matches(';'));
        }
    }
    found
}

#[test]
fn every_table_says_how_long_it_is_kept() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/SECURITY.md");
    let text = std::fs::read_to_string(document).unwrap();
    let (_, rest) = text.split_once("\n## What is kept, and for how long\n").expect("the section is there");
    let section = rest.split("\n## ").next().unwrap();
    let said: BTreeSet<String> = section
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| !code.starts_with('-'))
        .map(str::to_owned)
        .collect();
    for folder in ["main", "public", "postgres"] {
        let silent: Vec<String> = tables(folder).into_iter().filter(|table| !said.contains(table)).collect();
        assert!(
            silent.is_empty(),
            "tables of {folder} of which SECURITY.md does not say how long they are kept: {silent:?}"
        );
    }
}
