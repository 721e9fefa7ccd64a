//! Environments of Python programs that tests are run with or against. They are for tests only and ship nowhere.

use crate::process::{program, succeeds};
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The Python of an environment that holds `name` in this version, made once.
pub fn with(root: &Path, name: &str, version: &str) -> Result<PathBuf> {
    let folder = workspace::cache()?.join(format!("tools/{name}-{version}"));
    let python = folder.join("bin/python");
    if !folder.join("complete").is_file() {
        println!("Making the environment of {name} {version} in {}", folder.display());
        let mut make = program("/usr/bin/python3", root);
        make.args(["-m", "venv", "--clear"]).arg(&folder);
        let mut install = program(&python, root);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        install.arg(format!("{name}=={version}"));
        if !succeeds(make, 5)? || !succeeds(install, 10)? {
            bail!("the environment of {name} {version} could not be made");
        }
        let mark = folder.join("complete");
        fs::write(&mark, "").with_context(|| format!("cannot write {}", mark.display()))?;
    }
    Ok(python)
}
