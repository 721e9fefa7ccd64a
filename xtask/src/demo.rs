//! `cargo xtask demo`: installs what the demo needs, builds the program as users get it, and becomes it.

use crate::process::{cargo, program, shown, succeeds};
use crate::{install, ray, workspace};
use anyhow::{Context, Result};
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

/// Runs the demo with `args` passed on; does not return if it starts (on Unix).
pub fn run(args: &[String]) -> Result<ExitCode> {
    for packages in [install::BUILD, install::VULKAN, install::ISOLATION, install::RAY] {
        install::ensure(packages);
    }
    if let Err(error) = ray::ensure() {
        eprintln!("{error:#}\nGoing on without Ray; the demo says what then cannot run.");
    }
    let root = workspace::root();
    println!("Building (a few minutes the first time)");
    let mut build = cargo(&root);
    build.args(["build", "--release", "-p", "gangline"]);
    if !succeeds(build, 60)? {
        return Ok(ExitCode::FAILURE);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    // In the folder of whoever typed it, so that `--report FILE` means their file.
    let here = std::env::current_dir().context("cannot tell the current folder")?;
    let mut demo = program(target.join("release/gangline"), &here);
    demo.arg("demo").args(args).stdin(Stdio::inherit());
    let text = shown(&demo);
    #[cfg(unix)]
    return Err(std::os::unix::process::CommandExt::exec(&mut demo))
        .with_context(|| format!("cannot start `{text}`"));
    #[cfg(not(unix))]
    return match demo.status().with_context(|| format!("cannot start `{text}`"))?.success() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    };
}
