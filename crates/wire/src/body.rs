//! How a request's body becomes a value: every field must be one that this network knows, at whatever depth. What
//! is ignored today would be a surprise tomorrow, when the same name means something.
//!
//! Answers are read the other way: what a newer server says beyond is passed over. How older and newer programs get
//! along: `docs/decisions/0039-unknown-fields.md`.

use serde::de::DeserializeOwned;
use serde_ignored::Path;

/// Code of the refusal of a body with unknown fields; [`crate::ErrorBody::fields`] names them.
pub const UNKNOWN_FIELDS: &str = "unknown_fields";
/// How many unknown fields are named; there may be more.
pub const NAMED_MAX: usize = 16;

/// Why a body cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// It is of another form; the text comes from the reader and may quote what was sent.
    #[error("{0}")]
    Malformed(String),
    /// It has fields that nobody here knows: their paths, such as `gpus[].colour`, each once, at most [`NAMED_MAX`].
    #[error("it has fields that this network does not know: {}", .0.join(", "))]
    Unknown(Vec<String>),
}

/// Where a field stands, with `[]` for any place in a list.
fn place(path: &Path<'_>) -> String {
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, .. } => format!("{}[]", place(parent)),
        Path::Map { parent, key } => match place(parent) {
            outer if outer.is_empty() => key.clone(),
            outer => format!("{outer}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
            place(parent)
        }
    }
}

fn knowing<'de, T, D>(reader: D) -> Result<T, BodyError>
where
    T: DeserializeOwned,
    D: serde::Deserializer<'de>,
{
    let mut unknown = Vec::new();
    let value = serde_ignored::deserialize(reader, |path| {
        let path = place(&path);
        if unknown.len() < NAMED_MAX && !unknown.contains(&path) {
            unknown.push(path);
        }
    });
    match value {
        Ok(value) if unknown.is_empty() => Ok(value),
        Ok(_) => Err(BodyError::Unknown(unknown)),
        Err(why) => Err(BodyError::Malformed(why.to_string())),
    }
}

/// Reads a JSON body of at most 128 levels; an empty one is an empty object.
///
/// # Errors
/// When it is no such JSON, has a field twice, or has one that `T` does not know.
pub fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BodyError> {
    let mut reader = serde_json::Deserializer::from_slice(if bytes.is_empty() { b"{}" } else { bytes });
    let value = knowing(&mut reader)?;
    reader.end().map_err(|why| BodyError::Malformed(why.to_string()))?;
    Ok(value)
}

/// Reads a form; empty fields count as not sent.
///
/// # Errors
/// When a field is of another form, missing, there twice, or not one that `T` knows.
pub fn form<T: DeserializeOwned>(encoded: &[u8]) -> Result<T, BodyError> {
    let sent: String = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(form_urlencoded::parse(encoded).filter(|(_, value)| !value.is_empty()))
        .finish();
    knowing(serde_urlencoded::Deserializer::new(form_urlencoded::parse(sent.as_bytes())))
}

/// Part of an answer, if this program understands it: a kind of work that a newer server asks for must not keep an
/// older program from reading the rest.
///
/// # Errors
/// When it is no JSON.
pub fn if_understood<'de, T, D>(reader: D) -> Result<Option<T>, D::Error>
where
    T: DeserializeOwned,
    D: serde::Deserializer<'de>,
{
    let value: serde_json::Value = serde::Deserialize::deserialize(reader)?;
    Ok(serde_json::from_value(value).ok())
}

/// A list of at most `MAX`, which ends where one more begins: for the lists of requests. A test sees to it that each
/// has such a limit and that its schema says the same.
///
/// # Errors
/// When there are more.
pub fn at_most<'de, const MAX: usize, T, D>(reader: D) -> Result<Vec<T>, D::Error>
where
    T: serde::Deserialize<'de>,
    D: serde::Deserializer<'de>,
{
    struct Bounded<T, const MAX: usize>(std::marker::PhantomData<T>);
    impl<'de, T: serde::Deserialize<'de>, const MAX: usize> serde::de::Visitor<'de> for Bounded<T, MAX> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "a list of at most {MAX}")
        }
        fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = list.next_element()? {
                if all.len() == MAX {
                    return Err(serde::de::Error::invalid_length(MAX + 1, &self));
                }
                all.push(one);
            }
            Ok(all)
        }
    }
    reader.deserialize_seq(Bounded::<T, MAX>(std::marker::PhantomData))
}

/// Takes the fields at `places`, as a refusal names them, out of a JSON body: what is left, if any was found there.
pub fn without(body: &[u8], places: &[String]) -> Option<Vec<u8>> {
    let mut value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let mut taken = false;
    for place in places.iter().take(NAMED_MAX) {
        let steps: Vec<&str> = place.split('.').collect();
        taken |= take(&mut value, &steps);
    }
    if taken { serde_json::to_vec(&value).ok() } else { None }
}

fn take(value: &mut serde_json::Value, steps: &[&str]) -> bool {
    let Some((step, rest)) = steps.split_first() else { return false };
    let name = step.trim_end_matches("[]");
    let lists = (step.len() - name.len()) / 2;
    let Some(fields) = value.as_object_mut() else { return false };
    if rest.is_empty() && lists == 0 {
        // In order, for whoever compares what was sent.
        return fields.shift_remove(name).is_some();
    }
    let Some(inner) = fields.get_mut(name) else { return false };
    within(inner, lists, &mut |each| take(each, rest))
}

/// Whether `act` did something to any value `lists` lists deep.
fn within(
    value: &mut serde_json::Value,
    lists: usize,
    act: &mut impl FnMut(&mut serde_json::Value) -> bool,
) -> bool {
    if lists == 0 {
        return act(value);
    }
    let mut any = false;
    for each in value.as_array_mut().into_iter().flatten() {
        any |= within(each, lists - 1, act);
    }
    any
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    struct Inner {
        #[serde(default)]
        name: String,
    }
    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Outer {
        one: Option<Inner>,
        many: Vec<Vec<Inner>>,
        csrf: String,
    }

    fn check(text: &str, unknown: &[&str]) {
        match json::<Outer>(text.as_bytes()) {
            Ok(_) => assert!(unknown.is_empty(), "{text} was taken"),
            Err(BodyError::Unknown(fields)) => {
                assert_eq!(fields, unknown, "{text}");
                let left = without(text.as_bytes(), &fields).unwrap_or_default();
                assert!(
                    json::<Outer>(&left).is_ok(),
                    "{text} was left as {}",
                    String::from_utf8_lossy(&left)
                );
            }
            Err(other) => panic!("{text}: {other}"),
        }
    }

    #[test]
    fn a_field_that_nobody_knows_is_named_wherever_it_stands() {
        check("", &[]);
        check(r#"{"one":{"name":"a"},"many":[[{"name":"b"}]]}"#, &[]);
        check(r#"{"two":1}"#, &["two"]);
        check(r#"{"one":{"name":"a","age":1}}"#, &["one.age"]);
        check(r#"{"many":[[],[{"age":1},{"age":2,"name":"b"}]],"x":{"y":1}}"#, &["many[][].age", "x"]);
    }

    #[test]
    fn what_is_no_such_body_is_said_to_be() {
        for text in ["{", "[]]", "{\"one\":5}", "{} {}", "{\"csrf\":\"a\",\"csrf\":\"b\"}"] {
            assert!(matches!(json::<Outer>(text.as_bytes()), Err(BodyError::Malformed(_))), "{text}");
        }
        let many: Vec<String> = (0..100).map(|n| format!("\"f{n}\":1")).collect();
        let Err(BodyError::Unknown(named)) = json::<Outer>(format!("{{{}}}", many.join(",")).as_bytes())
        else {
            panic!("they were taken")
        };
        assert_eq!(named.len(), NAMED_MAX);
    }

    #[test]
    fn forms_have_no_other_fields_either() {
        assert_eq!(form::<Inner>(b"name=a+b").unwrap().name, "a b");
        assert_eq!(form::<Inner>(b"name=").unwrap().name, "");
        assert_eq!(form::<Inner>(b"name=a&age=1"), Err(BodyError::Unknown(vec!["age".into()])));
        assert!(matches!(form::<Inner>(b"name=a&name=b"), Err(BodyError::Malformed(_))));
    }

    #[test]
    fn what_is_not_understood_is_as_if_it_were_not_there() {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(default, deserialize_with = "if_understood")]
            inner: Option<Inner>,
            then: u8,
        }
        for (text, understood) in
            [("{\"name\":\"a\"}", true), ("{\"name\":[1]}", false), ("null", false), ("7", false)]
        {
            let answer: Answer = serde_json::from_str(&format!("{{\"inner\":{text},\"then\":1}}")).unwrap();
            assert_eq!((answer.inner.is_some(), answer.then), (understood, 1), "{text}");
        }
    }

    #[test]
    fn only_what_was_named_is_taken_out() {
        let left = |body: &str, places: &[&str]| {
            let places: Vec<String> = places.iter().map(|p| p.to_string()).collect();
            without(body.as_bytes(), &places).map(|left| String::from_utf8(left).unwrap())
        };
        assert_eq!(left(r#"{"a":1,"b":2,"c":3}"#, &["b"]).as_deref(), Some(r#"{"a":1,"c":3}"#));
        assert_eq!(
            left(r#"{"a":[{"b":1,"c":2},{"c":3}]}"#, &["a[].c"]).as_deref(),
            Some(r#"{"a":[{"b":1},{}]}"#)
        );
        for nothing in [&["b"] as &[&str], &["a[].x"], &["a.b.c"], &[], &[""]] {
            assert_eq!(left(r#"{"a":[1]}"#, nothing), None, "{nothing:?}");
        }
    }
}
