//! Paths of the table's endpoints, about things that there are not, or one GPU that there is.

use gangline_types::{
    AccountId, AppealId, ApprovalId, ClusterId, DeliveryId, FreezeId, GpuId, Hash, IncidentId, KeyId,
    PasskeyId, ProofId, SessionId,
};
use gangline_wire::Spec;

/// The path of an endpoint about this GPU.
pub fn path_of(spec: &Spec, gpu: GpuId) -> String {
    spec.path
        .replace("{gpu}", &gpu.to_string())
        .replace("{proof}", &ProofId::from_bytes([1; 16]).to_string())
        .replace("{appeal}", &AppealId::from_bytes([1; 16]).to_string())
        .replace("{cluster}", &ClusterId::from_bytes([1; 16]).to_string())
        .replace("{incident}", &IncidentId::from_bytes([1; 16]).to_string())
        .replace("{freeze}", &FreezeId::from_bytes([1; 16]).to_string())
        .replace("{delivery}", &DeliveryId::from_bytes([1; 16]).to_string())
        .replace("{key}", &KeyId::from_bytes([1; 16]).to_string())
        .replace("{token}", &Hash([1; 32]).to_string())
        .replace("{passkey}", &PasskeyId::from_bytes([1; 16]).to_string())
        .replace("{session}", &SessionId::from_bytes([1; 16]).to_string())
        .replace("{approval}", &ApprovalId::from_bytes([1; 16]).to_string())
        .replace("{account}", &AccountId::from_bytes([1; 16]).to_string())
        .replace("{period}", "0")
        .replace("{version}", "1")
        .replace("{*path}", "api/version")
}
