//! `cargo xtask test`: runs the groups, some of them side by side, shows a table, and ends with one plain line of
//! counts.

use crate::groups::{FIRST_NEEDED, GROUPS, Group, Lane};
use crate::process::told_apart;
use crate::workspace;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
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
    Run {
        /// Names of groups, all of them known; every group if empty.
        only: Vec<String>,
        /// Where to write how each ended, instead of printing it.
        report: Option<PathBuf>,
    },
}

/// Runs what `args` name.
pub fn run(args: &[String]) -> Result<ExitCode> {
    let (only, report) = match parse(args)? {
        Request::List => {
            for group in GROUPS {
                println!("{:<10} {}", group.name, group.checks);
            }
            return Ok(ExitCode::SUCCESS);
        }
        Request::Run { only, report } => (only, report),
    };
    let root = workspace::root();
    let chosen: Vec<&Group> =
        GROUPS.iter().filter(|g| only.is_empty() || only.iter().any(|n| n == g.name)).collect();
    let rows = match chosen.len() {
        1 => walk(&chosen, |group| here(group, &root)),
        _ => {
            let program = Twin::new()?;
            in_lanes(&chosen, |group| here(group, &root), |group| beside(&program, group, &root))
        }
    };
    match report {
        Some(file) => {
            fs::write(&file, rows_as_json(&rows).to_string())
                .with_context(|| format!("cannot write the report {}", file.display()))?;
        }
        None => print!("{}", summary(&rows)),
    }
    let failed = rows.iter().any(|row| matches!(row.outcome, Outcome::Failed(_)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn parse(args: &[String]) -> Result<Request> {
    let mut only = Vec::new();
    let mut report = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (option, value) = match arg.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (arg.as_str(), None),
        };
        let mut value = || value.or_else(|| args.next().map(String::as_str)).unwrap_or_default();
        match option {
            "--list" if arg == option => return Ok(Request::List),
            "--only" => {
                let name = value();
                if !GROUPS.iter().any(|group| group.name == name) {
                    let names: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
                    bail!("there is no group `{name}`; the groups are {}", names.join(", "));
                }
                only.push(name.to_owned());
            }
            "--report" => match value() {
                "" => bail!("--report needs the name of a file"),
                file => report = Some(file.into()),
            },
            _ => bail!("unexpected argument `{arg}`; try --only GROUP, --report FILE or --list"),
        }
    }
    Ok(Request::Run { only, report })
}

/// Runs a group in this process.
fn here(group: &Group, root: &Path) -> Result<bool> {
    println!("\n── {}: {}", group.name, group.checks);
    let held = (group.run)(root);
    if let Err(error) = &held {
        println!("error: {error:#}");
    }
    held
}

/// A copy of this program, for as long as it is wanted: the build replaces the file that this one was started from.
struct Twin(PathBuf);

impl Twin {
    fn new() -> Result<Self> {
        let program = std::env::current_exe().context("cannot tell where this program is")?;
        let twin = Self(std::env::temp_dir().join(format!("gangline-xtask-{}", std::process::id())));
        fs::copy(&program, &twin.0)
            .with_context(|| format!("cannot copy {} to {}", program.display(), twin.0.display()))?;
        Ok(twin)
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Runs a group in a process of its own, each line that it prints with its name before it.
fn beside(program: &Twin, group: &Group, root: &Path) -> Result<bool> {
    let report = std::env::temp_dir().join(format!("gangline-{}-{}.json", group.name, std::process::id()));
    let mut command = Command::new(&program.0);
    command.args(["test", "--only", group.name, "--report"]).arg(&report).current_dir(root);
    let status = told_apart(command, group.name)?;
    let text = fs::read_to_string(&report).with_context(|| format!("it ended without a word ({status})"))?;
    let _ = fs::remove_file(&report);
    let told: Value = serde_json::from_str(&text).context("its report is not JSON")?;
    match &told["rows"][0]["why"] {
        Value::String(why) => bail!("{why}"),
        _ => Ok(status.success()),
    }
}

/// Runs groups by themselves first, and then those of each lane beside those of the other; but nothing after a failed
/// build. The rows come in the order of the groups.
fn in_lanes(
    groups: &[&Group],
    here: impl FnMut(&Group) -> Result<bool>,
    beside: impl Fn(&Group) -> Result<bool> + Sync,
) -> Vec<Row> {
    let of = |lane: Lane| groups.iter().copied().filter(|group| group.lane == lane).collect::<Vec<_>>();
    let mut rows = walk(&of(Lane::Alone), here);
    let built = !rows.iter().any(Row::ends_all);
    let lane = |lane: Lane| match built {
        true => walk(&of(lane), &beside),
        false => of(lane).into_iter().map(Row::skipped).collect(),
    };
    let (left, right) = thread::scope(|scope| {
        let left = scope.spawn(|| lane(Lane::Left));
        let right = lane(Lane::Right);
        (left.join().expect("a lane's thread"), right)
    });
    rows.extend(left);
    rows.extend(right);
    rows.sort_by_key(|row| groups.iter().position(|group| group.name == row.name));
    rows
}

impl Row {
    fn skipped(group: &Group) -> Self {
        Self { name: group.name, took: Duration::ZERO, outcome: Outcome::Skipped }
    }
    /// Whether what comes after it would only fail again.
    fn ends_all(&self) -> bool {
        self.name == FIRST_NEEDED && matches!(self.outcome, Outcome::Failed(_))
    }
}

/// Runs groups one after another, every one even when one fails; but nothing after a failed build.
fn walk(groups: &[&Group], mut passes: impl FnMut(&Group) -> Result<bool>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for group in groups {
        if rows.iter().any(Row::ends_all) {
            rows.push(Row::skipped(group));
            continue;
        }
        let begun = Instant::now();
        let outcome = match passes(group) {
            Ok(true) => Outcome::Passed,
            Ok(false) => Outcome::Failed(None),
            Err(error) => Outcome::Failed(Some(format!("{error:#}"))),
        };
        rows.push(Row { name: group.name, took: begun.elapsed(), outcome });
    }
    rows
}

impl Outcome {
    fn words(&self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed(_) => "FAILED",
            Outcome::Skipped => "skipped: the build failed",
        }
    }
    fn why(&self) -> Option<&str> {
        match self {
            Outcome::Failed(why) => why.as_deref(),
            _ => None,
        }
    }
}

/// `{"rows":[{"name","seconds","outcome","why"}]}`
fn rows_as_json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        json!({
            "name": row.name,
            "seconds": row.took.as_secs_f64(),
            "outcome": row.outcome.words(),
            "why": row.outcome.why(),
        })
    };
    json!({ "rows": rows.iter().map(row).collect::<Vec<_>>() })
}

fn summary(rows: &[Row]) -> String {
    let mut text = format!("\n{:<10} {:>8}  outcome\n", "group", "seconds");
    for row in rows {
        text.push_str(&format!(
            "{:<10} {:>8.1}  {}\n",
            row.name,
            row.took.as_secs_f64(),
            row.outcome.words()
        ));
    }
    for row in rows {
        if let Some(why) = row.outcome.why() {
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
        let passes = |group: &Group| Ok(!failing.contains(&group.name));
        let text = summary(&in_lanes(&all, passes, passes));
        text.lines().last().unwrap().to_owned()
    }

    fn named(names: &[&str]) -> Vec<&'static Group> {
        GROUPS.iter().filter(|group| names.contains(&group.name)).collect()
    }

    #[test]
    fn the_last_line_counts_groups() {
        let all = GROUPS.len();
        assert_eq!(ends(&[]), format!("{all} passed, 0 failed"));
        assert_eq!(ends(&["fmt", "demo"]), format!("{} passed, 2 failed", all - 2));
    }

    #[test]
    fn what_a_failed_group_says_comes_after_the_table_and_into_the_report() {
        let rows = walk(&named(&["fmt"]), |_| bail!("1 test failed\n  a::b"));
        let text = summary(&rows);
        let (_, end) = text.split_once("FAILED\n").unwrap();
        assert_eq!(end, "\nfmt: 1 test failed\n  a::b\n\n0 passed, 1 failed\n");
        let report = rows_as_json(&rows);
        assert_eq!(report["rows"][0]["why"], "1 test failed\n  a::b");
        assert_eq!(report["rows"][0]["outcome"], "FAILED");
        assert!(rows_as_json(&walk(&named(&["fmt"]), |_| Ok(true)))["rows"][0]["why"].is_null());
    }

    #[test]
    fn nothing_runs_after_a_failed_build() {
        assert_eq!(ends(&["build"]), format!("2 passed, 1 failed, {} skipped", GROUPS.len() - 3));
    }

    #[test]
    fn lanes_run_side_by_side_after_what_runs_alone_and_are_told_in_order() {
        let both = std::sync::Barrier::new(2);
        let done = std::sync::Mutex::new(Vec::new());
        let rows = in_lanes(
            &named(&["fmt", "fast", "oidc"]),
            |group| {
                done.lock().unwrap().push(group.name);
                Ok(true)
            },
            |_| {
                assert_eq!(*done.lock().unwrap(), ["fmt"]);
                // It would wait for ever if one came after the other.
                both.wait();
                Ok(true)
            },
        );
        assert_eq!(rows.iter().map(|row| row.name).collect::<Vec<_>>(), ["fmt", "fast", "oidc"]);
    }

    #[test]
    fn arguments_choose_groups() {
        let parse = |text: &str| parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        let run = |only: &[&str], report: Option<&str>| Request::Run {
            only: only.iter().map(|name| (*name).to_owned()).collect(),
            report: report.map(PathBuf::from),
        };
        assert_eq!(parse("").unwrap(), run(&[], None));
        assert_eq!(parse("--only fmt --only=tidy").unwrap(), run(&["fmt", "tidy"], None));
        assert_eq!(parse("--report=f --only fmt").unwrap(), run(&["fmt"], Some("f")));
        assert_eq!(parse("--list").unwrap(), Request::List);
        for refused in
            ["--only", "--only nothing", "fmt", "--onlyfmt", "--only=", "--report", "--report=", "--list=x"]
        {
            assert!(parse(refused).is_err(), "{refused}");
        }
    }
}
