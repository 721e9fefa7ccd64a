//! Looks at refused input and says what it resembles: SQL or markup that somebody tried to smuggle in. Telemetry
//! and never a gate: statements are literals and values are bound, so nothing here keeps anything out, and a
//! graphics card may well be called what a scanner would call an attack.
//!
//! The judgement is libinjection's (a Rust port of it): a fingerprint of tokens, not a list of words.

use core::fmt;

/// Most fields of one request that are looked at.
const FIELDS_MAX: usize = 64;
/// Most bytes of one field that are looked at.
const FIELD_BYTES_MAX: usize = 1024;
/// Most findings that are kept.
const FINDINGS_MAX: usize = 4;

/// What a field resembles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resembles {
    /// SQL, with libinjection's fingerprint of at most eight tokens.
    Sql(String),
    /// Markup that would run.
    Markup,
    /// The inspection itself broke on it.
    Unreadable,
}

/// One field that resembles something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The field's name, cut and without control characters.
    pub field: String,
    /// What.
    pub resembles: Resembles,
}

/// What one request's fields resemble.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// How many of the fields looked at resemble something: the score.
    pub score: usize,
    /// The first few of them.
    pub findings: Vec<Finding>,
}

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inspection {}", self.score)?;
        for (n, Finding { field, resembles }) in self.findings.iter().enumerate() {
            f.write_str(if n == 0 { ": " } else { ", " })?;
            match resembles {
                Resembles::Sql(fingerprint) => write!(f, "{field} resembles SQL ({fingerprint})")?,
                Resembles::Markup => write!(f, "{field} resembles markup")?,
                Resembles::Unreadable => write!(f, "{field} could not be inspected")?,
            }
        }
        Ok(())
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(FIELD_BYTES_MAX)]
}

/// What `text` resembles, if anything.
pub fn resembles(text: &str) -> Option<Resembles> {
    let bytes = cut(text).as_bytes();
    // The port is young: what breaks it must not break the answer.
    let judged = std::panic::catch_unwind(|| {
        let sql = libinjectionrs::detect_sqli(bytes);
        if sql.is_injection() {
            let fingerprint = sql.fingerprint.map(|f| f.to_string()).unwrap_or_default();
            return Some(Resembles::Sql(
                fingerprint.chars().filter(|c| c.is_ascii_graphic()).take(8).collect(),
            ));
        }
        libinjectionrs::detect_xss(bytes).is_injection().then_some(Resembles::Markup)
    });
    judged.unwrap_or(Some(Resembles::Unreadable))
}

/// Looks at the fields of one request, each a name and a value.
pub fn inspect<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Inspection {
    let mut inspection = Inspection::default();
    for (name, value) in fields.into_iter().take(FIELDS_MAX) {
        let Some(resembles) = resembles(value) else { continue };
        inspection.score += 1;
        if inspection.findings.len() < FINDINGS_MAX {
            let field = name.chars().filter(|c| !c.is_control()).take(32).collect();
            inspection.findings.push(Finding { field, resembles });
        }
    }
    inspection
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attacks_are_named_and_names_of_hardware_are_not() {
        for attack in ["1' OR '1'='1", "x' UNION SELECT name, owner FROM account --", "1; DROP TABLE gpu"] {
            assert!(matches!(resembles(attack), Some(Resembles::Sql(f)) if !f.is_empty()), "{attack}");
        }
        assert_eq!(resembles("<script>alert(1)</script>"), Some(Resembles::Markup));
        for name in [
            "NVIDIA GeForce RTX 4090",
            "Radeon RX 7900 XTX",
            "llvmpipe (LLVM 15.0.6, 256 bits)",
            "O'Neill's rig",
        ] {
            assert_eq!(resembles(name), None, "{name}");
        }
    }

    #[test]
    fn a_request_is_scored_and_told_within_limits() {
        let told = inspect([("q", "1' OR '1'='1"), ("limit", "50"), ("name\n", "<script>x</script>")]);
        assert_eq!(told.score, 2);
        assert!(told.to_string().starts_with("inspection 2: q resembles SQL ("), "{told}");
        assert!(told.to_string().ends_with(", name resembles markup"), "{told}");
        let many: Vec<_> = std::iter::repeat_n(("q", "1' OR '1'='1"), 1000).collect();
        let told = inspect(many);
        assert_eq!((told.score, told.findings.len()), (FIELDS_MAX, FINDINGS_MAX));
        assert_eq!(inspect([("q", "é".repeat(4000).as_str())]), Inspection::default());
    }
}
