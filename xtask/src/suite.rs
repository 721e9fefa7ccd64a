//! `cargo xtask test`: runs the groups in order, shows a table, and ends with one plain line of counts.

use crate::groups::{FIRST_NEEDED, GROUPS, Group};
use crate::workspace;
use anyhow::{Result, bail};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How a group ended.
#[derive(PartialEq, Eq)]
enum Outcome {
    Passed,
    /// With what it says about it itself, if anything.
    Failed(Option<String>),
    Skipped,
}

struct Row {
    name: &'static str,
    took: Duration,
    outcome: Outcome,
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    List,
    /// Names of groups, all of them known; every group if empty.
    Run(Vec<String>),
}

/// Runs what `args` name.
pub fn run(args: &[String]) -> Result<ExitCode> {
    let only = match parse(args)? {
        Request::List => {
            for group in GROUPS {
                println!("{:<10} {}", group.name, group.checks);
            }
            return Ok(ExitCode::SUCCESS);
        }
        Request::Run(only) => only,
    };
    let root = workspace::root();
    let chosen: Vec<&Group> =
        GROUPS.iter().filter(|g| only.is_empty() || only.iter().any(|n| n == g.name)).collect();
    let rows = walk(&chosen, |group| {
        println!("\n── {}: {}", group.name, group.checks);
        let held = (group.run)(&root);
        if let Err(error) = &held {
            println!("error: {error:#}");
        }
        held
    });
    print!("{}", summary(&rows));
    let failed = rows.iter().any(|row| matches!(row.outcome, Outcome::Failed(_)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn parse(args: &[String]) -> Result<Request> {
    let mut only = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let name = match arg.strip_prefix("--only") {
            Some("") => args.next().map(String::as_str).unwrap_or_default(),
            Some(rest) if rest.starts_with('=') => &rest[1..],
            _ if arg == "--list" => return Ok(Request::List),
            _ => bail!("unexpected argument `{arg}`; try --only GROUP or --list"),
        };
        if !GROUPS.iter().any(|group| group.name == name) {
            let names: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
            bail!("there is no group `{name}`; the groups are {}", names.join(", "));
        }
        only.push(name.to_owned());
    }
    Ok(Request::Run(only))
}

/// Runs every group even when one fails; but nothing after a failed build, which would only fail again.
fn walk(groups: &[&Group], mut passes: impl FnMut(&Group) -> Result<bool>) -> Vec<Row> {
    let mut cannot_go_on = false;
    let mut rows = Vec::new();
    for group in groups {
        let begun = Instant::now();
        let outcome = match cannot_go_on {
            true => Outcome::Skipped,
            false => match passes(group) {
                Ok(true) => Outcome::Passed,
                Ok(false) => Outcome::Failed(None),
                Err(error) => Outcome::Failed(Some(format!("{error:#}"))),
            },
        };
        cannot_go_on |= matches!(outcome, Outcome::Failed(_)) && group.name == FIRST_NEEDED;
        rows.push(Row { name: group.name, took: begun.elapsed(), outcome });
    }
    rows
}

fn summary(rows: &[Row]) -> String {
    let mut text = format!("\n{:<10} {:>8}  outcome\n", "group", "seconds");
    for row in rows {
        let outcome = match &row.outcome {
            Outcome::Passed => "passed",
            Outcome::Failed(_) => "FAILED",
            Outcome::Skipped => "skipped: the build failed",
        };
        text.push_str(&format!("{:<10} {:>8.1}  {outcome}\n", row.name, row.took.as_secs_f64()));
    }
    for row in rows {
        if let Outcome::Failed(Some(why)) = &row.outcome {
            text.push_str(&format!("\n{}: {why}\n", row.name));
        }
    }
    let count = |is: fn(&Outcome) -> bool| rows.iter().filter(|row| is(&row.outcome)).count();
    let passed = count(|outcome| *outcome == Outcome::Passed);
    text.push_str(&format!(
        "\n{passed} passed, {} failed",
        count(|outcome| matches!(outcome, Outcome::Failed(_)))
    ));
    match count(|outcome| *outcome == Outcome::Skipped) {
        0 => text.push('\n'),
        skipped => text.push_str(&format!(", {skipped} skipped\n")),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(failing: &[&str]) -> String {
        let all: Vec<&Group> = GROUPS.iter().collect();
        let text = summary(&walk(&all, |group| Ok(!failing.contains(&group.name))));
        text.lines().last().unwrap().to_owned()
    }

    #[test]
    fn the_last_line_counts_groups() {
        let all = GROUPS.len();
        assert_eq!(ends(&[]), format!("{all} passed, 0 failed"));
        assert_eq!(ends(&["fmt", "demo"]), format!("{} passed, 2 failed", all - 2));
    }

    #[test]
    fn what_a_failed_group_says_comes_after_the_table() {
        let fmt = GROUPS.iter().find(|group| group.name == "fmt").unwrap();
        let text = summary(&walk(&[fmt], |_| bail!("1 test failed\n  a::b")));
        let (_, end) = text.split_once("FAILED\n").unwrap();
        assert_eq!(end, "\nfmt: 1 test failed\n  a::b\n\n0 passed, 1 failed\n");
    }

    #[test]
    fn nothing_runs_after_a_failed_build() {
        assert_eq!(ends(&["build"]), format!("2 passed, 1 failed, {} skipped", GROUPS.len() - 3));
    }

    #[test]
    fn arguments_choose_groups() {
        let parse = |text: &str| parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("").unwrap(), Request::Run(vec![]));
        assert_eq!(parse("--only fmt --only=tidy").unwrap(), Request::Run(vec!["fmt".into(), "tidy".into()]));
        assert_eq!(parse("--list").unwrap(), Request::List);
        for refused in ["--only", "--only nothing", "fmt", "--onlyfmt", "--only="] {
            assert!(parse(refused).is_err(), "{refused}");
        }
    }
}
