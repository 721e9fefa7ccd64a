//! What others measured and published about real GPUs: render times, peaks, and figures of their makers.
//! The tables lie in `data/`, with their sources and licences.
//!
//! Knows names and numbers; what follows from them is decided elsewhere.

use crate::robust::Permille;

const SPECS: &str = include_str!("../data/specs.tsv");
const CLPEAK: &str = include_str!("../data/clpeak.tsv");
const BLENDER: &str = include_str!("../data/blender.tsv");

/// Published figures of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The model's name.
    pub name: String,
    /// Who makes it.
    pub maker: String,
    /// The architecture's name.
    pub architecture: String,
    /// Day of release as `YYYY-MM-DD`.
    pub released: String,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Bandwidth in MB/s.
    pub bandwidth_mbps: u64,
    /// Single-precision rate in MFLOPS.
    pub fp32_mflops: u64,
}

/// Measured peaks of one device with one driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peaks {
    /// The device as its driver names it.
    pub device: String,
    /// The driver.
    pub driver: String,
    /// Bandwidth in MB/s.
    pub bandwidth_mbps: Option<u64>,
    /// Single-precision rate in MFLOPS.
    pub fp32_mflops: Option<u64>,
    /// 32-bit integer rate in MIOPS.
    pub int32_miops: Option<u64>,
}

/// Render times of one model through one API, by one build, of one scene.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renders {
    /// The model's name.
    pub model: String,
    /// The API.
    pub api: String,
    /// The build that rendered.
    pub build: String,
    /// What was rendered.
    pub scene: String,
    /// Times in milliseconds, in no order.
    pub times_millis: Vec<u64>,
}

/// Why a table cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the table: expected {expected}")]
pub struct TableError {
    /// From 1.
    pub line: usize,
    /// What should be there.
    pub expected: &'static str,
}

fn rows<T>(
    table: &str,
    expected: &'static str,
    read: impl Fn(&[&str]) -> Option<T>,
) -> Result<Vec<T>, TableError> {
    let lines = table.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(at, line)| {
            let fields: Vec<&str> = line.split('\t').collect();
            read(&fields).ok_or(TableError { line: at + 1, expected })
        })
        .collect()
}

fn parse_specs(table: &str) -> Result<Vec<Spec>, TableError> {
    rows(table, "name, maker, architecture, released, memory, bandwidth and fp32", |fields| {
        let &[name, maker, architecture, released, memory, bandwidth, fp32] = fields else { return None };
        Some(Spec {
            name: name.to_owned(),
            maker: maker.to_owned(),
            architecture: architecture.to_owned(),
            released: released.to_owned(),
            memory_mib: memory.parse().ok()?,
            bandwidth_mbps: bandwidth.parse().ok()?,
            fp32_mflops: fp32.parse().ok()?,
        })
    })
}

fn parse_peaks(table: &str) -> Result<Vec<Peaks>, TableError> {
    let measured = |field: &str| match field {
        "-" => Some(None),
        number => number.parse().ok().map(Some),
    };
    rows(table, "device, driver, bandwidth, fp32, int32 and file", |fields| {
        let &[device, driver, bandwidth, fp32, int32, _] = fields else { return None };
        Some(Peaks {
            device: device.to_owned(),
            driver: driver.to_owned(),
            bandwidth_mbps: measured(bandwidth)?,
            fp32_mflops: measured(fp32)?,
            int32_miops: measured(int32)?,
        })
    })
}

fn parse_renders(table: &str) -> Result<Vec<Renders>, TableError> {
    rows(table, "model, API, build, scene and times above 0", |fields| {
        let &[model, api, build, scene, times] = fields else { return None };
        let times: Option<Vec<u64>> =
            times.split(' ').map(|time| time.parse().ok().filter(|millis| *millis > 0)).collect();
        Some(Renders {
            model: model.to_owned(),
            api: api.to_owned(),
            build: build.to_owned(),
            scene: scene.to_owned(),
            times_millis: times.filter(|times| !times.is_empty())?,
        })
    })
}

/// Published figures of every model in the table, by day of release.
pub fn specs() -> Vec<Spec> {
    parse_specs(SPECS).expect("the shipped table is read by a test")
}

/// Every measured device.
pub fn peaks() -> Vec<Peaks> {
    parse_peaks(CLPEAK).expect("the shipped table is read by a test")
}

/// Every series of render times.
pub fn renders() -> Vec<Renders> {
    parse_renders(BLENDER).expect("the shipped table is read by a test")
}

/// The models that error rates are computed over: released since 2016, with at least 6 GB, by the three
/// makers of cards that a renter would hire.
pub fn modern(specs: &[Spec]) -> Vec<&Spec> {
    let makers = ["NVIDIA", "AMD", "Intel"];
    let modern = |spec: &&Spec| {
        spec.released.as_str() >= "2016-01-01"
            && spec.memory_mib >= 6 * 1024
            && makers.contains(&spec.maker.as_str())
    };
    specs.iter().filter(modern).collect()
}

/// int32 over fp32 rate of an architecture in thousandths, as measured on its members (`peaks`): clocks
/// cannot move it. `None` where no member was measured; the tolerance around it is a third.
pub fn signature(architecture: &str) -> Option<Permille> {
    // Measured medians: GTX 480 0.50; GTX 660, K40c, K80 0.20; GTX 980, Quadro K620 0.30-0.34; GTX 1080,
    // P40 0.28-0.34; V100 1.00; RTX 2080 0.98; A100 1.00; Tahiti to Fiji 0.19-0.21; RX 570 0.20; MI50 0.33;
    // MI100 0.33; RX 5500 XT 0.20. MI250X measures 0.25 of a doubled fp32 rate.
    Some(match architecture {
        "Fermi" => 500,
        "Kepler" | "Kepler 2.0" => 200,
        "Maxwell" | "Maxwell 2.0" | "Pascal" => 310,
        "Volta" | "Turing" => 960,
        "GCN 1.0" | "GCN 3.0" | "GCN 4.0" | "RDNA 1.0" => 200,
        "GCN 2.0" => 270,
        "GCN 5.1" | "CDNA 1.0" => 330,
        "CDNA 2.0" => 250,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_shipped_tables_are_whole() {
        let specs = specs();
        assert_eq!(modern(&specs).len(), 507);
        let names: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names.len(), specs.len(), "a name is there twice");
        assert!(specs.iter().all(|s| s.memory_mib > 0 && s.bandwidth_mbps > 0 && s.fp32_mflops > 0));
        assert_eq!(peaks().len(), 119);
        assert!(peaks().iter().all(|peaks| peaks.fp32_mflops.is_some()));
        let renders = renders();
        assert!(renders.iter().map(|series| series.times_millis.len()).sum::<usize>() > 10_000);
        let keys: BTreeSet<_> = renders.iter().map(|r| (&r.model, &r.api, &r.build, &r.scene)).collect();
        assert_eq!(keys.len(), renders.len(), "a series is there twice");
    }

    #[test]
    fn a_malformed_line_is_refused_with_its_number() {
        let check = |found: Option<TableError>, line| assert_eq!(found.map(|e| e.line), Some(line));
        check(parse_specs("# ok\na\tb\tc\t2016-01-01\t1\t2\tmany").err(), 2);
        check(parse_specs("a\tb").err(), 1);
        check(parse_peaks("a\tb\t1\t-\t?\tf").err(), 1);
        check(parse_renders("a\tb\tc\td\t5 0").err(), 1);
        check(parse_renders("a\tb\tc\td\t").err(), 1);
    }
}
