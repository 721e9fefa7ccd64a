//! Old uptime, packed: the hours of one GPU over a month of thirty days in some two hundred bytes.
//!
//! Most hours are whole or missing, so a day says which are whole and which are neither, and holds the minutes of
//! the latter alone. Knows bits and days only.

use gangline_types::{Hour, UptimeHour, public::PublicUptime};

/// Hours of a day.
pub const DAY: usize = 24;
/// Days of a month.
pub const MONTH_DAYS: u32 = 30;

/// Which of a day's parts follow its number.
const BITS: u8 = 0x20;
const LATE: u8 = 0x40;
const UNCHAINED: u8 = 0x80;

/// The month that an hour is in, counted from 1970.
pub fn month_of(hour: Hour) -> u32 {
    hour.0 / (MONTH_DAYS * DAY as u32)
}

/// One day of one GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// Days since 1970.
    pub day: u32,
    /// Credited minutes of its hours.
    pub bits: [UptimeHour; DAY],
    /// Of those, the ones that came after their snapshot.
    pub late: [UptimeHour; DAY],
    /// Of those, the ones without a chain.
    pub unchained: [UptimeHour; DAY],
}

impl Day {
    /// Takes an hour of this day in.
    pub fn take(&mut self, hour: &PublicUptime) {
        let at = hour.hour.0 as usize % DAY;
        self.bits[at] = self.bits[at].merge(hour.bits);
        self.late[at] = self.late[at].merge(hour.late);
        self.unchained[at] = self.unchained[at].merge(hour.unchained);
    }

    /// Its hours that have a minute, in order.
    pub fn hours(&self) -> impl Iterator<Item = PublicUptime> + '_ {
        let first = self.day * DAY as u32;
        (0..DAY).filter(|at| self.bits[*at].minutes() > 0).map(move |at| PublicUptime {
            hour: Hour(first + at as u32),
            bits: self.bits[at],
            late: self.late[at],
            unchained: self.unchained[at],
        })
    }

    /// Its bytes, to stand after those of earlier days of its month.
    pub fn pack(&self) -> Vec<u8> {
        let parts = [(BITS, &self.bits), (LATE, &self.late), (UNCHAINED, &self.unchained)];
        let mut out = vec![(self.day % MONTH_DAYS) as u8];
        for (flag, hours) in parts {
            if hours.iter().any(|hour| hour.minutes() > 0) {
                out[0] |= flag;
                pack_hours(hours, &mut out);
            }
        }
        out
    }
}

/// Three bytes that say which hours are whole, three for those that are neither whole nor empty, and eight for each
/// of these.
fn pack_hours(hours: &[UptimeHour; DAY], out: &mut Vec<u8>) {
    let mask = |is: &dyn Fn(&UptimeHour) -> bool| {
        hours.iter().enumerate().filter(|(_, hour)| is(hour)).fold(0u32, |mask, (at, _)| mask | 1 << at)
    };
    let in_part = |hour: &UptimeHour| hour.minutes() > 0 && *hour != UptimeHour::FULL;
    out.extend_from_slice(&mask(&|hour| *hour == UptimeHour::FULL).to_le_bytes()[..3]);
    out.extend_from_slice(&mask(&in_part).to_le_bytes()[..3]);
    for hour in hours.iter().filter(|hour| in_part(hour)) {
        out.extend_from_slice(&hour.0.to_le_bytes());
    }
}

fn take_bytes<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (first, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(first)
}

fn unpack_hours(bytes: &mut &[u8]) -> Option<[UptimeHour; DAY]> {
    let mask = |three: &[u8]| u32::from(three[0]) | u32::from(three[1]) << 8 | u32::from(three[2]) << 16;
    let (whole, part) = (mask(take_bytes(bytes, 3)?), mask(take_bytes(bytes, 3)?));
    let mut hours = [UptimeHour(0); DAY];
    for (at, hour) in hours.iter_mut().enumerate() {
        *hour = match (whole >> at & 1, part >> at & 1) {
            (0, 0) => UptimeHour(0),
            (1, 0) => UptimeHour::FULL,
            (0, 1) => UptimeHour(u64::from_le_bytes(take_bytes(bytes, 8)?.try_into().ok()?)),
            _ => return None,
        };
    }
    Some(hours)
}

/// The days of a month's bytes, in the order in which they were packed; `None` where they are not what
/// [`Day::pack`] makes.
pub fn unpack(month: u32, mut bytes: &[u8]) -> Option<Vec<Day>> {
    let mut days = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        bytes = rest;
        let number = u32::from(first & 0x1f);
        if number >= MONTH_DAYS {
            return None;
        }
        let mut day = Day { day: month * MONTH_DAYS + number, ..Day::default() };
        for (flag, hours) in [(BITS, &mut day.bits), (LATE, &mut day.late), (UNCHAINED, &mut day.unchained)] {
            if first & flag != 0 {
                *hours = unpack_hours(&mut bytes)?;
            }
        }
        days.push(day);
    }
    Some(days)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hour() -> impl Strategy<Value = UptimeHour> {
        prop_oneof![
            Just(UptimeHour(0)),
            Just(UptimeHour::FULL),
            (0..=UptimeHour::FULL.0).prop_map(UptimeHour)
        ]
    }
    fn hours() -> impl Strategy<Value = [UptimeHour; DAY]> {
        prop::collection::vec(hour(), DAY).prop_map(|hours| std::array::from_fn(|at| hours[at]))
    }

    proptest! {
        #[test]
        fn days_come_back_as_they_were(parts in prop::collection::vec((hours(), hours(), hours()), 0..6)) {
            let month = 684;
            let days: Vec<Day> = parts.into_iter().enumerate().map(|(n, (bits, late, unchained))| {
                Day { day: month * MONTH_DAYS + n as u32 * 5, bits, late, unchained }
            }).collect();
            let packed: Vec<u8> = days.iter().flat_map(Day::pack).collect();
            prop_assert_eq!(unpack(month, &packed), Some(days));
            if !packed.is_empty() {
                // Cut off anywhere but between two days, it is refused.
                let whole = unpack(month, &packed).unwrap_or_default();
                let shorter = unpack(month, &packed[..packed.len() - 1]);
                prop_assert!(shorter.is_none_or(|days| days.len() < whole.len()));
            }
        }
    }

    #[test]
    fn a_day_without_a_gap_is_seven_bytes_and_hours_find_their_day() {
        let mut day = Day { day: 20_000, ..Day::default() };
        for at in 0..24 {
            day.take(&PublicUptime {
                hour: Hour(20_000 * 24 + at),
                bits: UptimeHour::FULL,
                late: UptimeHour(0),
                unchained: UptimeHour(0),
            });
        }
        assert_eq!(day.pack().len(), 7);
        assert_eq!(day.hours().count(), 24);
        assert_eq!(day.hours().next().map(|hour| hour.hour), Some(Hour(480_000)));
        assert_eq!(month_of(Hour(480_000)), 20_000 / MONTH_DAYS);
        assert_eq!(unpack(666, &day.pack()).map(|days| days[0]), Some(day));
        assert_eq!(unpack(0, &[30]), None, "no such day");
        assert_eq!(unpack(0, &[BITS, 1, 0, 0, 1, 0, 0]), None, "whole and in part");
    }
}
