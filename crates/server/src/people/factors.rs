//! Where people are asked for two factors. What follows from it is the guard's.

use gangline_guard::Factors;
use url::{Host, Url};

use super::passkey::Passkeys;
use crate::config::{Oidc, SecondFactor};

/// How many factors a network at this origin asks people for.
///
/// # Errors
/// If two are asked for and nobody could show them: browsers have no passkeys there, and no provider has been told how
/// strong a sign-in has to be.
pub fn asked(wish: SecondFactor, origin: &str, provider: Option<&Oidc>) -> Result<Factors, String> {
    let has_passkeys = Passkeys::of(origin).is_some();
    match wish {
        SecondFactor::Off => Ok(Factors::One),
        SecondFactor::Named => Ok(if is_named(origin) && has_passkeys { Factors::Two } else { Factors::One }),
        SecondFactor::Required if has_passkeys || provider.is_some_and(|p| !p.acr.is_empty()) => {
            Ok(Factors::Two)
        }
        SecondFactor::Required => Err(format!(
            "nobody could show two factors at {origin}, where browsers have no passkeys: serve it at https with a name, or name with --oidc-acr how strong the provider's sign-ins have to be"
        )),
    }
}

/// Whether it is https with a name that is not this machine's own.
fn is_named(origin: &str) -> bool {
    let Ok(url) = Url::parse(origin) else { return false };
    url.scheme() == "https" && matches!(url.host(), Some(Host::Domain(name)) if name != "localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_factors_are_asked_for_where_strangers_come_and_everybody_can_show_them() {
        let provider =
            |acr: &[&str]| Oidc { acr: acr.iter().map(|acr| (*acr).to_owned()).collect(), ..Oidc::default() };
        let (weak, strong) = (provider(&[]), provider(&["phr"]));
        let (one, two) = (Some(Factors::One), Some(Factors::Two));
        for (origin, named, required, required_with_acr) in [
            ("https://gangline.example", two, two, two),
            ("https://gangline.example:8443", two, two, two),
            ("https://localhost:7700", one, two, two),
            ("http://127.0.0.1:7700", one, two, two),
            ("https://192.0.2.7", one, None, two),
            ("http://gangline.example", one, None, two),
        ] {
            let check = |wish, provider: Option<&Oidc>, expected| {
                assert_eq!(asked(wish, origin, provider).ok(), expected, "{wish:?} at {origin}");
            };
            check(SecondFactor::Off, None, one);
            check(SecondFactor::Named, None, named);
            check(SecondFactor::Named, Some(&weak), named);
            check(SecondFactor::Required, None, required);
            check(SecondFactor::Required, Some(&weak), required);
            check(SecondFactor::Required, Some(&strong), required_with_acr);
        }
    }
}
