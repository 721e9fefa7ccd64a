//! Time as it is written down: whole seconds, minutes and hours since 1970-01-01 UTC. The clock itself
//! is read at the edge and comes in as an argument.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! unit {
    ($($(#[$doc:meta])* $name:ident($inner:ty);)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $name(pub $inner);
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { self.0.fmt(f) }
        }
    )+};
}

unit! {
    /// A length of time in whole seconds.
    Seconds(u64);
    /// Seconds since 1970-01-01 UTC.
    UnixSeconds(u64);
    /// Milliseconds since 1970-01-01 UTC.
    UnixMillis(u64);
    /// Minutes since 1970-01-01 UTC.
    Minute(u32);
    /// Hours since 1970-01-01 UTC.
    Hour(u32);
}

impl UnixSeconds {
    /// The minute this second is in.
    pub fn minute(self) -> Minute {
        Minute((self.0 / 60).min(u32::MAX as u64) as u32)
    }
    /// This time and `seconds` more.
    pub fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
    /// Seconds from `earlier` to this time; 0 if `earlier` is later.
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl UnixMillis {
    /// The second this millisecond is in.
    pub fn seconds(self) -> UnixSeconds {
        UnixSeconds(self.0 / 1000)
    }
}

impl Minute {
    /// The hour this minute is in.
    pub fn hour(self) -> Hour {
        Hour(self.0 / 60)
    }
    /// Which of its hour's sixty minutes this is, 0 to 59.
    pub fn of_hour(self) -> u8 {
        (self.0 % 60) as u8
    }
    /// Its first second.
    pub fn start(self) -> UnixSeconds {
        UnixSeconds(self.0 as u64 * 60)
    }
}

impl Hour {
    /// Its first minute.
    pub fn start(self) -> Minute {
        Minute(self.0.saturating_mul(60))
    }
}
