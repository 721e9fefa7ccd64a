//! How numbers, sizes, times and ids are written for people. Integers throughout; it knows no clock:
//! "ago" is told against a `now` that comes with the view.

use std::{
    borrow::Borrow,
    fmt::{self, Display},
};

use askama::filters::Safe;
use gangline_types::{GpuId, MicroCredits, Minute, Standing, UnixSeconds};

/// A whole number, however a template holds it: templates pass some arguments by reference.
pub(crate) trait Whole: Copy {
    /// The number.
    fn whole(self) -> u64;
}

impl Whole for u64 {
    fn whole(self) -> u64 {
        self
    }
}
impl Whole for u32 {
    fn whole(self) -> u64 {
        u64::from(self)
    }
}
impl<T: Whole> Whole for &T {
    fn whole(self) -> u64 {
        (*self).whole()
    }
}

/// `1234567` as `1,234,567`.
pub(crate) fn n(value: impl Whole) -> String {
    group(&value.whole().to_string())
}

fn group(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// Credits with thousands separators and all six decimals: shares are checked by people.
pub(crate) fn credits(amount: impl Borrow<MicroCredits>) -> String {
    let amount = amount.borrow();
    format!("{}.{:06}", n(amount.0 / 1_000_000), amount.0 % 1_000_000)
}

/// Three digits of `value / unit` for the largest fitting unit.
fn scaled(value: u128, units: &[(u128, &str)]) -> String {
    let (unit, name) = units.iter().find(|u| value >= u.0).or(units.last()).copied().unwrap_or((1, ""));
    // Round to three significant digits, in integers: 1.23, 12.3, 123.
    let whole = value / unit;
    let decimals: u32 = match whole {
        0..=9 => 2,
        10..=99 => 1,
        _ => 0,
    };
    let ten = 10u128.pow(decimals);
    let rounded = (value * ten + unit / 2) / unit;
    if unit == 1 || decimals == 0 {
        return format!(
            "{} {name}",
            n(u64::try_from(rounded / if unit == 1 { ten } else { 1 }).unwrap_or(u64::MAX))
        );
    }
    format!("{}.{:0width$} {name}", rounded / ten, rounded % ten, width = decimals as usize)
}

/// A matrix rate given in millions of multiply-adds a second, for example `1.24 TMAC/s`.
pub(crate) fn rate(mmacs: impl Whole) -> String {
    let mmacs = mmacs.whole();
    if mmacs == 0 {
        return "none yet".into();
    }
    scaled(
        mmacs as u128,
        &[(1_000_000_000, "PMAC/s"), (1_000_000, "TMAC/s"), (1_000, "GMAC/s"), (1, "MMAC/s")],
    )
}

/// A size in bytes, for example `24.0 GiB`; 0 is unknown.
pub(crate) fn bytes(bytes: impl Whole) -> String {
    let bytes = bytes.whole();
    if bytes == 0 {
        return "unknown".into();
    }
    scaled(bytes as u128, &[(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")])
}

/// A length of time in two units, for example `23 h 40 min`.
pub(crate) fn span(seconds: impl Whole) -> String {
    let seconds = seconds.whole();
    let two = |a: u64, an: &str, b: u64, bn: &str| match b {
        0 => format!("{} {an}", n(a)),
        _ => format!("{} {an} {b} {bn}", n(a)),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

/// The length of time from one minute to another.
pub(crate) fn between(from: impl Borrow<Minute>, to: impl Borrow<Minute>) -> String {
    span(to.borrow().start().since(from.borrow().start()))
}

/// `part` of `whole` in per cent with one decimal, rounded down so that only all is 100.
pub(crate) fn percent(part: impl Whole, whole: impl Whole) -> String {
    let (part, whole) = (part.whole(), whole.whole());
    if whole == 0 {
        return "0".into();
    }
    let tenths = part as u128 * 1000 / whole as u128;
    if tenths.is_multiple_of(10) {
        format!("{}", tenths / 10)
    } else {
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

/// `1 GPU`, `2 GPUs`.
pub(crate) fn count(value: impl Whole, one: &str, many: &str) -> String {
    let value = value.whole();
    format!("{} {}", n(value), if value == 1 { one } else { many })
}

/// Milliseconds as `812 ms` or `1.234 s`.
pub(crate) fn millis(value: impl Whole) -> String {
    let value = value.whole();
    if value < 1_000 { format!("{value} ms") } else { format!("{}.{:03} s", n(value / 1_000), value % 1_000) }
}

/// Year, month, day of a day number since 1970-01-01: Howard Hinnant's `civil_from_days`
/// (howardhinnant.github.io/date_algorithms.html), for days after 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

/// `2026-11-22` of a day number since 1970-01-01.
pub(crate) fn date(days: u64) -> String {
    let (y, m, d) = civil(days);
    format!("{y:04}-{m:02}-{d:02}")
}

/// A time as a `<time>` element with UTC text; "never" for 0.
pub(crate) struct Moment {
    at: u64,
    seconds: bool,
    before: Option<u64>,
}

impl Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at == 0 {
            return f.write_str("never");
        }
        // The year 9999 is the last that `<time>` and people read without doubt.
        let at = self.at.min(253_402_300_799);
        let (day, second) = (at / 86_400, at % 86_400);
        let (h, m, s) = (second / 3_600, second % 3_600 / 60, second % 60);
        let day = date(day);
        write!(f, r#"<time datetime="{day}T{h:02}:{m:02}:{s:02}Z""#)?;
        if let Some(now) = self.before {
            write!(f, r#" title="{day} {h:02}:{m:02}:{s:02} UTC">"#)?;
            match now.checked_sub(at) {
                Some(0) => f.write_str("now")?,
                Some(ago) => write!(f, "{} ago", coarse(ago))?,
                None => write!(f, "in {}", coarse(at - now))?,
            }
        } else if self.seconds {
            write!(f, ">{day} {h:02}:{m:02}:{s:02} UTC")?;
        } else {
            write!(f, ">{day} {h:02}:{m:02} UTC")?;
        }
        f.write_str("</time>")
    }
}

/// A length of time in one unit.
fn coarse(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", n(seconds / 86_400)),
    }
}

/// `2026-11-22 13:40:05 UTC`.
pub(crate) fn time(at: impl Borrow<UnixSeconds>) -> Safe<Moment> {
    Safe(Moment { at: at.borrow().0, seconds: true, before: None })
}

/// `2026-11-22 13:40:59 UTC`, as plain text.
pub(crate) fn utc(at: impl Borrow<UnixSeconds>) -> String {
    let at = at.borrow().0;
    format!("{} {:02}:{:02}:{:02} UTC", date(at / 86_400), at / 3_600 % 24, at / 60 % 60, at % 60)
}

/// `2026-11-22 13:40 UTC`.
pub(crate) fn minute(at: impl Borrow<Minute>) -> Safe<Moment> {
    Safe(Moment { at: at.borrow().start().0, seconds: false, before: None })
}

/// `4 min ago`, with the UTC time as its title.
pub(crate) fn ago(at: impl Borrow<UnixSeconds>, now: impl Borrow<UnixSeconds>) -> Safe<Moment> {
    Safe(Moment { at: at.borrow().0, seconds: true, before: Some(now.borrow().0) })
}

/// An id of 26 characters behind its prefix, shortened to its first six and last four.
pub(crate) fn short(id: impl Display) -> String {
    let id = id.to_string();
    match id.split_once('_') {
        Some((prefix, rest)) if rest.is_ascii() && rest.len() > 12 => {
            format!("{prefix}_{}…{}", &rest[..6], &rest[rest.len() - 4..])
        }
        _ => id,
    }
}

/// A hash shortened to its first eight and last four digits.
pub(crate) fn short_hash(hash: &gangline_types::Hash) -> String {
    let hash = hash.to_string();
    format!("{}…{}", &hash[..8], &hash[60..])
}

/// A link to a GPU's page that shows the id shortened and has all of it as its title.
pub(crate) struct GpuLink(GpuId);

impl Display for GpuLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            r#"<a href="{}" title="{}"><code>{}</code></a>"#,
            crate::paths::gpu(&self.0),
            self.0,
            short(self.0)
        )
    }
}

/// A link to a GPU's page.
pub(crate) fn gpu(id: impl Borrow<GpuId>) -> Safe<GpuLink> {
    Safe(GpuLink(*id.borrow()))
}

/// The address of a snapshot's page.
pub(crate) fn snapshot(period: impl Borrow<u32>) -> String {
    crate::paths::snapshot(*period.borrow())
}

/// A standing as a pill, marked so that the script can follow it.
pub(crate) struct Pill(Standing);

impl Display for Pill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"<span class="pill" data-state="{0}" data-standing>{0}</span>"#, self.0)
    }
}

/// A standing as a pill.
pub(crate) fn pill(standing: impl Borrow<Standing>) -> Safe<Pill> {
    Safe(Pill(*standing.borrow()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(n(0u64), "0");
        assert_eq!(n(999u64), "999");
        assert_eq!(n(1_234_567u64), "1,234,567");
        assert_eq!(n(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(credits(MicroCredits(1_234_567_890)), "1,234.567890");
        assert_eq!(rate(0u64), "none yet");
        assert_eq!(rate(812u64), "812 MMAC/s");
        assert_eq!(rate(9u64), "9 MMAC/s");
        assert_eq!(rate(1_240_000u64), "1.24 TMAC/s");
        assert_eq!(rate(45_678u64), "45.7 GMAC/s");
        assert_eq!(bytes(24u64 << 30), "24.0 GiB");
        assert_eq!(bytes(512u64), "512 B");
        assert_eq!(span(59u64), "59 s");
        assert_eq!(span(85_200u64), "23 h 40 min");
        assert_eq!(span(86_400u64), "1 d");
        assert_eq!(percent(1439u64, 1440u64), "99.9");
        assert_eq!(percent(1440u64, 1440u64), "100");
        assert_eq!(percent(1u64, 0u64), "0");
        assert_eq!(millis(1_234u64), "1.234 s");
        assert_eq!(count(1u64, "GPU", "GPUs"), "1 GPU");
    }

    #[test]
    fn dates_follow_the_calendar() {
        for (days, text) in
            [(0, "1970-01-01"), (59, "1970-03-01"), (11_016, "2000-02-29"), (20_000, "2024-10-04")]
        {
            assert_eq!(date(days), text);
        }
        assert_eq!(
            time(UnixSeconds(1_700_000_000)).to_string(),
            r#"<time datetime="2023-11-14T22:13:20Z">2023-11-14 22:13:20 UTC</time>"#
        );
        assert_eq!(time(UnixSeconds(0)).to_string(), "never");
        assert!(ago(UnixSeconds(100), UnixSeconds(400)).to_string().contains(">5 min ago<"));
        assert!(ago(UnixSeconds(u64::MAX), UnixSeconds(400)).to_string().contains("9999-12-31"));
    }

    #[test]
    fn ids_are_shortened_but_known_by_both_ends() {
        let id = GpuId::from_bytes([7; 16]).to_string();
        assert_eq!(short(&id), format!("{}…{}", &id[..10], &id[26..]));
        assert_eq!(short("clock"), "clock");
    }
}
