//! Uptime hours as a heat map: a column a day, a row an hour, five levels. It counts only minutes that
//! could have been credited: none before the GPU was registered, none that are still to come.

use std::fmt::Write;

use gangline_types::{Hour, UnixSeconds, UptimeHour, public::PublicUptime};

use crate::ui;

/// Days shown.
pub(crate) const DAYS: u64 = 90;
/// Distance from cell to cell in the drawing's coordinates.
const PITCH: u64 = 11;

/// One day's sum.
pub(crate) struct Day {
    /// `2026-11-22`.
    pub(crate) date: String,
    /// Credited minutes.
    pub(crate) credited: u64,
    /// Minutes that could have been credited.
    pub(crate) possible: u64,
}

/// A heat map ready for its template.
pub(crate) struct Heat {
    /// Path of each level's cells, level 0 (no minute) to 4 (more than three quarters). Cells are drawn
    /// as dashes of a thick line, so that a run of hours is a few characters.
    pub(crate) levels: [String; 5],
    /// Credited minutes in all.
    pub(crate) credited: u64,
    /// Minutes that could have been credited.
    pub(crate) possible: u64,
    /// Of the credited minutes, those whose beats came only after their period's snapshot.
    pub(crate) late: u64,
    /// Whole hours without a single credited minute.
    pub(crate) silent_hours: u64,
    /// Longest run of such hours.
    pub(crate) longest_silence: u64,
    /// Minutes of the network's own outages, in which it could have been credited and was not.
    pub(crate) ours: u64,
    /// Days that hold any possible minute, newest first.
    pub(crate) days: Vec<Day>,
    /// Column and date of the labels below.
    pub(crate) marks: Vec<(u64, String)>,
}

/// The level of `credited` of `possible` minutes: 0 none, then a quarter of the hour each.
fn level(credited: u64, possible: u64) -> usize {
    match credited * 60 / possible.max(1) {
        0 if credited == 0 => 0,
        0..=15 => 1,
        16..=30 => 2,
        31..=45 => 3,
        _ => 4,
    }
}

impl Heat {
    /// The map of the 90 days that end with the day of `now`, for a GPU registered at `registered`.
    /// Minutes of `outages`, the network's own, are possible only where they are credited all the same.
    pub(crate) fn new(
        uptime: &[PublicUptime],
        outages: &[(Hour, UptimeHour)],
        registered: UnixSeconds,
        now: UnixSeconds,
    ) -> Self {
        let last_day = now.0 / 86_400;
        let first_day = (last_day + 1).saturating_sub(DAYS);
        let by_hour: std::collections::HashMap<Hour, u64> =
            uptime.iter().map(|u| (u.hour, u64::from(u.bits.minutes()))).collect();
        let ours: std::collections::HashMap<Hour, u64> = outages
            .iter()
            .map(|(hour, down)| {
                let bits = uptime.iter().find(|u| u.hour == *hour).map_or(0, |u| u.bits.0);
                (*hour, u64::from(UptimeHour(down.0 & !bits).minutes()))
            })
            .collect();
        let (born, ends) = (u64::from(registered.minute().0), u64::from(now.minute().0) + 1);
        let mut heat = Self {
            levels: Default::default(),
            credited: 0,
            possible: 0,
            late: uptime.iter().map(|u| u64::from(u.late.minutes())).sum(),
            silent_hours: 0,
            ours: 0,
            longest_silence: 0,
            days: Vec::new(),
            marks: Vec::new(),
        };
        let mut silence = 0;
        for day in first_day..=last_day {
            let column = day - first_day;
            let mut sum = Day { date: ui::date(day), credited: 0, possible: 0 };
            let mut run: Option<(usize, u64)> = None;
            for row in 0..24 {
                let hour = Hour(u32::try_from(day * 24 + row).unwrap_or(u32::MAX));
                let start = u64::from(hour.start().0);
                let possible = (start + 60).min(ends).saturating_sub(start.max(born));
                let down = ours.get(&hour).copied().unwrap_or_default().min(possible);
                let possible = possible - down;
                heat.ours += down;
                let credited = by_hour.get(&hour).copied().unwrap_or_default().min(possible);
                let here = (possible > 0).then(|| level(credited, possible));
                if run.is_some_and(|(level, _)| Some(level) != here) {
                    heat.close(&mut run, column, row);
                }
                if let (Some(level), None) = (here, run) {
                    run = Some((level, row));
                }
                sum.credited += credited;
                sum.possible += possible;
                silence = if here == Some(0) { silence + 1 } else { 0 };
                heat.silent_hours += u64::from(here == Some(0));
                heat.longest_silence = heat.longest_silence.max(silence);
            }
            heat.close(&mut run, column, 24);
            if column.is_multiple_of(15) && column + 8 < DAYS {
                heat.marks.push((column * PITCH, sum.date.clone()));
            }
            heat.credited += sum.credited;
            heat.possible += sum.possible;
            if sum.possible > 0 {
                heat.days.insert(0, sum);
            }
        }
        heat
    }

    /// Draws a run of equal hours `from..to` of one column.
    fn close(&mut self, run: &mut Option<(usize, u64)>, column: u64, to: u64) {
        if let Some((level, from)) = run.take() {
            // The dash pattern starts anew with each run: nine units of cell, two of gap. Writing into a
            // String cannot fail.
            let _ = write!(self.levels[level], "M{} {}V{}", column * PITCH + 5, from * PITCH, to * PITCH - 2);
        }
    }
}

/// What a level says, for the legend.
pub(crate) fn level_words(level: impl std::borrow::Borrow<usize>) -> &'static str {
    let words = ["no minute", "up to 15 min", "up to 30 min", "up to 45 min", "up to 60 min"];
    words.get(*level.borrow()).unwrap_or(&"")
}

#[cfg(test)]
mod tests {
    use gangline_types::UptimeHour;

    use super::*;

    #[test]
    fn only_minutes_that_could_be_credited_count() {
        // Registered 30 minutes into an hour, seen 2 hours and 10 minutes later.
        let base = 1_000 * 24;
        let registered = Hour(base).start().start().plus(30 * 60);
        let now = registered.plus(130 * 60);
        let up = |hour, bits| PublicUptime {
            hour: Hour(hour),
            bits: UptimeHour(bits),
            late: UptimeHour(0),
            unchained: UptimeHour(0),
        };
        let heat = Heat::new(
            &[up(base, UptimeHour::FULL.0), up(base + 1, 0), up(base + 2, 7)],
            &[],
            registered,
            now,
        );
        assert_eq!((heat.credited, heat.possible), (30 + 3, 30 + 60 + 41));
        assert_eq!((heat.silent_hours, heat.longest_silence), (1, 1));
        assert_eq!(heat.days.len(), 1);
        let x = 89 * PITCH + 5;
        assert_eq!(heat.levels[4], format!("M{x} 0V9"));
        assert_eq!(heat.levels[0], format!("M{x} 11V20"));
        assert_eq!(heat.levels[1], format!("M{x} 22V31"));
    }

    #[test]
    fn levels_are_quarters_of_an_hour() {
        for (minutes, want) in [(0, 0), (1, 1), (15, 1), (16, 2), (30, 2), (31, 3), (45, 3), (46, 4), (60, 4)]
        {
            assert_eq!(level(minutes, 60), want, "{minutes} minutes");
        }
    }
}
