//! Files of measurements, read by what is in them: Blender times (`{"model|API|build": {scene: [seconds]}}`),
//! clpeak logs, and tables of figures as JSON rows, CSV or TSV.
//!
//! Refuses whatever it does not understand, with the place. Knows no verdicts.

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

use anyhow::Context;
use gangline_rules::{
    classify::{Measured, Resource, vectors::Source},
    reference::{Peaks, Renders},
};
use serde_json::Value;

use super::{clpeak, tables};
use crate::problem::Problem;

/// The most bytes read of one file.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// The most files read of one folder.
const FILES_MAX: usize = 10_000;
/// Most that any figure may be, in thousandths of its unit; more is no measurement.
const FIGURE_MAX: f64 = 1e15;

/// A vector of figures and what it is claimed to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// Where in the file.
    pub at: String,
    /// What it is claimed to be.
    pub claim: String,
    /// What it is to be compared with.
    pub source: Source,
    /// What was measured.
    pub measured: Vec<Measured>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = (self.renders.len(), self.figures.len(), &self.refused);
        f.debug_tuple("Loaded").field(&counts).finish()
    }
}

/// A file that could not be read, and why.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Refused {
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub why: String,
}

/// What was found in a file, or in all files of a folder.
#[derive(Default)]
pub struct Loaded {
    /// Series of times, each with the file it is from.
    pub renders: Vec<(String, Renders)>,
    /// Vectors, each with the file it is from.
    pub figures: Vec<(String, Figures)>,
    /// Files of a folder that could not be read.
    pub refused: Vec<Refused>,
    /// Columns of tables that look like figures and are not compared.
    pub passed_over: Vec<PassedOver>,
}

/// Columns of a table that look like figures we compare and are none by name.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct PassedOver {
    /// The file.
    pub file: String,
    /// The columns.
    pub columns: Vec<String>,
}

impl Loaded {
    /// The vectors as measured peaks of devices, for a reference.
    pub fn peaks(&self) -> Vec<Peaks> {
        let peaks = self.figures.iter().filter(|(_, figures)| figures.source == Source::Peaks);
        peaks
            .map(|(file, figures)| {
                let of = |resource| figures.measured.iter().find(|m| m.resource == resource).map(|m| m.value);
                Peaks {
                    device: figures.claim.clone(),
                    driver: file.clone(),
                    bandwidth_mbps: of(Resource::Bandwidth),
                    fp32_mflops: of(Resource::Fp32),
                    int32_miops: of(Resource::Int32),
                }
            })
            .collect()
    }
}

/// Reads a file, or every file of a folder and of those in it. Of a folder, files that cannot be read are
/// named and the others go on.
pub fn load(path: &Path) -> anyhow::Result<Loaded> {
    let mut loaded = Loaded::default();
    if !path.is_dir() {
        read(path, &mut loaded).map_err(|error| {
            let why = format!("{} was not understood: {error:#}", path.display());
            Problem::usage(why).hint(
                "expected Blender times as JSON, a clpeak log, or a table of figures as JSON rows, CSV or TSV: see docs/STANDING.md",
            )
        })?;
        return Ok(loaded);
    }
    for file in files(path)? {
        if let Err(error) = read(&file, &mut loaded) {
            loaded.refused.push(Refused { file: file.display().to_string(), why: format!("{error:#}") });
        }
    }
    Ok(loaded)
}

fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (vec![], vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        let reading = || format!("could not read the folder {}", folder.display());
        for entry in std::fs::read_dir(&folder).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let kind = entry.file_type().with_context(reading)?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
            if found.len() > FILES_MAX {
                return Err(Problem::usage(format!(
                    "{} holds more than {FILES_MAX} files",
                    folder.display()
                ))
                .into());
            }
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path, loaded: &mut Loaded) -> anyhow::Result<()> {
    let length = std::fs::metadata(path).context("it cannot be opened")?.len();
    if length > FILE_BYTES_MAX {
        anyhow::bail!("it has {length} bytes; at most {FILE_BYTES_MAX} are read");
    }
    let bytes = std::fs::read(path).context("it cannot be read")?;
    let text = decoded(&bytes);
    let file = path.display().to_string();
    let text = text.trim_start_matches('\u{feff}');
    let mut add = |table: tables::Table| {
        loaded.figures.extend(table.rows.into_iter().map(|f| (file.clone(), f)));
        if !table.passed_over.is_empty() {
            loaded.passed_over.push(PassedOver { file: file.clone(), columns: table.passed_over });
        }
    };
    match text.trim_start().chars().next() {
        None => anyhow::bail!("it is empty"),
        Some('{' | '[') => {
            let value: Value = serde_json::from_str(text).context("it begins like JSON and is not")?;
            if tables::is_rows(&value) {
                add(tables::json(&value)?);
            } else {
                loaded.renders.extend(times(&value)?.into_iter().map(|r| (file.clone(), r)));
            }
        }
        Some(_) if clpeak::is_log(text) => {
            loaded.figures.extend(clpeak::read(text)?.into_iter().map(|f| (file.clone(), f)));
        }
        Some(_) => add(tables::separated(text)?),
    }
    Ok(())
}

/// A file's text. What a shell of Windows redirects into a file is UTF-16 with a mark at its start; driver names in logs come
/// in any encoding, and are labels.
fn decoded(bytes: &[u8]) -> Cow<'_, str> {
    let unit: fn([u8; 2]) -> u16 = match bytes {
        [0xff, 0xfe, ..] => u16::from_le_bytes,
        [0xfe, 0xff, ..] => u16::from_be_bytes,
        _ => return String::from_utf8_lossy(bytes),
    };
    let units: Vec<u16> = bytes.chunks_exact(2).map(|two| unit([two[0], two[1]])).collect();
    Cow::Owned(String::from_utf16_lossy(&units))
}

/// `value` in thousandths of its unit, as a whole number above 0.
pub fn thousandths(value: f64) -> Option<u64> {
    let scaled = (value * 1000.0).round();
    // Within these bounds the cast is exact.
    (value.is_finite() && (1.0..=FIGURE_MAX).contains(&scaled)).then_some(scaled as u64)
}

fn times(value: &Value) -> anyhow::Result<Vec<Renders>> {
    let Value::Object(series) = value else {
        anyhow::bail!("expected an object of series, or an array of rows");
    };
    let mut all = vec![];
    for (key, scenes) in series {
        let parts: Vec<&str> = key.split('|').map(str::trim).collect();
        let [model, api, build] = parts[..] else {
            anyhow::bail!("the key {key:?} is not \"model|API|build\"");
        };
        if model.is_empty() {
            anyhow::bail!("the key {key:?} names no model");
        }
        let Value::Object(scenes) = scenes else {
            anyhow::bail!("{key:?} is not an object of scenes");
        };
        for (scene, seconds) in scenes {
            let Value::Array(seconds) = seconds else {
                anyhow::bail!("{scene:?} of {key:?} is not an array of seconds");
            };
            let mut times_millis = vec![];
            for (at, one) in seconds.iter().enumerate() {
                let millis = one.as_f64().and_then(thousandths);
                times_millis.push(millis.with_context(|| {
                    format!("number {at} of {scene:?} of {key:?} is {one}, no time in seconds above 0")
                })?);
            }
            all.push(Renders {
                model: model.to_owned(),
                api: api.to_owned(),
                build: build.to_owned(),
                scene: scene.clone(),
                times_millis,
            });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_bytes(bytes: &[u8]) -> anyhow::Result<Loaded> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("measurements");
        std::fs::write(&path, bytes).unwrap();
        load(&path)
    }

    fn load_text(text: &str) -> anyhow::Result<Loaded> {
        load_bytes(text.as_bytes())
    }

    #[test]
    fn a_file_means_the_same_however_it_is_encoded_and_its_lines_end() {
        let text = "name,fp32,bw\nCard µ,7,8\n";
        let marked = format!("\u{feff}{text}");
        let wide = |bytes: fn(u16) -> [u8; 2]| marked.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        let plain = load_text(text).unwrap().figures.remove(0).1;
        assert_eq!((plain.claim.as_str(), plain.measured.len()), ("Card µ", 2));
        for bytes in [
            marked.clone().into_bytes(),
            text.replace('\n', "\r\n").into_bytes(),
            wide(u16::to_le_bytes),
            wide(u16::to_be_bytes),
        ] {
            assert_eq!(load_bytes(&bytes).unwrap().figures.remove(0).1, plain, "{bytes:?}");
        }
        // Half a character at the end, and bytes that are no text.
        let whole = wide(u16::to_le_bytes);
        assert!(load_bytes(&whole[..whole.len() - 3]).is_ok());
        assert!(load_bytes(&[0xff, 0xfe, 0, 0xd8]).is_err() && load_bytes(&[0xff, 0xfe]).is_err());
    }

    #[test]
    fn times_are_read_by_series() {
        let loaded =
            load_text(r#"{"A 1|CUDA|2.81": {"bmw27": [1.5, 2]}, "B|OPTIX|2.82": {"koro": []}}"#).unwrap();
        let (_, first) = &loaded.renders[0];
        assert_eq!((first.model.as_str(), first.api.as_str(), first.build.as_str()), ("A 1", "CUDA", "2.81"));
        assert_eq!(first.times_millis, [1500, 2000]);
        assert!(loaded.renders[1].1.times_millis.is_empty());
    }

    #[test]
    fn what_is_malformed_is_refused_with_its_place() {
        let check = |text: &str, words: &str| {
            let error = format!("{:#}", load_text(text).expect_err(text));
            assert!(error.contains(words), "{error}");
        };
        check("", "it is empty");
        check("{", "begins like JSON and is not");
        check(r#"{"A|CUDA": {}}"#, "is not \"model|API|build\"");
        check(r#"{"A|CUDA|2.81": [1]}"#, "is not an object of scenes");
        check(r#"{"A|CUDA|2.81": {"bmw27": 3}}"#, "is not an array of seconds");
        check(r#"{"A|CUDA|2.81": {"bmw27": [1, -3]}}"#, "number 1 of \"bmw27\"");
        check(r#"{"A|CUDA|2.81": {"bmw27": ["3"]}}"#, "no time in seconds above 0");
        check(r#"{"A|CUDA|2.81": {"bmw27": [1e300]}}"#, "no time in seconds above 0");
        check("hello", "no column");
        check("\u{0}\u{1}", "no column");
    }

    #[test]
    fn of_a_folder_the_good_files_count_and_the_bad_are_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("more")).unwrap();
        std::fs::write(folder.path().join("a.json"), r#"{"A|CUDA|2.81": {"bmw27": [1]}}"#).unwrap();
        std::fs::write(folder.path().join("more/b.csv"), "name,fp32\nB,7\n").unwrap();
        std::fs::write(folder.path().join("bad"), "{").unwrap();
        let loaded = load(folder.path()).unwrap();
        assert_eq!((loaded.renders.len(), loaded.figures.len(), loaded.refused.len()), (1, 1, 1));
        assert!(loaded.refused[0].file.ends_with("bad"));
    }
}
