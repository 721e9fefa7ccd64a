//! Epochs that machines open by datagram. The intake has found each question sealed under a lane of this network;
//! here its signature is verified and everything else that a request over the router goes through: the same guard, the
//! same quotas, the same record.

use std::{net::SocketAddr, sync::Arc};

use gangline_guard::{Actor, Refusal, RequestParts, beat::Admitted};
use gangline_store::LaneRow;
use gangline_types::UnixSeconds;
use gangline_wire::{
    Endpoint,
    beat::{BeatKey, OPENING_METHOD, Opening, OpeningOutcome, addresses_check},
    endpoints::BeatEpoch,
};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    app::{App, Counted},
    edge,
    error::ApiError,
    intake::{Came, Counters},
    live::Live,
    refusals::inert,
    request::{Shown, signed_head},
    router::{note, over},
    routes::beat::open,
};

/// Questions that are looked at side by side: what each asks of the books is asked together.
const AT_ONCE: usize = 1024;

/// Takes questions until the server stops. One that is being answered then is let go; its machine asks again.
pub async fn run(app: App, mut came: mpsc::Receiver<Came>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let one = tokio::select! {
            () = app.stop.cancelled() => return,
            one = came.recv() => one,
        };
        let (Some(one), Ok(place)) = (one, Arc::clone(&places).acquire_owned().await) else { return };
        let app = app.clone();
        tokio::spawn(async move {
            answer(&app, one).await;
            drop(place);
        });
    }
}

async fn answer(app: &App, Came { admitted, from }: Came) {
    // Sealed by a machine of this network, and still nothing that can be read: a later form, perhaps.
    let Ok(opening) = admitted.opening() else {
        return tell(app, &admitted, from, OpeningOutcome::AskByHttp, None);
    };
    let mut shown = Shown::nothing(from.ip());
    let result = opened(app, opening, &mut shown).await;
    if let Err(ApiError::Refused(Refusal::Replayed { .. })) = result {
        // The network may deliver a datagram twice: no touch, and no answer.
        return Counters::add(&app.lanes.intake.counters().openings_repeated);
    }
    let (outcome, lane, result) = match result {
        Ok((lane, key)) => {
            let (epoch, alias) = (lane.grant.epoch(), lane.grant.alias());
            let addresses =
                addresses_check(app.lanes.udp.as_ref(), app.lanes.http.as_ref().map(|url| url.as_str()));
            (OpeningOutcome::Opened { epoch, alias, key, addresses }, Some(lane), Ok(()))
        }
        Err(error) => {
            let outcome = match error.retry_after_seconds() {
                Some(seconds) => OpeningOutcome::Busy(u16::try_from(seconds).unwrap_or(u16::MAX)),
                None => OpeningOutcome::AskByHttp,
            };
            (outcome, None, Err(error))
        }
    };
    let request = format!("{OPENING_METHOD} {}", BeatEpoch::SPEC.path);
    note(app, &BeatEpoch::SPEC, from, &shown, request, &result);
    tell(app, &admitted, from, outcome, lane);
}

/// Lets the intake know the lane, and answer.
fn tell(app: &App, admitted: &Admitted, to: SocketAddr, outcome: OpeningOutcome, lane: Option<LaneRow>) {
    let answer = admitted.answer(outcome, app.lanes.clock.now(), &edge::random());
    // If it is too busy, the machine asks again.
    let _ = app.lanes.intake.answer_opening(lane, to, answer);
}

async fn opened(app: &App, opening: Opening, shown: &mut Shown) -> Result<(LaneRow, BeatKey), ApiError> {
    let now = edge::now();
    let (actor, live) = asker(app, &opening, now, shown).await?;
    tokio::select! {
        biased;
        opened = open(app, shown.asker, &actor, &opening.request, now, &shown.trail) => opened,
        () = live.over() => Err(over(actor.principal())),
    }
}

/// Whose machine asks, as for a request over the router: a signature of an enrolled key over all of it, and a number that
/// was not used before.
async fn asker(
    app: &App,
    opening: &Opening,
    now: UnixSeconds,
    shown: &mut Shown,
) -> Result<(Actor, Live), ApiError> {
    let moment = app.lives.moment();
    if !app.authorities.contains(&opening.authority) {
        return Err(Refusal::OtherAuthority(inert(&opening.authority)).into());
    }
    let parts = RequestParts {
        method: OPENING_METHOD,
        authority: &opening.authority,
        path: BeatEpoch::SPEC.path,
        query: "",
    };
    let verified = signed_head(app, opening.claimed.clone(), parts, Counted::Signed, now, shown).await?;
    let verified = verified.with_body(&opening.body())?;
    let actor = app.store.take_sequence(verified, now.plus(app.config.key_overlap_seconds)).await?;
    shown.principal = Some(*actor.principal());
    let live = app.lives.hold(moment, actor.principal());
    Ok((actor, live))
}
