//! What docs/SECURITY.md claims and a test shows: the test must be there under that name.

use super::Finding;
use super::tree::Tree;

const SECURITY: &str = "docs/SECURITY.md";

/// Refuses a table whose tests are not there.
pub fn tests(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(SECURITY) else {
        return vec![Finding::new(SECURITY, 0, "there is no such document", "write what is promised in it")];
    };
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // Every second piece between backticks is code.
        for code in line.split('`').skip(1).step_by(2) {
            let Some((path, name)) = code.split_once(".rs::") else { continue };
            let path = format!("{path}.rs");
            let is_there = tree.text(&path).is_some_and(|text| text.contains(&format!("fn {name}(")));
            if !is_there {
                let cure = "name the test that shows it now, or write \"not yet\"";
                findings.push(Finding::new(
                    SECURITY,
                    number + 1,
                    format!("{path} has no test `{name}`"),
                    cure,
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_test_must_exist() {
        let file = ("crates/a/tests/b.rs", "#[test]\nfn it_holds() {}\n");
        let check = |text: &str| tests(&Tree::of(&[file, (SECURITY, text)])).len();
        assert_eq!(check("| V1.1.1 | so | `crates/a/tests/b.rs::it_holds` |"), 0);
        assert_eq!(check("| V1.1.1 | so | `crates/a/tests/b.rs::it_held` |"), 1);
        assert_eq!(check("| V1.1.1 | so | `crates/a/tests/c.rs::it_holds` |"), 1);
        assert_eq!(check("| V1.1.2 | so | not yet |"), 0);
        assert_eq!(tests(&Tree::of(&[file])).len(), 1);
    }
}
