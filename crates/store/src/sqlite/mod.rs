//! The books of a network in two files of SQLite, for one server: all writes pass through one connection, so
//! each transaction sees what every one before it left.

/// The few words of the statements in `both` that each database has a way of its own to say.
macro_rules! said {
    (shown $table:literal) => {
        $table
    };
    (greatest) => {
        "max"
    };
    (skip_locked) => {
        ""
    };
}

pub(crate) mod account;
#[path = "../both/appeal.rs"]
pub(crate) mod appeal;
#[path = "../both/approval.rs"]
mod approval;
mod asked;
#[path = "../both/audit.rs"]
pub(crate) mod audit;
mod beat;
#[path = "../both/begun.rs"]
mod begun;
#[path = "../both/bell.rs"]
mod bell;
#[path = "../both/calibration.rs"]
mod calibration;
mod cluster;
#[path = "../both/enrolment.rs"]
mod enrolment;
mod epoch;
#[path = "../both/freeze.rs"]
mod freeze;
#[path = "../both/groups.rs"]
pub(crate) mod groups;
mod handed;
#[path = "../both/identity.rs"]
mod identity;
#[path = "../both/incident.rs"]
mod incident;
pub(crate) mod journal;
#[path = "../both/key.rs"]
mod key;
#[path = "../both/label.rs"]
mod label;
mod lease;
mod log;
#[cfg(test)]
mod log_tests;
mod machine;
pub(crate) mod months;
mod numbers;
mod open;
mod openings;
#[path = "../both/outlet.rs"]
mod outlet;
#[path = "../both/owned.rs"]
mod owned;
#[path = "../both/passkey.rs"]
mod passkey;
#[path = "../both/password.rs"]
mod password;
mod project;
mod proof;
mod public;
#[path = "../both/records.rs"]
mod records;
#[path = "../both/revocation.rs"]
mod revocation;
#[path = "../both/rotation.rs"]
mod rotation;
mod simulate;
mod snapshot;
#[path = "../both/spans.rs"]
mod spans;
mod turned;
#[path = "../both/witness.rs"]
mod witness;

pub(crate) use open::{MOVED, SqliteStore, lock};
pub(crate) use public::SqlitePublic;
use {SqlitePublic as Public, SqliteStore as Books, sqlx::SqliteConnection as Connection};
