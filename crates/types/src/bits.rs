//! An uptime hour: sixty bits, one a minute. A beat repeated is the same bit, and merging is OR, so
//! nothing can be credited twice.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Hour, Minute};

/// Bit `m` says that the GPU was alive in minute `m` of the hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct UptimeHour(pub u64);

impl UptimeHour {
    /// Every minute of the hour.
    pub const FULL: Self = Self((1 << 60) - 1);

    /// The hour with `minute_of_hour` (0 to 59) credited; other values change nothing.
    pub fn with(self, minute_of_hour: u8) -> Self {
        if minute_of_hour < 60 { Self(self.0 | 1 << minute_of_hour) } else { self }
    }
    /// Both records together.
    pub fn merge(self, other: Self) -> Self {
        Self((self.0 | other.0) & Self::FULL.0)
    }
    /// Credited minutes, 0 to 60.
    pub fn minutes(self) -> u32 {
        (self.0 & Self::FULL.0).count_ones()
    }
    /// Whether `minute_of_hour` is credited.
    pub fn has(self, minute_of_hour: u8) -> bool {
        minute_of_hour < 60 && self.0 >> minute_of_hour & 1 == 1
    }
    /// Credited minutes within `from..to` when this is the record of `hour`.
    pub fn minutes_within(self, hour: Hour, from: Minute, to: Minute) -> u32 {
        let start = hour.start().0;
        (0..60).filter(|m| self.has(*m) && (from.0..to.0).contains(&(start + *m as u32))).count() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beat_repeated_is_the_same_bit() {
        let once = UptimeHour::default().with(3);
        assert_eq!(once, once.with(3));
        assert_eq!(once.merge(once), once);
        assert_eq!(once.minutes(), 1);
        assert_eq!(once.with(60), once);
    }

    #[test]
    fn minutes_are_counted_within_a_span_only() {
        let hour = Hour(10);
        let all = UptimeHour::FULL;
        assert_eq!(all.minutes_within(hour, Minute(600), Minute(660)), 60);
        assert_eq!(all.minutes_within(hour, Minute(659), Minute(700)), 1);
        assert_eq!(all.minutes_within(hour, Minute(0), Minute(600)), 0);
    }
}
