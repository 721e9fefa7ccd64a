//! Requests of a command line that somebody has to approve in a browser: prints where, waits, and sends the same request
//! again until it is done or somebody says no.

use std::time::Duration;

use gangline_wire::{AskedFor, Endpoint};
use gangline_worker::client::{Client, ClientError, now};

/// How often it is asked whether somebody has decided.
const EVERY: Duration = Duration::from_secs(2);

/// What a refusal says was asked for instead, if somebody may still approve it.
fn asked_for(error: &ClientError) -> Option<&AskedFor> {
    match error {
        ClientError::Refused { body, .. }
            if ["approval_needed", "approval_waits"].contains(&body.code.as_str()) =>
        {
            body.approval.as_deref()
        }
        _ => None,
    }
}

/// As [`Client::call`], waiting for an approval where one is needed. Whoever interrupts it and sends the same later
/// goes on where it was.
///
/// # Errors
/// As [`Client::call`]; also when nobody has decided in time, or somebody has declined.
pub async fn call<E: Endpoint>(
    client: &Client,
    parameters: &[&(dyn std::fmt::Display + Sync)],
    query: &E::Query,
    request: &E::Request,
) -> Result<E::Response, ClientError> {
    let mut told: Option<(String, AskedFor)> = None;
    loop {
        let error = match client.call::<E>(parameters, query, request).await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some(asked) = asked_for(&error).cloned() else { return Err(error) };
        let ClientError::Refused { body, .. } = &error else { return Err(error) };
        match &told {
            // Nobody decided in time, and the last request asked anew.
            Some((_, first)) if first.approval != asked.approval => return Err(error),
            Some((code, _)) if *code == body.code => {}
            _ => {
                eprintln!("{}.\n  {}", body.message, asked.address);
                if body.code == "approval_needed" {
                    eprintln!(
                        "Compare the key's fingerprint there, and approve only what you have asked for."
                    );
                }
                told = Some((body.code.clone(), asked.clone()));
            }
        }
        if now().seconds() >= asked.until {
            return Err(error);
        }
        tokio::time::sleep(EVERY).await;
    }
}
