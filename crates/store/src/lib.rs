//! All SQL, and only SQL: every statement is a literal, every value is bound.
//!
//! What is *not* stored: secret halves of machines' and people's keys (they never leave their makers),
//! one-time links' and sessions' secrets (a hash of each is), tokens of identity providers, renters' programs
//! and their output.
//!
//! Writes take a [`Permit`](gangline_guard::Permit) and find their target in it, so a forgotten check
//! does not compile. Each audited write leaves its audit row in the same transaction.

mod account;
mod beat;
mod cluster;
mod enrolment;
mod error;
mod identity;
mod key;
mod label;
mod log;
#[cfg(test)]
mod log_tests;
mod machine;
mod open;
mod project;
mod proof;
mod public;
mod records;
mod snapshot;
mod sql;

pub use account::{AccountRow, InviteTarget, LinkRow, NewLink, NewSession, SessionRow};
pub use beat::Credited;
pub use cluster::{Candidate, ClosedCluster, ClusterRow, NewCluster};
pub use enrolment::{EnrolmentRow, NewEnrolment};
pub use error::StoreError;
pub use identity::{Once, VouchedPerson};
pub use key::{KeyRow, SequenceError};
pub use label::{LabelChange, RestoredLabel};
pub use machine::{GpuRow, MachineRow};
pub use open::Store;
pub use project::Projected;
pub use proof::{LastProof, NewProof, ProofRow};
pub use public::{ModelRow, PublicStore};
pub use records::RefusalRow;
