//! `gangline guard nab FOLDER`: runs the detector over every labelled series, scores it by the
//! benchmark's rule and writes the benchmark's result files.
//!
//! The detector is one and the same for every series; the only choice made on the folder is the
//! benchmark's own, one threshold for all series. So that it can be seen how much that choice flatters,
//! the score is told as well with thresholds chosen on other series, and with the one we ship.

use std::path::PathBuf;

use anyhow::Context;
use gangline_guard::detect::{
    nab::{self, PROFILES, Profile, STANDARD, Scored},
    surprise::{LINE_DECADES, PART_DECADES_MAX, PARTS, Pace, Surprise},
};
use serde_json::{Value, json};

use super::{
    corpus::{self, Series},
    results,
};
use crate::{inert::inert_line, problem::Problem};

const FOLDS: usize = 5;

/// What `guard nab` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Series as `*.csv` in subfolders, with `combined_windows.json`; or a folder with `data` and `labels`.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// Write the benchmark's result files below this folder.
    #[arg(long, value_name = "RESULTS_DIR")]
    out: Option<PathBuf>,
    /// Write the scores as JSON to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Fail (exit code 1) if the standard score is below this.
    #[arg(long, value_name = "SCORE")]
    goal: Option<f64>,
    /// Tell the score of each series as well.
    #[arg(long)]
    series: bool,
}

/// One profile's scores.
#[derive(Clone, Copy, Debug)]
pub struct Scores {
    /// Whose.
    pub profile: Profile,
    /// The best for all series.
    pub threshold: f64,
    /// The sum over the series.
    pub total: f64,
    /// The same where silence is 0 and perfection 100; nothing without a window.
    pub normalised: Option<f64>,
    /// The same with each fifth of the series scored by the threshold of the others.
    pub held_out: Option<f64>,
    /// The same with the line we ship.
    pub shipped: Option<f64>,
}

/// Runs the detector over `series`: learning as long as the benchmark does not score.
pub fn detect(series: &Series) -> anyhow::Result<Scored> {
    let mut detector = Surprise::new(Pace::of_warmup(nab::probation_points(series.points.len())));
    let scores = series.points.iter().map(|(at, value)| detector.observe(*at, *value).share()).collect();
    Scored::new(scores, series.windows.clone())
        .with_context(|| format!("could not score the series {}", series.name))
}

/// The scores of `scored` by `profile`.
pub fn score(scored: &[Scored], profile: Profile) -> Scores {
    let all: Vec<&Scored> = scored.iter().collect();
    let windows = scored.iter().map(|one| one.windows().len()).sum();
    let best = nab::best_threshold(&all, profile);
    let line = LINE_DECADES / (PARTS as f64 * PART_DECADES_MAX);
    let shipped = scored.iter().map(|one| one.at(profile, line).score).sum();
    Scores {
        profile,
        threshold: best.threshold,
        total: best.score,
        normalised: nab::normalised(best.score, windows, profile),
        held_out: nab::held_out(&all, profile, FOLDS),
        shipped: nab::normalised(shipped, windows, profile),
    }
}

/// Runs it.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let corpus = corpus::read(&args.folder)?;
    for left_out in &corpus.left_out {
        eprintln!("left out: {}", inert_line(left_out));
    }
    let scored = corpus.series.iter().map(detect).collect::<anyhow::Result<Vec<_>>>()?;
    let scores = PROFILES.map(|profile| score(&scored, profile));
    if let Some(folder) = &args.out {
        results::write(folder, &corpus.series, &scored, &scores)?;
    }
    let standard = scores.iter().find(|of| of.profile == STANDARD).and_then(|of| of.normalised);
    if let Some(path) = &args.report {
        let report = report(args.goal, &corpus.series, &scored, &scores);
        std::fs::write(path, format!("{report:#}\n"))
            .with_context(|| format!("could not write {}", path.display()))?;
    }
    print!("{}", text(args.series, &corpus.series, &scored, &scores));
    match (args.goal, standard) {
        (Some(goal), found) if found.is_none_or(|found| found < goal) => {
            let found = found.map_or("nothing, as no window is labelled".to_owned(), |f| format!("{f:.2}"));
            Err(Problem::new(format!("the standard score is {found}; the goal is {goal}")).into())
        }
        _ => Ok(()),
    }
}

fn told(score: Option<f64>) -> String {
    score.map_or("-".to_owned(), |score| format!("{score:.2}"))
}

fn text(each: bool, series: &[Series], scored: &[Scored], scores: &[Scores]) -> String {
    let points: usize = series.iter().map(|one| one.points.len()).sum();
    let windows: usize = series.iter().map(|one| one.windows.len()).sum();
    let mut out = format!("{} series, {points} points, {windows} windows\n", series.len());
    if each {
        out +=
            &format!("{:<52} {:>7} {:>8} {:>7}\n", "series (standard profile)", "score", "windows", "false");
        for (one, scored) in series.iter().zip(scored) {
            let threshold = scores.iter().find(|of| of.profile == STANDARD).map_or(1.1, |of| of.threshold);
            let outcome = scored.at(STANDARD, threshold);
            let name = inert_line(&one.name);
            let windows = one.windows.len();
            out += &format!("{name:<52} {:>7.2} {windows:>8} {:>7}\n", outcome.score, outcome.false_alarms);
        }
    }
    out +=
        &format!("{:<20} {:>9} {:>9} {:>9} {:>10}\n", "profile", "score", "held out", "shipped", "threshold");
    for of in scores {
        let (name, score, held) = (of.profile.name, told(of.normalised), told(of.held_out));
        out += &format!("{name:<20} {score:>9} {held:>9} {:>9} {:>10.4}\n", told(of.shipped), of.threshold);
    }
    out += "0 is silence, 100 is perfection. Score: one threshold for all series, the best on them, as the\n\
            benchmark does. Held out: each fifth of the series with the threshold of the others. Shipped:\n\
            with the line that this version alarms at.\n";
    out
}

fn report(goal: Option<f64>, series: &[Series], scored: &[Scored], scores: &[Scores]) -> Value {
    let mut rows = Vec::new();
    for of in scores {
        let name = format!("nab_{}", of.profile.name);
        let goal = goal.filter(|_| of.profile == STANDARD);
        let ok = goal.is_none_or(|goal| of.normalised.is_some_and(|score| score >= goal));
        rows.push(json!({"name": name, "value": of.normalised, "goal": goal, "ok": ok}));
        for (suffix, value) in [("held_out", of.held_out), ("shipped", of.shipped)] {
            rows.push(json!({"name": format!("{name}_{suffix}"), "value": value, "goal": null, "ok": true}));
        }
    }
    let standard = scores.iter().find(|of| of.profile == STANDARD).map_or(1.1, |of| of.threshold);
    let each: Vec<Value> = series
        .iter()
        .zip(scored)
        .map(|(one, scored)| {
            let outcome = scored.at(STANDARD, standard);
            json!({
                "name": one.name, "points": one.points.len(), "windows": one.windows.len(),
                "score": outcome.score, "false_alarms": outcome.false_alarms,
            })
        })
        .collect();
    let thresholds: Vec<Value> =
        scores.iter().map(|of| json!({"profile": of.profile.name, "threshold": of.threshold})).collect();
    json!({"rows": rows, "thresholds": thresholds, "series": each})
}

#[cfg(test)]
#[path = "nab_tests.rs"]
mod tests;
