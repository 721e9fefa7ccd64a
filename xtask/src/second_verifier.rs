//! The environment of the second verifier of epoch proofs: a Python of its own with what that script needs. For tests
//! only.

use crate::process::{program, succeeds};
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// The hash and the signature; everything else is in the script.
const PACKAGES: [&str; 2] = ["blake3==1.0.11", "cryptography==50.0.2"];

/// The Python to run the script with, made if it is not there yet.
pub fn python(root: &Path) -> Result<PathBuf> {
    let folder = workspace::cache()?.join("tools/second-verifier");
    let (python, complete) = (folder.join("bin/python"), folder.join("complete"));
    let made_from = PACKAGES.join("\n");
    if fs::read_to_string(&complete).is_ok_and(|text| text == made_from) {
        return Ok(python);
    }
    println!("Making the environment of the second verifier of proofs in {}", folder.display());
    let mut make = program("/usr/bin/python3", root);
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    let mut install = program(&python, root);
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES);
    if !succeeds(make, 5)? || !succeeds(install, 10)? {
        bail!("the environment of the second verifier could not be made");
    }
    fs::write(complete, made_from).context("cannot mark the second verifier's environment complete")?;
    Ok(python)
}
