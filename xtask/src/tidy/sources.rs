//! What every source file keeps to: it says what it is for, it is short, and nothing in it waits to be done.

use super::Finding;
use super::source::{Source, line_of};
use super::tree::{Tree, is_test};

/// Refuses Rust files whose first line does not say what the module is for.
pub fn module_docs(tree: &Tree) -> Vec<Finding> {
    let cure = "open it with `//!` and what it is for, and what it refuses to know";
    let first = |text: &str| text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().to_owned();
    let says = |line: &str| line.strip_prefix("//!").is_some_and(|rest| rest.split_whitespace().count() >= 2);
    tree.rust_under("")
        .filter(|(path, text)| !says(&first(text)) && !path.contains("/testdata/"))
        .map(|(path, _)| Finding::new(path, 1, "the module does not say what it is for", cure))
        .collect()
}

/// The most lines a file may have. Longer ones are where everything goes.
const LINES_MAX: usize = 800;
const WRITTEN: [&str; 9] = ["rs", "md", "html", "css", "js", "sql", "sh", "py", "wgsl"];

/// Refuses long files, tests and data excepted.
pub fn length(tree: &Tree) -> Vec<Finding> {
    let written = |path: &str| path.rsplit_once('.').is_some_and(|(_, end)| WRITTEN.contains(&end));
    tree.files()
        .filter(|(path, _)| written(path) && !is_test(path))
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| {
            let problem = format!("{lines} lines, more than {LINES_MAX}");
            Finding::new(path, LINES_MAX + 1, problem, "split it by resource, one file each")
        })
        .collect()
}

/// Refuses tests that do not run and code that is not there.
pub fn undone(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.rust_under("") {
        let source = Source::with_tests(text);
        for (at, word) in source.words() {
            let before = source.code[..at].trim_end();
            let after = source.code[at + word.len()..].trim_start();
            let (problem, cure) = match word {
                "todo" | "unimplemented" if after.starts_with('!') => {
                    ("code that is not there", "write it, or leave out what would call it")
                }
                "ignore" if before.ends_with(['[', ',', '(']) && attribute(before) => (
                    "a test that does not run",
                    "make it run, give it a group of its own in xtask, or delete it",
                ),
                _ => continue,
            };
            findings.push(Finding::new(path, line_of(&source.code, at), problem, cure));
        }
    }
    findings
}

/// Whether text that ends inside brackets is within `#[...]`, alone or as part of `cfg_attr`.
fn attribute(before: &str) -> bool {
    let open = before.rfind("#[").map(|at| &before[at..]);
    open.is_some_and(|open| open == "#[" || (open.starts_with("#[cfg_attr(") && !open.contains(']')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_open_with_their_purpose() {
        let count = |text: &str| module_docs(&Tree::of(&[("crates/a/src/b.rs", text)])).len();
        assert_eq!(count("//! Counts beats; knows no clock.\nfn f() {}"), 0);
        for refused in ["fn f() {}", "", "//!\nfn f() {}", "//! beats", "use a;\n//! Counts beats."] {
            assert_eq!(count(refused), 1, "{refused}");
        }
    }

    #[test]
    fn long_files_are_refused_unless_they_hold_tests_or_data() {
        let (short, long) = ("x\n".repeat(LINES_MAX), "x\n".repeat(LINES_MAX + 1));
        let count = |path: &str, text: &str| length(&Tree::of(&[(path, text)])).len();
        assert_eq!(count("crates/a/src/b.rs", &short), 0);
        assert_eq!(count("crates/a/src/b.rs", &long), 1);
        assert_eq!(count("crates/a/assets/site.css", &long), 1);
        for excepted in ["crates/a/tests/b.rs", "crates/a/src/tests.rs", "crates/a/data/b.py", "Cargo.lock"] {
            assert_eq!(count(excepted, &long), 0, "{excepted}");
        }
    }

    #[test]
    fn nothing_waits_to_be_done() {
        let lines = |text: &str| -> Vec<usize> {
            undone(&Tree::of(&[("crates/a/tests/b.rs", text)])).iter().map(|finding| finding.line).collect()
        };
        for refused in [
            "\ntodo!()",
            "\nunimplemented!(\"later\")",
            "\n#[ignore]\nfn f() {}",
            "\n#[ignore = \"slow\"]\nfn f() {}",
            "\n#[cfg_attr(not(unix), ignore)]\nfn f() {}",
        ] {
            assert_eq!(lines(refused), [2], "{refused}");
        }
        for fine in
            ["// todo!()", "\"todo!()\"", "let ignore = [ignore, 1];", "#[a]\nf(x, ignore)", "fn todo() {}"]
        {
            assert!(lines(fine).is_empty(), "{fine}");
        }
    }
}
