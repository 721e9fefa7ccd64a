//! Appeals against the standing of one of this machine's GPUs.

use gangline_types::GpuId;
use gangline_wire::{api::appeal::PublicAppeal, endpoints::AppealOpen};

use super::{
    data::{DataDir, Joined},
    error::AgentError,
};
use crate::client::Client;

/// Opens an appeal: the running worker answers the re-run.
///
/// # Errors
/// If the machine has not joined, the GPU is not one of this machine's, there is nothing to appeal against, or the server
/// cannot be asked.
pub async fn appeal(data: &DataDir, gpu: GpuId) -> Result<PublicAppeal, AgentError> {
    let not_joined = || AgentError::NotJoined { data: data.path().into() };
    let joined = Joined::load(data)?.ok_or_else(not_joined)?;
    let key = data.key()?.ok_or_else(not_joined)?;
    let failed = |source| AgentError::Client { doing: "appeal", source };
    let client = Client::new(&joined.url, Some(key)).map_err(failed)?;
    match client.call::<AppealOpen>(&[&gpu], &Default::default(), &Default::default()).await {
        Ok(appeal) => Ok(appeal),
        Err(e) if e.code() == Some("not_found") => Err(AgentError::NoSuchGpu { asked: gpu.to_string() }),
        Err(e) => Err(failed(e)),
    }
}
