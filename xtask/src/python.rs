//! Environments of Python programs that tests are run with or against. They are for tests only and ship nowhere.

use crate::process::{program, succeeds};
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Holds what an environment was made of; written last, so that a half-made one is made anew.
const COMPLETE: &str = "complete";

/// The folder of an environment that holds these packages, each with its version, made once.
pub fn environment(root: &Path, name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = workspace::cache()?.join("tools").join(name);
    let wanted = packages.join(" ");
    let _alone = workspace::one_at_a_time()?;
    if fs::read_to_string(folder.join(COMPLETE)).is_ok_and(|made_of| made_of == wanted) {
        return Ok(folder);
    }
    println!("Making the environment of {wanted} in {}", folder.display());
    let mut make = program("/usr/bin/python3", root);
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    let mut install = program(folder.join("bin/python"), root);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    if !succeeds(make, 5)? || !succeeds(install, 15)? {
        bail!("the environment of {wanted} could not be made");
    }
    let mark = folder.join(COMPLETE);
    fs::write(&mark, wanted).with_context(|| format!("cannot write {}", mark.display()))?;
    Ok(folder)
}

/// The Python of an environment that holds one package in this version.
pub fn with(root: &Path, name: &str, version: &str) -> Result<PathBuf> {
    let folder = environment(root, &format!("{name}-{version}"), &[&format!("{name}=={version}")])?;
    Ok(folder.join("bin/python"))
}
