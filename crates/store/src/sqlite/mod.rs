//! The books of a network in two files of SQLite, for one server: all writes pass through one connection, so
//! each transaction sees what every one before it left.

pub(crate) mod account;
pub(crate) mod audit;
mod beat;
mod calibration;
mod cluster;
mod enrolment;
mod epoch;
mod freeze;
mod identity;
mod incident;
pub(crate) mod journal;
mod key;
mod label;
mod lease;
mod log;
#[cfg(test)]
mod log_tests;
mod machine;
pub(crate) mod months;
mod open;
mod passkey;
mod project;
mod proof;
mod public;
mod records;
mod revocation;
mod rotation;
mod simulate;
mod snapshot;

pub(crate) use open::{SqliteStore, lock};
pub(crate) use public::SqlitePublic;
