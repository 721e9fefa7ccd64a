//! Starting other programs: Cargo without the variables it set for us, and commands with a limit.

use anyhow::{Context, Result};
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// Cargo, in `root`, without input, and without the variables that `cargo run` set for this program:
/// they would make the inner build differ from one typed by hand, and so build twice.
pub fn cargo(root: &Path) -> Command {
    clean(Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())), root)
}

/// `program`, in `root`, without input and without the variables that `cargo run` set for this program.
pub fn program(program: impl AsRef<std::ffi::OsStr>, root: &Path) -> Command {
    clean(Command::new(program), root)
}

fn clean(mut command: Command, root: &Path) -> Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let set_by_cargo_run = text.starts_with("CARGO_PKG_")
            || [
                "CARGO_MANIFEST_DIR",
                "CARGO_MANIFEST_PATH",
                "CARGO_BIN_NAME",
                "CARGO_CRATE_NAME",
                "CARGO_PRIMARY_PACKAGE",
            ]
            .contains(&text.as_ref());
        if set_by_cargo_run {
            command.env_remove(&name);
        }
    }
    command.current_dir(root).stdin(Stdio::null());
    command
}

/// Runs `command` to its end and says whether it succeeded. When nobody watches at a terminal it and all it
/// started are ended after `minutes`; at a terminal there is no limit, and Ctrl-C reaches everything.
pub fn succeeds(command: Command, minutes: u32) -> Result<bool> {
    let shown = shown(&command);
    let mut command = if std::io::stdout().is_terminal() || find("timeout").is_none() {
        command
    } else {
        limited(&command, minutes)
    };
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if status.success() {
        return Ok(true);
    }
    // 124 and 137 are what timeout(1) answers when it had to end the command.
    if matches!(status.code(), Some(124 | 137)) {
        println!("`{shown}` was ended after {minutes} minutes");
    } else {
        println!("`{shown}` failed: {}", describe(status));
    }
    Ok(false)
}

fn limited(command: &Command, minutes: u32) -> Command {
    let mut limited = Command::new("timeout");
    limited
        .args(["--kill-after=30", &format!("{minutes}m")])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    if let Some(dir) = command.get_current_dir() {
        limited.current_dir(dir);
    }
    limited.stdin(Stdio::null());
    limited
}

fn describe(status: ExitStatus) -> String {
    status.code().map_or_else(|| status.to_string(), |code| format!("exit code {code}"))
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let mut text =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// Where a program is: on the path, or where administrators' programs are.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_and_failure_are_told_apart() {
        let root = std::env::temp_dir();
        let mut quick = program("sh", &root);
        quick.args(["-c", "exit 0"]);
        assert!(succeeds(quick, 1).unwrap());
        let mut failing = program("sh", &root);
        failing.args(["-c", "exit 3"]);
        assert!(!succeeds(failing, 1).unwrap());
    }

    #[test]
    fn the_limit_keeps_folder_environment_and_arguments() {
        let mut command = program("sh", Path::new("/"));
        command.args(["-c", "test \"$PWD $A\" = '/ b c'"]).env("A", "b c");
        assert!(limited(&command, 1).status().unwrap().success());
    }
}
