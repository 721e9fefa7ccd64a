//! Forms and links of a page, as a browser would find them. Reads our own pages only: attributes in double
//! quotes, no script.

use std::collections::BTreeMap;

/// One form: where it goes, and the fields it already holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Where it is sent.
    pub action: String,
    /// Hidden and filled fields, in order.
    pub fields: Vec<(String, String)>,
    /// Names and values of its buttons.
    pub buttons: Vec<(String, String)>,
}

/// The character references our pages use.
pub fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let known = after.split_once(';').and_then(|(name, rest)| Some((reference(name)?, rest)));
        match known {
            Some((c, after)) => {
                out.push(c);
                rest = after;
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out + rest
}

fn reference(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let code = name.strip_prefix('#')?;
            let code = match code.strip_prefix('x') {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => code.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

/// Name and attributes of every tag, in order.
fn tags(page: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once('<') {
        let mut quoted = false;
        let end = after.find(|c| {
            quoted ^= c == '"';
            c == '>' && !quoted
        });
        let Some(end) = end else { break };
        found.push(tag(&after[..end]));
        rest = &after[end + 1..];
    }
    found
}

fn tag(text: &str) -> (String, BTreeMap<String, String>) {
    let name: String = text.chars().take_while(|c| !c.is_whitespace()).collect();
    let mut attributes = BTreeMap::new();
    let mut rest = text[name.len()..].trim_start();
    while !rest.is_empty() {
        let key: String = rest.chars().take_while(|c| !c.is_whitespace() && *c != '=').collect();
        rest = &rest[key.len()..];
        let value = match rest.strip_prefix("=\"").and_then(|r| r.split_once('"')) {
            Some((value, after)) => {
                rest = after;
                unescape(value)
            }
            None => {
                let bare: String = rest.chars().take_while(|c| !c.is_whitespace()).collect();
                rest = &rest[bare.len()..];
                bare.trim_start_matches('=').to_owned()
            }
        };
        if !key.is_empty() {
            attributes.insert(key, value);
        }
        rest = rest.trim_start();
    }
    (name, attributes)
}

/// Every form of a page.
pub fn forms(page: &str) -> Vec<Form> {
    let mut found = Vec::new();
    let mut open: Option<Form> = None;
    for (name, mut attributes) in tags(page) {
        let mut take = |key: &str| attributes.remove(key).unwrap_or_default();
        match (name.as_str(), &mut open) {
            ("form", _) => {
                open = Some(Form { action: take("action"), fields: Vec::new(), buttons: Vec::new() })
            }
            ("/form", _) => found.extend(open.take()),
            ("input", Some(form)) => form.fields.push((take("name"), take("value"))),
            ("button", Some(form)) => form.buttons.push((take("name"), take("value"))),
            _ => {}
        }
    }
    found
}

/// The value of the first attribute of this name.
pub fn attribute(page: &str, name: &str) -> Option<String> {
    tags(page).into_iter().find_map(|(_, mut attributes)| attributes.remove(name))
}

/// Every word of the page that begins with `prefix` and goes on with characters of an id or a path.
pub fn words(page: &str, prefix: &str) -> Vec<String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    let mut found: Vec<String> = page
        .match_indices(prefix)
        .map(|(at, _)| {
            let rest = &page[at + prefix.len()..];
            format!("{prefix}{}", rest.chars().take_while(|c| fits(*c)).collect::<String>())
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Ids of `prefix` in a text: the prefix, an underscore and 26 characters.
pub fn ids(text: &str, prefix: &str) -> Vec<String> {
    let whole = prefix.len() + 1 + gangline_types::id::ID_CHARS;
    words(text, &format!("{prefix}_")).into_iter().filter(|word| word.len() == whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_found_with_its_fields() {
        let page = r#"<p>a > b</p><form class="row" action="/a?x=1&amp;y=2" method="post"><input type="hidden" name="csrf" value="a&quot;&#39;&#x26;"><input name="q" required maxlength="3"><button name="decision" value="deny">Deny</button></form><form action="/b"></form>"#;
        let found = forms(page);
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].action, "/a?x=1&y=2");
        assert_eq!(found[0].fields, [field("csrf", "a\"'&"), field("q", "")]);
        assert_eq!(found[0].buttons, [field("decision", "deny")]);
        assert_eq!(attribute(page, "maxlength").as_deref(), Some("3"));
        assert_eq!(attribute(page, "data-at"), None);
    }

    #[test]
    fn words_and_ids_end_where_they_end() {
        let page = "<code>http://h/enter/Ab-9_x</code> acct_0123456789abcdefghjkmnpqrs, acct_short";
        assert_eq!(words(page, "http://h/enter/"), ["http://h/enter/Ab-9_x"]);
        assert_eq!(ids(page, "acct"), ["acct_0123456789abcdefghjkmnpqrs"]);
    }
}
