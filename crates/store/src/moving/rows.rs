//! Rows as both databases can say them: an object with a field for each column, in the order of names. Bytes are
//! hexadecimal after `\x`, as PostgreSQL writes them; truth is 1 or 0, as SQLite does.

use std::collections::BTreeMap;

use gangline_types::Hash;
use serde_json::{Number, Value};
use sqlx::{Column, Row, TypeInfo, ValueRef, sqlite::SqliteRow};

use crate::StoreError;

/// A row.
pub(super) type Fields = BTreeMap<String, Value>;

/// Bytes as PostgreSQL writes them.
pub(super) fn hex(bytes: &[u8]) -> Value {
    let mut out = String::with_capacity(2 + 2 * bytes.len());
    out.push_str("\\x");
    for byte in bytes {
        for half in [byte >> 4, byte & 15] {
            out.push(char::from_digit(u32::from(half), 16).expect("half a byte is one digit"));
        }
    }
    Value::String(out)
}

/// A number in the one way in which it is written here: whole ones without a point.
fn number(number: Number) -> Value {
    const WHOLE: f64 = 9_007_199_254_740_992.0;
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(real) if real.fract() == 0.0 && real.abs() < WHOLE => Value::from(real as i64),
        _ => Value::Number(number),
    }
}

/// A row of SQLite.
pub(super) fn from_sqlite(row: &SqliteRow) -> Result<Fields, StoreError> {
    let mut fields = Fields::new();
    for column in row.columns() {
        let (name, at) = (column.name(), column.ordinal());
        let unread = |_: sqlx::Error| StoreError::Malformed(format!("column {name}"));
        let raw = row.try_get_raw(at).map_err(unread)?;
        let kind = if raw.is_null() { "NULL".to_owned() } else { raw.type_info().name().to_owned() };
        let value = match kind.as_str() {
            "NULL" => Value::Null,
            "TEXT" => Value::String(row.try_get_unchecked(at).map_err(unread)?),
            "BLOB" => hex(row.try_get_unchecked::<&[u8], _>(at).map_err(unread)?),
            "REAL" => Number::from_f64(row.try_get_unchecked(at).map_err(unread)?)
                .map(number)
                .ok_or_else(|| StoreError::Malformed(format!("column {name} holds no number")))?,
            _ => Value::from(row.try_get_unchecked::<i64, _>(at).map_err(unread)?),
        };
        fields.insert(name.to_owned(), value);
    }
    Ok(fields)
}

/// A row of PostgreSQL, given as JSON.
pub(super) fn from_postgres(row: &str) -> Result<Fields, StoreError> {
    let mut fields: Fields =
        serde_json::from_str(row).map_err(|_| StoreError::Malformed("a row of PostgreSQL's".into()))?;
    for value in fields.values_mut() {
        *value = match value.take() {
            Value::Bool(set) => Value::from(i64::from(set)),
            Value::Number(found) => number(found),
            other => other,
        };
    }
    Ok(fields)
}

/// How many rows were seen, and a sum over what is in them that knows no order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) rows: u64,
    sum: [u64; 4],
}

impl Tally {
    /// Counts a row; gives it as text.
    pub(super) fn add(&mut self, fields: &Fields) -> String {
        let text = crate::sql::json(fields);
        let hash = blake3::hash(text.as_bytes());
        for (part, bytes) in self.sum.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
            *part = part.wrapping_add(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        }
        self.rows += 1;
        text
    }

    /// The sum as a hash.
    pub(super) fn sum(&self) -> Hash {
        let mut bytes = [0; 32];
        for (to, part) in bytes.chunks_exact_mut(8).zip(self.sum) {
            to.copy_from_slice(&part.to_le_bytes());
        }
        Hash(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_the_same_from_both_and_another_differs() {
        let there = |text: &str| {
            let mut tally = Tally::default();
            tally.add(&from_postgres(text).unwrap());
            tally
        };
        let here = |fields: &[(&str, Value)]| {
            let mut tally = Tally::default();
            tally.add(&fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect());
            tally
        };
        let row =
            here(&[("id", hex(&[1, 0xab])), ("seen", 3.into()), ("set", 1.into()), ("none", Value::Null)]);
        assert_eq!(row, there(r#"{"set": true, "id": "\\x01ab", "seen": 3.0, "none": null}"#));
        for other in [
            r#"{"set": false, "id": "\\x01ab", "seen": 3.0, "none": null}"#,
            r#"{"set": true, "id": "\\x01ac", "seen": 3.0, "none": null}"#,
            r#"{"set": true, "id": "\\x01ab", "seen": 3.5, "none": null}"#,
            r#"{"set": true, "id": "\\x01ab", "seen": 3.0}"#,
        ] {
            assert_ne!(row.sum(), there(other).sum(), "{other}");
        }
    }

    #[test]
    fn the_sum_knows_no_order_but_every_row() {
        let sum = |rows: &[i64]| {
            let mut tally = Tally::default();
            for n in rows {
                tally.add(&Fields::from([("n".to_owned(), (*n).into())]));
            }
            (tally.rows, tally.sum())
        };
        assert_eq!(sum(&[1, 2, 3]), sum(&[3, 1, 2]));
        assert_ne!(sum(&[1, 2, 3]), sum(&[1, 2, 2]));
        assert_ne!(sum(&[1, 1]).1, sum(&[2, 2]).1);
    }
}
