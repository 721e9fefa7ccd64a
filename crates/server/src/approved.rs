//! Acts that take an approval: the first request asks for it, and the same request does it once somebody has approved.
//! What takes an approval, and whether one fits, is the guard's; this looks for it in the books and says what is
//! missing.

use gangline_guard::{
    Act, Permit, Refusal, Resource,
    approval::{HERE_SECONDS, digest},
    detect::{Alarm, What},
    notice::{Block, Raised, Subject},
};
use gangline_pages::paths;
use gangline_store::{ApprovalRow, NewApproval, NewIncident};
use gangline_types::{ApprovalId, IncidentId, UnixSeconds};
use gangline_wire::{Action, AskedFor, Endpoint, ErrorBody, Media, api::operate::Approver};

use crate::{
    app::App,
    edge,
    error::ApiError,
    request::{Ctx, DECLINED},
};
use gangline_guard::{act, policy::on};

/// Longest form that is kept to be sent again, in bytes; a longer one has to be filled in again.
const FORM_BYTES_MAX: usize = 2048;

impl<E: Endpoint> Ctx<E> {
    /// As [`Ctx::permit`], for acts that may take an approval. Where one is needed and was given, the permit carries
    /// it; where it was not given yet, it is asked for.
    ///
    /// # Errors
    /// [`ApiError::Waiting`] while nobody has approved.
    pub async fn permit_approved<A: Act>(&self, on: A::On) -> Result<Permit<A>, ApiError> {
        let needed = match self.permit::<A>(on.clone()) {
            Err(ApiError::Refused(Refusal::Unapproved { approver })) => approver,
            answered => return answered,
        };
        let (who, what): (_, Resource) = (self.actor.principal(), on.clone().into());
        let account = who.account().ok_or(Refusal::Unapproved { approver: needed })?;
        let digest = digest(A::ACTION, &what);
        let store = &self.app.store;
        let row = match store.approval_of(account, who.key(), digest, self.now).await? {
            Some(row) => row,
            None => {
                let approver = match needed {
                    Approver::Oneself => Approver::Oneself,
                    _ => {
                        let since = UnixSeconds(self.now.0.saturating_sub(HERE_SECONDS));
                        let others = store.other_operators(account, since).await?;
                        if others > 0 { Approver::Another } else { Approver::Alone }
                    }
                };
                let (path, form) = self.form();
                let id = ApprovalId::from_bytes(edge::random());
                let new = NewApproval {
                    id,
                    action: A::ACTION,
                    what: what.to_string(),
                    digest,
                    approver,
                    path,
                    form,
                    incident: (approver != Approver::Oneself)
                        .then(|| self.told(id, A::ACTION, &what, approver)),
                };
                let ask = self.permit_also::<act::AskApproval>(on::Account { account })?;
                store.ask_approval(ask, new).await?
            }
        };
        match row.approval().filter(|approval| approval.ready_at <= self.now) {
            Some(approval) => {
                let actor = self.actor.clone().with_approval(approval);
                Ok(gangline_guard::permit::permit::<A>(&actor, on, self.now)?)
            }
            None => Err(waiting(&self.app, &row)),
        }
    }

    /// What tells the other operators that an act waits for them, and the only one that somebody acts alone as them.
    fn told(&self, id: ApprovalId, action: Action, what: &Resource, approver: Approver) -> NewIncident {
        let who = self.actor.principal();
        let waits = match approver {
            Approver::Alone => "can be taken back until it is done",
            _ => "waits for another operator",
        };
        let raised = Raised {
            alarm: Alarm { what: What::ApprovalWanted, at: self.now, seen: 1.0, usual: 0.0 },
            subject: Subject::Approval(id),
            key: who.key(),
            account: who.account(),
            block: Some(Block::of(self.peer.ip())),
            action: Some(action),
            resource: Some(format!("{what}, {waits}: {}", address(&self.app, id))),
        };
        NewIncident { id: IncidentId::from_bytes(edge::random()), raised, count: 1 }
    }

    /// Where a browser sent its form, and the form without its token.
    fn form(&self) -> (String, String) {
        if E::SPEC.media != Media::Html {
            return (String::new(), String::new());
        }
        let fields = form_urlencoded::parse(&self.bytes).filter(|(name, _)| name != "csrf");
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        if form.len() > FORM_BYTES_MAX {
            return (String::new(), String::new());
        }
        (self.head.uri.path().to_owned(), form)
    }
}

/// Where it is decided on.
fn address(app: &App, id: ApprovalId) -> String {
    format!("{}{}#{id}", app.origin, paths::APPROVALS)
}

/// What somebody is told who asked for it.
fn waiting(app: &App, row: &ApprovalRow) -> ApiError {
    let address = address(app, row.id);
    let (code, message, hint) = match &row.decision {
        Some(decision) if decision.ready_at.is_none() => (
            DECLINED,
            "an operator declined this".to_owned(),
            format!("it can be asked for again from {} (UTC seconds) on", row.expires_at),
        ),
        Some(decision) => (
            "approval_waits",
            format!(
                "this is approved, and because there is no second operator it can be done from {} (UTC seconds) on",
                decision.ready_at.unwrap_or_default()
            ),
            format!("until then it can be taken back at {address}"),
        ),
        None => {
            let message = match row.approver {
                Approver::Oneself => "this waits for your own confirmation in a browser",
                Approver::Another => "this waits for another operator's approval",
                Approver::Alone => {
                    "this takes two operators and there is no other, so it waits for your own approval and then for the delay"
                }
            };
            ("approval_needed", message.to_owned(), format!("open {address}"))
        }
    };
    ApiError::Waiting(Box::new(ErrorBody {
        code: code.to_owned(),
        message,
        hint: Some(hint),
        approval: Some(Box::new(AskedFor { approval: row.id, address, until: row.expires_at })),
        ..ErrorBody::default()
    }))
}
