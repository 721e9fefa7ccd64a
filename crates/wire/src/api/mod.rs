//! Requests and responses, by resource. Every field is typed and bounded where it enters.

pub mod account;
pub mod appeal;
pub mod cluster;
pub mod enrol;
pub mod epoch;
pub mod machine;
pub mod operate;
pub mod pages;
pub mod proof;
pub mod public;
