//! Where the server's certificate comes from.

use gangline_server::config::{Acme, Tls};

use super::{Settings, listed};
use crate::problem::Problem;

impl Settings {
    /// Where the certificate comes from, if there is one.
    pub(super) fn tls(&self) -> anyhow::Result<Option<Tls>> {
        let files = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some(Tls::Files { cert: cert.clone(), key: key.clone() }),
            (None, None) => None,
            _ => {
                return Err(Problem::usage("a certificate needs its key, and a key its certificate")
                    .hint("give both --tls-cert and --tls-key")
                    .into());
            }
        };
        let Some(domains) = &self.acme_domain else {
            if self.acme_directory.is_some() || self.acme_contact.is_some() || self.acme_http_listen.is_some()
            {
                return Err(Problem::usage("an ACME authority must know what to vouch for")
                    .hint("name this server with --acme-domain")
                    .into());
            }
            return Ok(files);
        };
        if files.is_some() {
            return Err(Problem::usage("a certificate comes from files or from an ACME authority, not both")
                .hint("leave out --tls-cert and --tls-key, or the --acme settings")
                .into());
        }
        let domains: Vec<String> = listed(domains).map(str::to_ascii_lowercase).collect();
        let is_name = |name: &String| {
            name.len() <= 253
                && name.split('.').all(|label| {
                    (1..=63).contains(&label.len())
                        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                        && !label.starts_with('-')
                        && !label.ends_with('-')
                })
        };
        if domains.is_empty() || domains.len() > 100 || !domains.iter().all(is_name) {
            return Err(Problem::usage("--acme-domain holds something that is no host name")
                .hint("write names such as gangline.example, with commas between them")
                .into());
        }
        let directory = self.acme_directory.clone().unwrap_or_default();
        if !directory.starts_with("https://") {
            return Err(Problem::usage(
                "an ACME authority has a directory at an address that begins with https://",
            )
            .hint("give it with --acme-directory; your authority publishes it")
            .into());
        }
        Ok(Some(Tls::Acme(Acme {
            directory,
            domains,
            contacts: listed(self.acme_contact.as_deref().unwrap_or_default()).map(str::to_owned).collect(),
            http_listen: self.acme_http_listen,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_comes_from_files_or_from_an_authority() {
        let config = |text: &str| toml::from_str::<Settings>(text).unwrap().into_config();
        let files = "listen = \"0.0.0.0:443\"\ntls_cert = \"c\"\ntls_key = \"k\"\n";
        assert_eq!(config(files).unwrap().tls, Some(Tls::Files { cert: "c".into(), key: "k".into() }));
        let acme = "acme_directory = \"https://ca.example/dir\"\n";
        let Some(Tls::Acme(found)) =
            config(&format!("{acme}acme_domain = \"A.example, b.example\"")).unwrap().tls
        else {
            panic!("no authority");
        };
        assert_eq!(found.domains, ["a.example", "b.example"]);
        for bad in ["", " , ", "a b", "*.a.example", "-a.example"] {
            assert!(config(&format!("{acme}acme_domain = \"{bad}\"")).is_err(), "{bad} was taken");
        }
        for bad in [
            "tls_cert = \"c\"",
            "tls_key = \"k\"",
            "acme_domain = \"a.example\"",
            "acme_domain = \"a.example\"\nacme_directory = \"http://ca.example\"",
            "acme_contact = \"mailto:a@a.example\"",
            "connections_max = 0",
            "outbound_allow = \"ten\"",
            "trusted_proxy = \"ten\"",
        ] {
            assert!(config(bad).is_err(), "{bad} was taken");
        }
        assert!(config(&format!("{files}{acme}acme_domain = \"a.example\"")).is_err());
    }
}
