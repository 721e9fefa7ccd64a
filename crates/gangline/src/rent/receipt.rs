//! `rent receipt`: what a hire used and what it cost, checked rather than believed.
//!
//! The network's key is kept from the first receipt seen; a receipt under another key is refused. The
//! machine's key is not shown to renters (it would lead to its owner), so of its signature one can see
//! only that it is there: it binds the machine towards the network.

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use gangline_rules::metering;
use gangline_types::{ClusterId, receipt::Receipt};
use gangline_wire::api::cluster::{ClusterView, SignedReceipt};

use super::{Output, show, state::State, time};
use crate::problem::Problem;

/// Bytes of an Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

pub async fn run(state: &State, output: Output, cluster: ClusterId) -> anyhow::Result<()> {
    let client = state.client()?;
    let view = show::look(&client, cluster, None)
        .await
        .with_context(|| format!("could not ask for the receipt of {cluster}"))?;
    let Some(signed) = &view.receipt else {
        let what = format!("{cluster} has no receipt yet: it is {}", view.state);
        return Err(Problem::new(what).hint("a receipt follows when the cluster has ended").into());
    };
    check(&view, signed)
        .map_err(|why| Problem::new(format!("the receipt of {cluster} does not hold: {why}")))?;
    pin(state, signed)?;
    output.print(signed, || text(signed))
}

/// Why a receipt does not hold, in words.
fn check(view: &ClusterView, signed: &SignedReceipt) -> Result<(), String> {
    let Receipt { cluster, gpu, started_at, ended_at, used, price_per_hour, cost, .. } = signed.receipt;
    let same = |what: &str, same: bool| if same { Ok(()) } else { Err(format!("it is for another {what}")) };
    same("cluster", cluster == view.id)?;
    same("GPU", gpu == view.gpu)?;
    same("price", price_per_hour == view.price_per_hour)?;
    let span = started_at.map_or(0, |started| ended_at.since(started));
    if used.0 > span {
        return Err(format!("it charges {used} s of {span} s"));
    }
    let due = metering::cost(price_per_hour, used.0);
    if cost != due {
        return Err(format!("{used} s at {price_per_hour} an hour cost {due}, not {cost}"));
    }
    let bytes = signed.receipt.signing_bytes();
    let signature = |text: &str| STANDARD.decode(text).ok().filter(|bytes| bytes.len() == SIGNATURE_BYTES);
    let network = signature(&signed.network_signature).ok_or("the network's signature is malformed")?;
    if !signed.network_key.verifies(&bytes, &network) {
        return Err("the network's signature does not verify".to_owned());
    }
    match &signed.machine_signature {
        Some(text) if signature(text).is_none() => Err("the machine's signature is malformed".to_owned()),
        _ => Ok(()),
    }
}

/// Keeps the network's key of the first receipt; any later one must be the same.
fn pin(state: &State, signed: &SignedReceipt) -> anyhow::Result<()> {
    let Some(mut login) = state.login()? else { return Ok(()) };
    match login.network_key {
        Some(known) if known != signed.network_key => Err(Problem::new(format!(
            "the receipt is signed by another network key ({}) than the first one seen ({})",
            signed.network_key.fingerprint(),
            known.fingerprint()
        ))
        .hint("ask the operator whether the network's key was changed; if so, log in again from an empty --data folder")
        .into()),
        Some(_) => Ok(()),
        None => {
            login.network_key = Some(signed.network_key);
            state.keep(&login)
        }
    }
}

fn text(signed: &SignedReceipt) -> String {
    let receipt = &signed.receipt;
    let machine = match signed.machine_signature {
        Some(_) => "signed as well; its key is known to the network only",
        None => "did not sign: it was lost, or the cluster never ran",
    };
    let facts = [
        ("cluster", receipt.cluster.to_string()),
        ("GPU", receipt.gpu.to_string()),
        ("ran from", receipt.started_at.map_or("never".to_owned(), time)),
        ("until", time(receipt.ended_at)),
        ("ended", receipt.because.words().to_owned()),
        ("used", format!("{} s", receipt.used)),
        ("price of an hour", receipt.price_per_hour.to_string()),
        ("cost", receipt.cost.to_string()),
        ("network", format!("signed by {}, verified", signed.network_key.fingerprint())),
        ("machine", machine.to_owned()),
    ];
    facts.iter().map(|(name, value)| format!("{name:<16}  {value}\n")).collect()
}

#[cfg(test)]
#[path = "receipt_tests.rs"]
mod tests;
