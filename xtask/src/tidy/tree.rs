//! The checkout as the checks see it: the text of every file that is or would be committed, and the packages.

use crate::process::program;
use crate::workspace::{self, Package};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;

/// The checkout in memory.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    files: BTreeMap<String, String>,
    /// The workspace's packages.
    pub packages: Vec<Package>,
    /// Folders of this machine that no text may name: the checkout's own and its user's home.
    pub private_places: Vec<String>,
}

impl Tree {
    /// Reads what Git tracks or would track under `root`. A file that is not text counts as an empty one.
    pub fn read(root: &Path) -> Result<Self> {
        let mut list = program("git", root);
        list.args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"]);
        let output =
            list.output().context("cannot start git, which says which files belong to the repository")?;
        if !output.status.success() {
            bail!("`git ls-files` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let mut files = BTreeMap::new();
        for path in output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()) {
            let path = String::from_utf8_lossy(path).into_owned();
            match std::fs::read(root.join(&path)) {
                Ok(bytes) => {
                    files.insert(path, String::from_utf8(bytes).unwrap_or_default());
                }
                // Deleted in the working tree and not yet in the index, or a link to a folder.
                Err(error) if !root.join(&path).is_file() => drop(error),
                Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
            }
        }
        let home = std::env::var("HOME").unwrap_or_default();
        let private_places = [root.to_string_lossy().into_owned(), home];
        Ok(Self {
            files,
            packages: workspace::packages(root)?,
            // A folder directly under the root, such as `/src`, is a name too common to look for.
            private_places: private_places.into_iter().filter(|p| p.matches('/').count() >= 2).collect(),
        })
    }

    /// Path and text of every file.
    pub fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// Text of one file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether there is such a file, or a folder with files in it.
    pub fn has(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let folder = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self.files.keys().any(|file| file.starts_with(&folder))
    }

    /// Path and text of every Rust file under `dir`, or everywhere if `dir` is empty.
    pub fn rust_under(&self, dir: &str) -> impl Iterator<Item = (&str, &str)> {
        let folder = if dir.is_empty() { String::new() } else { format!("{dir}/") };
        self.files().filter(move |(path, _)| path.starts_with(&folder) && path.ends_with(".rs"))
    }

    /// The package with this name.
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// A package's manifest, and the line in it that names `dependency` (0 if none does).
    pub fn manifest_line(&self, package: &Package, dependency: &str) -> (String, usize) {
        let path = format!("{}/Cargo.toml", package.dir);
        let names = |line: &str| {
            line.trim_start().strip_prefix(dependency).is_some_and(|rest| rest.starts_with([' ', '=', '.']))
        };
        let line = self.text(&path).and_then(|text| text.lines().position(names));
        (path, line.map_or(0, |line| line + 1))
    }
}

/// Whether a path holds tests or their data, for which some rules are looser.
pub fn is_test(path: &str) -> bool {
    let mut parts = path.split('/');
    let file = parts.next_back().unwrap_or_default();
    file == "tests.rs"
        || file.ends_with("_tests.rs")
        || parts.any(|part| ["tests", "testdata", "data"].contains(&part))
}

#[cfg(test)]
impl Tree {
    /// A checkout made of these files.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
        Self { files, ..Self::default() }
    }

    /// The same with a package in `crates/ROOM`; a dependency that starts with `dev:` is one for tests.
    pub fn with_room(mut self, name: &str, dependencies: &[&str]) -> Self {
        let dependency = |text: &&str| workspace::Dependency {
            name: text.trim_start_matches("dev:").into(),
            dev: text.starts_with("dev:"),
        };
        self.packages.push(Package {
            name: name.into(),
            dir: format!("crates/{}", name.trim_start_matches("gangline-")),
            dependencies: dependencies.iter().map(dependency).collect(),
            tests: vec![],
        });
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_exist_when_a_file_is_in_them() {
        let tree = Tree::of(&[("crates/wire/src/lib.rs", "")]);
        for there in ["crates/wire/src/lib.rs", "crates/wire", "crates/wire/", ""] {
            assert!(tree.has(there), "{there}");
        }
        for absent in ["crates/wir", "crates/wire/src/lib", "crates/wire/tests"] {
            assert!(!tree.has(absent), "{absent}");
        }
    }

    #[test]
    fn tests_are_told_from_code() {
        for test in
            ["crates/a/tests/b.rs", "crates/a/src/tests.rs", "crates/a/src/x/tests/y.rs", "a/b_tests.rs"]
        {
            assert!(is_test(test), "{test}");
        }
        for code in ["crates/a/src/attests.rs", "crates/a/src/contests/mod.rs", "crates/a/src/lib.rs"] {
            assert!(!is_test(code), "{code}");
        }
    }

    #[test]
    fn a_dependency_is_found_in_its_manifest() {
        let manifest = "[dependencies]\nhttp-body.workspace = true\nhttp.workspace = true\n";
        let tree = Tree::of(&[("crates/wire/Cargo.toml", manifest)]).with_room("gangline-wire", &["http"]);
        let package = tree.package("gangline-wire").unwrap();
        assert_eq!(tree.manifest_line(package, "http"), ("crates/wire/Cargo.toml".into(), 3));
        assert_eq!(tree.manifest_line(package, "hyper").1, 0);
    }

    #[test]
    fn this_checkout_reads() {
        let tree = Tree::read(&workspace::root()).unwrap();
        assert!(tree.has("xtask/src/tidy/tree.rs") && !tree.has("target"));
        assert!(tree.package("xtask").is_some());
    }
}
