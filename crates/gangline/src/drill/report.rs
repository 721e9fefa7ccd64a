//! What each link came to: a value, what it must not exceed, and whether it held.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// The links of the chain, in the order of the report.
pub const NAMES: [&str; 14] = [
    "explorer_leak",
    "enumeration",
    "shared_token",
    "header_owner",
    "stolen_request",
    "injection",
    "metadata_status",
    "surge",
    "breadth",
    "containment",
    "restore",
    "heartbeats_during_freeze",
    "revocation",
    "log_tamper",
];

/// One link.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// One of [`NAMES`].
    pub name: &'static str,
    /// What was measured.
    pub value: f64,
    /// What it must not exceed.
    pub goal: f64,
    /// Whether the link was stopped, all that belongs to it considered.
    pub ok: bool,
    /// What the value counts.
    pub unit: &'static str,
    /// What stopped it, how fast it was noticed, what changed.
    pub detail: String,
}

impl Row {
    /// A link with a value that must not exceed a goal; `also` is whatever else must hold.
    pub fn new(
        name: &'static str,
        value: f64,
        goal: f64,
        unit: &'static str,
        also: bool,
        detail: impl Into<String>,
    ) -> Self {
        let value = (value * 1_000.0).round() / 1_000.0;
        Self { name, value, goal, ok: also && value <= goal, unit, detail: detail.into() }
    }

    /// Prints it as it is found: what was tried and what came of it, and below it how.
    pub fn say(&self) {
        let verdict = if self.ok { "held  " } else { "FAILED" };
        let tried = TRIED.iter().find(|(name, _)| *name == self.name).map_or("", |(_, tried)| tried);
        println!("{verdict}  {:<24}  {tried}", self.name);
        println!("{MARGIN}{} {} (at most {})", self.value, self.unit, self.goal);
        for line in wrapped(&self.detail, WIDTH) {
            println!("{MARGIN}{line}");
        }
    }
}

/// What stands before everything that is said about a link.
const MARGIN: &str = "        ";
/// Characters of a line of it.
const WIDTH: usize = 100;

/// What each link tries, in words.
const TRIED: [(&str, &str); 14] = [
    ("explorer_leak", "ask the explorer whose a GPU is"),
    ("enumeration", "look up ids until some are found"),
    ("shared_token", "use one token for every machine"),
    ("header_owner", "name the owner in a header"),
    ("stolen_request", "send somebody's signed request again"),
    ("injection", "write statements and scripts into every field"),
    ("metadata_status", "write a GPU's status"),
    ("surge", "forge writes by the thousand"),
    ("breadth", "reach for many GPUs with few keys"),
    ("containment", "go on after having been noticed"),
    ("restore", "undo what a stolen key has named"),
    ("heartbeats_during_freeze", "beat while writes are frozen"),
    ("revocation", "use a key that has just been revoked"),
    ("log_tamper", "edit, cut and roll back the log"),
];

/// A text in lines of at most so many characters, broken between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is one from the start");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

/// All of them.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// In the order of the chain; a link that is missing has not held.
    pub fn new(found: Vec<Row>) -> Self {
        let row = |name: &'static str| {
            let known = found.iter().find(|row| row.name == name).cloned();
            known.unwrap_or_else(|| Row::new(name, f64::MAX, 0.0, "", false, "it was not played"))
        };
        Self { rows: NAMES.map(row).to_vec() }
    }

    /// The last line.
    pub fn print(&self) {
        let held = self.rows.iter().filter(|row| row.ok).count();
        println!("{held} of {} links held.", self.rows.len());
    }

    /// Names of those that did not hold.
    pub fn failed(&self) -> Vec<&'static str> {
        self.rows.iter().filter(|row| !row.ok).map(|row| row.name).collect()
    }

    /// Writes it as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(file, text + "\n").with_context(|| format!("could not write {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_says_what_it_tries_and_its_words_are_kept_in_lines() {
        assert_eq!(TRIED.map(|(name, _)| name), NAMES);
        let text = "one two three four, and a_word_that_is_longer_than_any_line";
        assert_eq!(wrapped(text, 13), ["one two three", "four, and", "a_word_that_is_longer_than_any_line"]);
        assert_eq!(wrapped(text, 1_000), [text]);
    }

    #[test]
    fn a_link_holds_only_within_its_goal_and_only_if_played() {
        let rows = vec![
            Row::new("surge", 0.0, 0.0, "", true, ""),
            Row::new("breadth", 5.001, 5.0, "", true, ""),
            Row::new("restore", 0.0, 0.0, "", false, ""),
        ];
        let report = Report::new(rows);
        assert_eq!(report.failed().len(), 13);
        assert!(!report.failed().contains(&"surge"));
        let json = serde_json::to_value(&report).unwrap();
        let names: Vec<&str> =
            json["rows"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(names, NAMES);
    }
}
