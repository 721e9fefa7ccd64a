//! Logs of the clpeak micro-benchmark: of each device the best line of each section we compare.
//!
//! Knows the log's shape; not what the figures are worth.

use gangline_rules::classify::{Measured, Resource, vectors::Source};

use super::formats::{Figures, thousandths};

const SECTIONS: [(&str, Resource); 4] = [
    ("Global memory bandwidth", Resource::Bandwidth),
    ("Single-precision compute", Resource::Fp32),
    ("Integer compute (GIOPS)", Resource::Int32),
    // Newer logs name the unit apart; their "fast 24 bit" section is another thing.
    ("Integer compute", Resource::Int32),
];

/// Whether a text is such a log.
pub fn is_log(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start();
        line.starts_with("Device:") || line.starts_with("Platform:") || line.starts_with("clpeak")
    })
}

fn section(line: &str) -> Option<Resource> {
    let line = line.trim();
    SECTIONS
        .into_iter()
        .find(|(title, _)| {
            let rest = line.strip_prefix(title).map(str::trim_start);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('('))
        })
        .map(|(_, resource)| resource)
}

/// A line of a section: a word, a colon, a number.
fn figure(line: &str) -> Option<f64> {
    let (word, number) = line.split_once(':')?;
    let word = word.trim();
    let is_word = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    is_word.then(|| number.trim().parse().ok()).flatten()
}

/// The devices of a log, in order. One whose benchmark gave nothing is left out; a log without any device
/// that was measured is refused.
pub fn read(text: &str) -> anyhow::Result<Vec<Figures>> {
    let mut devices: Vec<Figures> = vec![];
    let mut current = None;
    for (at, line) in text.lines().enumerate() {
        if let Some(name) = line.trim_start().strip_prefix("Device:") {
            let (claim, at) = (name.trim().to_owned(), format!("line {}", at + 1));
            devices.push(Figures { at, claim, source: Source::Peaks, measured: vec![] });
            current = None;
        } else if let Some(resource) = section(line) {
            current = Some(resource);
        } else if let (Some(resource), Some(value)) = (current, figure(line)) {
            let (Some(device), Some(value)) = (devices.last_mut(), thousandths(value)) else { continue };
            match device.measured.iter_mut().find(|measured| measured.resource == resource) {
                Some(measured) => measured.value = measured.value.max(value),
                None => device.measured.push(Measured { resource, value }),
            }
        } else {
            current = None;
        }
    }
    devices.retain(|device| !device.measured.is_empty());
    if devices.is_empty() {
        anyhow::bail!("the log holds no device with a bandwidth, single-precision or integer section");
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\nPlatform: Some\n  Device: Card A\n    Driver version  : 1\n    Compute units   : 8\n\n    \
        Global memory bandwidth (GBPS)\n      float   : 27.21\n      float2  : 28.08\n\n    \
        Single-precision compute (GFLOPS)\n      float   : 733.13\n      float2  : 732.25\n\n    \
        Integer compute (GIOPS)\n      int   : 146.82\n\n    \
        Integer compute Fast 24bit (GIOPS)\n      int   : 700\n\n    \
        Transfer bandwidth (GBPS)\n      enqueueWriteBuffer         : 8000\n\n  Device: Broken\n    \
        clCreateContext (-6)\n  Device: Card B\n    Single-precision compute (GFLOPS)\n      float   : nan\n      \
        float2  : 5\n";

    #[test]
    fn the_best_line_of_each_section_counts() {
        let devices = read(LOG).unwrap();
        assert_eq!(devices.len(), 2);
        assert_eq!((devices[0].claim.as_str(), devices[0].at.as_str()), ("Card A", "line 3"));
        let values: Vec<_> = devices[0].measured.iter().map(|m| (m.resource, m.value)).collect();
        let expected = [(Resource::Bandwidth, 28_080), (Resource::Fp32, 733_130), (Resource::Int32, 146_820)];
        assert_eq!(values, expected);
        assert_eq!(devices[1].measured, [Measured { resource: Resource::Fp32, value: 5_000 }]);
    }

    #[test]
    fn a_log_without_a_measured_device_is_refused() {
        assert!(is_log("Platform: x\n"));
        assert!(!is_log("name,fp32\n"));
        for text in ["Platform: x\n", "  Device: y\n", "Device: y\n Integer compute (GIOPS)\n int : many\n"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
