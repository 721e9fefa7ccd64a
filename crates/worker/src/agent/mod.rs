//! The supplier's agent: joins a machine, keeps its beats, proves its GPUs, and runs renters' nodes
//! as its owner allows. One entry point for each command of `gangline worker`.
//!
//! Refuses to know how the network decides: standing, placement and prices of others are told to it.

mod appeal;
mod backoff;
mod beats;
mod carrier;
mod child;
mod clusters;
mod data;
mod epochs;
mod error;
mod host;
mod intent;
mod inventory;
mod join;
mod label;
mod lane;
mod leave;
mod policy;
mod preflight;
pub mod progress;
mod proving;
mod reconcile;
mod report;
mod rotate;
mod run;
mod sandbox;
mod settings;
mod shared;
mod status;
mod sync;
mod tunnel;

pub use appeal::appeal;
pub use child::{Executable, probe_child, prove_child};
pub use data::{DataDir, DataError};
pub use error::AgentError;
pub use intent::{pause, resume};
pub use inventory::show as inventory;
pub use join::{JoinOptions, join};
pub use label::label;
pub use leave::leave;
pub use preflight::{Problem, Severity, preflight, words as preflight_words};
pub use report::Reporter;
pub use rotate::rotate;
pub use run::{Ended, RunOptions, run};
pub use settings::{Isolation, RentSettings, Settings};
pub use status::{ClusterStatus, Connection, GpuStatus, ProofStatus, Status, status};
