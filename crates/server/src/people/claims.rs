//! What a provider's claims make of somebody: a role, a name to be called by, and whether their organisation
//! is one of ours. Claims are looked up by name, or by a path in the form of RFC 6901.

use gangline_guard::Refusal;
use gangline_types::Label;
use gangline_wire::api::account::Role;
use serde_json::{Map, Value};

use crate::config::Oidc;

/// In a role map: whoever the provider signs in.
const ANYONE: &str = "*";

/// Somebody as this network sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// What they may do.
    pub role: Role,
    /// What to call them.
    pub name: Label,
}

/// The claim named or pointed at by `path`: `roles`, or `/realm_access/roles`.
fn claim<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let Some(pointer) = path.strip_prefix('/') else { return claims.get(path) };
    let (first, rest) = match pointer.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (pointer, None),
    };
    let value = claims.get(&first.replace("~1", "/").replace("~0", "~"))?;
    match rest {
        Some(rest) => value.pointer(&format!("/{rest}")),
        None => Some(value),
    }
}

/// The words of a claim: a string is one, a list is its strings, an object is its keys.
fn words(value: &Value) -> Vec<&str> {
    match value {
        Value::String(word) => vec![word],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        Value::Object(object) => object.keys().map(String::as_str).collect(),
        _ => vec![],
    }
}

/// Whether `claims` hold everything that is needed to map somebody; otherwise the provider's user info may.
pub fn is_enough(claims: &Map<String, Value>, settings: &Oidc) -> bool {
    let has = |path: &str| claim(claims, path).is_some();
    has(&settings.role_claim) && settings.org_claim.as_deref().is_none_or(has)
}

/// What `claims` make of somebody.
///
/// # Errors
/// When nobody mapped their role, or their organisation is none of ours.
pub fn map(claims: &Map<String, Value>, settings: &Oidc) -> Result<Mapped, Refusal> {
    let found = |path: &str| claim(claims, path).map(words).unwrap_or_default();
    if let Some(path) = &settings.org_claim {
        let organisations = found(path);
        if !settings.orgs.iter().any(|ours| organisations.contains(&ours.as_str())) {
            return Err(Refusal::OtherOrganisation);
        }
    }
    let roles = found(&settings.role_claim);
    let role = settings
        .role_map
        .iter()
        .find(|(word, _)| word == ANYONE || roles.contains(&word.as_str()))
        .map(|(_, role)| *role)
        .ok_or(Refusal::NoRole)?;
    Ok(Mapped { role, name: name(claims) })
}

/// What to call somebody: their name, else what they sign in as, else an address that the provider has
/// verified. None of them says who they are.
fn name(claims: &Map<String, Value>) -> Label {
    let text = |claim: &str| claims.get(claim).and_then(Value::as_str).filter(|t| !t.trim().is_empty());
    let is_verified = matches!(claims.get("email_verified"), Some(Value::Bool(true)))
        || text("email_verified").is_some_and(|t| t == "true");
    let email = if is_verified { text("email") } else { None };
    Label::lossy(text("name").or(text("preferred_username")).or(email).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(role_claim: &str, role_map: &[(&str, Role)]) -> Oidc {
        Oidc {
            role_claim: role_claim.into(),
            role_map: role_map.iter().map(|(w, r)| (w.to_string(), *r)).collect(),
            ..Oidc::default()
        }
    }

    fn mapped(claims: Value, settings: &Oidc) -> Result<Mapped, Refusal> {
        map(claims.as_object().unwrap(), settings)
    }

    fn role(claims: Value, settings: &Oidc) -> Option<Role> {
        mapped(claims, settings).ok().map(|m| m.role)
    }

    #[test]
    fn roles_are_found_where_providers_put_them() {
        let map = [("admins", Role::Operator), ("owners", Role::Supplier)];
        // A top-level list or word, as Okta's groups and many others.
        assert_eq!(role(json!({"groups": ["x", "owners"]}), &settings("groups", &map)), Some(Role::Supplier));
        assert_eq!(role(json!({"groups": "admins"}), &settings("groups", &map)), Some(Role::Operator));
        // Keycloak.
        let keycloak = json!({"realm_access": {"roles": ["owners"]}});
        assert_eq!(role(keycloak, &settings("/realm_access/roles", &map)), Some(Role::Supplier));
        // Auth0: names are addresses.
        let auth0 = json!({"https://gangline.example/roles": ["admins"]});
        for path in ["https://gangline.example/roles", "/https:~1~1gangline.example~1roles"] {
            assert_eq!(role(auth0.clone(), &settings(path, &map)), Some(Role::Operator));
        }
        // An object by role.
        assert_eq!(
            role(json!({"roles": {"owners": {"1": "x"}}}), &settings("roles", &map)),
            Some(Role::Supplier)
        );
    }

    #[test]
    fn a_role_nobody_mapped_is_no_role() {
        let map = [("admins", Role::Operator)];
        for claims in [
            json!({}),
            json!({"roles": []}),
            json!({"roles": ["Admins", "admin", "admins "]}),
            json!({"roles": [["admins"]]}),
            json!({"roles": null}),
            json!({"other": ["admins"]}),
        ] {
            assert_eq!(mapped(claims.clone(), &settings("roles", &map)), Err(Refusal::NoRole), "{claims}");
        }
    }

    #[test]
    fn the_first_entry_that_holds_decides_and_anyone_can_be_last() {
        let map = [("admins", Role::Operator), ("*", Role::Renter)];
        let settings = settings("roles", &map);
        assert_eq!(role(json!({"roles": ["x", "admins"]}), &settings), Some(Role::Operator));
        assert_eq!(role(json!({"roles": ["x"]}), &settings), Some(Role::Renter));
        assert_eq!(role(json!({}), &settings), Some(Role::Renter));
    }

    #[test]
    fn other_organisations_stay_out() {
        let mut settings = settings("roles", &[("*", Role::Renter)]);
        settings.org_claim = Some("org_id".into());
        settings.orgs = vec!["org_1".into(), "org_2".into()];
        assert_eq!(role(json!({"org_id": "org_2"}), &settings), Some(Role::Renter));
        for claims in [json!({}), json!({"org_id": "org_3"}), json!({"org_id": 1})] {
            assert_eq!(mapped(claims, &settings), Err(Refusal::OtherOrganisation));
        }
    }

    #[test]
    fn an_address_that_was_not_verified_names_nobody() {
        let settings = settings("roles", &[("*", Role::Renter)]);
        let check =
            |claims, expected: &str| assert_eq!(mapped(claims, &settings).unwrap().name.as_str(), expected);
        check(json!({"name": "Ada", "email": "a@x.example"}), "Ada");
        check(json!({"email": "a@x.example", "email_verified": true}), "a@x.example");
        check(json!({"email": "a@x.example", "email_verified": "true"}), "a@x.example");
        check(json!({"email": "a@x.example", "email_verified": false}), "");
        check(json!({"email": "a@x.example"}), "");
    }
}
