//! What is told while the demonstration runs and when it ends: sentences, a table, a file.
//!
//! Knows no step; it prints what steps found.

use std::{path::Path, time::Duration};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::inert::inert_line;

/// One step as it ended.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Whether it held.
    pub ok: bool,
    /// How long it took by itself.
    pub seconds: f64,
    /// What was seen.
    pub evidence: String,
}

/// All steps, in order.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The steps.
    pub steps: Vec<Row>,
    /// Whether all held.
    pub ok: bool,
}

impl Report {
    /// Adds a step.
    pub fn add(&mut self, name: &'static str, ok: bool, took: Duration, evidence: String) {
        let seconds = (took.as_secs_f64() * 10.0).round() / 10.0;
        self.steps.push(Row { name, ok, seconds, evidence: inert_line(&evidence) });
    }
    /// Whether a step of this name held.
    pub fn held(&self, name: &str) -> bool {
        self.steps.iter().any(|row| row.name == name && row.ok)
    }
    /// No step follows.
    pub fn close(&mut self) {
        self.ok = !self.steps.is_empty() && self.steps.iter().all(|row| row.ok);
    }
    /// Names of the steps that did not hold.
    pub fn failed(&self) -> Vec<&'static str> {
        self.steps.iter().filter(|row| !row.ok).map(|row| row.name).collect()
    }
    /// Writes it as JSON.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(file, text).with_context(|| format!("could not write {}", file.display()))
    }
}

/// Tells what happens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Narrator {
    spinner: ProgressBar,
    began: std::time::Instant,
}

impl Narrator {
    /// One that tells on this terminal, or in plain lines where there is none.
    pub fn new() -> Self {
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {wide_msg}") {
            spinner.set_style(style);
        }
        Self { spinner, began: std::time::Instant::now() }
    }
    fn line(&self, text: &str) {
        // A terminal that went away is no reason to stop: what runs must be ended in order.
        use std::io::Write;
        self.spinner.suspend(|| {
            let _ = writeln!(std::io::stdout().lock(), "{text}");
        });
    }
    /// A step begins.
    pub fn step(&self, number: usize, of: usize, name: &str, what: &str) {
        self.spinner.enable_steady_tick(Duration::from_millis(120));
        self.line(&format!(
            "\n[{number}/{of}] {name} (at {:.0} s): {what}",
            self.began.elapsed().as_secs_f64()
        ));
    }
    /// A sentence of a step.
    pub fn say(&self, text: &str) {
        self.line(&format!("  {}", inert_line(text)));
    }
    /// What is being waited for, where somebody watches.
    pub fn waiting(&self, text: &str) {
        self.spinner.set_message(inert_line(text));
    }
    /// A step held.
    pub fn held(&self, evidence: &str, took: Duration) {
        self.spinner.set_message("");
        self.line(&format!("  ok ({:.1} s): {}", took.as_secs_f64(), inert_line(evidence)));
    }
    /// A step did not hold.
    pub fn failed(&self, why: &str) {
        self.spinner.set_message("");
        self.line(&format!("  FAILED: {}", inert_line(why)));
    }
    /// Lines of a log, as they are.
    pub fn log(&self, name: &str, lines: &[String]) {
        self.line(&format!("  --- the end of {name}'s log"));
        for line in lines {
            self.line(&format!("  | {}", inert_line(line)));
        }
    }
    /// The table that ends the run.
    pub fn table(&self, report: &Report) {
        self.spinner.finish_and_clear();
        self.line("\nSTEP        HELD  SECONDS  EVIDENCE");
        for row in &report.steps {
            let held = if row.ok { "yes" } else { "NO" };
            self.line(&format!("{:<10}  {held:<4}  {:>7.1}  {}", row.name, row.seconds, row.evidence));
        }
        let held = report.steps.iter().filter(|row| row.ok).count();
        let of = report.steps.len();
        self.line(&format!("\n{held} of {of} steps held, in {:.0} s.", self.began.elapsed().as_secs_f64()));
    }
}
