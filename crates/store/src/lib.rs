//! All SQL, and only SQL: every statement is a literal, every value is bound.
//!
//! What is *not* stored: secret halves of machines' and people's keys (they never leave their makers),
//! one-time links' and sessions' secrets (a hash of each is), tokens of identity providers, renters' programs
//! and their output.
//!
//! What the books answer stands once, under `books`. Each database answers in its own SQL, in a folder of its own; what both
//! understand stands once, under `both`, and is compiled for each.
//!
//! Writes take a [`Permit`](gangline_guard::Permit) and find their target in it, so a forgotten check
//! does not compile. Each audited write leaves its audit row in the same transaction.

// The files under `both` are meant to be compiled twice.
#![allow(clippy::duplicate_mod)]

mod books;
mod error;
mod group;
mod moving;
mod postgres;
mod sql;
mod sqlite;

pub use books::{
    FolderLock, PublicStore, Store,
    account::{AccountRow, LinkRow, NewLink, NewSession, OwnSession, SessionRow},
    appeal::opened as opened_appeal,
    approval::{ApprovalRow, Decision, NewApproval},
    beat::{ChainRow, Fold, FoldedHour, FoldedLink, LaneRow, Opening},
    begun::{Begun, BrokenOff},
    cluster::{Candidate, ClosedCluster, ClusterRow, NewCluster},
    database::DatabaseUrl,
    enrolment::{EnrolmentRow, NewEnrolment},
    epoch::{CalibrationRow, EpochRow, EpochStand, NewEpoch},
    freeze::{FreezeRow, NewFreeze},
    identity::{Once, VouchedPerson},
    incident::{IncidentRow, IncidentState, NewIncident, NotedIncident},
    journal::{Announced, Journal, LeftBehind},
    key::{KeyRow, SequenceError},
    label::{Doer, LabelChange, RestoredLabel},
    lease::{HELD_SECONDS, Lease},
    machine::{GpuRow, MachineRow},
    months::Packed,
    outlet::{Claimed, DeliveryRow, DeliveryState, NewDelivery, Settled, UnsaidIncident},
    passkey::{NewPasskey, PasskeyQuestion, PasskeyRow, Removed},
    password::PasswordRow,
    project::{Projected, TOLD_MAX},
    proof::{LastProof, NewProof, ProofRow},
    public::ModelRow,
    records::{AuditQuery, AuditRow, RecordQuery, RefusalRow},
    revocation::{Ended, Revocation},
    rotation::RotationError,
    simulate::SimulatedMachine,
    snapshot::{EntryGroup, Sums, TakenSnapshot},
    told::{Hearing, Told},
    witness::{CosignedCheckpoint, WitnessAnswer, WitnessRow, WitnessState},
};
pub use error::StoreError;
pub use group::{Group, onward};
pub use moving::{Compared, Side};
