//! server
pub mod tunnel;
