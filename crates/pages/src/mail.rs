//! Mails about incidents: a line above them and a plain text. What came from outside stays in its line: every
//! character that is not printable is taken out before it gets near a mail.

use askama::Template;
use gangline_types::{IncidentId, Text, UnixSeconds};

use crate::ui;

/// Characters of a mail's subject at most.
const SUBJECT_CHARS_MAX: usize = 120;

/// A mail about incidents.
#[derive(Clone, Debug)]
pub struct MailView {
    /// Origin of the network, for example `https://gangline.example`.
    pub network: String,
    /// Incidents that are spelled out, the worst first; at least one.
    pub incidents: Vec<MailIncident>,
    /// How many more there are.
    pub more: u64,
}

/// What a mail says of an incident. Texts may have been chosen by an attacker.
#[derive(Clone, Debug)]
pub struct MailIncident {
    /// `opened`, `grew` or `closed`.
    pub event: &'static str,
    /// Its id.
    pub id: IncidentId,
    /// What was noticed, in words.
    pub what: String,
    /// `warning` or `urgent`.
    pub severity: &'static str,
    /// About whom or what.
    pub subject: String,
    /// The account behind it; may be empty.
    pub account: String,
    /// From where; may be empty.
    pub from: String,
    /// What was done or tried; may be empty.
    pub action: String,
    /// On which; may be empty.
    pub resource: String,
    /// How often.
    pub count: u64,
    /// When it was opened.
    pub opened_at: UnixSeconds,
    /// When it last came.
    pub last_at: UnixSeconds,
    /// What somebody wrote of it; may be empty.
    pub note: String,
}

impl MailIncident {
    fn inert(&self) -> Self {
        let line = |text: &str| Text::<240>::lossy(text).to_string();
        Self {
            what: line(&self.what),
            subject: line(&self.subject),
            account: line(&self.account),
            from: line(&self.from),
            action: line(&self.action),
            resource: line(&self.resource),
            note: line(&self.note),
            ..*self
        }
    }
    /// A line for each thing that is known.
    fn facts(&self) -> String {
        let times =
            format!("{}, first {}, last {}", self.count, ui::utc(self.opened_at), ui::utc(self.last_at));
        let id = self.id.to_string();
        let facts = [
            ("about", &self.subject),
            ("account", &self.account),
            ("from", &self.from),
            ("action", &self.action),
            ("on", &self.resource),
            ("times", &times),
            ("note", &self.note),
            ("incident", &id),
        ];
        let lines = facts.iter().filter(|(_, value)| !value.is_empty());
        lines.map(|(name, value)| format!("  {name:<10} {value}")).collect::<Vec<_>>().join("\n")
    }
    fn happened(&self) -> &'static str {
        match self.event {
            "opened" => "Opened",
            "grew" => "Came ten times as often as before",
            _ => "Closed",
        }
    }
}

impl MailView {
    fn sentence(&self) -> String {
        match self.incidents.len() as u64 + self.more {
            1 => format!("{} has noticed something.", self.network),
            many => format!("{} has noticed something: {many} incidents at once.", self.network),
        }
    }
}

#[derive(Template)]
#[template(path = "mail/incidents.txt")]
struct Body<'a> {
    v: &'a MailView,
}

/// A mail's subject, in one line, and its text with line feeds.
pub fn mail(view: &MailView) -> (String, String) {
    let view =
        MailView { incidents: view.incidents.iter().map(MailIncident::inert).collect(), ..view.clone() };
    let subject = match (&view.incidents[..], view.more) {
        ([one], 0) => format!("[gangline] {}, {}: {} by {}", one.event, one.severity, one.what, one.subject),
        (all, more) => format!("[gangline] {} incidents at once", all.len() as u64 + more),
    };
    let subject = subject.chars().take(SUBJECT_CHARS_MAX).collect();
    (subject, crate::chrome::draw(Body { v: &view }) + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incident(event: &'static str, subject: &str) -> MailIncident {
        MailIncident {
            event,
            id: IncidentId::from_bytes([1; 16]),
            what: "foreign touch".into(),
            severity: "urgent",
            subject: subject.into(),
            account: "acct".into(),
            from: "192.0.2.0/24".into(),
            action: "label_gpu".into(),
            resource: "gpu_1".into(),
            count: 22,
            opened_at: UnixSeconds(1_795_003_200),
            last_at: UnixSeconds(1_795_003_260),
            note: String::new(),
        }
    }

    #[test]
    fn a_mail_says_who_what_on_which_and_how_often() {
        let one = MailView {
            network: "https://gangline.example".into(),
            incidents: vec![incident("opened", "key_1")],
            more: 0,
        };
        let (subject, text) = mail(&one);
        let id = one.incidents[0].id;
        assert_eq!(subject, "[gangline] opened, urgent: foreign touch by key_1");
        assert_eq!(
            text,
            format!(
                "https://gangline.example has noticed something.\n\
             \n\
             Opened: foreign touch (urgent)\n\
             \x20 about      key_1\n\
             \x20 account    acct\n\
             \x20 from       192.0.2.0/24\n\
             \x20 action     label_gpu\n\
             \x20 on         gpu_1\n\
             \x20 times      22, first 2026-11-18 12:00:00 UTC, last 2026-11-18 12:01:00 UTC\n\
             \x20 incident   {id}\n\
             \n\
             See what is frozen, and say what becomes of it: https://gangline.example/console/security\n\
             \n\
             This mail was made by a program. Texts in it may have been chosen by whoever is behind the incident.\n"
            )
        );
        let many =
            MailView { incidents: vec![incident("opened", "a"), incident("closed", "b")], more: 7, ..one };
        let (subject, text) = mail(&many);
        assert_eq!(subject, "[gangline] 9 incidents at once");
        assert!(text.contains("Closed: foreign touch") && text.contains("And 7 more"), "{text}");
    }

    #[test]
    fn nothing_from_outside_leaves_its_line() {
        let hostile = "x\r\nBcc: all@evil.example\r\n\r\n.\r\nMAIL FROM:<a@evil.example>\u{2028}\u{202e}y";
        let mut one = incident("opened", hostile);
        (one.note, one.resource, one.account) = (hostile.into(), hostile.into(), hostile.into());
        let view = MailView { network: "https://n".into(), incidents: vec![one], more: 0 };
        let (subject, text) = mail(&view);
        assert!(!subject.contains(['\r', '\n', '\u{2028}', '\u{202e}']), "{subject:?}");
        assert!(subject.chars().count() <= SUBJECT_CHARS_MAX);
        assert!(
            !text.contains('\r') && !text.lines().any(|l| l.starts_with("Bcc:") || l.starts_with('.')),
            "{text}"
        );
        assert!(!text.lines().any(|line| line.starts_with("MAIL FROM")), "{text}");
    }
}
