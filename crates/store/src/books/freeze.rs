//! What is frozen, by whom and why.

use gangline_guard::{
    Permit, act,
    freeze::{Freeze, Target},
};
use gangline_types::{FreezeId, IncidentId, UnixSeconds};

use crate::{Store, StoreError, books::answered, sql::Columns};

/// A freeze to be made.
#[derive(Clone, Debug)]
pub struct NewFreeze {
    /// Its id.
    pub id: FreezeId,
    /// What it stops.
    pub target: Target,
    /// When it ends by itself; none: until it is lifted.
    pub until: Option<UnixSeconds>,
    /// Why.
    pub reason: String,
    /// For which incident, if for one.
    pub incident: Option<IncidentId>,
}

impl NewFreeze {
    /// This, but of what was permitted and for as long.
    pub(crate) fn as_permitted(&self, permit: &Permit<act::Freeze>) -> Self {
        let halt = permit.on();
        let until = halt.seconds.map(|seconds| permit.at().plus(seconds));
        Self { target: halt.target, until, ..self.clone() }
    }
}

/// A freeze as it stands.
#[derive(Clone, Debug)]
pub struct FreezeRow {
    /// What the guard must know.
    pub freeze: Freeze,
    /// Who made it.
    pub made_by: String,
    /// Why.
    pub reason: String,
    /// For which incident, if for one.
    pub incident: Option<IncidentId>,
    /// When it was lifted, or ended and made room for another.
    pub lifted_at: Option<UnixSeconds>,
    /// By whom.
    pub lifted_by: String,
}

answered! { Store,
    /// What is frozen at `now`. The guard's own record, read for every request: it needs no permit.
    async fn frozen(&self, now: UnixSeconds) -> Result<Vec<Freeze>, StoreError>;

    /// Freezes, newest first, at most 100; those that were lifted too.
    async fn freezes(&self, permit: &Permit<act::Operate>) -> Result<Vec<FreezeRow>, StoreError>;

    /// Freezes; what is frozen already stays as it is, and is given back.
    async fn freeze(&self, permit: Permit<act::Freeze>, new: &NewFreeze) -> Result<FreezeId, StoreError>;

    /// The same, by a rule.
    async fn freeze_by_rule(&self, permit: &Permit<act::Watch>, new: &NewFreeze) -> Result<FreezeId, StoreError>;

    /// Lifts a freeze.
    async fn thaw(&self, permit: Permit<act::Thaw>) -> Result<(), StoreError>;
}

pub(crate) fn freeze(row: &impl Columns) -> Result<Freeze, StoreError> {
    let target = row.text("target")?;
    Ok(Freeze {
        id: row.id("id")?,
        target: target.parse().map_err(|_| StoreError::Malformed("column target".to_owned()))?,
        since: row.at("since")?,
        until: row.at_or_none("until")?,
    })
}
