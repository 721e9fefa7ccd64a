//! The books of a network in PostgreSQL, for any number of servers. Three schemas: `gangline` holds the books,
//! `gangline_public` what the explorer may show, `gangline_intake` the functions by which machines' beats come in.
//!
//! Transactions run READ COMMITTED and lock what they decide by: rows where one row decides, one lock over all
//! where more do (`begin_alone`). Nothing waits for a server that was stopped in the middle of one.

/// The few words of the statements in `both` that each database has a way of its own to say.
macro_rules! said {
    (shown $table:literal) => {
        concat!("gangline_public.", $table)
    };
    (greatest) => {
        "greatest"
    };
    (skip_locked) => {
        " FOR UPDATE SKIP LOCKED"
    };
}

pub(crate) mod account;
#[path = "../both/appeal.rs"]
mod appeal;
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
mod machine;
mod months;
pub(crate) mod open;
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
mod roles;
#[path = "../both/rotation.rs"]
mod rotation;
mod simulate;
mod snapshot;
#[path = "../both/spans.rs"]
mod spans;
pub(crate) mod told;
#[path = "../both/witness.rs"]
mod witness;

pub(crate) use open::PostgresStore;
pub(crate) use public::PostgresPublic;
use {PostgresPublic as Public, PostgresStore as Books, sqlx::PgConnection as Connection};
