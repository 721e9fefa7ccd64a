//! A count over time as an area chart in SVG. It draws what it is given: gaps stay gaps, and the axis
//! starts at zero, so that a small change does not look like a large one.

use std::fmt::Write;

use gangline_types::{Seconds, UnixSeconds};

use crate::ui;

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// When it was taken.
    pub at: UnixSeconds,
    /// What was counted.
    pub value: u64,
}

/// Measurements over a span of time, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// The measurements, oldest first; at most a few hundred.
    pub points: Vec<Point>,
    /// How far apart they are taken. A gap of more than three of these is drawn as a gap.
    pub step: Seconds,
}

/// Width of the drawing's own coordinates.
const WIDTH: u64 = 720;
/// Height of the drawing's own coordinates.
const HEIGHT: u64 = 180;

/// A chart ready for its template.
pub(crate) struct Chart {
    /// Path of the line.
    pub(crate) line: String,
    /// Path of the area under it.
    pub(crate) area: String,
    /// Top of the axis.
    pub(crate) top: u64,
    /// `x:value` in minutes before the end, for the script's crosshair.
    pub(crate) data: String,
    /// Height and text of each grid line, from the top down.
    pub(crate) ticks: Vec<(u64, String)>,
    /// What the picture shows, in words.
    pub(crate) words: String,
}

/// The smallest of 1, 2, 5 times a power of ten that is at least `least`.
fn nice_step(least: u64) -> u64 {
    let mut unit = 1u64;
    loop {
        for times in [1, 2, 5] {
            let step = unit.saturating_mul(times);
            if step >= least || step == u64::MAX {
                return step;
            }
        }
        unit = unit.saturating_mul(10);
    }
}

impl Chart {
    /// The chart of the `span` before `now`; `None` with fewer than two measurements in it.
    pub(crate) fn new(series: &Series, now: UnixSeconds, span: Seconds) -> Option<Self> {
        let from = now.0.saturating_sub(span.0);
        let points: Vec<_> =
            series.points.iter().filter(|p| (from..=now.0).contains(&p.at.0)).copied().collect();
        let (first, last) = (points.first()?, points.last()?);
        if points.len() < 2 || span.0 == 0 {
            return None;
        }
        let (low, high) = points.iter().fold((u64::MAX, 0), |(l, h), p| (l.min(p.value), h.max(p.value)));
        let step = nice_step((high.max(1)).div_ceil(4));
        let top = high.max(1).div_ceil(step).saturating_mul(step).max(1);
        // Tenths of a unit are finer than any screen.
        let x10 = |at: u64| (at - from) as u128 * (WIDTH * 10) as u128 / span.0 as u128;
        let y10 = |value: u64| (HEIGHT * 10) as u128 * (top - value) as u128 / top as u128;
        let (mut line, mut area, mut data) = (String::new(), String::new(), String::new());
        let mut before: Option<Point> = None;
        for p in &points {
            let joined = before.is_some_and(|b| p.at.since(b.at) <= series.step.0.max(1) * 3);
            let place = format!("{} {}", tenths(x10(p.at.0)), tenths(y10(p.value)));
            // Writing into a String cannot fail.
            if joined {
                let _ = write!(line, "L{place}");
                let _ = write!(area, "L{place}");
            } else {
                if let Some(b) = before {
                    let _ = write!(area, "V{HEIGHT}H{}Z", tenths(run_start(&area, x10(b.at.0))));
                }
                let _ = write!(line, "M{place}");
                let _ = write!(area, "M{place}");
            }
            let _ = write!(
                data,
                "{}{}:{}",
                if data.is_empty() { "" } else { "," },
                (now.0 - p.at.0) / 60,
                p.value
            );
            before = Some(*p);
        }
        let _ = write!(area, "V{HEIGHT}H{}Z", tenths(run_start(&area, 0)));
        let tick = |i: u64| {
            let value = i.saturating_mul(step);
            ((HEIGHT as u128 - HEIGHT as u128 * value.min(top) as u128 / top as u128) as u64, ui::n(value))
        };
        let ticks = (0..=top / step).rev().map(tick).collect();
        let words = format!(
            "from {} at first to {} last, between {} and {}",
            ui::n(first.value),
            ui::n(last.value),
            ui::n(low),
            ui::n(high)
        );
        Some(Self { line, area, top, data, ticks, words })
    }
}

fn tenths(value: u128) -> String {
    if value.is_multiple_of(10) {
        format!("{}", value / 10)
    } else {
        format!("{}.{}", value / 10, value % 10)
    }
}

/// Where the last run of `area` began, in tenths; `other` if it cannot be told.
fn run_start(area: &str, other: u128) -> u128 {
    let Some(start) = area.rfind('M') else { return other };
    let number = area[start + 1..].split(' ').next().unwrap_or_default();
    match number.split_once('.') {
        Some((whole, tenth)) => {
            whole.parse::<u128>().ok().zip(tenth.parse::<u128>().ok()).map_or(other, |(w, t)| w * 10 + t)
        }
        None => number.parse::<u128>().map_or(other, |w| w * 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(points: &[(u64, u64)]) -> Series {
        let points = points.iter().map(|p| Point { at: UnixSeconds(p.0), value: p.1 }).collect();
        Series { points, step: Seconds(300) }
    }

    #[test]
    fn a_gap_stays_a_gap() {
        let chart = Chart::new(
            &series(&[(0, 5), (300, 6), (3_000, 6), (3_300, 10)]),
            UnixSeconds(3_600),
            Seconds(3_600),
        );
        let chart = chart.expect("four measurements draw");
        assert_eq!(chart.line, "M0 90L60 72M600 72L660 0");
        assert_eq!(chart.area, "M0 90L60 72V180H0ZM600 72L660 0V180H600Z");
        assert_eq!(chart.top, 10);
        assert_eq!(chart.data, "60:5,55:6,10:6,5:10");
    }

    #[test]
    fn odd_values_do_not_trip_it() {
        for points in [&[][..], &[(1, 1)], &[(0, 0), (1, 0)], &[(0, u64::MAX), (1, 0)]] {
            let drawn = Chart::new(&series(points), UnixSeconds(10), Seconds(10));
            assert_eq!(drawn.is_some(), points.len() > 1);
        }
    }
}
