//! The network's log: what changed, in an order that nobody can change afterwards. Entries are the leaves of
//! one Merkle tree that only grows (RFC 6962), published as tiles (c2sp.org/tlog-tiles) under checkpoints that
//! the network signs (c2sp.org/tlog-checkpoint) and that witnesses cosign when they follow from what they saw
//! before (c2sp.org/tlog-witness). Whoever holds one old checkpoint notices an edit, a fork and a roll-back.
//!
//! Knows no disk, no socket and no clock: tiles come in and go out as values, and the time as an argument.
//! Knows no account either: an [`Event`] has no field that could hold an account, a machine, a key or an
//! address. Who did it is sealed: the log holds a salted commitment, and the books hold what opens it.

pub mod check;
pub mod checkpoint;
pub mod cosign;
pub mod edge;
pub mod entry;
pub mod note;
pub mod tiles;
pub mod tree;
pub mod witness;

#[cfg(test)]
mod cross_tests;

pub use check::{Checked, Checker, Finding};
pub use checkpoint::Checkpoint;
pub use edge::Edge;
pub use entry::{Entry, Event, Kind, Opening};
pub use note::{Note, NoteError, VerifierKey};
pub use tiles::{TILE_WIDTH, TilePath};
pub use tree::{Proof, leaf_hash};
