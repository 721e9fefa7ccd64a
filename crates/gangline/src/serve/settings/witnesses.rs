//! Who is asked to cosign the log.

use gangline_guard::log::{VerifierKey, note::KeyUse};
use gangline_server::{
    config::{WitnessAt, Witnesses},
    outbound::is_loopback,
};
use url::Url;

use super::Settings;
use crate::problem::Problem;

/// Witnesses at most: each is asked for every checkpoint.
const WITNESSES_MAX: usize = 16;

fn witness(text: &str) -> Option<WitnessAt> {
    let (url, key) = text.trim().split_once('#')?;
    let url: Url = url.parse().ok()?;
    let key: VerifierKey = key.parse().ok()?;
    let is_asked = url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url);
    let is_bare = url.query().is_none() && url.username().is_empty() && url.password().is_none();
    (is_asked && is_bare && key.is_for() == KeyUse::Witness).then_some(WitnessAt { url, key })
}

impl Settings {
    pub(super) fn witnesses(&self) -> anyhow::Result<Witnesses> {
        let mut all: Vec<WitnessAt> = Vec::new();
        for text in self.witness.iter().flatten() {
            let one = witness(text).ok_or_else(|| {
                Problem::usage(format!("`{text}` names no witness")).hint(
                    "write https://host#name+hash+key, or http://127.0.0.1:port#name+hash+key; the part after # is what `gangline witness` prints",
                )
            })?;
            if all.iter().any(|other| other.key.name() == one.key.name()) {
                return Err(Problem::usage(format!("the witness {} is named twice", one.key.name())).into());
            }
            all.push(one);
        }
        if all.len() > WITNESSES_MAX {
            return Err(Problem::usage(format!("more than {WITNESSES_MAX} witnesses are not asked")).into());
        }
        Ok(Witnesses { all, ..Witnesses::default() })
    }
}

#[cfg(test)]
mod tests {
    use gangline_wire::SigningKey;
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn a_witness_is_an_address_and_its_key() {
        let key = |n: u8, is_for| {
            let key = SigningKey::from_seed(&Zeroizing::new([n; 32])).public();
            VerifierKey::new(&format!("w{n}"), is_for, key).unwrap().to_string()
        };
        let (one, two, log) = (key(1, KeyUse::Witness), key(2, KeyUse::Witness), key(3, KeyUse::Log));
        let config = |all: &[String]| {
            Settings { witness: Some(all.to_vec()), ..Settings::default() }.witnesses().map(|w| w.all.len())
        };
        let good = [format!("https://w.example/log#{one}"), format!("http://127.0.0.1:7780#{two}")];
        assert_eq!(config(&good).unwrap(), 2);
        assert_eq!(config(&[]).unwrap(), 0);
        for bad in [
            "https://w.example".to_owned(),
            format!("https://w.example#{log}"),
            format!("http://w.example#{one}"),
            format!("https://a:b@w.example#{one}"),
            format!("https://w.example#{}", &one[1..]),
            one.clone(),
        ] {
            assert!(config(std::slice::from_ref(&bad)).is_err(), "{bad} was taken");
        }
        assert!(config(&[good[0].clone(), format!("https://v.example#{one}")]).is_err(), "one twice");
    }
}
