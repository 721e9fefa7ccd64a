//! The identity provider, and what its claims mean here.

use gangline_server::config::Oidc;
use gangline_wire::api::account::Role;

use super::{Settings, listed};
use crate::problem::Problem;

/// What claim values mean, as somebody wrote it.
fn role_map(text: &str) -> anyhow::Result<Vec<(String, Role)>> {
    let entry = |part: &str| {
        // A value may hold a `=` itself; a role does not.
        let (value, role) = part.rsplit_once('=')?;
        let role = Role::ALL.into_iter().find(|r| r.to_string() == role.trim())?;
        Some((value.trim().to_owned(), role)).filter(|(value, _)| !value.is_empty())
    };
    listed(text)
        .map(|part| {
            entry(part).ok_or_else(|| {
                Problem::usage(format!("`{part}` maps no role"))
                    .hint("write VALUE=ROLE, where ROLE is operator, supplier or renter, with commas between entries")
                    .into()
            })
        })
        .collect()
}

impl Settings {
    /// The identity provider, if one is set.
    pub(super) fn oidc(&self) -> anyhow::Result<Option<Oidc>> {
        let others = [
            &self.oidc_client_id,
            &self.oidc_scopes,
            &self.oidc_role_claim,
            &self.oidc_role_map,
            &self.oidc_org_claim,
            &self.oidc_orgs,
            &self.oidc_acr,
        ];
        let (issuer, client_id) = match (&self.oidc_issuer, &self.oidc_client_id) {
            (Some(issuer), Some(client_id)) => (issuer.clone(), client_id.clone()),
            (None, None) if self.oidc_client_secret_file.is_none() && others.iter().all(|o| o.is_none()) => {
                return Ok(None);
            }
            _ => {
                return Err(Problem::usage(
                    "an identity provider needs both its issuer and this server's client id there",
                )
                .hint("give --oidc-issuer and --oidc-client-id, or none of the --oidc settings")
                .into());
            }
        };
        let default = Oidc::default();
        Ok(Some(Oidc {
            issuer,
            client_id,
            client_secret_file: self.oidc_client_secret_file.clone(),
            scopes: self
                .oidc_scopes
                .as_ref()
                .map_or(default.scopes, |s| s.split_whitespace().map(str::to_owned).collect()),
            role_claim: self.oidc_role_claim.clone().unwrap_or(default.role_claim),
            role_map: self.oidc_role_map.as_deref().map(role_map).transpose()?.unwrap_or(default.role_map),
            org_claim: self.oidc_org_claim.clone(),
            orgs: listed(self.oidc_orgs.as_deref().unwrap_or_default()).map(str::to_owned).collect(),
            acr: listed(self.oidc_acr.as_deref().unwrap_or_default()).map(str::to_owned).collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_provider_is_set_whole_or_not_at_all() {
        let config = |text: &str| toml::from_str::<Settings>(text).unwrap().into_config();
        assert_eq!(config("").unwrap().oidc, None);
        let all = "oidc_issuer = \"https://idp.example\"\noidc_client_id = \"gangline\"\n";
        let oidc = config(all).unwrap().oidc.unwrap();
        assert_eq!(oidc.role_map.len(), 3);
        let oidc = config(&format!(
            "{all}oidc_role_map = \"a=b=operator, *=renter\"\noidc_scopes = \"openid groups\""
        ))
        .unwrap()
        .oidc
        .unwrap();
        assert_eq!(oidc.role_map, [("a=b".to_owned(), Role::Operator), ("*".to_owned(), Role::Renter)]);
        assert_eq!(oidc.scopes, ["openid", "groups"]);
        for bad in [
            "oidc_issuer = \"https://idp.example\"",
            "oidc_client_id = \"x\"",
            "oidc_orgs = \"x\"",
            "oidc_acr = \"x\"",
            "oidc_client_secret_file = \"x\"",
        ] {
            assert!(config(bad).is_err(), "{bad} was taken");
        }
        for map in ["operator", "a=admin", "=renter", "a=Renter"] {
            assert!(config(&format!("{all}oidc_role_map = \"{map}\"")).is_err(), "{map} was taken");
        }
    }
}
