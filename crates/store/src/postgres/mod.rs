//! The books of a network in PostgreSQL, for any number of servers. Three schemas: `gangline` holds the books,
//! `gangline_public` what the explorer may show, `gangline_intake` the functions by which machines' beats come in.
//!
//! Transactions run READ COMMITTED and lock what they decide by: rows where one row decides, one lock over all
//! where more do (`begin_alone`). Nothing waits for a server that was stopped in the middle of one.

pub(crate) mod account;
mod audit;
mod beat;
mod calibration;
mod cluster;
mod enrolment;
mod epoch;
mod freeze;
mod identity;
mod incident;
mod key;
mod label;
mod lease;
mod log;
mod machine;
mod months;
mod open;
mod passkey;
mod project;
mod proof;
mod public;
mod records;
mod revocation;
mod roles;
mod rotation;
mod simulate;
mod snapshot;

pub(crate) use open::PostgresStore;
pub(crate) use public::PostgresPublic;
