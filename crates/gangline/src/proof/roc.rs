//! `gangline proof roc`: how often proofs err, beside what we hold ourselves to.
//!
//! The rates of over-claims and of honest GPUs are a simulation from real measurements.

use std::path::{Path, PathBuf};

use super::measure;
use anyhow::Context;
use gangline_rules::{
    classify::TOLERANCE,
    reference,
    roc::{self, Noise, Ppb, Rates, SEED, Test},
};
use serde::Serialize;

use crate::problem::Problem;

/// What `roc` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write the rows as JSON to this file as well.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Leave out what is measured on this machine: seconds instead of a minute or two.
    #[arg(long)]
    simulated_only: bool,
    /// Print the rows as JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// The measures that have goals, in the order in which they are told; what is there to compare with comes after them.
const NAMES: [&str; 10] = [
    "over_claim_accepted",
    "honest_rejected_single",
    "honest_rejected_two_of_three",
    "shared_device_accepted",
    "skip10_accepted",
    "shortcuts_accepted",
    "gpu_seconds_per_hour",
    "verify_cpu_s",
    "verify_cpu_matrix_s",
    "transcript_bytes",
];

/// One measure.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its name; a share unless it ends in a unit.
    pub name: String,
    /// What was found.
    pub value: f64,
    /// The most it may be; none where it is there to compare with.
    pub goal: Option<f64>,
    /// Whether it is no more than that; none where there is no goal.
    pub ok: Option<bool>,
    /// Where the value comes from.
    pub source: String,
}

impl Row {
    /// A row that holds when its value is no more than its goal.
    pub fn new(name: impl Into<String>, value: f64, goal: Option<f64>, source: &str) -> Self {
        Self { name: name.into(), value, goal, ok: goal.map(|goal| value <= goal), source: source.to_owned() }
    }
}

/// Measures, and what they are of.
#[derive(Serialize)]
pub struct Report {
    /// What they are of.
    pub label: String,
    /// The measures.
    pub rows: Vec<Row>,
}

impl Report {
    /// Writes the rows to a file and to standard output, as text or as JSON.
    ///
    /// # Errors
    /// If the file cannot be written, or a goal is missed.
    pub fn finish(self, file: Option<&Path>, as_json: bool) -> anyhow::Result<()> {
        let json = format!("{}\n", serde_json::to_string_pretty(&self).context("writing the report")?);
        if let Some(path) = file {
            std::fs::write(path, &json).with_context(|| format!("could not write {}", path.display()))?;
        }
        if as_json {
            print!("{json}");
        } else {
            println!("{}\n", self.label);
            for row in &self.rows {
                let goal = row.goal.map_or_else(|| "-".to_owned(), |goal| format!("<= {goal}"));
                let ok = match row.ok {
                    Some(true) => "holds",
                    Some(false) => "MISSED",
                    None => "to compare",
                };
                println!("{:<42} {:>12.6}  goal {goal:<9} {ok}\n    {}", row.name, row.value, row.source);
            }
        }
        let missed: Vec<&str> =
            self.rows.iter().filter(|row| row.ok == Some(false)).map(|row| row.name.as_str()).collect();
        if !missed.is_empty() {
            return Err(Problem::new(format!("goals were missed: {}", missed.join(", "))).into());
        }
        Ok(())
    }
}

fn share(ppb: Ppb) -> f64 {
    ppb.0 as f64 / 1e9
}

/// Rows that follow from the shipped measurements.
fn simulated() -> Vec<Row> {
    let (specs, renders) = (reference::specs(), reference::renders());
    let models = reference::modern(&specs);
    let noise = Noise::whole(&renders);
    let of = |noise: &Noise, test| roc::rates(&models, noise, TOLERANCE, test);
    let vector: Rates = of(&noise, Test::Vector);
    let held_out = of(&Noise::held_out(&renders, SEED), Test::Vector);
    let apart = of(&noise, Test::VectorApart);
    let fp32 = of(&noise, Test::Fp32);
    let source = format!(
        "simulated: {} GPUs, {} over-claims, noise of {} real runs ({} {}, {}), tolerance 1.15",
        vector.models,
        vector.over_claims,
        noise.runs(),
        roc::conditions().api,
        roc::conditions().build,
        roc::conditions().scene
    );
    let other = |words: &str| format!("{source}; {words}");
    let held = other(&format!("medians from other runs than those judged, seed {SEED}"));
    vec![
        Row::new("over_claim_accepted", share(vector.over_claim_accepted_single), Some(0.001), &source),
        Row::new("honest_rejected_single", share(vector.honest_rejected_single), Some(0.02), &source),
        Row::new(
            "honest_rejected_two_of_three",
            share(vector.honest_rejected_two_of_three),
            Some(0.002),
            &source,
        ),
        Row::new(
            "over_claim_accepted_two_of_three",
            share(vector.over_claim_accepted_two_of_three),
            None,
            &source,
        ),
        Row::new("over_claim_accepted_held_out", share(held_out.over_claim_accepted_single), None, &held),
        Row::new("honest_rejected_single_held_out", share(held_out.honest_rejected_single), None, &held),
        Row::new(
            "honest_rejected_two_of_three_held_out",
            share(held_out.honest_rejected_two_of_three),
            None,
            &held,
        ),
        Row::new(
            "honest_rejected_single_noise_apart",
            share(apart.honest_rejected_single),
            None,
            &other("each rate with noise of its own"),
        ),
        Row::new(
            "over_claim_accepted_fp32_alone",
            share(fp32.over_claim_accepted_single),
            None,
            &other("a test of fp32 rate alone"),
        ),
    ]
}

/// Puts the rows that have goals first.
///
/// # Errors
/// If one of them is missing: a report without it would look as if all goals were held.
fn in_order(rows: &mut [Row]) -> anyhow::Result<()> {
    if let Some(missing) = NAMES.iter().find(|name| !rows.iter().any(|row| row.name == **name)) {
        anyhow::bail!("{missing} was not measured");
    }
    rows.sort_by_key(|row| NAMES.iter().position(|name| *name == row.name).unwrap_or(NAMES.len()));
    Ok(())
}

/// Runs `roc`.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let mut rows = simulated();
    if !args.simulated_only {
        rows.extend(measure::rows(&|doing| eprintln!("measuring: {doing}"))?);
        in_order(&mut rows)?;
    }
    let label = "error rates of proofs; simulated rows are a simulation from real measurements";
    Report { label: label.to_owned(), rows }.finish(args.report.as_deref(), args.json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_rows_hold_their_goals_and_say_what_they_are() {
        let rows = simulated();
        assert!(rows.iter().all(|row| row.source.starts_with("simulated") && row.ok != Some(false)));
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).take(3).collect();
        assert_eq!(names, NAMES[..3]);
    }

    #[test]
    fn a_report_has_every_goal_in_its_place_or_is_none() {
        let mut rows = simulated();
        assert!(
            in_order(&mut rows).unwrap_err().to_string().contains("shared_device_accepted was not measured")
        );
        rows.extend(NAMES[3..].iter().rev().map(|name| Row::new(*name, 0.0, Some(0.0), "made up")));
        in_order(&mut rows).unwrap();
        let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names[..NAMES.len()], NAMES);
        assert!(rows[NAMES.len()..].iter().all(|row| row.goal.is_none()));
    }
}
