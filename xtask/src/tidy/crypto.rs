//! The inventory of cryptography in docs/SECURITY.md: every room that is built on a crate of cryptography stands in its
//! row, and no other room does.

use super::Finding;
use super::tree::Tree;
use std::collections::BTreeSet;

const SECURITY: &str = "docs/SECURITY.md";
const HEADING: &str = "## Cryptography";
/// Crates that hash, sign, encrypt, draw randomness or keep secrets. One that is not here is found by review when it
/// comes into Cargo.toml.
const CRATES: [&str; 17] = [
    "blake3",
    "chacha20poly1305",
    "ed25519-dalek",
    "getrandom",
    "instant-acme",
    "openidconnect",
    "rcgen",
    "rustls",
    "rustls-platform-verifier",
    "sha1",
    "sha2",
    "subtle",
    "tokio-rustls",
    "webauthn_rp",
    "x509-parser",
    "zeroize",
    "argon2",
];

/// Crate and rooms of each row of the inventory, with its line.
fn rows(text: &str) -> Vec<(usize, &str, BTreeSet<&str>)> {
    let from = text.lines().position(|line| line == HEADING).map_or(usize::MAX, |line| line + 1);
    let section = text.lines().enumerate().skip(from).take_while(|(_, line)| !line.starts_with("## "));
    section
        .filter_map(|(number, line)| {
            let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
            let name = cells.first()?.trim_matches('`');
            let rooms = cells.get(1)?.split(',').map(str::trim).collect();
            CRATES.contains(&name).then_some((number + 1, name, rooms))
        })
        .collect()
}

/// Refuses an inventory that does not say what is so.
pub fn inventory(tree: &Tree) -> Vec<Finding> {
    let rows = rows(tree.text(SECURITY).unwrap_or_default());
    let cure = "write down in the inventory which room uses it, and what for";
    let mut findings = Vec::new();
    for name in CRATES {
        let uses = |package: &&crate::workspace::Package| {
            package.dir.starts_with("crates/")
                && package.dependencies.iter().any(|dep| dep.name == name && !dep.dev)
        };
        let used: BTreeSet<&str> = tree
            .packages
            .iter()
            .filter(uses)
            .filter_map(|package| package.dir.strip_prefix("crates/"))
            .collect();
        let row = rows.iter().find(|(_, of, _)| *of == name);
        let (line, said) = row.map_or((0, BTreeSet::new()), |(line, _, rooms)| (*line, rooms.clone()));
        if said != used {
            let list = |rooms: &BTreeSet<&str>| rooms.iter().copied().collect::<Vec<_>>().join(", ");
            let problem =
                format!("{name} is used by [{}], and {HEADING} says [{}]", list(&used), list(&said));
            findings.push(Finding::new(SECURITY, line, problem, cure));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, Package};

    #[test]
    fn the_inventory_names_every_room_that_uses_cryptography() {
        let check = |text: &str| {
            let mut tree = Tree::of(&[(SECURITY, text)]);
            let dependencies = |names: &[(&str, bool)]| {
                names.iter().map(|(name, dev)| Dependency { name: (*name).into(), dev: *dev }).collect()
            };
            let package = |dir: &str, names: &[(&str, bool)]| Package {
                dir: format!("crates/{dir}"),
                dependencies: dependencies(names),
                ..Package::default()
            };
            tree.packages = vec![
                package("wire", &[("sha2", false)]),
                package("guard", &[("sha2", false), ("rcgen", true)]),
            ];
            inventory(&tree).len()
        };
        assert_eq!(
            check("## Cryptography\n\n| `sha2` | guard, wire | digests |\n\n## Next\n| `rcgen` | a | b |"),
            0
        );
        assert_eq!(check("## Cryptography\n\n| `sha2` | wire | digests |"), 1, "a room is missing");
        assert_eq!(
            check("## Cryptography\n\n| `sha2` | guard, pages, wire | digests |"),
            1,
            "a room too many"
        );
        assert_eq!(check("| `sha2` | guard, wire | digests |"), 1, "another section");
    }
}
