//! `cargo xtask tidy`: the repository's own rules, each a pure function from the checkout to what is wrong.
//!
//! A check sees text and Cargo's metadata, never the disk or another program, and so each has a test that
//! shows it both pass and fail.

mod absences;
mod crypto;
mod docs;
mod edges;
mod manifests;
mod places;
mod shown;
mod source;
mod sources;
mod tree;

use crate::workspace;
use anyhow::Result;
use tree::Tree;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    path: String,
    /// 1 for the first line; 0 where the whole file is meant.
    line: usize,
    problem: String,
    cure: String,
}

impl Finding {
    fn new(path: &str, line: usize, problem: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { path: path.into(), line, problem: problem.into(), cure: cure.into() }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let place = if self.line == 0 { self.path.clone() } else { format!("{}:{}", self.path, self.line) };
        write!(f, "{place}: {}\n    {}", self.problem, self.cure)
    }
}

type Check = fn(&Tree) -> Vec<Finding>;

const CHECKS: &[(&str, Check)] = &[
    ("edges between rooms", edges::edges),
    ("crates a room does without", absences::crates),
    ("names a room does without", absences::names),
    ("SQL is written, not built", absences::sql),
    ("modules say what they are for", sources::module_docs),
    ("files stay short", sources::length),
    ("nothing left undone", sources::undone),
    ("places on somebody's machine", places::machine_paths),
    ("other people's hosts", places::foreign_hosts),
    ("manifests", manifests::manifests),
    ("the README's first commands", docs::readme),
    ("paths in docs/ARCHITECTURE.md", docs::architecture),
    ("links between documents", docs::links),
    ("tests that docs/SECURITY.md names", shown::tests),
    ("the inventory of cryptography", crypto::inventory),
];

/// Runs every check over the checkout and prints what is wrong; `true` if nothing is.
pub fn run() -> Result<bool> {
    let tree = Tree::read(&workspace::root())?;
    let mut count = 0;
    for (name, check) in CHECKS {
        let findings = check(&tree);
        if !findings.is_empty() {
            println!("{name}:");
        }
        for finding in &findings {
            println!("  {finding}");
        }
        count += findings.len();
    }
    let (checks, files) = (CHECKS.len(), tree.files().count());
    println!("tidy: {checks} checks over {files} files, {count} findings");
    Ok(count == 0)
}
