//! What failed in a run of `cargo test`, read from what it prints, so that the last lines of all groups can name it.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

/// How many failed tests are told with their first words; more are only named.
const TOLD: usize = 5;
/// How many lines of a failed test's own output are told.
const LINES: usize = 4;
/// How long a told line may be, in characters.
const LINE_LENGTH: usize = 240;

/// What has been read so far.
#[derive(Debug, Default)]
pub struct Failures {
    /// Failed tests in the order in which they were told, with the first lines of what they printed.
    tests: Vec<(String, Vec<String>)>,
    /// The failed test whose output is being read.
    reading: Option<usize>,
    /// Tests that were told to be slow, and whether they ended.
    slow: BTreeMap<String, bool>,
    /// Targets that Cargo says failed: also one that was killed, of which no test tells anything.
    targets: Vec<String>,
}

impl Failures {
    /// Reads the next line.
    pub fn line(&mut self, line: &str) {
        if let Some(told) = line.strip_prefix("test ") {
            if let Some(name) = told.strip_suffix(" has been running for over 60 seconds") {
                self.slow.insert(name.to_owned(), false);
            } else if let Some((name, outcome)) = told.rsplit_once(" ... ") {
                if let Some(ended) = self.slow.get_mut(name) {
                    *ended = true;
                }
                if outcome == "FAILED" {
                    self.tests.push((name.to_owned(), Vec::new()));
                }
            }
        } else if let Some(name) =
            line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----"))
        {
            self.reading = self.tests.iter().rposition(|(test, _)| test == name);
        } else if line == "failures:" || line.starts_with("test result:") {
            self.reading = None;
        } else if let Some(target) = line
            .strip_prefix("    `")
            .and_then(|rest| rest.strip_suffix('`'))
            .filter(|t| t.starts_with("-p "))
        {
            self.targets.push(target.to_owned());
        } else if let Some(at) = self.reading
            && self.tests[at].1.len() < LINES
            && !line.trim().is_empty()
        {
            self.tests[at].1.push(line.chars().take(LINE_LENGTH).collect());
        }
    }
}

impl Display for Failures {
    fn fmt(&self, to: &mut Formatter<'_>) -> fmt::Result {
        let unended: Vec<&str> =
            self.slow.iter().filter(|(_, ended)| !**ended).map(|(name, _)| name.as_str()).collect();
        match self.tests.len() {
            0 => write!(to, "no test said that it failed")?,
            1 => write!(to, "1 test failed")?,
            count => write!(to, "{count} tests failed")?,
        }
        if !self.targets.is_empty() {
            write!(to, ", in {}", self.targets.join(", "))?;
        }
        if !unended.is_empty() {
            write!(to, "; not ended when the run did: {}", unended.join(", "))?;
        }
        for (at, (name, lines)) in self.tests.iter().enumerate() {
            write!(to, "\n  {name}")?;
            for line in lines.iter().filter(|_| at < TOLD) {
                write!(to, "\n    {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        let mut failures = Failures::default();
        text.lines().for_each(|line| failures.line(line));
        failures.to_string()
    }

    #[test]
    fn a_failed_test_is_told_with_where_and_why() {
        let told = read(
            "running 2 tests\ntest a::good ... ok\ntest a::bad ... FAILED\n\nfailures:\n\n---- a::bad stdout ----\n\n\
             thread 'a::bad' (7) panicked at crates/a/src/lib.rs:7:9:\nassertion `left == right` failed\n  left: 1\n right: 2\n\
             note: run with `RUST_BACKTRACE=1`\n\n\nfailures:\n    a::bad\n\ntest result: FAILED. 1 passed; 1 failed\n\
             error: 1 target failed:\n    `-p a --lib`\n",
        );
        assert_eq!(
            told,
            "1 test failed, in -p a --lib\n  a::bad\n    thread 'a::bad' (7) panicked at crates/a/src/lib.rs:7:9:\n    \
             assertion `left == right` failed\n      left: 1\n     right: 2"
        );
    }

    #[test]
    fn tests_that_did_not_end_are_named() {
        let told = read(
            "test slow ... ok\ntest stuck has been running for over 60 seconds\n\
             test late has been running for over 60 seconds\ntest late ... ok\n",
        );
        assert_eq!(told, "no test said that it failed; not ended when the run did: stuck");
    }

    #[test]
    fn what_tests_print_is_not_taken_for_more_of_them() {
        let told = read(
            "test bad ... FAILED\n---- bad stdout ----\nsomething\n    `ls`\n---- other stdout ----\nmore\n",
        );
        assert_eq!(told, "1 test failed\n  bad\n    something\n        `ls`");
    }
}
