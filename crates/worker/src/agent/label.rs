//! What a GPU is called.

use gangline_types::{GpuId, Label};
use gangline_wire::{api::machine::LabelWrite, endpoints::GpuLabel};

use super::{
    data::{DataDir, Joined},
    error::AgentError,
    report::Reporter,
};
use crate::client::Client;

/// Calls one of this machine's GPUs `label`; empty: nothing.
///
/// # Errors
/// If the machine has not joined, the name cannot be used, the GPU is not one of this machine's, or the
/// server cannot be asked.
pub async fn label(data: &DataDir, gpu: &str, label: &str, reporter: &Reporter) -> Result<(), AgentError> {
    let not_joined = || AgentError::NotJoined { data: data.path().into() };
    let gpu: GpuId = gpu.parse().map_err(|_| AgentError::NoSuchGpu { asked: gpu.to_owned() })?;
    let label = Label::new(label).map_err(AgentError::BadLabel)?;
    let joined = Joined::load(data)?.ok_or_else(not_joined)?;
    let key = data.key()?.ok_or_else(not_joined)?;
    let failed = |source| AgentError::Client { doing: "name the GPU", source };
    let client = Client::new(&joined.url, Some(key)).map_err(failed)?;
    match client.call::<GpuLabel>(&[&gpu], &Default::default(), &LabelWrite { label: label.clone() }).await {
        Ok(_) => {}
        Err(e) if e.code() == Some("not_found") => {
            return Err(AgentError::NoSuchGpu { asked: gpu.to_string() });
        }
        Err(e) => return Err(failed(e)),
    }
    reporter.event(serde_json::json!({"event": "labelled", "gpu": gpu, "label": label}));
    reporter.say(&format!("{gpu} is called \"{label}\"."));
    Ok(())
}
