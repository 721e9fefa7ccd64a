//! Small helpers between Rust types and columns.

use gangline_types::{
    AccountId, AppealId, ApprovalId, ClusterId, DeliveryId, EnrolmentId, FreezeId, GpuId, Hash, IncidentId,
    KeyId, LinkId, MachineId, MicroCredits, PasskeyId, ProofId, SessionId, UnixSeconds,
};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::{Row, postgres::PgRow, sqlite::SqliteRow};

use crate::StoreError;

/// An id as its sixteen bytes.
pub(crate) trait Id: Copy {
    fn blob(&self) -> Vec<u8>;
    fn of(bytes: [u8; 16]) -> Self;
}
macro_rules! ids { ($($t:ty),+) => {$(
    impl Id for $t {
        fn blob(&self) -> Vec<u8> { self.as_bytes().to_vec() }
        fn of(bytes: [u8; 16]) -> Self { Self::from_bytes(bytes) }
    }
)+}; }
ids!(
    AccountId,
    AppealId,
    MachineId,
    GpuId,
    KeyId,
    EnrolmentId,
    ProofId,
    ClusterId,
    SessionId,
    LinkId,
    IncidentId,
    FreezeId,
    PasskeyId,
    DeliveryId,
    ApprovalId
);

/// Ids one after another: a list as one bound value, which a statement takes apart.
pub(crate) fn packed<T: Id>(ids: &[T]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.blob()).collect()
}

fn read(column: &str) -> StoreError {
    StoreError::Malformed(format!("column {column}"))
}

/// Typed access to a row's columns.
pub(crate) trait Columns {
    fn id<T: Id>(&self, column: &str) -> Result<T, StoreError>;
    fn id_or_none<T: Id>(&self, column: &str) -> Result<Option<T>, StoreError>;
    fn hash(&self, column: &str) -> Result<Hash, StoreError>;
    fn bytes(&self, column: &str) -> Result<Vec<u8>, StoreError>;
    fn bytes_or_none(&self, column: &str) -> Result<Option<Vec<u8>>, StoreError>;
    fn hash_or_none(&self, column: &str) -> Result<Option<Hash>, StoreError> {
        let bytes = self.bytes_or_none(column)?;
        bytes.map(|bytes| bytes.try_into().map(Hash).map_err(|_| read(column))).transpose()
    }
    fn flag(&self, column: &str) -> Result<bool, StoreError> {
        self.flag_or_none(column)?.ok_or_else(|| read(column))
    }
    fn flag_or_none(&self, column: &str) -> Result<Option<bool>, StoreError>;
    fn text(&self, column: &str) -> Result<String, StoreError>;
    fn text_or_none(&self, column: &str) -> Result<Option<String>, StoreError>;
    fn int(&self, column: &str) -> Result<u64, StoreError>;
    fn int_or_none(&self, column: &str) -> Result<Option<u64>, StoreError>;
    fn real(&self, column: &str) -> Result<f64, StoreError>;
    fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError>;
    fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError>;
    fn json_or_none<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, StoreError>;
    fn at(&self, column: &str) -> Result<UnixSeconds, StoreError> {
        self.int(column).map(UnixSeconds)
    }
    fn at_or_none(&self, column: &str) -> Result<Option<UnixSeconds>, StoreError> {
        Ok(self.int_or_none(column)?.map(UnixSeconds))
    }
    fn money(&self, column: &str) -> Result<MicroCredits, StoreError> {
        self.int(column).map(MicroCredits)
    }
}

macro_rules! columns {
    ($row:ty, $flag:ty, $is_set:expr) => {
        impl Columns for $row {
            fn id<T: Id>(&self, column: &str) -> Result<T, StoreError> {
                self.id_or_none(column)?.ok_or_else(|| read(column))
            }
            fn id_or_none<T: Id>(&self, column: &str) -> Result<Option<T>, StoreError> {
                let bytes: Option<Vec<u8>> = self.try_get(column).map_err(|_| read(column))?;
                bytes.map(|b| b.try_into().map(T::of).map_err(|_| read(column))).transpose()
            }
            fn hash(&self, column: &str) -> Result<Hash, StoreError> {
                self.bytes(column)?.try_into().map(Hash).map_err(|_| read(column))
            }
            fn bytes(&self, column: &str) -> Result<Vec<u8>, StoreError> {
                self.try_get(column).map_err(|_| read(column))
            }
            fn bytes_or_none(&self, column: &str) -> Result<Option<Vec<u8>>, StoreError> {
                self.try_get(column).map_err(|_| read(column))
            }
            fn flag_or_none(&self, column: &str) -> Result<Option<bool>, StoreError> {
                self.try_get::<Option<$flag>, _>(column).map(|n| n.map($is_set)).map_err(|_| read(column))
            }
            fn text(&self, column: &str) -> Result<String, StoreError> {
                self.try_get(column).map_err(|_| read(column))
            }
            fn text_or_none(&self, column: &str) -> Result<Option<String>, StoreError> {
                self.try_get(column).map_err(|_| read(column))
            }
            fn int(&self, column: &str) -> Result<u64, StoreError> {
                self.try_get::<i64, _>(column).map(|n| n as u64).map_err(|_| read(column))
            }
            fn int_or_none(&self, column: &str) -> Result<Option<u64>, StoreError> {
                self.try_get::<Option<i64>, _>(column).map(|n| n.map(|n| n as u64)).map_err(|_| read(column))
            }
            fn real(&self, column: &str) -> Result<f64, StoreError> {
                self.try_get(column).map_err(|_| read(column))
            }
            fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
                unword(&self.text(column)?).ok_or_else(|| read(column))
            }
            fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
                serde_json::from_str(&self.text(column)?).map_err(|_| read(column))
            }
            fn json_or_none<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, StoreError> {
                self.text_or_none(column)?
                    .map(|t| serde_json::from_str(&t).map_err(|_| read(column)))
                    .transpose()
            }
        }
    };
}
columns!(SqliteRow, i64, |n| n == 1);
columns!(PgRow, bool, |set| set);

/// A unit variant as its word.
pub(crate) fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(s)) => s,
        other => unreachable!("only unit variants are stored as words, not {other:?}"),
    }
}

/// The variant with this word.
pub(crate) fn unword<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()
}

/// A value of ours as JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own types always have a JSON form")
}
