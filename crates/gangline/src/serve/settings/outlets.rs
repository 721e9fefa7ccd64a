//! Who outside is told of incidents.

use gangline_server::{
    config::{Mail, MailSecurity, Outlets},
    outlets::mail::is_address,
};
use url::Url;

use super::{Settings, listed};
use crate::problem::Problem;

/// People that one mail goes to, at most.
const MAIL_TO_MAX: usize = 20;

fn no(what: impl Into<String>, hint: &str) -> anyhow::Error {
    Problem::usage(what.into()).hint(hint.to_owned()).into()
}

impl Settings {
    pub(super) fn outlets(&self) -> anyhow::Result<Outlets> {
        Ok(Outlets { webhook: self.webhook()?, mail: self.mail()?, ..Outlets::default() })
    }

    fn webhook(&self) -> anyhow::Result<Option<Url>> {
        let Some(text) = &self.webhook else { return Ok(None) };
        let hint = "write https://host/path, or http://127.0.0.1:port/path for a program on this machine";
        let url: Url = text.parse().map_err(|_| no(format!("`{text}` is no address for a webhook"), hint))?;
        let is_plain_elsewhere = url.scheme() != "https" && !gangline_server::outbound::is_loopback(&url);
        if !matches!(url.scheme(), "https" | "http") || is_plain_elsewhere {
            return Err(no(format!("a webhook at {text} would be told of incidents in the clear"), hint));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(no(
                "a webhook's address holds a name or password",
                "requests are signed; leave it out",
            ));
        }
        Ok(Some(url))
    }

    fn mail(&self) -> anyhow::Result<Option<Mail>> {
        let Some(text) = &self.smtp else {
            let others = [&self.smtp_user, &self.mail_from, &self.mail_to];
            if others.iter().any(|o| o.is_some())
                || self.smtp_password_file.is_some()
                || self.smtp_plain.is_some()
            {
                return Err(no("mails need a server that takes them", "give it with --smtp"));
            }
            return Ok(None);
        };
        let hint = "write smtps://host:465 or smtp://host:587";
        let url: Url = text.parse().map_err(|_| no(format!("`{text}` is no mail server"), hint))?;
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.username().is_empty();
        let (security, usual_port) = match (url.scheme(), self.smtp_plain == Some(true)) {
            ("smtps", false) => (MailSecurity::Tls, 465),
            ("smtp", false) => (MailSecurity::StartTls, 587),
            ("smtp", true) => (MailSecurity::Plain, 25),
            ("smtps", true) => {
                return Err(no("smtps is not plain", "leave out --smtp-plain, or write smtp://"));
            }
            _ => return Err(no(format!("`{text}` is no mail server"), hint)),
        };
        let Some(host) = url.host_str().filter(|_| is_bare) else {
            return Err(no(format!("`{text}` is no mail server"), hint));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if security == MailSecurity::Plain && !is_here {
            return Err(no(
                format!("mails to {host} would go in the clear"),
                "leave out --smtp-plain; without TLS only this machine itself is spoken to",
            ));
        }
        let (Some(from), Some(to)) = (&self.mail_from, &self.mail_to) else {
            return Err(no(
                "mails need a sender and somebody who gets them",
                "give --mail-from and --mail-to",
            ));
        };
        let to: Vec<String> = listed(to).map(str::to_owned).collect();
        if to.is_empty() || to.len() > MAIL_TO_MAX {
            return Err(no(format!("mails go to 1 to {MAIL_TO_MAX} addresses"), "see --mail-to"));
        }
        if let Some(bad) = std::iter::once(from).chain(&to).find(|address| !is_address(address)) {
            return Err(no(format!("`{bad}` is no mail address"), "write name@host"));
        }
        if self.smtp_user.is_some() != self.smtp_password_file.is_some() {
            return Err(no(
                "a name at the mail server needs its password, and a password its name",
                "give both --smtp-user and --smtp-password-file",
            ));
        }
        Ok(Some(Mail {
            host,
            port: url.port().unwrap_or(usual_port),
            security,
            user: self.smtp_user.clone(),
            password_file: self.smtp_password_file.clone(),
            from: from.clone(),
            to,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outlets(text: &str) -> anyhow::Result<Outlets> {
        toml::from_str::<Settings>(text).unwrap().outlets()
    }

    #[test]
    fn a_webhook_is_https_or_on_this_machine() {
        for good in
            ["https://ops.example/hook?x=1", "http://127.0.0.1:9/", "http://localhost/x", "http://[::1]:1/"]
        {
            let found = outlets(&format!("webhook = \"{good}\"")).unwrap();
            assert_eq!(found.webhook.unwrap().as_str(), good);
        }
        for bad in
            ["", "ops.example", "http://ops.example/", "ftp://ops.example/", "https://a:b@ops.example/"]
        {
            assert!(outlets(&format!("webhook = \"{bad}\"")).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn mails_go_over_tls_or_stay_on_this_machine() {
        let people =
            "mail_from = \"Gangline <net@ops.example>\"\nmail_to = \"a@ops.example, b@ops.example\"\n";
        let mail = |text: &str| outlets(&format!("{people}{text}")).map(|o| o.mail.unwrap());
        let check = |text: &str, host: &str, port, security| {
            let found = mail(text).unwrap();
            assert_eq!((found.host.as_str(), found.port, found.security), (host, port, security), "{text}");
            assert_eq!(found.to, ["a@ops.example", "b@ops.example"]);
        };
        check("smtp = \"smtps://mail.example\"", "mail.example", 465, MailSecurity::Tls);
        check("smtp = \"smtp://mail.example:2587\"", "mail.example", 2587, MailSecurity::StartTls);
        check("smtp = \"smtp://[::1]\"\nsmtp_plain = true", "::1", 25, MailSecurity::Plain);
        for bad in [
            "",
            "smtp = \"smtp://mail.example\"\nsmtp_plain = true",
            "smtp = \"smtps://127.0.0.1\"\nsmtp_plain = true",
            "smtp = \"https://mail.example\"",
            "smtp = \"smtps://mail.example/x\"",
            "smtp = \"smtps://a:b@mail.example\"",
            "smtp = \"smtps://mail.example\"\nsmtp_user = \"net\"",
            "smtp = \"smtps://mail.example\"\nsmtp_password_file = \"p\"",
        ] {
            assert!(mail(bad).is_err(), "{bad} was taken");
        }
        for people in [
            "",
            "mail_from = \"net@ops.example\"",
            "mail_from = \"net@ops.example\"\nmail_to = \",\"",
            "mail_from = \"net\"\nmail_to = \"a@ops.example\"",
            "mail_from = \"net@ops.example\\nBcc: x@evil.example\"\nmail_to = \"a@ops.example\"",
            "mail_from = \"net@ops.example\"\nmail_to = \"a@ops.example\\r\\nx@evil.example\"",
        ] {
            let text = format!("{people}\nsmtp = \"smtps://mail.example\"");
            assert!(outlets(&text).is_err(), "{people} was taken");
        }
    }
}
