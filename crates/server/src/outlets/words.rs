//! What a message says, for a program and for a person.

use gangline_guard::notice::{
    Event, Outlet,
    tell::{Planned, SPELLED_OUT_MAX},
};
use gangline_pages::{MailIncident, MailView, mail};
use gangline_store::{NewDelivery, UnsaidIncident};
use gangline_types::{DeliveryId, IncidentId, UnixSeconds};
use gangline_wire::api::operate::{Told, ToldData, ToldIncident};

use crate::{edge, routes::operate::incident_view};

fn word(event: Event) -> &'static str {
    event.as_str().trim_start_matches("incident.")
}

/// A message for an outlet, from what is to be told and the incidents as they stand.
pub fn message(
    origin: &str,
    now: UnixSeconds,
    outlet: Outlet,
    planned: &Planned,
    found: &[UnsaidIncident],
) -> NewDelivery {
    let row = |id: &IncidentId| found.iter().find(|f| f.incident.id == *id).map(|f| &f.incident);
    let about: Vec<_> = planned.about.iter().filter_map(|(id, event)| Some((row(id)?, *event))).collect();
    let spelled_out = &about[..about.len().min(SPELLED_OUT_MAX)];
    let more = (about.len() - spelled_out.len()) as u64;
    let (subject, body) = match outlet {
        Outlet::Webhook => {
            let told = Told {
                event: planned.event.as_str().to_owned(),
                timestamp: jiff::Timestamp::from_second(now.0 as i64).unwrap_or_default().to_string(),
                data: ToldData {
                    network: origin.to_owned(),
                    console: format!("{origin}{}", gangline_pages::paths::SECURITY),
                    incidents: spelled_out
                        .iter()
                        .map(|(row, event)| ToldIncident {
                            event: event.as_str().to_owned(),
                            incident: incident_view((*row).clone()),
                        })
                        .collect(),
                    more,
                },
            };
            let body = serde_json::to_string(&told).expect("our own types always have a JSON form");
            (planned.event.as_str().to_owned(), body)
        }
        Outlet::Mail => mail(&MailView {
            network: origin.to_owned(),
            incidents: spelled_out
                .iter()
                .map(|(row, event)| MailIncident {
                    event: word(*event),
                    id: row.id,
                    what: row.what.replace('_', " "),
                    severity: row.severity.as_str(),
                    subject: row.subject.clone(),
                    account: row.account.map(|account| account.to_string()).unwrap_or_default(),
                    from: row.block.clone(),
                    action: row.action.clone(),
                    resource: row.resource.clone(),
                    count: row.count,
                    opened_at: row.opened_at,
                    last_at: row.last_at,
                    note: row.note.clone(),
                })
                .collect(),
            more,
        }),
    };
    NewDelivery {
        id: DeliveryId::from_bytes(edge::random()),
        outlet,
        event: planned.event,
        subject,
        body,
        about: about.iter().map(|(row, event)| (row.id, *event, row.count)).collect(),
    }
}
