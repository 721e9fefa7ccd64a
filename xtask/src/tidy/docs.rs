//! What documents promise: the README's commands are those that CI runs, the paths they name exist, and the
//! links between them lead somewhere.

use super::Finding;
use super::tree::Tree;

const FIRST_COMMANDS: [&str; 2] = ["cargo xtask demo", "cargo xtask test"];

/// Refuses a README whose first commands are not the two that do all the set-up, or a CI that runs another.
pub fn readme(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let cure = format!("begin its first code block with `{}`", FIRST_COMMANDS.join("` and `"));
    match tree.text("README.md") {
        None => findings.push(Finding::new("README.md", 0, "there is no README.md", cure)),
        Some(text) => {
            let (line, commands) = first_block(text);
            let first: Vec<&str> = commands.iter().take(2).map(String::as_str).collect();
            if first != FIRST_COMMANDS {
                let problem = format!("the first commands are `{}`", first.join("` and `"));
                findings.push(Finding::new("README.md", line, problem, cure));
            }
        }
    }
    let calls = |text: &str| {
        text.lines().any(|line| !line.trim_start().starts_with('#') && line.contains(FIRST_COMMANDS[1]))
    };
    if !tree.text(".ci/run").is_some_and(calls) {
        let problem = format!("CI does not run `{}`", FIRST_COMMANDS[1]);
        findings.push(Finding::new(
            ".ci/run",
            0,
            problem,
            "call it there, so that the README's command is the one tested",
        ));
    }
    findings
}

/// The line of the first fenced block and the commands in it, without prompts and comments.
fn first_block(text: &str) -> (usize, Vec<String>) {
    let mut lines = text.lines().enumerate().skip_while(|(_, line)| !line.trim_start().starts_with("```"));
    let Some((start, _)) = lines.next() else { return (0, vec![]) };
    let commands = lines
        .map_while(|(_, line)| (!line.trim_start().starts_with("```")).then_some(line))
        .map(|line| line.trim().trim_start_matches("$ ").split(" #").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    (start + 1, commands)
}

const ARCHITECTURE: &str = "docs/ARCHITECTURE.md";

/// Refuses paths in the architecture document that lead nowhere.
pub fn architecture(tree: &Tree) -> Vec<Finding> {
    let Some(text) = tree.text(ARCHITECTURE) else {
        return vec![Finding::new(
            ARCHITECTURE,
            0,
            "there is no such document",
            "write the three walks in it",
        )];
    };
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        // Every second piece between backticks is code.
        for code in line.split('`').skip(1).step_by(2) {
            let Some(path) = repository_path(code) else { continue };
            if !tree.has(path) {
                let problem = format!("there is no `{path}`");
                findings.push(Finding::new(ARCHITECTURE, number + 1, problem, "name the file as it is now"));
            }
        }
    }
    findings
}

/// The path in a piece of code, if it is one in this repository: `crates/x/src/y.rs:12` and `…rs::name` count.
fn repository_path(code: &str) -> Option<&str> {
    let begins = ["crates/", "xtask/", "docs/", ".ci/"].iter().any(|start| code.starts_with(start));
    let path = code.split([':', '#', ' ', ',', '*', '<', '{']).next()?;
    begins.then_some(path)
}

/// Refuses links from one document to a file or heading that is not there.
pub fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.files().filter(|(path, _)| path.ends_with(".md")) {
        for (line, target) in targets(text) {
            if let Some(problem) = broken(tree, path, target) {
                findings.push(Finding::new(
                    path,
                    line,
                    problem,
                    "correct the link, or write what it leads to",
                ));
            }
        }
    }
    findings
}

/// Lines and targets of a document's links, those in code left out.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        for piece in line.split('`').step_by(2) {
            found.extend(
                piece
                    .split("](")
                    .skip(1)
                    .filter_map(|rest| rest.split([')', ' ']).next())
                    .map(|t| (number, t)),
            );
        }
        // A reference: `[name]: target`.
        if let Some((_, target)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
            found.push((number, target.trim()));
        }
    }
    found
}

/// The lines of a document that are not in fenced code, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((number + 1, line))
    })
}

fn broken(tree: &Tree, from: &str, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = if file.is_empty() { Some(from.to_owned()) } else { resolve(from, file) };
    let Some(path) = path.filter(|path| tree.has(path)) else {
        return Some(format!("the link to {target} leads nowhere"));
    };
    let has_heading =
        |text: &str| prose(text).any(|(_, line)| line.starts_with('#') && slug(line) == heading);
    if heading.is_empty() || !path.ends_with(".md") || tree.text(&path).is_some_and(has_heading) {
        return None;
    }
    Some(format!("{path} has no heading #{heading}"))
}

/// A link's path from the root; none if it leaves the repository.
fn resolve(from: &str, link: &str) -> Option<String> {
    let (folder, link) = match link.strip_prefix('/') {
        Some(link) => ("", link),
        None => (from.rsplit_once('/').map_or("", |(folder, _)| folder), link),
    };
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// A heading as links name it: lower case, words joined by hyphens, no other marks.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CI: (&str, &str) = (".ci/run", "#!/usr/bin/env bash\ncargo xtask test\n");

    #[test]
    fn the_readme_begins_with_the_two_commands() {
        let count = |text: &str| readme(&Tree::of(&[("README.md", text), CI])).len();
        assert_eq!(
            count("# A\n```sh\n# see it\ncargo xtask demo   # minutes\n$ cargo xtask test\nmore\n```\n"),
            0
        );
        for refused in [
            "# A",
            "```\ncargo xtask test\ncargo xtask demo\n```",
            "```\nmake\n```\n```\ncargo xtask demo\ncargo xtask test\n```",
            "```\ncargo xtask demo\n```\n",
        ] {
            assert_eq!(count(refused), 1, "{refused}");
        }
        assert_eq!(readme(&Tree::of(&[CI])).len(), 1, "no README at all");
    }

    #[test]
    fn ci_runs_what_the_readme_says() {
        let readme_text = "```\ncargo xtask demo\ncargo xtask test\n```";
        let count = |ci: &str| readme(&Tree::of(&[("README.md", readme_text), (".ci/run", ci)])).len();
        assert_eq!(count("set -eu\ncargo xtask test\n"), 0);
        assert_eq!(count("# cargo xtask test\ncargo test\n"), 1);
    }

    #[test]
    fn the_architecture_names_files_that_exist() {
        let count = |text: &str| {
            architecture(&Tree::of(&[(ARCHITECTURE, text), ("crates/wire/src/lib.rs", "")])).len()
        };
        for fine in [
            "`crates/wire/src/lib.rs`",
            "`crates/wire/`",
            "`crates/wire/src/lib.rs:12`",
            "`crates/*`",
            "crates/x",
        ] {
            assert_eq!(count(fine), 0, "{fine}");
        }
        assert_eq!(count("a `b` and `crates/wire/src/gone.rs::f`, `crates/none`"), 2);
        assert_eq!(architecture(&Tree::default()).len(), 1);
    }

    #[test]
    fn links_lead_somewhere() {
        let count = |text: &str| {
            links(&Tree::of(&[
                ("docs/a.md", text),
                ("README.md", "# Two words, here\n"),
                ("docs/b/c.md", ""),
            ]))
            .len()
        };
        for fine in [
            "[a](../README.md) and [b](b/c.md#)",
            "[a](/docs/b)",
            "[a](../README.md#two-words-here)",
            "[a](https://example.org/)",
            "`[a](gone.md)`",
            "```\n[a](gone.md)\n```",
            "# Own\n[a](#own)",
            "[a]: b/c.md",
        ] {
            assert_eq!(count(fine), 0, "{fine}");
        }
        for refused in [
            "[a](gone.md)",
            "[a](../../README.md)",
            "[a](../README.md#three)",
            "[a](#none)",
            "[a]: gone.md",
            "[a](b/c.md) [b](gone.md)",
        ] {
            assert_eq!(count(refused), 1, "{refused}");
        }
    }
}
