//! `rent offers`: GPUs that are proven, connected, offered and free.
//!
//! Asks the public projection, as anybody may; knows no owner.

use anyhow::Context;
use gangline_types::{Standing, public::PublicGpu};
use gangline_wire::{
    api::public::{GpusQuery, PAGE_MAX},
    endpoints::PublicGpus,
};
use gangline_worker::client::Client;

use super::{Output, table};
use crate::inert::inert_line;

pub async fn run(client: &Client, output: Output) -> anyhow::Result<()> {
    let mut offers: Vec<PublicGpu> = Vec::new();
    let mut query =
        GpusQuery { standing: Some(Standing::Proven), limit: Some(PAGE_MAX), ..Default::default() };
    loop {
        let page = client
            .call::<PublicGpus>(&[], &query, &Default::default())
            .await
            .context("could not ask for the GPUs of this network")?;
        offers.extend(page.gpus.into_iter().filter(|gpu| gpu.rentable));
        // A page that does not move on would be asked for ever.
        match page.next {
            Some(next) if query.after.is_none_or(|after| next > after) => query.after = Some(next),
            _ => break,
        }
    }
    output.print(&offers, || text(&offers))
}

fn text(offers: &[PublicGpu]) -> String {
    if offers.is_empty() {
        return "No GPU can be hired now.\n".to_owned();
    }
    let row = |gpu: &PublicGpu| {
        vec![
            gpu.id.to_string(),
            inert_line(gpu.model.as_str()),
            gpu.kind.words().to_owned(),
            gpu.profile.matrix_mmacs.to_string(),
            mebibytes(gpu.memory_bytes),
            inert_line(gpu.label.as_str()),
        ]
    };
    let rows: Vec<_> = offers.iter().map(row).collect();
    table(&["GPU", "MODEL (CLAIMED)", "KIND", "PROVEN MMAC/S", "MEMORY", "LABEL"], &rows)
}

/// Memory in mebibytes; a dash where it is unknown.
pub fn mebibytes(bytes: u64) -> String {
    if bytes == 0 { "-".to_owned() } else { format!("{} MiB", bytes >> 20) }
}
