//! What every manifest inherits: one licence, one set of lints, one edition, and never a release to a registry.

use super::Finding;
use super::tree::Tree;
use toml::{Table, Value};

const LICENSE: &str = "Apache-2.0";
const INHERITED: [&str; 4] = ["license", "edition", "rust-version", "publish"];

/// Refuses manifests that do not inherit what the workspace sets.
pub fn manifests(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in
        tree.files().filter(|(path, _)| *path == "Cargo.toml" || path.ends_with("/Cargo.toml"))
    {
        let mut add = |key: &str, problem: String, cure: &str| {
            let line =
                text.lines().position(|line| line.trim_start().starts_with(key)).map_or(0, |line| line + 1);
            findings.push(Finding::new(path, line, problem, cure));
        };
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                add("\0", format!("not TOML: {}", error.message()), "correct it");
                continue;
            }
        };
        if path == "Cargo.toml" {
            let shared = table.get("workspace").and_then(|workspace| workspace.get("package"));
            if shared.and_then(|package| package.get("license")) != Some(&Value::from(LICENSE)) {
                add(
                    "license",
                    format!("the workspace's licence is not {LICENSE}"),
                    "set it in [workspace.package]",
                );
            }
            if table.get("workspace").and_then(|workspace| workspace.get("lints")).is_none() {
                add("[workspace", "the workspace has no lints".into(), "set them in [workspace.lints]");
            }
            continue;
        }
        for key in INHERITED {
            let value = table.get("package").and_then(|package| package.get(key));
            if value.is_none_or(|value| !inherits(value)) {
                let problem = format!("`{key}` is not the workspace's");
                add(key, problem, &format!("write `{key}.workspace = true` under [package]"));
            }
        }
        if table.get("lints").is_none_or(|lints| !inherits(lints)) {
            add(
                "[lints",
                "lints are not the workspace's".into(),
                "write `[lints]` and under it `workspace = true`",
            );
        }
    }
    findings
}

fn inherits(value: &Value) -> bool {
    value.get("workspace") == Some(&Value::from(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str =
        "[workspace.package]\nlicense = \"Apache-2.0\"\n[workspace.lints.rust]\nunsafe_code = \"forbid\"\n";
    const ROOM: &str = "[package]\nname = \"a\"\nlicense.workspace = true\nedition.workspace = true\n\
                        rust-version.workspace = true\npublish.workspace = true\n[lints]\nworkspace = true\n";

    fn problems(path: &str, text: &str) -> usize {
        manifests(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn everything_shared_is_inherited() {
        assert_eq!(problems("Cargo.toml", ROOT), 0);
        assert_eq!(problems("crates/a/Cargo.toml", ROOM), 0);
        for line in ROOM.lines().filter(|line| line.contains("workspace")) {
            assert_eq!(problems("crates/a/Cargo.toml", &ROOM.replacen(line, "", 1)), 1, "without {line}");
        }
        assert_eq!(
            problems("crates/a/Cargo.toml", &ROOM.replace("license.workspace = true", "license = \"MIT\"")),
            1
        );
        assert_eq!(problems("Cargo.toml", &ROOT.replace("Apache-2.0", "MIT")), 1);
        assert_eq!(problems("Cargo.toml", "[workspace.package]\nlicense = \"Apache-2.0\"\n"), 1);
        assert_eq!(problems("crates/a/Cargo.toml", "[package"), 1);
    }
}
