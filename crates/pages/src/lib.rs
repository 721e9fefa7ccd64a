//! Rows become pages: HTML and SVG for the explorer, the consoles and the API reference.
//!
//! Every page is a function from a [`Chrome`] (what surrounds it) and a view (what it shows) to a
//! `String`. This room knows no store, guard, HTTP, clock or randomness: a page cannot query, cannot
//! see a secret it was not handed, and says the same thing for the same view. All text passes through
//! one escaper that also makes invisible and direction-changing characters visible, and no page holds
//! an inline script, an inline style or an event handler, so [`CSP`] can refuse all three.
//!
//! Forms of these pages (all `application/x-www-form-urlencoded`, all carry `csrf` where
//! [`Chrome::csrf`] is given):
//!
//! | method and path | fields | from |
//! |---|---|---|
//! | POST `/theme` | `theme` (`auto`, `dark`, `light`), `back` (path to return to) | every page |
//! | POST `/leave` | | every page when signed in |
//! | GET `/` | `q`, `standing`, `after` (left out where empty, but for `q`) | [`explorer`], search |
//! | POST `/enter/{token}` | | [`enter`] |
//! | GET `/approve` | `code` | [`approve`] |
//! | POST `/approve` | `enrolment`, `decision` (`approve`, `deny`) | [`approve`] |
//! | POST `/console/invite` | `role` (`supplier`, `renter`, `operator`) and `name`, or `account` | [`operator`] |
//! | GET `/console/security` | `freeze`, or `who`, `action`, `code`, `hours` | [`security`] |
//! | GET `/console/security/acts` | `who`, `action`, `on`, `hours`, `until` | [`acts`] |
//! | POST `/console/security/incidents/{incident}` | `state` (`acknowledged`, `closed`) | [`security`] |
//! | POST `/console/security/freezes` | `target`, `reason`, `hours` | [`security`] |
//! | POST `/console/security/freezes/{freeze}/lift` | | [`security`] |
//! | POST `/console/security/deliveries/{delivery}/send` | | [`security`] |
//! | POST `/console/approvals/{approval}` | `decision` (`approve`, `decline`) | [`approvals`] |
//! | POST `/console/accounts/{account}/sessions/end` | | [`operator`] |
//! | POST `/console/keys/{key}/revoke` | | [`operator`], [`supplier`], [`renter`] |
//! | POST `/console/gpus/{gpu}/label` | `label` | [`supplier`] |
//! | POST `/console/clusters/{cluster}/release` | | [`renter`] |

mod account;
mod api;
mod approve;
mod assets;
mod chart;
mod chrome;
mod console;
mod done;
mod enter;
mod error;
mod explorer;
mod gpu;
mod heat;
mod inert;
mod mail;
pub mod paths;
mod snapshots;
mod ui;

pub use account::{AccountView, PasskeyRow, SessionRow, account};
pub use api::{ApiView, api};
pub use approve::{ApproveView, Asking, KeyRequest, approve};
pub use assets::{Asset, CSP, assets, compressed};
pub use chart::{Point, Series};
pub use chrome::{Chrome, Role, Theme};
pub use console::{
    AccountRow, ActRow, ActsView, ApprovalRow, ApprovalState, ApprovalsView, ClusterRow, DeliveryRow,
    FreezeRow, FreshLink, IncidentRow, KeyRow, MachineCounts, MachineRow, MachineState, OperatorView,
    ReceiptRow, RefusalRow, RenterView, SecurityView, SignInView, Statement, StatementLine, StopPreview,
    SupplierView, WitnessRow, acts, approvals, operator, renter, security, sign_in, sign_out, supplier,
};
pub use done::Done;
pub use enter::{EnterView, enter};
pub use error::{ErrorView, error};
pub use explorer::{Cosigned, ExplorerView, GpuFilter, ModelRow, explorer};
pub use gpu::{AppealRow, EpochRow, GpuView, ProofRow, ShareRow, gpu};
pub use mail::{MailIncident, MailView, mail};
pub use snapshots::{SnapshotView, SnapshotsView, snapshot, snapshots};
