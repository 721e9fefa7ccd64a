//! The Ray environment: a Python virtual environment in the cache folder, with every version pinned, made
//! once and kept. It can be interrupted at any time; a half-made one is never taken for a whole one.

use crate::process::find;
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// What is installed. The exact versions are in the constraints.
const REQUIREMENT: &str = "ray[default]==2.60.*";
const CONSTRAINTS: &str = include_str!("../ray-constraints.txt");
/// Holds the constraints that the environment was made from; written last, so its presence means whole.
const COMPLETE: &str = ".gangline-complete";
/// There while the environment is being made.
const UNFINISHED: &str = ".gangline-unfinished";

/// The Python that the environment is made with: the system's own where there is one, because a sandbox shows
/// a renter's program the system's folders and not those of whoever installed a Python of their own.
pub fn python() -> Option<PathBuf> {
    let system = PathBuf::from("/usr/bin/python3");
    if system.is_file() { Some(system) } else { find("python3") }
}

/// Where the environment is: `$GANGLINE_RAY_HOME`, or `gangline/ray-2.60` in the cache folder.
pub fn home() -> Result<PathBuf> {
    match std::env::var_os("GANGLINE_RAY_HOME").filter(|value| !value.is_empty()) {
        Some(home) => Ok(home.into()),
        None => Ok(workspace::cache()?.join("ray-2.60")),
    }
}

/// Makes the environment unless it is there, and answers where it is.
pub fn ensure() -> Result<PathBuf> {
    let home = home()?;
    let parent = home.parent().context("the Ray environment cannot be the root folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make folder {}", parent.display()))?;
    // Two commands started side by side make it once: the second waits here.
    let mut lock_path = home.clone().into_os_string();
    lock_path.push(".lock");
    let _alone = workspace::lock(Path::new(&lock_path))?;
    if is_complete(&home) {
        return Ok(home);
    }
    println!("Making the Ray environment in {} (about 400 MB, once)", home.display());
    make(&home).with_context(|| format!("cannot make the Ray environment in {}", home.display()))?;
    Ok(home)
}

fn is_complete(home: &Path) -> bool {
    fs::read_to_string(home.join(COMPLETE)).is_ok_and(|made_from| made_from == CONSTRAINTS)
}

fn make(home: &Path) -> Result<()> {
    let python = python().context("there is no python3; install python3 and python3-venv")?;
    if home.join(UNFINISHED).exists() {
        fs::remove_dir_all(home).context("cannot remove what an interrupted run left")?;
    }
    if home.exists() && !home.join("pyvenv.cfg").exists() && fs::read_dir(home)?.next().is_some() {
        bail!("the folder holds something else; set GANGLINE_RAY_HOME to another one");
    }
    fs::create_dir_all(home)?;
    fs::write(home.join(UNFINISHED), "")?;
    let status = Command::new(&python).args(["-m", "venv"]).arg(home).stdin(Stdio::null()).status()?;
    if !status.success() {
        bail!("`{} -m venv` failed; install python3-venv", python.display());
    }
    let constraints = home.join("constraints.txt");
    fs::write(&constraints, CONSTRAINTS)?;
    install(home, &constraints)?;
    fs::write(home.join(COMPLETE), CONSTRAINTS)?;
    fs::remove_file(home.join(UNFINISHED))?;
    Ok(())
}

fn install(home: &Path, constraints: &Path) -> Result<()> {
    let mut command = Command::new(home.join("bin/python"));
    command
        .args(["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"])
        .arg("--constraint")
        .arg(constraints)
        .arg(REQUIREMENT)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start pip")?;
    let output = child.stdout.take().context("pip has no output")?;
    let (lines, received) = channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    let packages = CONSTRAINTS.lines().filter(|line| line.contains("==")).count();
    let mut bar = Bar::new(Progress::new(packages));
    let mut transcript = String::new();
    loop {
        match received.recv_timeout(Duration::from_millis(200)) {
            Ok(line) => {
                bar.progress.line(&line);
                transcript.push_str(&line);
                transcript.push('\n');
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        bar.progress.installed = installed(home);
        bar.draw();
    }
    let _ = reader.join();
    let status = child.wait().context("cannot wait for pip")?;
    bar.end();
    if !status.success() {
        eprint!("{transcript}");
        bail!("pip failed ({status})");
    }
    Ok(())
}

/// How many packages have arrived in the environment: each writes one `.dist-info` folder.
fn installed(home: &Path) -> usize {
    let Ok(versions) = fs::read_dir(home.join("lib")) else { return 0 };
    let sites = versions.flatten().map(|entry| entry.path().join("site-packages"));
    let names = sites.filter_map(|site| fs::read_dir(site).ok()).flatten().flatten();
    names.filter(|entry| entry.path().extension().is_some_and(|ext| ext == "dist-info")).count()
}

/// How far pip is, from the lines it prints and the folders it writes.
struct Progress {
    total: usize,
    collected: BTreeSet<String>,
    installed: usize,
    doing: String,
}

impl Progress {
    fn new(total: usize) -> Self {
        Self { total, collected: BTreeSet::new(), installed: 0, doing: "starting".into() }
    }

    /// Takes in one line of pip's output.
    fn line(&mut self, line: &str) {
        let line = line.trim();
        if let Some(rest) =
            line.strip_prefix("Collecting ").or(line.strip_prefix("Requirement already satisfied: "))
        {
            let name =
                rest.split(|c: char| !(c.is_alphanumeric() || "-_.".contains(c))).next().unwrap_or_default();
            self.collected.insert(name.to_lowercase().replace(['_', '.'], "-"));
            self.doing = format!("finding {name}");
        } else if let Some(rest) = line.strip_prefix("Downloading ") {
            self.doing = format!("downloading {}", rest.rsplit('/').next().unwrap_or(rest));
        } else if line.starts_with("Installing collected packages") {
            self.doing = "installing".into();
        }
    }

    /// Percent done, 0 to 100: half for fetching, half for installing.
    fn percent(&self) -> usize {
        let share = |done: usize| done.min(self.total) * 50 / self.total.max(1);
        let installing = if self.doing == "installing" { share(self.installed) } else { 0 };
        share(self.collected.len()) + installing
    }
}

/// Draws progress: a bar that moves on a terminal, a plain line each tenth elsewhere.
struct Bar {
    progress: Progress,
    terminal: bool,
    shown: usize,
}

impl Bar {
    fn new(progress: Progress) -> Self {
        Self { progress, terminal: std::io::stdout().is_terminal(), shown: 0 }
    }

    fn draw(&mut self) {
        let percent = self.progress.percent();
        if self.terminal {
            let filled = percent * 30 / 100;
            let doing: String = self.progress.doing.chars().take(40).collect();
            print!("\r\x1b[K  [{}{}] {percent:>3}% {doing}", "=".repeat(filled), " ".repeat(30 - filled));
            let _ = std::io::stdout().flush();
        } else if percent >= self.shown + 10 {
            self.shown = percent - percent % 10;
            println!("  Ray environment {:>3}% {}", self.shown, self.progress.doing);
        }
    }

    fn end(&self) {
        if self.terminal {
            print!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_follows_what_pip_prints() {
        let mut progress = Progress::new(4);
        assert_eq!(progress.percent(), 0);
        progress.line("Collecting ray[default]==2.60.*");
        progress.line("  Downloading ray-2.60.0-cp311-cp311-manylinux2014_x86_64.whl (72.1 MB)");
        assert_eq!(progress.doing, "downloading ray-2.60.0-cp311-cp311-manylinux2014_x86_64.whl (72.1 MB)");
        progress.line("Requirement already satisfied: typing_extensions>=4.1 in ./lib (from ray)");
        progress.line("Collecting typing-extensions>=4.2");
        assert_eq!(progress.percent(), 25, "a package named twice is one package");
        progress.line("Collecting click>=7.0");
        progress.line("Collecting aiohttp-cors");
        progress.installed = 4;
        assert_eq!(progress.percent(), 50, "what was there before installing began does not count");
        progress.line("Installing collected packages: ray, click");
        assert_eq!(progress.percent(), 100);
    }

    #[test]
    fn every_constraint_is_one_exact_version() {
        let lines: Vec<&str> = CONSTRAINTS.lines().filter(|l| !l.starts_with('#') && !l.is_empty()).collect();
        assert!(lines.iter().any(|line| line.starts_with("ray==2.60.")));
        for line in lines {
            let (name, version) = line.split_once("==").unwrap_or_else(|| panic!("no exact version: {line}"));
            assert!(!name.is_empty() && version.starts_with(|c: char| c.is_ascii_digit()), "{line}");
        }
    }

    #[test]
    fn an_environment_counts_only_when_it_was_finished_from_these_constraints() {
        let home = std::env::temp_dir().join(format!("gangline-xtask-ray-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        assert!(!is_complete(&home));
        fs::write(home.join(COMPLETE), "ray==2.0.0\n").unwrap();
        assert!(!is_complete(&home));
        fs::write(home.join(COMPLETE), CONSTRAINTS).unwrap();
        assert!(is_complete(&home));
        fs::remove_dir_all(&home).unwrap();
    }
}
