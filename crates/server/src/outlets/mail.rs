//! Mails, by SMTP (RFC 5321) over TLS. The server's name is resolved here, and the connection goes to an address
//! that the outbound guard has judged; TLS shows that it is that name. Nothing is sent before that, and without TLS
//! nothing leaves this machine.

use std::{net::IpAddr, time::Duration};

use gangline_guard::outbound::Exceptions;
use gangline_store::Claimed;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{
        Mailbox, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};

use super::{Failed, OutletError, chain};
use crate::{
    config::{self, MailSecurity},
    secrets,
};

/// How long the server may take for one answer, in seconds.
const ANSWER_SECONDS: u64 = 10;

/// Sends mails through one server.
pub struct Mailer {
    host: String,
    port: u16,
    tls: Tls,
    is_plain: bool,
    credentials: Option<Credentials>,
    from: Mailbox,
    to: Vec<Mailbox>,
    exceptions: Exceptions,
}

/// Whether a text is a mail address, also with a name before it.
pub fn is_address(text: &str) -> bool {
    !text.chars().any(char::is_control) && text.parse::<Mailbox>().is_ok()
}

fn mailbox(text: &str) -> Result<Mailbox, OutletError> {
    let bad = || OutletError::Address(crate::refusals::inert(text));
    if !is_address(text) {
        return Err(bad());
    }
    text.parse().map_err(|_| bad())
}

/// A password from a file that only this user may read.
fn password(file: &std::path::Path) -> Result<String, OutletError> {
    let secret = secrets::read_line(file)
        .map_err(|error| OutletError::Password { file: file.to_owned(), why: chain(&error) })?;
    Ok(secret.as_str().to_owned())
}

impl Mailer {
    /// As configured.
    ///
    /// # Errors
    /// When the password or the certificates cannot be read, or an address is none.
    pub fn new(mail: &config::Mail, outbound: &config::Outbound) -> Result<Self, OutletError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let broken = |e: &dyn std::error::Error| OutletError::Tls(chain(e));
        let parameters = || {
            let mut builder = TlsParameters::builder(mail.host.clone());
            if let Some(file) = &outbound.ca_file {
                let pem = std::fs::read(file).map_err(|e| OutletError::Tls(e.to_string()))?;
                builder = builder.add_root_certificate(Certificate::from_pem(&pem).map_err(|e| broken(&e))?);
            }
            builder.build_rustls().map_err(|e| broken(&e))
        };
        let tls = match mail.security {
            MailSecurity::Tls => Tls::Wrapper(parameters()?),
            MailSecurity::StartTls => Tls::Required(parameters()?),
            MailSecurity::Plain => Tls::None,
        };
        let credentials = match (&mail.user, &mail.password_file) {
            (Some(user), Some(file)) => Some(Credentials::new(user.clone(), password(file)?)),
            _ => None,
        };
        Ok(Self {
            host: mail.host.clone(),
            port: mail.port,
            tls,
            is_plain: mail.security == MailSecurity::Plain,
            credentials,
            from: mailbox(&mail.from)?,
            to: mail.to.iter().map(|to| mailbox(to)).collect::<Result<_, _>>()?,
            exceptions: outbound.exceptions.clone(),
        })
    }

    /// Where mails go, for people.
    pub fn shown(&self) -> String {
        let to: Vec<String> = self.to.iter().map(|to| to.email.to_string()).collect();
        format!("{} through {}:{}", to.join(", "), self.host, self.port)
    }

    /// An address of the server that may be spoken to.
    async fn address(&self) -> Result<IpAddr, Failed> {
        let failed =
            |e: std::io::Error| Failed::Now(format!("the address of {} is not known: {e}", self.host));
        let mut refused = None;
        for address in tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(failed)? {
            match self.exceptions.may_ask(&self.host, address.ip()) {
                Ok(()) if self.is_plain && !address.ip().is_loopback() => {
                    refused =
                        Some(format!("{} is not this machine, and mails there would be plain", address.ip()));
                }
                Ok(()) => return Ok(address.ip()),
                Err(why) => refused = Some(why.to_string()),
            }
        }
        Err(Failed::Now(refused.unwrap_or_else(|| format!("{} has no address", self.host))))
    }

    /// The mail that a message is, to some of those it is for.
    fn mail(&self, message: &Claimed, to: &[Mailbox]) -> Result<Message, Failed> {
        let domain = self.from.email.domain();
        let mut builder = Message::builder()
            .from(self.from.clone())
            .subject(&message.subject)
            .message_id(Some(format!("<{}@{domain}>", message.id)))
            .date(std::time::UNIX_EPOCH + Duration::from_secs(message.made_at.0));
        for to in to {
            builder = builder.to(to.clone());
        }
        let text = SinglePart::builder()
            .header(ContentType::TEXT_PLAIN)
            .header(ContentTransferEncoding::QuotedPrintable)
            .body(message.body.clone());
        let mut mail = builder.singlepart(text).map_err(|e| Failed::ForGood(chain(&e)))?;
        // So that no holiday answers it (RFC 3834).
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        mail.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".into()));
        Ok(mail)
    }

    async fn send_to(&self, message: &Claimed, to: &[Mailbox]) -> Result<(), Failed> {
        let mail = self.mail(message, to)?;
        let address = self.address().await?.to_string();
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(address)
            .port(self.port)
            .tls(self.tls.clone())
            .timeout(Some(Duration::from_secs(ANSWER_SECONDS)));
        if let Some(credentials) = &self.credentials {
            builder = builder.credentials(credentials.clone());
        }
        let sent = builder.build().send(mail).await;
        sent.map(drop).map_err(|error| {
            let why = format!("{}: {}", self.host, chain(&error));
            // What a server refuses for good (5xx) it refuses again; but for a password, which somebody may correct.
            let is_password = error.status().is_some_and(|code| code.to_string().starts_with("53"));
            if error.is_permanent() && !is_password { Failed::ForGood(why) } else { Failed::Now(why) }
        })
    }

    /// Tries a message once: for all in one, so that nobody gets it twice; and if the server refuses that for good, for
    /// each alone, so that one address that is none keeps it from nobody else.
    ///
    /// # Errors
    /// When the server did not take it for everybody it is for.
    pub async fn send(&self, message: &Claimed) -> Result<(), Failed> {
        let all = self.send_to(message, &self.to).await;
        let (Err(Failed::ForGood(_)), true) = (&all, self.to.len() > 1) else { return all };
        let mut refused = Vec::new();
        for to in &self.to {
            if let Err(Failed::ForGood(why) | Failed::Now(why)) =
                self.send_to(message, std::slice::from_ref(to)).await
            {
                refused.push(format!("not taken for {}: {why}", to.email));
            }
        }
        if refused.is_empty() { Ok(()) } else { Err(Failed::ForGood(refused.join("; "))) }
    }
}
