//! All SQL, and only SQL: every statement is a literal, every value is bound.
//!
//! What is *not* stored: secret halves of machines' and people's keys (they never leave their makers),
//! one-time links' and sessions' secrets (a hash of each is), tokens of identity providers, renters' programs
//! and their output.
//!
//! What the books answer stands once, under `books`; each database answers in its own SQL, in a folder of its own.
//!
//! Writes take a [`Permit`](gangline_guard::Permit) and find their target in it, so a forgotten check
//! does not compile. Each audited write leaves its audit row in the same transaction.

mod books;
mod error;
mod postgres;
mod sql;
mod sqlite;

pub use books::{
    FolderLock, PublicStore, Store,
    account::{AccountRow, InviteTarget, LinkRow, NewLink, NewSession, OwnSession, SessionRow},
    beat::{ChainRow, Fold, FoldedHour, FoldedLink, LaneRow},
    cluster::{Candidate, ClosedCluster, ClusterRow, NewCluster},
    database::DatabaseUrl,
    enrolment::{EnrolmentRow, NewEnrolment},
    epoch::{CalibrationRow, EpochRow, EpochStand, NewEpoch},
    freeze::{FreezeRow, NewFreeze},
    identity::{Once, VouchedPerson},
    incident::{IncidentRow, IncidentState, NewIncident, NotedIncident},
    key::{KeyRow, SequenceError},
    label::{Doer, LabelChange, RestoredLabel},
    lease::{HELD_SECONDS, Lease},
    machine::{GpuRow, MachineRow},
    months::Packed,
    passkey::{NewPasskey, PasskeyQuestion, PasskeyRow, Removed},
    project::{Projected, TOLD_MAX},
    proof::{LastProof, NewProof, ProofRow},
    public::ModelRow,
    records::{AuditQuery, AuditRow, RecordQuery, RefusalRow},
    revocation::{Ended, Revocation},
    rotation::RotationError,
    simulate::SimulatedMachine,
    snapshot::EntryGroup,
};
pub use error::StoreError;
pub use sqlite::journal::Journal;
