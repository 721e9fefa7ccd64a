//! Starting other programs: Cargo without the variables it set for us, and commands with a limit.

use crate::failures::Failures;
use anyhow::{Context, Result, bail};
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long a run's last lines are waited for after its end.
const LAST_WORDS: Duration = Duration::from_secs(5);

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
    let mut command = bounded(command, minutes);
    let status = command.status().with_context(|| format!("cannot start `{shown}`"))?;
    if !status.success() {
        println!("{}", ended(&shown, status, minutes));
    }
    Ok(status.success())
}

/// Runs tests to their end, within a limit as [`succeeds`] does. When nobody watches at a terminal, the error names
/// the tests that failed.
pub fn tests(command: Command, minutes: u32) -> Result<()> {
    if io::stdout().is_terminal() {
        return if succeeds(command, minutes)? { Ok(()) } else { bail!("tests failed") };
    }
    read_tests(command, minutes, io::stdout(), io::stderr())
}

/// As [`tests`]; what is printed goes to `out` and `err`.
fn read_tests(
    command: Command,
    minutes: u32,
    out: impl Write + Send + 'static,
    err: impl Write + Send + 'static,
) -> Result<()> {
    let shown = shown(&command);
    let failures = Arc::new(Mutex::new(Failures::default()));
    let (to_out, to_err) = (reading(out, &failures), reading(err, &failures));
    let status = piped(bounded(command, minutes), to_out, to_err)?;
    let failures = failures.lock().map(|failures| failures.to_string()).unwrap_or_default();
    if status.success() { Ok(()) } else { bail!("{}: {failures}", ended(&shown, status, minutes)) }
}

/// Hands each line on as it came, and reads it.
fn reading(
    mut to: impl Write + Send + 'static,
    failures: &Arc<Mutex<Failures>>,
) -> impl FnMut(&[u8]) + Send + 'static {
    let failures = Arc::clone(failures);
    move |line| {
        let _ = to.write_all(line);
        if let Ok(mut failures) = failures.lock() {
            failures.line(String::from_utf8_lossy(line).trim_end_matches(['\r', '\n']));
        }
    }
}

/// Runs `command` to its end; every line that it prints comes out here, behind `name`.
pub fn told_apart(mut command: Command, name: &'static str) -> Result<ExitStatus> {
    command.stdin(Stdio::null());
    let told = move |line: &[u8]| println!("{name:<9} | {}", String::from_utf8_lossy(line).trim_end());
    piped(command, told, told)
}

/// Runs `command` to its end and gives each line that it prints, with its end, to `out` or `err` as it comes.
fn piped(
    mut command: Command,
    out: impl FnMut(&[u8]) + Send + 'static,
    err: impl FnMut(&[u8]) + Send + 'static,
) -> Result<ExitStatus> {
    let shown = shown(&command);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
    let (done, ends) = mpsc::channel();
    if let Some(printed) = child.stdout.take() {
        lines(printed, done.clone(), out);
    }
    if let Some(printed) = child.stderr.take() {
        lines(printed, done.clone(), err);
    }
    drop(done);
    let status = child.wait().with_context(|| format!("cannot wait for `{shown}`"))?;
    // What tests left running may hold the other ends for good.
    for _ in 0..2 {
        let _ = ends.recv_timeout(LAST_WORDS);
    }
    Ok(status)
}

/// Gives each line to `each` as it comes, on a thread of its own that says when nothing more will come.
fn lines(from: impl Read + Send + 'static, done: Sender<()>, mut each: impl FnMut(&[u8]) + Send + 'static) {
    std::thread::spawn(move || {
        let (mut from, mut line) = (BufReader::new(from), Vec::new());
        while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            each(&line);
            line.clear();
        }
        let _ = done.send(());
    });
}

fn bounded(command: Command, minutes: u32) -> Command {
    if io::stdout().is_terminal() || find("timeout").is_none() { command } else { limited(&command, minutes) }
}

fn ended(shown: &str, status: ExitStatus, minutes: u32) -> String {
    // 124 and 137 are what timeout(1) answers when it had to end the command.
    if matches!(status.code(), Some(124 | 137)) {
        format!("`{shown}` was ended after {minutes} minutes")
    } else {
        format!("`{shown}` failed: {}", describe(status))
    }
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
    fn the_error_of_tests_names_what_failed() {
        let mut failing = program("sh", &std::env::temp_dir());
        failing.args(["-c", "echo 'test a::b ... FAILED'; echo '    `-p a --lib`' >&2; exit 101"]);
        // Its words must not reach whoever reads what these tests print: they say that a test failed.
        let told = read_tests(failing, 1, io::sink(), io::sink()).unwrap_err().to_string();
        assert!(told.ends_with("failed: exit code 101: 1 test failed, in -p a --lib\n  a::b"), "{told}");
        assert!(read_tests(program("true", &std::env::temp_dir()), 1, io::sink(), io::sink()).is_ok());
    }

    #[test]
    fn what_a_test_left_running_holds_nobody_up() {
        let mut leaving = program("sh", &std::env::temp_dir());
        leaving.args(["-c", "sleep 60 & echo $!; exit 3"]);
        let begun = std::time::Instant::now();
        assert!(read_tests(leaving, 1, io::sink(), io::sink()).is_err());
        assert!(begun.elapsed() < Duration::from_secs(55));
    }

    #[test]
    fn the_limit_keeps_folder_environment_and_arguments() {
        let mut command = program("sh", Path::new("/"));
        command.args(["-c", "test \"$PWD $A\" = '/ b c'"]).env("A", "b c");
        assert!(limited(&command, 1).status().unwrap().success());
    }
}
