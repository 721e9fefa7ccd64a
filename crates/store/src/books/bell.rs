//! Bells that rang: one an hour for the whole network, whichever server was asked first.

use gangline_guard::{Permit, act, log::Event};
use gangline_rules::bells::Bell;
use gangline_types::{Hour, UnixMillis};

use crate::{Store, StoreError, books::answered, sql::Columns};

answered! { Store,
    /// Writes a bell down, and into the log: the one that stands for its hour, which is this one unless another server
    /// was faster.
    async fn ring_bell(&self, permit: &Permit<act::Judge>, bell: &Bell) -> Result<Bell, StoreError>;
}

pub(crate) fn bell_row(row: &impl Columns) -> Result<Bell, StoreError> {
    Ok(Bell {
        hour: Hour(row.int("hour")? as u32),
        at: UnixMillis(row.int("millis")?),
        size: row.int("size")?,
        root: row.hash("root")?,
        salt: row.hash("salt")?,
    })
}

pub(crate) fn event_of(bell: &Bell) -> Event {
    let Bell { hour, at, size, root, salt } = *bell;
    Event::Bell { hour: hour.0, millis: at.0, size, root, salt }
}
