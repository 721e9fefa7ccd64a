//! Fuzz targets: builds them as `cargo fuzz` does but with the toolchain that is there, gives each its part of
//! the time, and fails if one of them found something. A find is kept, with how to run it again.

use crate::process::{cargo, program, succeeds};
use crate::{install, workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Every target, in the order in which they run. A test holds this to `fuzz/Cargo.toml`.
const TARGETS: [&str; 7] = ["signature", "wire", "beat", "transcript", "joining", "log", "witness"];
/// Seconds of each target in CI: two minutes in all.
const BRIEF_SECONDS: u64 = 18;
/// Seconds within which a target must come upon the hole that it is given; each takes one or two.
const HOLE_SECONDS: u64 = 120;
/// What libFuzzer ends with when it has found something.
const FOUND: i32 = 77;
/// Longest input, in bytes: the transcript of the seeds has a few ten thousand.
const INPUT_BYTES_MAX: &str = "131072";

/// What makes a program tell libFuzzer where it has been: all of it works with a stable compiler.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// The group of tests: every target for a short time, each after it has found the hole that it was given.
pub fn brief(root: &Path) -> Result<bool> {
    fuzz(root, &TARGETS, BRIEF_SECONDS)
}

/// `cargo xtask fuzz [--minutes N] [TARGET]...`
pub fn run(args: &[String]) -> Result<ExitCode> {
    let (minutes, targets) = asked(args)?;
    let seconds = (minutes * 60 / targets.len() as u64).max(1);
    let held = fuzz(&workspace::root(), &targets, seconds)?;
    Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Minutes in all, and the targets.
fn asked(args: &[String]) -> Result<(u64, Vec<&'static str>)> {
    let mut minutes = 10;
    let mut targets = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--minutes" {
            let number = args.next().context("--minutes needs a number")?;
            minutes = number.parse().with_context(|| format!("{number} is no number of minutes"))?;
        } else if let Some(known) = TARGETS.iter().find(|target| *target == arg) {
            targets.push(*known);
        } else {
            bail!("there is no fuzz target `{arg}`; there are {}", TARGETS.join(", "));
        }
    }
    Ok((minutes, if targets.is_empty() { TARGETS.to_vec() } else { targets }))
}

fn fuzz(root: &Path, targets: &[&str], seconds: u64) -> Result<bool> {
    install::ensure(install::FUZZER);
    // Named, so that build scripts are built without the flags.
    let host = workspace::host(root)?;
    let built = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let built = built.join("fuzz");
    let mut build = cargo(root);
    // Not --locked: when a room gets another dependency, the lock file of this workspace follows.
    build.args(["build", "--release", "--quiet", "--bins", "--manifest-path", "fuzz/Cargo.toml"]);
    build.args(["--target", &host, "--target-dir"]).arg(&built).env("RUSTFLAGS", FLAGS);
    println!("Building the fuzz targets (a few minutes the first time)");
    if !succeeds(build, 30)? {
        return Ok(false);
    }
    let programs = built.join(&host).join("release");
    let corpus = built.join("corpus");
    let mut seeds = program(programs.join("seeds"), root);
    seeds.args(["-runs=0", "-verbosity=0"]).env("GANGLINE_FUZZ_SEEDS", &corpus);
    if !succeeds(seeds, 2)? {
        return Ok(false);
    }
    let mut held = true;
    for target in targets {
        if !finds_a_hole(root, &built, &programs, target)? {
            held = false;
            continue;
        }
        let finds = built.join("finds").join(target);
        fs::create_dir_all(&finds).with_context(|| format!("cannot make folder {}", finds.display()))?;
        println!("Fuzzing {target} for {seconds} s");
        let mut command = program(programs.join(target), root);
        command.arg(corpus.join(target));
        command.arg(format!("-max_total_time={seconds}"));
        command.args([&format!("-max_len={INPUT_BYTES_MAX}"), "-timeout=20", "-rss_limit_mb=2048"]);
        command.args(["-print_final_stats=1", "-verbosity=0"]);
        command.arg(format!("-artifact_prefix={}/", finds.display()));
        if !succeeds(command, u32::try_from(seconds / 60).unwrap_or(u32::MAX).saturating_add(5))? {
            println!(
                "What {target} found lies in {}; run it again with {} FILE",
                finds.display(),
                programs.join(target).display()
            );
            held = false;
        }
    }
    Ok(held)
}

/// Whether a target that forgets one check comes upon what that lets through. One that does not would say nothing by
/// finding nothing.
fn finds_a_hole(root: &Path, built: &Path, programs: &Path, target: &str) -> Result<bool> {
    let corpus = built.join("corpus");
    let mut command = program(programs.join(target), root);
    command.arg(corpus.join(target)).env("GANGLINE_FUZZ_PLANTED", "1");
    command.args([&format!("-max_total_time={HOLE_SECONDS}"), &format!("-max_len={INPUT_BYTES_MAX}")]);
    let planted = built.join("planted");
    fs::create_dir_all(&planted).with_context(|| format!("cannot make folder {}", planted.display()))?;
    command.args(["-verbosity=0", "-seed=1", &format!("-artifact_prefix={}/", planted.display())]);
    let began = std::time::Instant::now();
    let output = command.output().with_context(|| format!("cannot start the fuzz target {target}"))?;
    let told = String::from_utf8_lossy(&output.stderr);
    let is_found = output.status.code() == Some(FOUND) && told.contains("panicked");
    if is_found {
        println!("{target} found the hole it was given after {:.1} s", began.elapsed().as_secs_f64());
    } else {
        println!(
            "{target} did not find the hole it was given, so what it finds nothing in says nothing: {told}"
        );
    }
    Ok(is_found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_targets_are_read() {
        let read = |args: &[&str]| asked(&args.iter().map(|a| a.to_string()).collect::<Vec<_>>());
        assert_eq!(read(&[]).unwrap(), (10, TARGETS.to_vec()));
        assert_eq!(read(&["--minutes", "60", "log"]).unwrap(), (60, vec!["log"]));
        for bad in [&["--minutes"] as &[&str], &["--minutes", "x"], &["nothing"]] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_target_runs() {
        let manifest = include_str!("../../fuzz/Cargo.toml");
        let names = manifest.split("[[bin]]").skip(1).filter_map(|bin| bin.split('"').nth(1));
        let names: Vec<&str> = names.filter(|name| *name != "seeds").collect();
        assert_eq!(names, TARGETS);
    }
}
