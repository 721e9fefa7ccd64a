//! What bells need again and again and would be asked of the books each time: tables of calibration, and which
//! machines have nothing to answer for now.
//!
//! Another server may change either; so nothing here is believed for longer than [`BELIEVED_MILLIS`].

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use gangline_guard::log::{Checkpoint, Note};
use gangline_rules::bells::{self, Bell, Salts};
use gangline_store::CalibrationRow;
use gangline_types::{Hash, Hour, MachineId, UnixMillis};

use crate::{app::App, config::Pace, edge, error::ApiError, jobs::proofs::verifier};

/// How long what was read is believed, in milliseconds.
const BELIEVED_MILLIS: u64 = 20_000;
/// Machines remembered; one more makes room by forgetting all.
const MACHINES_MAX: usize = 1 << 20;

/// The bells of a network's hours.
pub struct Rota {
    salts: Salts,
    pace: Pace,
}

impl Rota {
    /// Those of the network with this secret.
    pub fn new(secret: &[u8; 32], pace: Pace) -> Self {
        Self { salts: Salts::new(secret), pace }
    }

    /// The first of hours that pass quickly.
    const QUICK: u32 = 500_000;

    /// The hour at this moment.
    pub fn hour(&self, now: UnixMillis) -> Hour {
        match self.pace {
            Pace::Hourly => Hour((now.0 / 3_600_000) as u32),
            Pace::Quick { since, hour_millis } => {
                Hour(Self::QUICK + (now.0.saturating_sub(since.0) / hour_millis.max(1)) as u32)
            }
        }
    }

    /// When the bell of an hour rings.
    pub fn moment(&self, hour: Hour) -> UnixMillis {
        let moment = bells::moment(hour, &self.salts.of(hour));
        match self.pace {
            Pace::Hourly => moment,
            Pace::Quick { since, hour_millis } => {
                let hours = u64::from(hour.0.saturating_sub(Self::QUICK));
                UnixMillis(since.0 + hours * hour_millis + moment.0 % 3_600_000 * hour_millis / 3_600_000)
            }
        }
    }
}

type Read = Option<(UnixMillis, Arc<Vec<CalibrationRow>>)>;

/// Tables of calibration as last read.
#[derive(Default)]
pub struct Tables(Mutex<Read>);

impl Tables {
    /// To be read anew, for one has changed.
    pub fn changed(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn known(&self, now: UnixMillis) -> Option<Arc<Vec<CalibrationRow>>> {
        let read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        read.as_ref()
            .filter(|(at, _)| now.0.saturating_sub(at.0) < BELIEVED_MILLIS)
            .map(|(_, all)| all.clone())
    }
}

/// Tables of calibration, read at most once in [`BELIEVED_MILLIS`] unless this server changes one.
///
/// # Errors
/// If the books cannot be read.
pub async fn tables(app: &App) -> Result<Arc<Vec<CalibrationRow>>, ApiError> {
    let now = edge::now_millis();
    if let Some(known) = app.tables.known(now) {
        return Ok(known);
    }
    let read = Arc::new(app.store.calibrations().await?);
    *app.tables.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, Arc::clone(&read)));
    Ok(read)
}

/// Machines that have nothing to answer for, and until when.
#[derive(Default)]
pub struct Quiet(Mutex<HashMap<MachineId, UnixMillis>>);

impl Quiet {
    /// Whether nothing is due of this machine, so that the books need not be asked.
    pub fn is(&self, machine: MachineId, now: UnixMillis) -> bool {
        let quiet = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        quiet.get(&machine).is_some_and(|until| now < *until)
    }
    /// Nothing is due of this machine until the next bell is told of, as far as the books say now.
    pub fn until(&self, machine: MachineId, bell: UnixMillis, now: UnixMillis) {
        let mut quiet = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if quiet.len() >= MACHINES_MAX {
            quiet.clear();
        }
        quiet.insert(machine, UnixMillis(bell.0.min(now.0 + BELIEVED_MILLIS)));
    }
    /// There is news for this machine.
    pub fn broken(&self, machine: MachineId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&machine);
    }
}

/// The network's log as it is signed now: how many entries, and the root over them.
async fn signed(app: &App) -> Result<(u64, Hash), ApiError> {
    let note = app.store.public().log_checkpoint().await?.and_then(|note| note.parse::<Note>().ok());
    let checkpoint = note.and_then(|note| note.text().parse::<Checkpoint>().ok());
    Ok(checkpoint.map_or_else(Default::default, |checkpoint| (checkpoint.size, checkpoint.root)))
}

/// The bell of an hour as it stands, for whichever server of this network rings it first.
///
/// # Errors
/// If it cannot be written down.
pub async fn ring(app: &App, hour: Hour) -> Result<Bell, ApiError> {
    let (size, root) = signed(app).await?;
    let bell = Bell { hour, at: app.rota.moment(hour), size, root, salt: app.rota.salts.of(hour) };
    Ok(app.store.ring_bell(&verifier(edge::now())?, &bell).await?)
}

/// The beacon of a machine's own bell: the log's root, and fresh randomness.
///
/// # Errors
/// If the log cannot be read.
pub async fn own_beacon(app: &App, at: UnixMillis) -> Result<Hash, ApiError> {
    let (_, root) = signed(app).await?;
    Ok(bells::beacon(&edge::random_hash(), &root, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_that_pass_quickly_have_their_bells_too() {
        let since = UnixMillis(1_700_000_000_123);
        let rota = Rota::new(&[3; 32], Pace::Quick { since, hour_millis: 5_000 });
        for n in 0..50 {
            let began = since.0 + n * 5_000;
            let hour = rota.hour(UnixMillis(began));
            assert_eq!((rota.hour(UnixMillis(began + 4_999)), hour.0), (hour, 500_000 + n as u32));
            let moment = rota.moment(hour).0;
            assert!((began..began + 3_334).contains(&moment), "{moment}");
        }
    }

    #[test]
    fn a_machine_is_quiet_until_the_bell_or_news_and_never_for_long() {
        let (machine, now) = (MachineId::from_bytes([1; 16]), UnixMillis(1_000_000));
        let quiet = Quiet::default();
        assert!(!quiet.is(machine, now));
        quiet.until(machine, UnixMillis(now.0 + 5_000), now);
        assert!(quiet.is(machine, UnixMillis(now.0 + 4_999)));
        assert!(!quiet.is(machine, UnixMillis(now.0 + 5_000)));
        quiet.until(machine, UnixMillis(now.0 + 3_000_000), now);
        assert!(!quiet.is(machine, UnixMillis(now.0 + BELIEVED_MILLIS)));
        quiet.until(machine, UnixMillis(now.0 + 5_000), now);
        quiet.broken(machine);
        assert!(!quiet.is(machine, now));
    }
}
