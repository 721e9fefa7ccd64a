//! `gangline proof roc`: how often proofs err, beside what we hold ourselves to.
//!
//! The rates of over-claims and of honest GPUs are a simulation from real measurements.

use std::path::PathBuf;

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

/// One measure.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its name; a share unless it ends in a unit.
    pub name: &'static str,
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
    pub fn new(name: &'static str, value: f64, goal: Option<f64>, source: &str) -> Self {
        Self { name, value, goal, ok: goal.map(|goal| value <= goal), source: source.to_owned() }
    }
}

#[derive(Serialize)]
struct Report {
    label: String,
    rows: Vec<Row>,
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

/// Runs `roc`.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let mut rows = simulated();
    if !args.simulated_only {
        let measured = measure::rows(&|doing| eprintln!("measuring: {doing}"))?;
        // The rows that have goals come first.
        let compared = rows.split_off(3);
        rows.extend(measured);
        rows.extend(compared);
    }
    let label = "error rates of proofs; simulated rows are a simulation from real measurements";
    let report = Report { label: label.to_owned(), rows };
    let json = format!("{}\n", serde_json::to_string_pretty(&report).context("writing the report")?);
    if let Some(path) = &args.report {
        std::fs::write(path, &json).with_context(|| format!("could not write {}", path.display()))?;
    }
    if args.json {
        print!("{json}");
    } else {
        println!("{}\n", report.label);
        for row in &report.rows {
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
        report.rows.iter().filter(|row| row.ok == Some(false)).map(|row| row.name).collect();
    if !missed.is_empty() {
        return Err(Problem::new(format!("goals were missed: {}", missed.join(", "))).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulated_rows_hold_their_goals_and_say_what_they_are() {
        let rows = simulated();
        assert!(rows.iter().all(|row| row.source.starts_with("simulated") && row.ok != Some(false)));
        let names: Vec<&str> = rows.iter().map(|row| row.name).take(3).collect();
        assert_eq!(names, ["over_claim_accepted", "honest_rejected_single", "honest_rejected_two_of_three"]);
    }
}
