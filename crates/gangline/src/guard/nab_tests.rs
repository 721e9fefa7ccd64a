//! The command over a small folder made here, and over the benchmark's own where it is given.

use std::fmt::Write as _;

use super::*;

/// A folder with two series of a daily wave, one with a spike in a window, one without either.
fn folder(data: &str, labels: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut labelled = serde_json::Map::new();
    for (name, spike) in [("made/spike.csv", true), ("made/calm.csv", false)] {
        let mut text = "timestamp,value\n".to_owned();
        let start: jiff::civil::DateTime = "2024-04-01 00:00:00".parse().unwrap();
        let mut noise = 12_345u32;
        for point in 0..2_000i64 {
            let at = start + jiff::SignedDuration::from_mins(5 * point);
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let wave = (point as f64 * std::f64::consts::TAU / 288.0).sin();
            let value = 50.0 + 20.0 * wave + f64::from(noise >> 16) / 16_384.0;
            let value = if spike && (1_500..1_510).contains(&point) { value + 300.0 } else { value };
            let _ = writeln!(text, "{},{value:.3}", at.strftime("%Y-%m-%d %H:%M:%S"));
        }
        let path = folder.path().join(data).join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        // Points 1,490 to 1,589.
        let windows = if spike {
            json!([["2024-04-06 04:10:00.000000", "2024-04-06 12:25:00.000000"]])
        } else {
            json!([])
        };
        labelled.insert(name.to_owned(), windows);
    }
    let labels = folder.path().join(labels);
    std::fs::create_dir_all(labels.parent().unwrap()).unwrap();
    std::fs::write(labels, Value::from(labelled).to_string()).unwrap();
    folder
}

fn args(folder: &std::path::Path, goal: f64) -> Args {
    Args {
        folder: folder.to_path_buf(),
        out: Some(folder.join("results")),
        report: Some(folder.join("report.json")),
        goal: Some(goal),
        series: true,
    }
}

#[test]
fn a_spike_is_found_and_the_results_are_in_the_benchmarks_form() {
    for (data, labels) in [("", "combined_windows.json"), ("data", "labels/combined_windows.json")] {
        let folder = folder(data, labels);
        main(&args(folder.path(), 90.0)).unwrap();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let points = read("results/gangline/made/gangline_spike.csv");
        let lines: Vec<&str> = points.lines().collect();
        assert_eq!(
            lines[0],
            "timestamp,value,anomaly_score,label,S(t)_reward_low_FP_rate,S(t)_reward_low_FN_rate,S(t)_standard"
        );
        assert_eq!(lines.len(), 2_001);
        assert!(lines[1].starts_with("2024-04-01 00:00:00,") && lines[1].ends_with(",0,0,-0.22,-0.11,-0.11"));
        // The first point of the window is worth 1 in every profile.
        assert!(lines[1_491].ends_with(",1,1,1,1"), "{}", lines[1_491]);
        assert!(lines[1_490].contains(",0,-0.22,"), "{}", lines[1_490]);
        let table = read("results/gangline/gangline_standard_scores.csv");
        assert!(table.starts_with("Detector,Profile,File,Threshold,Score,TP,TN,FP,FN,Total_Count\n"));
        assert!(table.contains("\ngangline,standard,made/calm.csv,") && table.contains("\nTotals,,,,"));
        let finals: Value = serde_json::from_str(&read("results/final_results.json")).unwrap();
        assert!(finals["gangline"]["standard"].as_f64().unwrap() > 90.0);
        let report: Value = serde_json::from_str(&read("report.json")).unwrap();
        let row =
            report["rows"].as_array().unwrap().iter().find(|row| row["name"] == "nab_standard").unwrap();
        assert_eq!((row["goal"].as_f64(), row["ok"].as_bool()), (Some(90.0), Some(true)));
    }
}

/// The hour that is there twice when clocks are set back.
#[test]
fn a_series_whose_clock_was_set_back_is_scored_as_it_stands() {
    let folder = folder("", "combined_windows.json");
    let path = folder.path().join("made/spike.csv");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let hour = lines[201..213].to_vec();
    lines.splice(213..213, hour);
    std::fs::write(&path, lines.join("\r\n")).unwrap();
    let corpus = corpus::read(folder.path()).unwrap();
    let spike = corpus.series.iter().find(|one| one.name == "made/spike.csv").unwrap();
    assert_eq!(spike.points.len(), 2_012);
    assert_eq!((spike.windows[0].first, spike.windows[0].last), (1_502, 1_601));
    main(&args(folder.path(), 90.0)).unwrap();
}

#[test]
fn a_goal_that_is_not_reached_fails() {
    let folder = folder("", "combined_windows.json");
    let error = main(&args(folder.path(), 100.5)).unwrap_err();
    assert!(error.to_string().contains("the goal is 100.5"), "{error}");
}

#[test]
fn what_cannot_be_read_is_refused_with_its_place() {
    let refused = |change: &dyn Fn(&std::path::Path), expected: &str| {
        let folder = folder("", "combined_windows.json");
        change(folder.path());
        let error = format!("{:#}", corpus::read(folder.path()).unwrap_err());
        assert!(error.contains(expected), "{error}");
    };
    let write = |name: &'static str, text: &'static str| {
        move |folder: &std::path::Path| std::fs::write(folder.join(name), text).unwrap()
    };
    refused(&|folder| std::fs::remove_file(folder.join("combined_windows.json")).unwrap(), "has no combined");
    refused(&write("combined_windows.json", "[]"), "not in the benchmark's form");
    refused(&write("combined_windows.json", "{}"), "is labelled");
    refused(&write("made/calm.csv", "time,value\n"), "first line");
    refused(&write("made/calm.csv", "timestamp,value\n2024-04-01 00:00:00,x\n"), "line 2");
    refused(&write("made/calm.csv", "timestamp,value\nyesterday,1\n"), "line 2");
    let empty = "timestamp,value\n2024-04-01 00:05:00,1\n";
    refused(&write("made/spike.csv", empty), "holds no point");
}
