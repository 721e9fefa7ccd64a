//! Labelled series from a folder laid out like the Numenta benchmark's: `*.csv` with the columns
//! `timestamp,value`, in subfolders, and `combined_windows.json` with the windows of each.
//!
//! Refuses what it cannot read with the file and line, and knows nothing of scores.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use gangline_guard::detect::nab::Window;
use gangline_types::UnixSeconds;
use jiff::civil::DateTime;

use crate::problem::Problem;

/// The most points a series may have.
const POINTS_MAX: usize = 1_000_000;
/// Where the windows may be, below the folder.
const LABEL_FILES: [&str; 2] = ["labels/combined_windows.json", "combined_windows.json"];

/// One series as it was read.
#[derive(Debug)]
pub struct Series {
    /// Its path below the data, with `/`: `realTraffic/speed_7578.csv`.
    pub name: String,
    /// The timestamps and values as written.
    pub rows: Vec<(String, String)>,
    /// The same, understood.
    pub points: Vec<(UnixSeconds, f64)>,
    /// Where something was labelled.
    pub windows: Vec<Window>,
}

/// A folder of series.
#[derive(Debug)]
pub struct Corpus {
    /// By name.
    pub series: Vec<Series>,
    /// Files without an entry in the labels, and labels without a file: neither is scored.
    pub left_out: Vec<String>,
}

/// Reads `folder`. The data are in its `data` folder if it has one, otherwise in itself.
pub fn read(folder: &Path) -> anyhow::Result<Corpus> {
    let labels_at = LABEL_FILES.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    let Some(labels_at) = labels_at else {
        let what = format!("{} has no combined_windows.json", folder.display());
        return Err(Problem::usage(what)
            .hint("give a folder with the series and combined_windows.json, or one with data/ and labels/")
            .into());
    };
    let text = std::fs::read_to_string(&labels_at)
        .with_context(|| format!("could not read the labels in {}", labels_at.display()))?;
    let mut labels: BTreeMap<String, Vec<[String; 2]>> = serde_json::from_str(&text)
        .with_context(|| format!("the labels in {} are not in the benchmark's form", labels_at.display()))?;
    let data = folder.join("data");
    let data = if data.is_dir() { data } else { folder.to_path_buf() };
    let mut corpus = Corpus { series: Vec::new(), left_out: Vec::new() };
    for (name, path) in files(&data)? {
        match labels.remove(&name) {
            None => corpus.left_out.push(format!("{name} has no entry in {}", labels_at.display())),
            Some(windows) => {
                let series = one(&name, &path, &windows)
                    .with_context(|| format!("could not read the series {}", path.display()))?;
                corpus.series.push(series);
            }
        }
    }
    corpus.left_out.extend(labels.into_keys().map(|name| format!("{name} is labelled but not there")));
    if corpus.series.is_empty() {
        return Err(Problem::usage(format!("no series in {} is labelled", data.display())).into());
    }
    Ok(corpus)
}

/// Every `.csv` below `root` by its name, in order.
fn files(root: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![(root.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        let entries = std::fs::read_dir(&folder)
            .with_context(|| format!("could not look into the folder {}", folder.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("could not look into {}", folder.display()))?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let kind = entry.file_type().with_context(|| format!("could not look at {name}"))?;
            if kind.is_dir() {
                folders.push((entry.path(), format!("{prefix}{name}/")));
            } else if kind.is_file() && name.ends_with(".csv") {
                found.insert(format!("{prefix}{name}"), entry.path());
            }
        }
    }
    Ok(found)
}

fn one(name: &str, path: &Path, windows: &[[String; 2]]) -> anyhow::Result<Series> {
    let text = std::fs::read_to_string(path)?;
    let mut series =
        Series { name: name.to_owned(), rows: Vec::new(), points: Vec::new(), windows: Vec::new() };
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    match lines.next() {
        Some((_, header)) if header.trim_end().trim_start_matches('\u{feff}') == "timestamp,value" => {}
        _ => bail!("its first line is not `timestamp,value`"),
    }
    for (at, line) in lines {
        let row = || format!("line {}", at + 1);
        let (time, value) = line.trim_end().split_once(',').with_context(row)?;
        let number: f64 = value.trim().parse().with_context(row)?;
        series.points.push((moment(time).with_context(row)?, number));
        series.rows.push((time.to_owned(), value.to_owned()));
        if series.points.len() > POINTS_MAX {
            bail!("it has more than {POINTS_MAX} points");
        }
    }
    // Points count in the order in which they stand, also where a clock was set back.
    for [from, to] in windows {
        let context = || format!("its window from {from:?} to {to:?}");
        let (from, to) = (moment(from).with_context(context)?, moment(to).with_context(context)?);
        let is_within = |(at, _): &(UnixSeconds, f64)| (from..=to).contains(at);
        let first = series.points.iter().position(is_within);
        let last = series.points.iter().rposition(is_within);
        let within = first.zip(last).with_context(context).context("a window holds no point")?;
        series.windows.push(Window { first: within.0, last: within.1 });
    }
    Ok(series)
}

/// `2014-04-10 07:15:00.000000`; the benchmark's times have no zone and are taken as UTC.
fn moment(text: &str) -> anyhow::Result<UnixSeconds> {
    let time: DateTime =
        text.trim().parse().with_context(|| format!("{text:?} is not a time like 2014-04-10 07:15:00"))?;
    let seconds = time.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp().as_second();
    Ok(UnixSeconds(u64::try_from(seconds).context("a time before 1970")?))
}
