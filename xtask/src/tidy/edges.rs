//! Which room may depend on which. An edge that is not in this table needs a decision first.

use super::Finding;
use super::tree::Tree;

/// Each package and the rooms it may depend on, for tests too.
const ALLOWED: &[(&str, &[&str])] = &[
    ("gangline-types", &[]),
    ("gangline-proof", &["types"]),
    ("gangline-wire", &["types", "proof"]),
    ("gangline-guard", &["types", "wire"]),
    ("gangline-rules", &["types"]),
    ("gangline-store", &["types", "proof", "wire", "rules", "guard"]),
    ("gangline-pages", &["types"]),
    ("gangline-server", &["types", "proof", "wire", "guard", "rules", "store", "pages"]),
    ("gangline-worker", &["types", "wire", "proof"]),
    ("gangline", &["types", "proof", "wire", "guard", "rules", "store", "pages", "server", "worker"]),
    ("xtask", &[]),
];

/// Refuses edges that the table does not have, and packages that it does not know.
pub fn edges(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &tree.packages {
        let manifest = format!("{}/Cargo.toml", package.dir);
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            let cure = "write why it exists in docs/decisions/, then add it to xtask/src/tidy/edges.rs";
            findings.push(Finding::new(
                &manifest,
                0,
                format!("{} is a room nobody decided on", package.name),
                cure,
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let Some(room) = tree.package(&dependency.name) else { continue };
            if !allowed.iter().any(|allowed| room.name.strip_prefix("gangline-") == Some(allowed)) {
                let (path, line) = tree.manifest_line(package, &dependency.name);
                let problem = format!("{} may not depend on {}", package.name, dependency.name);
                let rooms = if allowed.is_empty() { "no room".into() } else { allowed.join(", ") };
                let cure = format!("it may know {rooms}; move the code to the room that already knows both");
                findings.push(Finding::new(&path, line, problem, cure));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rooms() -> Tree {
        Tree::of(&[("crates/pages/Cargo.toml", "[dependencies]\ngangline-store.workspace = true\n")])
            .with_room("gangline-types", &["serde"])
            .with_room("gangline-store", &["gangline-types", "sqlx"])
    }

    #[test]
    fn only_edges_in_the_table_pass() {
        assert_eq!(edges(&rooms()), []);
        let findings = edges(&rooms().with_room("gangline-pages", &["gangline-types", "gangline-store"]));
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].path.as_str(), findings[0].line), ("crates/pages/Cargo.toml", 2));
        let findings = edges(&rooms().with_room("gangline-worker", &["dev:gangline-store"]));
        assert_eq!(findings.len(), 1, "a test may not know more than its room");
    }

    #[test]
    fn a_room_without_a_decision_is_refused() {
        assert!(edges(&rooms().with_room("gangline-extra", &[]))[0].problem.contains("nobody decided"));
    }

    #[test]
    fn the_table_has_no_way_back() {
        // Whoever may be depended on stands earlier in the table, so there is no circle.
        for (at, (name, allowed)) in ALLOWED.iter().enumerate() {
            for room in *allowed {
                let room = format!("gangline-{room}");
                let place = ALLOWED.iter().position(|(name, _)| *name == room).unwrap();
                assert!(place < at, "{name} -> {room}");
            }
        }
    }
}
