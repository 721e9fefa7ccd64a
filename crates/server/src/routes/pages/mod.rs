//! The pages: they answer browsers with HTML and take their forms. Each fills a view from the store and
//! hands it to the pages room; what may be seen or done is the guard's, asked for every request.

mod account;
mod acts;
mod approvals;
mod approve;
mod assets;
mod chrome;
mod clusters;
mod console;
mod cookie;
mod drawn;
mod enter;
mod explorer;
mod gpu;
mod invite;
mod keys;
mod labels;
mod operator;
mod password;
mod reference;
mod renter;
mod security;
mod sign_in;
mod snapshots;
mod supplier;
mod theme;

use axum::{
    http::{StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
};
use gangline_pages::Done;
use gangline_wire::endpoints as e;

pub use assets::assets;
pub use chrome::{chrome, chrome_of, error_response};
pub use cookie::{DONE_COOKIE, no_done};
pub use drawn::Drawn;
pub use explorer::draw_ahead;

use crate::router::Api;

/// Registers every page and form.
pub fn routes(api: Api) -> Api {
    api.raw::<e::ExplorerPage, _, _>(explorer::show)
        .raw::<e::GpuPageHtml, _, _>(gpu::show)
        .raw::<e::SnapshotsPage, _, _>(snapshots::list)
        .raw::<e::SnapshotPage, _, _>(snapshots::show)
        .raw::<e::ApiPage, _, _>(reference::show)
        .raw::<e::ThemeForm, _, _>(theme::choose)
        .raw::<e::EnterPage, _, _>(enter::show)
        .raw::<e::EnterForm, _, _>(enter::sign_in)
        .raw::<e::SignInPage, _, _>(sign_in::show)
        .raw::<e::SignInStart, _, _>(sign_in::start)
        .raw::<e::SignInCallback, _, _>(sign_in::finish)
        .raw::<e::SignInBackchannel, _, _>(sign_in::backchannel)
        .raw::<e::PasskeySignInAsk, _, _>(account::ask)
        .raw::<e::PasskeySignIn, _, _>(account::sign_in)
        .raw::<e::PasswordSignIn, _, _>(password::sign_in)
        .raw::<e::PasswordSet, _, _>(password::set)
        .raw::<e::AccountPage, _, _>(account::show)
        .raw::<e::PasskeyAsk, _, _>(account::ask_new)
        .raw::<e::PasskeyAdd, _, _>(account::add)
        .raw::<e::PasskeyRemove, _, _>(account::remove)
        .raw::<e::SessionEndForm, _, _>(account::end_session)
        .raw::<e::LeaveForm, _, _>(enter::sign_out)
        .raw::<e::ApprovePage, _, _>(approve::show)
        .raw::<e::ApproveForm, _, _>(approve::decide)
        .raw::<e::ConsolePage, _, _>(console::show)
        .raw::<e::SecurityPage, _, _>(security::show)
        .raw::<e::ActsPage, _, _>(acts::show)
        .raw::<e::IncidentForm, _, _>(security::change_incident)
        .raw::<e::FreezeForm, _, _>(security::freeze_form)
        .raw::<e::ThawForm, _, _>(security::lift)
        .raw::<e::SendAgainForm, _, _>(security::send_again)
        .raw::<e::ApprovalsPage, _, _>(approvals::show)
        .raw::<e::ApprovalForm, _, _>(approvals::decide)
        .raw::<e::InviteForm, _, _>(invite::make)
        .raw::<e::AccountSessionsForm, _, _>(keys::end_sessions)
        .raw::<e::RevokeKeyForm, _, _>(keys::revoke)
        .raw::<e::LabelGpuForm, _, _>(labels::label)
        .raw::<e::ReleaseClusterForm, _, _>(clusters::release)
}

fn html(status: StatusCode, page: String) -> Response {
    (status, Html(page)).into_response()
}

fn page(page: String) -> Response {
    html(StatusCode::OK, page)
}

/// 303: the form did what it says; the browser goes on with a GET.
fn go_on(path: &str) -> Response {
    Redirect::to(path).into_response()
}

/// The same, and that page says what was done.
fn done(path: &str, what: Done) -> Response {
    let mut response = go_on(path);
    response.headers_mut().append(header::SET_COOKIE, cookie::done(what));
    response
}
