//! cargo-deny: what may come in from outside, and whether anything is known against what has.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{
    process::{cargo, program, succeeds},
    workspace,
};

/// The version whose configuration `deny.toml` is written for.
const VERSION: &str = "0.20.2";
/// Where a database that somebody has fetched is said to be from: nobody is asked.
const ELSEWHERE: &str = "https://fetched.example/advisories";
/// The folder in which this version looks for the database from there.
const FETCHED: &str = "advisories-2552ca58694f935a";

/// Banned crates, licences and sources.
pub fn bans(root: &Path) -> Result<bool> {
    println!(
        "advisories are not asked for here, for their database is elsewhere: `cargo xtask advisories` does that"
    );
    let mut command = deny(root)?;
    command.args(["check", "bans", "licenses", "sources"]);
    succeeds(command, 10)
}

/// Asks the database of advisories about every dependency: the public one, or a clone of it that was fetched where that
/// can be reached, and is not older than 90 days.
pub fn advisories(root: &Path, fetched: Option<&Path>) -> Result<bool> {
    match fetched {
        None => {
            let mut command = deny(root)?;
            command.args(["check", "advisories"]);
            succeeds(command, 10)
        }
        Some(database) => {
            let work = Work::new("advisories")?;
            succeeds(asking(root, database, &work.0)?, 10)
        }
    }
}

/// cargo-deny over everything, installed if it is not there.
fn deny(root: &Path) -> Result<Command> {
    let tools = workspace::cache()?.join(format!("tools/cargo-deny-{VERSION}"));
    let binary = tools.join("bin/cargo-deny");
    if !binary.is_file() {
        println!("Installing cargo-deny {VERSION} into {} (a few minutes, once)", tools.display());
        // Unoptimised: it builds in a third of the time and runs in seconds all the same.
        let mut command = cargo(root);
        command.args(["install", "cargo-deny", "--version", VERSION]);
        command.args(["--locked", "--debug", "--quiet", "--root"]).arg(&tools);
        anyhow::ensure!(succeeds(command, 30)?, "cargo-deny could not be installed");
    }
    let mut command = program(&binary, root);
    command.args(["--workspace", "--all-features"]);
    Ok(command)
}

/// The same with the database in a folder, which is linked to where cargo-deny expects one that it has fetched.
fn asking(root: &Path, database: &Path, work: &Path) -> Result<Command> {
    let database = fs::canonicalize(database)
        .with_context(|| format!("there is no database of advisories in {}", database.display()))?;
    let config = work.join("deny.toml");
    let text =
        format!("[advisories]\ndb-path = {:?}\ndb-urls = [{ELSEWHERE:?}]\n", work.display().to_string());
    fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
    #[cfg(unix)]
    std::os::unix::fs::symlink(&database, work.join(FETCHED)).context("cannot link to the database")?;
    let mut command = deny(root)?;
    command.arg("--offline").arg("--config").arg(config).args(["check", "advisories"]);
    Ok(command)
}

/// A folder that goes with this value.
struct Work(PathBuf);

impl Work {
    fn new(name: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("gangline-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make folder {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAW: &str = r#"```toml
[advisory]
id = "RUSTSEC-2000-0001"
package = "PACKAGE"
date = "2000-01-01"

[versions]
patched = []
```

# A flaw that is made up
"#;

    /// A database as the public one is laid out, with this about a package.
    fn database(folder: &Path, package: &str) {
        let about = folder.join("crates").join(package);
        fs::create_dir_all(&about).unwrap();
        fs::write(about.join("RUSTSEC-2000-0001.md"), FLAW.replace("PACKAGE", package)).unwrap();
        for args in [&["init", "--quiet"] as &[&str], &["add", "."], &["commit", "--quiet", "-m", "made up"]]
        {
            let mut git = program("git", folder);
            git.args([
                "-c",
                "user.name=test",
                "-c",
                "user.email=test@example.org",
                "-c",
                "commit.gpgsign=false",
            ]);
            assert!(git.args(args).status().unwrap().success());
        }
    }

    #[test]
    fn a_flaw_that_is_planted_in_a_database_is_found_and_none_where_there_is_none() {
        for (package, is_found) in [("serde_json", true), ("a-crate-of-nobody", false)] {
            let made = Work::new(&format!("{package}-database")).unwrap();
            let work = Work::new(package).unwrap();
            database(&made.0, package);
            let told = asking(&workspace::root(), &made.0, &work.0).unwrap().output().unwrap();
            let text = String::from_utf8_lossy(&told.stderr) + String::from_utf8_lossy(&told.stdout);
            assert_eq!(told.status.success(), !is_found, "{package}: {text}");
            assert_eq!(text.contains("RUSTSEC-2000-0001"), is_found, "{package}: {text}");
        }
    }
}
