//! Noticing: pure, streaming detectors, each with a bounded state and a stated rate of false alarms.
//!
//! Knows no clock, no I/O and no randomness: times, counts and the salt of hashes come in as arguments.
//! Nothing here acts; an [`Alarm`] is a value for whoever opens incidents and freezes.
//!
//! | what is watched | module | false alarms |
//! |---|---|---|
//! | writes to what is another's | [`touch`] | a wrong id that exists by chance: 10^6 GPUs in 2^128 ids, 3 x 10^-33 a try |
//! | distinct GPUs per key and account | [`breadth`] | none while counted one by one; 10^-9 a check where estimated |
//! | distinct ids and misses per address block | [`breadth`] | limits, not chances; see there |
//! | writes per route, enrolments per block | [`rate`] | at most one in 10^9 minutes of a route |
//! | refusals, failed proofs per cluster of claims, missing beats | [`share`] | at most one in 10^10 trials, while fewer than one in a hundred is usual |
//! | any series of (time, value) | [`surprise`] | measured: one in about 1,700 points |

pub mod alarm;
pub mod bounded;
pub mod breadth;
pub mod cusum;
pub mod distinct;
pub mod nab;
pub mod rate;
pub mod share;
pub mod surprise;
pub mod tail;
pub mod touch;

pub use alarm::{Alarm, What};

#[cfg(test)]
mod dice;
