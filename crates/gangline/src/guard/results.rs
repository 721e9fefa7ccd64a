//! The benchmark's own result files: `gangline/CATEGORY/gangline_SERIES.csv` with one row a point, the
//! scores of each profile, the thresholds and the final scores.

use std::{fmt::Write as _, path::Path};

use anyhow::Context;
use gangline_guard::detect::nab::{Outcome, PROFILES, Profile, Scored};
use serde_json::{Map, Value, json};

use super::{corpus::Series, nab::Scores};

/// What the benchmark calls this detector; its tools split file names at `_`.
pub const DETECTOR: &str = "gangline";

/// Writes everything below `folder`, which is made where it is missing.
pub fn write(folder: &Path, series: &[Series], scored: &[Scored], scores: &[Scores]) -> anyhow::Result<()> {
    for (one, scored) in series.iter().zip(scored) {
        let (category, file) = one.name.rsplit_once('/').unwrap_or(("", &one.name));
        let path = folder.join(DETECTOR).join(category).join(format!("{DETECTOR}_{file}"));
        put(&path, &points(one, scored))?;
    }
    let mut thresholds = Map::new();
    let mut finals = Map::new();
    for of in scores {
        let name = of.profile.name;
        let path = folder.join(DETECTOR).join(format!("{DETECTOR}_{name}_scores.csv"));
        put(&path, &table(series, scored, of))?;
        thresholds.insert(name.to_owned(), json!({"score": of.total, "threshold": of.threshold}));
        finals.insert(name.to_owned(), json!(of.normalised));
    }
    put(&folder.join("thresholds.json"), &pretty(json!({ DETECTOR: thresholds })))?;
    put(&folder.join("final_results.json"), &pretty(json!({ DETECTOR: finals })))
}

fn points(series: &Series, scored: &Scored) -> String {
    let mut out = String::from("timestamp,value,anomaly_score,label");
    for profile in PROFILES {
        let _ = write!(out, ",S(t)_{}", profile.name);
    }
    out.push('\n');
    let worth = PROFILES.map(|profile: Profile| scored.point_worth(profile));
    for (point, (time, value)) in series.rows.iter().enumerate() {
        let label = scored.windows().iter().any(|window| (window.first..=window.last).contains(&point));
        let _ = write!(out, "{time},{value},{},{}", scored.scores()[point], u8::from(label));
        for worth in &worth {
            let _ = write!(out, ",{}", worth[point]);
        }
        out.push('\n');
    }
    out
}

fn table(series: &[Series], scored: &[Scored], of: &Scores) -> String {
    let mut out = String::from("Detector,Profile,File,Threshold,Score,TP,TN,FP,FN,Total_Count\n");
    let mut all = Outcome::default();
    let counts = |o: &Outcome| {
        let total = o.hits + o.quiet + o.false_alarms + o.misses;
        format!("{},{},{},{},{},{total}", o.score, o.hits, o.quiet, o.false_alarms, o.misses)
    };
    for (one, scored) in series.iter().zip(scored) {
        let outcome = scored.at(of.profile, of.threshold);
        let line = format!("{DETECTOR},{},{},{},", of.profile.name, one.name, of.threshold);
        let _ = writeln!(out, "{line}{}", counts(&outcome));
        all.score += outcome.score;
        all.hits += outcome.hits;
        all.quiet += outcome.quiet;
        all.false_alarms += outcome.false_alarms;
        all.misses += outcome.misses;
    }
    let _ = writeln!(out, "Totals,,,,{}", counts(&all));
    out
}

fn pretty(value: Value) -> String {
    format!("{value:#}\n")
}

fn put(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    std::fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}
