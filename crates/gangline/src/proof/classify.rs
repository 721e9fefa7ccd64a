//! `gangline proof classify`: verdicts on measurements of one's own, each with the resource that decided,
//! what was expected and what was measured, and how often they would err.

use std::{fmt::Write as _, io::Write as _, path::PathBuf};

use anyhow::Context;
use gangline_rules::{
    classify::{
        Basis, Decision, Resource, Verdict, judge as judge_claim,
        times::{Calibration, Conditions},
        vectors::Profiles,
    },
    reference,
    roc::OVER_CLAIM,
};
use serde::Serialize;

use super::formats::{self, Loaded, PassedOver, Refused};
use crate::{inert::inert_line, problem::Problem};

/// What `classify` is asked.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A file of measurements, or a folder of them: Blender times as JSON, clpeak logs, tables of figures.
    #[arg(value_name = "FILE")]
    path: PathBuf,
    /// Judge every measurement as if this had been claimed, instead of what it names itself.
    #[arg(long, value_name = "MODEL")]
    claim: Option<String>,
    /// Learn what to expect from this file or folder too (may be given again), beside the shipped tables.
    #[arg(long, value_name = "FILE")]
    reference: Vec<PathBuf>,
    /// Learn from `--reference` alone, not from the shipped tables.
    #[arg(long, requires = "reference")]
    reference_only: bool,
    /// Print the counts alone.
    #[arg(long)]
    summary: bool,
    /// Print everything as JSON.
    #[arg(long)]
    json: bool,
}

/// One measurement and its verdict.
#[derive(Serialize)]
struct Line {
    file: String,
    at: String,
    #[serde(flatten)]
    verdict: Verdict,
    /// What the claim should show and was not measured: a claim that is larger in nothing else would pass.
    not_measured: Vec<Resource>,
}

/// Counts over many verdicts.
#[derive(Clone, Copy, Default, Serialize)]
struct Counts {
    measurements: usize,
    accepted: usize,
    rejected: usize,
    not_judged: usize,
    /// Groups of three measurements of one series, and how many of them failed twice.
    threes: usize,
    threes_rejected: usize,
    /// The same measurements under every claim at least 1.25 times as large, and how many passed.
    over_claims: usize,
    over_claims_accepted: usize,
}

impl Counts {
    fn count(&mut self, decision: Decision) {
        self.measurements += 1;
        match decision {
            Decision::Accepted => self.accepted += 1,
            Decision::Rejected => self.rejected += 1,
            Decision::NotJudged => self.not_judged += 1,
        }
    }
    fn in_words(&self, what: &str) -> String {
        let share = |part: usize, whole: usize| match whole {
            0 => "-".to_owned(),
            whole => format!("{:.2} %", part as f64 * 100.0 / whole as f64),
        };
        let judged = self.accepted + self.rejected;
        format!(
            "{what}: {} measurements, {judged} judged; rejected {} ({}); two of three rejected {} of {} ({}); over-claims >= 1.25x accepted {} of {} ({})",
            self.measurements,
            self.rejected,
            share(self.rejected, judged),
            self.threes_rejected,
            self.threes,
            share(self.threes_rejected, self.threes),
            self.over_claims_accepted,
            self.over_claims,
            share(self.over_claims_accepted, self.over_claims),
        )
    }
}

#[derive(Serialize)]
struct Summary {
    /// Everything.
    all: Counts,
    /// Where what is expected was measured and honest runs lie close: only these could fail anybody.
    calibrated: Counts,
    /// Where it is wider or carried over.
    wide: Counts,
    /// Where it is the maker's figure.
    published: Counts,
}

impl Default for Summary {
    fn default() -> Self {
        let none = Counts::default();
        Self { all: none, calibrated: none, wide: none, published: none }
    }
}

impl Summary {
    fn each(&mut self, basis: Option<Basis>, change: impl Fn(&mut Counts)) {
        change(&mut self.all);
        match basis {
            Some(Basis::Calibrated) => change(&mut self.calibrated),
            Some(Basis::Wide | Basis::Related) => change(&mut self.wide),
            Some(Basis::Published) => change(&mut self.published),
            None => {}
        }
    }
}

#[derive(Serialize)]
struct Report {
    label: &'static str,
    measurements: Vec<Line>,
    refused: Vec<Refused>,
    passed_over: Vec<PassedOver>,
    summary: Summary,
}

const LABEL: &str = "verdicts on measurements made elsewhere; expectations are learned from real measurements, none of them of this network's own proofs";

/// Runs `classify`.
pub fn main(args: &Args) -> anyhow::Result<()> {
    let loaded = formats::load(&args.path)?;
    let (calibration, profiles) = learn(args)?;
    let report = judge(args, loaded, &calibration, &profiles);
    if report.measurements.is_empty() && report.refused.is_empty() {
        let what = format!("{} holds no measurement", args.path.display());
        return Err(Problem::usage(what).hint("docs/STANDING.md says what files may hold").into());
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &report).context("writing verdicts")?;
        writeln!(out)?;
    } else {
        write!(out, "{}", in_words(args, &report))?;
    }
    drop(out);
    if !report.refused.is_empty() {
        let what = format!("{} files were not understood", report.refused.len());
        return Err(Problem::new(what).hint("each is named above with what is wrong").into());
    }
    Ok(())
}

fn learn(args: &Args) -> anyhow::Result<(Calibration, Profiles)> {
    let (mut renders, mut peaks) = (vec![], vec![]);
    if !args.reference_only {
        renders = reference::renders();
        peaks = reference::peaks();
    }
    for path in &args.reference {
        let known = formats::load(path)?;
        if let Some(refused) = known.refused.first() {
            let what = format!("the reference {} was not understood: {}", refused.file, refused.why);
            return Err(Problem::usage(what).into());
        }
        peaks.extend(known.peaks());
        renders.extend(known.renders.into_iter().map(|(_, one)| one));
    }
    Ok((Calibration::learn(&renders), Profiles::new(reference::specs(), &peaks)))
}

fn judge(args: &Args, mut loaded: Loaded, calibration: &Calibration, profiles: &Profiles) -> Report {
    let mut summary = Summary::default();
    let mut lines = vec![];
    for (file, one) in std::mem::take(&mut loaded.renders) {
        let conditions = Conditions { api: one.api, build: one.build, scene: one.scene };
        let claim = args.claim.as_ref().unwrap_or(&one.model);
        let larger = calibration.faster(&one.model, &conditions, OVER_CLAIM);
        let mut failed = vec![];
        let mut basis = None;
        for (number, millis) in one.times_millis.iter().enumerate() {
            let verdict = calibration.judge(claim, &conditions, *millis);
            basis = verdict.findings.first().map(|finding| finding.expected.basis);
            summary.each(basis, |counts| counts.count(verdict.decision));
            for (_, learned) in &larger {
                let passes = *millis <= learned.limit_millis();
                summary.each(Some(learned.basis), |counts| {
                    counts.over_claims += 1;
                    counts.over_claims_accepted += usize::from(passes);
                });
            }
            if verdict.decision != Decision::NotJudged {
                failed.push(verdict.decision == Decision::Rejected);
            }
            let Conditions { api, build, scene } = &conditions;
            let at = format!("{}|{api}|{build} {scene} #{}", one.model, number + 1);
            lines.push(Line { file: file.clone(), at, verdict, not_measured: vec![] });
        }
        for three in failed.chunks_exact(3) {
            let twice = three.iter().filter(|failed| **failed).count() >= 2;
            summary.each(basis, |counts| {
                counts.threes += 1;
                counts.threes_rejected += usize::from(twice);
            });
        }
    }
    for (file, one) in std::mem::take(&mut loaded.figures) {
        let claim = args.claim.as_ref().unwrap_or(&one.claim);
        let verdict = profiles.judge(claim, one.source, &one.measured);
        let basis = verdict.findings.first().map(|finding| finding.expected.basis);
        summary.each(basis, |counts| counts.count(verdict.decision));
        for larger in profiles.larger(&one.claim, one.source, &one.measured, OVER_CLAIM) {
            let claimed = judge_claim(larger, &profiles.expect(larger, one.source), &one.measured);
            let basis = claimed.findings.first().map(|finding| finding.expected.basis);
            summary.each(basis, |counts| {
                counts.over_claims += 1;
                counts.over_claims_accepted += usize::from(claimed.decision == Decision::Accepted);
            });
        }
        let expected = profiles.expect(claim, one.source).into_iter().map(|expected| expected.resource);
        let is_measured = |resource: &Resource| one.measured.iter().any(|m| m.resource == *resource);
        let not_measured = expected.filter(|resource| !is_measured(resource)).collect();
        lines.push(Line { file, at: format!("{} ({})", one.claim, one.at), verdict, not_measured });
    }
    let Loaded { refused, passed_over, .. } = loaded;
    Report { label: LABEL, measurements: lines, refused, passed_over, summary }
}

fn in_words(args: &Args, report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", report.label);
    let lines = report.measurements.iter().filter(|_| !args.summary);
    for Line { at, verdict, not_measured, .. } in lines {
        let word = match verdict.decision {
            Decision::Accepted => "accepted",
            Decision::Rejected => "REJECTED",
            Decision::NotJudged => "not judged",
        };
        let _ = writeln!(out, "\n{word}  {}", inert_line(at));
        let _ = writeln!(out, "  {}", inert_line(&verdict.reason));
        if let Some(finding) = verdict.findings.first() {
            let _ =
                writeln!(out, "  margin {:.3} (1 and more holds)", finding.margin_permille as f64 / 1000.0);
        }
        if !not_measured.is_empty() {
            let words: Vec<&str> = not_measured.iter().map(|resource| resource.words()).collect();
            let _ = writeln!(out, "  not measured, so nothing is said of it: {}", words.join(", "));
        }
        let near: Vec<String> = verdict
            .agrees_with
            .iter()
            .map(|a| format!("{} (x {:.2})", inert_line(&a.profile), a.distance_permille as f64 / 1000.0))
            .collect();
        let agrees = verdict.agrees_with.first().is_some_and(|nearest| nearest.agrees);
        let words = if agrees { "agrees with" } else { "agrees with no known profile; the nearest is" };
        if !near.is_empty() {
            let _ = writeln!(out, "  {words} {}", near.join(", "));
        }
        if verdict.signature_fits == Some(false) {
            let _ = writeln!(
                out,
                "  its int32 rate beside its fp32 rate is not that of the claimed architecture"
            );
        }
    }
    for PassedOver { file, columns } in &report.passed_over {
        let columns = inert_line(&columns.join(", "));
        let _ = writeln!(
            out,
            "\nnot compared  {}\n  columns that look like figures and are none by name or unit (docs/STANDING.md): {columns}",
            inert_line(file)
        );
    }
    for refused in &report.refused {
        let _ =
            writeln!(out, "\nnot understood  {}\n  {}", inert_line(&refused.file), inert_line(&refused.why));
    }
    let _ = writeln!(out);
    let Summary { all, calibrated, wide, published } = &report.summary;
    for (counts, what) in [
        (all, "all"),
        (calibrated, "with a calibration whose honest runs lie close"),
        (wide, "with a wide or carried-over one"),
        (published, "with makers' figures"),
    ] {
        if counts.measurements + counts.over_claims > 0 {
            let _ = writeln!(out, "{}", counts.in_words(what));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(text: &str, claim: Option<&str>) -> Report {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, text).unwrap();
        let args = Args {
            path: path.clone(),
            claim: claim.map(str::to_owned),
            reference: vec![],
            reference_only: false,
            summary: false,
            json: false,
        };
        let (calibration, profiles) = learn(&args).unwrap();
        let report = judge(&args, formats::load(&path).unwrap(), &calibration, &profiles);
        assert!(in_words(&args, &report).contains("measurements made elsewhere"));
        report
    }

    #[test]
    fn a_time_is_judged_by_what_its_model_needs() {
        let text = r#"{"GeForce RTX 2080 Ti|CUDA|2.81": {"classroom": [90, 91, 400, 401]}}"#;
        let report = classify(text, None);
        let found: Vec<Decision> = report.measurements.iter().map(|line| line.verdict.decision).collect();
        use Decision::*;
        assert_eq!(found, [Accepted, Accepted, Rejected, Rejected]);
        assert_eq!((report.summary.all.threes, report.summary.all.threes_rejected), (1, 0));
        let line = &report.measurements[2];
        assert_eq!(line.at, "GeForce RTX 2080 Ti|CUDA|2.81 classroom #3");
        assert_eq!(line.verdict.decided_by, Some(Resource::RenderTime));
    }

    #[test]
    fn what_was_not_measured_or_not_understood_is_told_beside_the_verdict() {
        let table = "name,memory_gb,fp32_tflops\nGeForce RTX 4090,24,12\n";
        let report = classify(table, None);
        let line = &report.measurements[0];
        assert_eq!(line.verdict.decision, Decision::Accepted, "its memory is right");
        assert_eq!(line.not_measured, [Resource::Bandwidth, Resource::Fp32]);
        assert_eq!(report.passed_over[0].columns, ["fp32_tflops"]);
    }

    #[test]
    fn an_over_claim_is_rejected_and_what_it_is_is_named() {
        let table = "name,memory_gb,memory_bandwidth_gb_s,single_float_performance_gflop_s\n\
            GeForce RTX 3060 12 GB,12,360,12740\n";
        let report = classify(table, Some("GeForce RTX 4090"));
        let verdict = &report.measurements[0].verdict;
        assert_eq!((verdict.decision, verdict.decided_by), (Decision::Rejected, Some(Resource::Fp32)));
        assert!(verdict.agrees_with.iter().any(|a| a.profile == "GeForce RTX 3060 12 GB" && a.agrees));
        assert!(report.measurements[0].not_measured.is_empty() && report.passed_over.is_empty());
        assert!(report.summary.all.over_claims > 100);
        assert_eq!(report.summary.all.over_claims_accepted, 0);
        assert_eq!(classify(table, None).measurements[0].verdict.decision, Decision::Accepted);
    }
}
