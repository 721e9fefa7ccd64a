//! Uptime: which minute a beat counts for, and how many minutes of a span are credited.
//!
//! Knows bits and minutes; not who sent a beat, nor how it was signed or stored.

use std::collections::BTreeMap;

use gangline_types::{Hour, Minute, UnixSeconds, UptimeHour};

/// A machine's clock may run ahead of ours by this much.
pub const SKEW_SECONDS: u64 = 60;

/// A beat buffered while the server was away counts for its own minute until this long after it: 6 hours.
pub const LATE_WINDOW_SECONDS: u64 = 6 * 3600;

/// A GPU counts as connected for this long after its last beat, in seconds: three missed beats.
pub const CONNECTED_SECONDS: u64 = 180;

/// Why a beat is not credited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its minute has not begun yet, by more than the skew.
    #[error(
        "the beat's minute begins {ahead_seconds} seconds from now; at most {SKEW_SECONDS} are allowed: set this machine's clock"
    )]
    Future {
        /// Seconds from now to the minute's first second.
        ahead_seconds: u64,
    },
    /// Its minute ended too long ago.
    #[error(
        "the beat's minute ended {behind_seconds} seconds ago; beats are taken up to {LATE_WINDOW_SECONDS} seconds late"
    )]
    Late {
        /// Seconds from the minute's end to now.
        behind_seconds: u64,
    },
}

/// The minute that a beat for `beat` is credited to when it arrives at `now`: its own, or none.
pub fn credit(now: UnixSeconds, beat: Minute) -> Result<Minute, Refusal> {
    let starts = beat.start();
    let ahead_seconds = starts.since(now);
    if ahead_seconds > SKEW_SECONDS {
        return Err(Refusal::Future { ahead_seconds });
    }
    let behind_seconds = now.since(starts.plus(60));
    if behind_seconds > LATE_WINDOW_SECONDS {
        return Err(Refusal::Late { behind_seconds });
    }
    Ok(beat)
}

/// Minutes in which our own intake took no beats, from the first minute that it recorded to `until`: they count
/// against nobody. `up` has the minutes it was up in, an hour at a time.
pub fn outages(
    up: impl IntoIterator<Item = (Hour, UptimeHour)>,
    until: Minute,
) -> BTreeMap<Hour, UptimeHour> {
    let up: BTreeMap<Hour, UptimeHour> = up.into_iter().filter(|(_, bits)| bits.minutes() > 0).collect();
    let Some((first, bits)) = up.first_key_value() else { return BTreeMap::new() };
    let from = Minute(first.start().0 + bits.0.trailing_zeros());
    (first.0..=until.hour().0)
        .map(Hour)
        .filter_map(|hour| {
            let start = hour.start().0;
            let known = (0..60u8)
                .filter(|m| (from.0..until.0).contains(&(start + u32::from(*m))))
                .fold(UptimeHour::default(), UptimeHour::with);
            let here = up.get(&hour).copied().unwrap_or_default();
            let down = UptimeHour(known.0 & !here.0);
            (down.minutes() > 0).then_some((hour, down))
        })
        .collect()
}

/// The minute after the last one of `outages` within `from..to`: when the intake was back. None where it was up
/// throughout.
pub fn back_since(outages: &BTreeMap<Hour, UptimeHour>, from: Minute, to: Minute) -> Option<Minute> {
    let last = outages
        .iter()
        .flat_map(|(hour, down)| (0..60u8).filter(|m| down.has(*m)).map(|m| hour.start().0 + u32::from(m)))
        .filter(|minute| (from.0..to.0).contains(minute))
        .max()?;
    // What is down in one piece with it ends later.
    let is_down = |minute: u32| {
        let minute = Minute(minute);
        outages.get(&minute.hour()).is_some_and(|down| down.has(minute.of_hour()))
    };
    Some(Minute((last..).find(|minute| !is_down(*minute)).unwrap_or(u32::MAX)))
}

/// Credited minutes of one GPU within `from..to`. An hour may come in several records: they are merged,
/// so nothing counts twice.
pub fn minutes_in(from: Minute, to: Minute, hours: impl IntoIterator<Item = (Hour, UptimeHour)>) -> u32 {
    let mut merged = BTreeMap::<Hour, UptimeHour>::new();
    for (hour, bits) in hours {
        let all = merged.entry(hour).or_default();
        *all = all.merge(bits);
    }
    merged.into_iter().map(|(hour, bits)| bits.minutes_within(hour, from, to)).sum()
}

/// Rows that are counted in one go: what is read of a column before the next ones are is some pages long, and their minutes stay
/// at hand meanwhile.
const ROWS: usize = 8192;

/// Columns that are read side by side: few enough for the processor to read ahead of each and to hold a line of each, wherever
/// they begin.
const COLUMNS: usize = 8;

/// Three bits of each place as their sum and what it carries.
#[inline(always)]
fn add(a: u64, b: u64, c: u64) -> (u64, u64) {
    let either = a ^ b;
    (either ^ c, (a & b) | (either & c))
}

/// How many of every four bits are set, in those four bits.
#[inline(always)]
fn fourths(word: u64) -> u64 {
    const ONE: u64 = u64::MAX / 0b11;
    const TWO: u64 = u64::MAX / 0b1111 * 0b0011;
    let pairs = word - (word >> 1 & ONE);
    (pairs & TWO) + (pairs >> 2 & TWO)
}

/// The sum of every two numbers of four bits, in their eight.
#[inline(always)]
fn bytes(fourths: u64) -> u64 {
    const LOW: u64 = u64::MAX / 0xff * 0x0f;
    (fourths & LOW) + (fourths >> 4 & LOW)
}

/// How many bits of eight words are set. How often each place is set is added up in binary first, which is a third of the work
/// of counting each word's bits; and nothing here but what the plainest processor does with several words at once.
#[inline(always)]
fn ones([a, b, c, d, e, f, g, h]: [u64; COLUMNS]) -> u32 {
    const SHORTS: u64 = u64::MAX / 0xffff * 0xff;
    let (left, twos_a) = add(a, b, c);
    let (right, twos_b) = add(d, e, f);
    let (both, twos_c) = add(left, right, g);
    let (ones, twos_d) = add(both, h, 0);
    let (twos, fours_a) = add(twos_a, twos_b, twos_c);
    let (twos, fours_b) = add(twos, twos_d, 0);
    let (fours, eights) = add(fours_a, fours_b, 0);
    // A byte's eight bits come to 64 at most.
    let low = fourths(ones) + (fourths(twos) << 1);
    let high = fourths(fours) + (fourths(eights) << 1);
    let sum = bytes(low) + (bytes(high) << 2);
    let sum = (sum & SHORTS) + (sum >> 8 & SHORTS);
    let sum = sum + (sum >> 16);
    ((sum + (sum >> 32)) & 0xffff) as u32
}

/// Adds what some rows have in these columns to their minutes.
#[inline(never)]
fn count(columns: [&[u64]; COLUMNS], minutes: &mut [u32]) {
    let columns = columns.map(|column| &column[..minutes.len()]);
    for (n, minutes) in minutes.iter_mut().enumerate() {
        *minutes += ones(std::array::from_fn(|column| columns[column][n]));
    }
}

/// Minutes of everybody over some hours, each hour a column of everybody's bits in the same order. Whoever is missing in a
/// column that is shorter than the first was not up in it.
pub fn minutes_of_all(hours: &[impl AsRef<[u64]>]) -> Vec<u32> {
    let rows = hours.first().map_or(0, |hour| hour.as_ref().len());
    let mut all = vec![0; rows];
    // For hours that there are not, and for the ends of columns that are shorter.
    let nothing = vec![0; ROWS.min(rows)];
    let mut ends: [Vec<u64>; COLUMNS] = Default::default();
    for (n, minutes) in all.chunks_mut(ROWS).enumerate() {
        for hours in hours.chunks(COLUMNS) {
            let mut columns = [nothing.as_slice(); COLUMNS];
            for ((column, end), hour) in columns.iter_mut().zip(&mut ends).zip(hours) {
                let words = hour.as_ref().get(n * ROWS..).unwrap_or_default();
                *column = if words.len() < minutes.len() {
                    end.clear();
                    end.extend_from_slice(words);
                    end.resize(minutes.len(), 0);
                    end
                } else {
                    words
                };
            }
            count(columns, minutes);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_counts_for_its_own_minute_within_skew_and_late_window() {
        let beat = Minute(1_000_000);
        let start = beat.start().0;
        let check = |now: u64, expected| assert_eq!(credit(UnixSeconds(now), beat), expected, "at {now}");
        check(start, Ok(beat));
        check(start + 59, Ok(beat));
        check(start - 60, Ok(beat));
        check(start - 61, Err(Refusal::Future { ahead_seconds: 61 }));
        check(start + 60 + LATE_WINDOW_SECONDS, Ok(beat));
        check(
            start + 61 + LATE_WINDOW_SECONDS,
            Err(Refusal::Late { behind_seconds: LATE_WINDOW_SECONDS + 1 }),
        );
        assert!(credit(UnixSeconds(0), Minute(u32::MAX)).is_err());
        assert!(credit(UnixSeconds(u64::MAX), Minute(0)).is_err());
    }

    #[test]
    fn a_refusal_says_by_how_much() {
        assert_eq!(
            Refusal::Future { ahead_seconds: 300 }.to_string(),
            "the beat's minute begins 300 seconds from now; at most 60 are allowed: set this machine's clock"
        );
        assert_eq!(
            Refusal::Late { behind_seconds: 30_000 }.to_string(),
            "the beat's minute ended 30000 seconds ago; beats are taken up to 21600 seconds late"
        );
    }

    #[test]
    fn our_own_outages_are_what_is_missing_since_the_first_record() {
        let up = |hour, bits| (Hour(hour), UptimeHour(bits));
        assert!(outages([], Minute(1000)).is_empty(), "nothing is recorded yet");
        let full = UptimeHour::FULL.0;
        // Up from minute 605 to 659, down from 660 to 669, up until 680; all of hour 12 is missing.
        let found = outages([up(10, full & !0b11111), up(11, 0x1f_ffff & !0x3ff)], Minute(725));
        let minutes = |hour: u32| found.get(&Hour(hour)).map_or(0, |down| down.minutes());
        assert_eq!([minutes(9), minutes(10), minutes(11), minutes(12)], [0, 0, 10 + 39, 5]);
        assert_eq!(back_since(&found, Minute(600), Minute(660)), None);
        assert_eq!(back_since(&found, Minute(600), Minute(665)), Some(Minute(670)), "the whole outage");
        assert_eq!(back_since(&found, Minute(670), Minute(700)), Some(Minute(725)));
        assert!(outages([up(10, full)], Minute(660)).is_empty());
    }

    #[test]
    fn minutes_of_a_span_are_counted_once() {
        let full = (Hour(10), UptimeHour::FULL);
        assert_eq!(minutes_in(Minute(600), Minute(660), [full, full]), 60);
        assert_eq!(minutes_in(Minute(630), Minute(690), [full, (Hour(11), UptimeHour(0b111))]), 33);
        assert_eq!(minutes_in(Minute(601), Minute(602), [full]), 1);
        assert_eq!(minutes_in(Minute(660), Minute(600), [full]), 0);
        assert_eq!(minutes_in(Minute(0), Minute(u32::MAX), []), 0);
    }

    #[test]
    fn minutes_of_all_are_those_of_each() {
        let mut dice = 0x2545_f491_4f6c_dd1du64;
        let mut next = || {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            if dice.is_multiple_of(3) { UptimeHour::FULL.0 } else { dice & UptimeHour::FULL.0 }
        };
        for (rows, hours) in
            [(0, 3), (1, 0), (1, 1), (ROWS - 1, 8), (ROWS, 24), (ROWS + 1, 9), (3 * ROWS, 25)]
        {
            let columns: Vec<Vec<u64>> = (0..hours).map(|_| (0..rows).map(|_| next()).collect()).collect();
            let each = |row: usize| columns.iter().map(|hour| hour[row].count_ones()).sum::<u32>();
            let expected: Vec<u32> = (0..if hours == 0 { 0 } else { rows }).map(each).collect();
            assert_eq!(minutes_of_all(&columns), expected, "{rows} rows, {hours} hours");
        }
        assert_eq!(minutes_of_all(&[vec![7u64, 1], vec![1]]), [4, 1], "a column that is shorter");
        for hours in [23, 24, 25, 72] {
            assert_eq!(minutes_of_all(&vec![vec![UptimeHour::FULL.0; 3]; hours]), [hours as u32 * 60; 3]);
            assert_eq!(
                minutes_of_all(&vec![vec![u64::MAX; 3]; hours]),
                [hours as u32 * 64; 3],
                "each bit counts"
            );
        }
    }
}
