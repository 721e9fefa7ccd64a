//! Handlers, one file a resource.

pub mod account;
pub mod appeal;
pub mod beat;
pub mod calibration;
pub mod cluster;
pub mod enrol;
pub mod epoch;
pub mod key;
pub mod log;
pub mod machine;
pub mod network;
pub mod operate;
pub mod pages;
pub mod proof;
pub mod public;

use crate::router::Api;

/// Registers every handler.
pub fn all(api: Api) -> Api {
    let api = network::routes(api);
    let api = public::routes(api);
    let api = log::routes(api);
    let api = pages::routes(api);
    let api = enrol::routes(api);
    let api = key::routes(api);
    let api = machine::routes(api);
    let api = beat::routes(api);
    let api = proof::routes(api);
    let api = epoch::routes(api);
    let api = calibration::routes(api);
    let api = appeal::routes(api);
    let api = account::routes(api);
    let api = operate::routes(api);
    cluster::routes(api)
}
