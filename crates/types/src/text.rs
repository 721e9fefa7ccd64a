//! Text that came from outside: bounded, printable, and inert. A value of these types has no control
//! characters, no bidirectional overrides and no more than its limit of characters.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TextError {
    /// Longer than the limit.
    #[error("text of {chars} characters; at most {chars_max} are taken")]
    TooLong {
        /// Its length.
        chars: usize,
        /// The limit.
        chars_max: usize,
    },
    /// Holds a character that is not printable.
    #[error("text holds the character U+{0:04X}, which is not printable")]
    NotPrintable(u32),
}

/// Printable text of at most `MAX` characters, trimmed.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<const MAX: usize>(String);

/// What a supplier calls a GPU or a machine: at most 64 characters.
pub type Label = Text<64>;

fn is_inert(c: char) -> bool {
    !c.is_control()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

impl<const MAX: usize> Text<MAX> {
    /// Takes `text` if it is inert and short enough.
    pub fn new(text: &str) -> Result<Self, TextError> {
        let text = text.trim();
        let chars = text.chars().count();
        if chars > MAX {
            return Err(TextError::TooLong { chars, chars_max: MAX });
        }
        match text.chars().find(|c| !is_inert(*c)) {
            Some(c) => Err(TextError::NotPrintable(c as u32)),
            None => Ok(Self(text.to_owned())),
        }
    }
    /// What is left of `text` without the characters that are not inert, cut at the limit: for text
    /// that hardware reports and nobody can correct.
    pub fn lossy(text: &str) -> Self {
        let kept: String = text.trim().chars().filter(|c| is_inert(*c)).take(MAX).collect();
        Self(kept.trim().to_owned())
    }
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> fmt::Display for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl<const MAX: usize> fmt::Debug for Text<MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
impl<const MAX: usize> Serialize for Text<MAX> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}
impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Self::new(&std::borrow::Cow::<'de, str>::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}
impl<const MAX: usize> JsonSchema for Text<MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Text{MAX}").into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": MAX})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_inertness() {
        assert_eq!(Label::new("  RTX 4090 ").map(|l| l.to_string()), Ok("RTX 4090".into()));
        assert!(matches!(Label::new(&"x".repeat(65)), Err(TextError::TooLong { chars: 65, chars_max: 64 })));
        for c in ['\n', '\u{1b}', '\u{202e}', '\u{200b}', '\0'] {
            assert!(Label::new(&format!("a{c}b")).is_err(), "{c:?} was taken");
            assert_eq!(Label::lossy(&format!("a{c}b")).as_str(), "ab");
        }
        assert!(Label::new("Grafikkarte für Zürich, Ωmega 'quoted' <b>").is_ok());
    }
}
