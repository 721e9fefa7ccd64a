//! Making a one-time link. It is shown on the page that answers and nowhere else: not in a redirect, not
//! in a log, not in the store.

use axum::{http::StatusCode, response::Response};
use gangline_guard::{act, policy::on, secret::Secret};
use gangline_pages::{FreshLink, paths};
use gangline_store::NewLink;
use gangline_types::{AccountId, LinkId};
use gangline_wire::endpoints as e;

use super::{chrome::role, operator};
use crate::{edge, error::ApiError, request::Ctx};

/// How long a link can be used, in seconds: three days.
const LINK_SECONDS: u64 = 3 * 24 * 3600;

pub async fn make(ctx: Ctx<e::InviteForm>) -> Result<Response, ApiError> {
    let operate = ctx.permit_also::<act::Operate>(on::Network)?;
    let invitation = match (ctx.body.account, ctx.body.role) {
        (Some(account), None) => {
            let (name, role) =
                ctx.app.store.account(account, &operate).await?.ok_or_else(ApiError::hidden)?;
            on::Invitation { account: Some(account), role, name }
        }
        (None, Some(role)) => {
            on::Invitation { account: None, role, name: ctx.body.name.clone().unwrap_or_default() }
        }
        _ => {
            return Err(ApiError::bad(
                StatusCode::UNPROCESSABLE_ENTITY,
                "whom",
                "a link is either for a new account of some role or for an account there is",
            ));
        }
    };
    let (its_role, name) = (invitation.role, invitation.name.clone());
    let permit = ctx.permit_approved::<act::Invite>(invitation).await?;
    let secret = Secret::from_random(edge::random());
    let expires_at = ctx.now.plus(LINK_SECONDS);
    let link = NewLink { id: LinkId::from_bytes(edge::random()), secret: secret.stored(), expires_at };
    ctx.app.store.invite(permit, AccountId::from_bytes(edge::random()), link).await?;
    let fresh = FreshLink {
        role: role(its_role),
        name: name.to_string(),
        url: format!("{}{}", ctx.app.origin, paths::enter(&secret.reveal())),
        expires_at,
    };
    operator::show(&ctx, Some(fresh)).await
}
