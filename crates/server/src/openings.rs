//! Epochs that machines open by datagram. The intake has found each question sealed under a lane of this network;
//! here its signature is verified and everything else that a request over the router goes through: the same guard, the
//! same quotas, the same record. Questions that come at about the same time take each step together.

use std::{net::SocketAddr, sync::Arc};

use gangline_guard::{Actor, Refusal, RequestParts, beat::Admitted};
use gangline_store::{LaneRow, onward};
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
    intake::{Came, Counters, OpeningAnswer},
    refusals::inert,
    request::{Head, Shown, signed_heads},
    router::{note, over},
    routes::beat::{Asking, open_each},
};

/// Questions that take each step together.
const TOGETHER: usize = 256;
/// So many such lots at once: while one asks the books, another's signatures are verified.
const LOTS: usize = 4;

/// Takes questions until the server stops. One that is being answered then is let go; its machine asks again.
pub async fn run(app: App, mut came: mpsc::Receiver<Came>) {
    let places = Arc::new(Semaphore::new(LOTS));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            let mut lot = Vec::new();
            (came.recv_many(&mut lot, TOGETHER).await > 0).then_some((place, lot))
        };
        let (place, lot) = tokio::select! {
            () = app.stop.cancelled() => return,
            next = next => match next {
                Some(next) => next,
                None => return,
            },
        };
        let app = app.clone();
        tokio::spawn(async move {
            answer(&app, lot).await;
            drop(place);
        });
    }
}

/// A question that can be read.
struct Asked {
    admitted: Admitted,
    from: SocketAddr,
    opening: Opening,
    shown: Shown,
}

async fn answer(app: &App, lot: Vec<Came>) {
    let mut answers = Vec::with_capacity(lot.len());
    let mut asked = Vec::with_capacity(lot.len());
    for Came { admitted, from } in lot {
        match admitted.opening() {
            Ok(opening) => asked.push(Asked { admitted, from, opening, shown: Shown::nothing(from.ip()) }),
            // Sealed by a machine of this network, and still nothing that can be read: a later form, perhaps.
            Err(_) => answers.push(sealed(app, &admitted, from, OpeningOutcome::AskByHttp, None)),
        }
    }
    let results = opened(app, &mut asked).await;
    answers.extend(asked.iter().zip(results).filter_map(|(asked, result)| answered(app, asked, result)));
    // If it is too busy, the machines ask again.
    let _ = app.lanes.intake.answer_openings(answers);
}

/// The answer to a question, once it is written down how it went.
fn answered(
    app: &App,
    Asked { admitted, from, shown, .. }: &Asked,
    result: Result<(LaneRow, BeatKey), ApiError>,
) -> Option<OpeningAnswer> {
    if let Err(ApiError::Refused(Refusal::Replayed { .. })) = result {
        // The network may deliver a datagram twice: no touch, and no answer.
        Counters::add(&app.lanes.intake.counters().openings_repeated);
        return None;
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
    let request = || format!("{OPENING_METHOD} {}", BeatEpoch::SPEC.path);
    note(app, &BeatEpoch::SPEC, *from, shown, request, &result);
    Some(sealed(app, admitted, *from, outcome, lane))
}

fn sealed(
    app: &App,
    admitted: &Admitted,
    to: SocketAddr,
    outcome: OpeningOutcome,
    lane: Option<LaneRow>,
) -> OpeningAnswer {
    let answer = admitted.answer(outcome, app.lanes.clock.now(), &edge::random());
    (lane, to, Box::new(answer))
}

/// Whose machine asks each of these, as for a request over the router: a signature of an enrolled key over all of it, and a
/// number that was not used before. And the epoch that is opened for it.
async fn opened(app: &App, asked: &mut [Asked]) -> Vec<Result<(LaneRow, BeatKey), ApiError>> {
    let (now, moment) = (edge::now(), app.lives.moment());
    let (openings, mut shown): (Vec<&Opening>, Vec<&mut Shown>) =
        asked.iter_mut().map(|asked| (&asked.opening, &mut asked.shown)).unzip();
    let heads = openings.iter().zip(&mut shown).map(|(opening, shown)| head(app, opening, shown)).collect();
    let verified = onward(heads, |heads| signed_heads(app, heads, now)).await;
    let whole =
        openings.iter().zip(verified).map(|(opening, verified)| Ok(verified?.with_body(&opening.body())?));
    let old_until = now.plus(app.config.key_overlap_seconds);
    let actors = onward(whole.collect(), async |whole: Vec<_>| {
        let taken = app.store.take_each_sequence(whole, old_until).await;
        taken.into_iter().map(|actor| Ok(actor?)).collect::<Vec<Result<_, ApiError>>>()
    })
    .await;
    let established = openings.iter().zip(shown).zip(actors).map(|((opening, shown), actor)| {
        let actor = actor?;
        shown.principal = Some(*actor.principal());
        Ok((actor, &opening.request, &*shown))
    });
    onward(established.collect(), async |established: Vec<_>| {
        let asking = established.iter().map(|(actor, asked, shown): &(Actor, _, &Shown)| Asking {
            asker: shown.asker,
            actor,
            asked,
            at: now,
            trail: &shown.trail,
        });
        let opened = open_each(app, asking.collect()).await;
        let each = established.iter().zip(opened).map(|((actor, ..), opened)| {
            if app.lives.have_ended(moment, actor.principal()) {
                return Err(over(actor.principal()));
            }
            opened
        });
        each.collect()
    })
    .await
}

fn head<'a>(app: &App, opening: &'a Opening, shown: &'a mut Shown) -> Result<Head<'a>, ApiError> {
    if !app.authorities.contains(&opening.authority) {
        return Err(Refusal::OtherAuthority(inert(&opening.authority)).into());
    }
    let parts = RequestParts {
        method: OPENING_METHOD,
        authority: &opening.authority,
        path: BeatEpoch::SPEC.path,
        query: "",
    };
    Ok(Head { claimed: opening.claimed.clone(), parts, counted: Counted::Signed, shown })
}
