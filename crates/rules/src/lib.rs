//! Decisions: who earned what, what a GPU has shown, which minute counts, which GPU a renter gets and
//! what it cost. Every function here answers from its arguments alone.
//!
//! Knows no I/O, no clock, no randomness, no storage and no network, and decides nothing about money or
//! standing with floats.

pub mod appeals;
pub mod bells;
pub mod calibration;
pub mod classify;
pub mod epochs;
pub mod floors;
pub mod groups;
pub mod lifecycle;
pub mod merkle;
pub mod metering;
pub mod months;
pub mod placement;
pub mod reference;
pub mod relabel;
pub mod robust;
pub mod roc;
pub mod shares;
pub mod snapshot;
pub mod spans;
pub mod standing;
pub mod uptime;
