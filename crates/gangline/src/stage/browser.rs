//! A person at a browser: opens pages, presses buttons of their forms, and keeps one session cookie. It
//! sends what a browser sends and refuses what a browser would refuse.
//!
//! Knows no API: only pages and forms.

use anyhow::{Context, bail, ensure};
use reqwest::header::{COOKIE, HeaderMap, LOCATION, SET_COOKIE};

use super::{
    html::{self, Form},
    passkey::Passkey,
};

/// The session's cookie.
const SESSION: &str = "__Host-gangline";

/// A page as it came.
#[derive(Clone, Debug)]
pub struct Page {
    /// Status.
    pub status: u16,
    /// Its text.
    pub text: String,
    /// Its headers.
    pub headers: HeaderMap,
}

impl Page {
    /// The form that goes to `action`.
    ///
    /// # Errors
    /// When the page has none.
    pub fn form(&self, action: &str) -> anyhow::Result<Form> {
        let forms = html::forms(&self.text);
        let found = forms.into_iter().find(|form| form.action == action);
        found.with_context(|| format!("the page (status {}) has no form that goes to {action}", self.status))
    }
}

/// One person's browser.
#[derive(Clone, Debug)]
pub struct Browser {
    http: reqwest::Client,
    origin: String,
    session: Option<String>,
}

impl Browser {
    /// A fresh browser that visits `origin`.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(origin: &str) -> anyhow::Result<Self> {
        let http = gangline_worker::client::http().timeout(std::time::Duration::from_secs(30)).build()?;
        Ok(Self { http, origin: origin.to_owned(), session: None })
    }

    /// The same person at another server of the same books.
    pub fn moved_to(&self, origin: &str) -> Self {
        Self { origin: origin.to_owned(), ..self.clone() }
    }

    /// The cookie it holds, if it is signed in.
    pub fn session(&self) -> Option<&str> {
        self.session.as_deref()
    }

    /// Opens a page, following redirects of this site.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn get(&mut self, path: &str) -> anyhow::Result<Page> {
        let mut path = path.to_owned();
        for _ in 0..4 {
            let request = self.http.get(format!("{}{path}", self.origin));
            let page = self.send(request).await.with_context(|| format!("could not open {path}"))?;
            match self.next(&page)? {
                Some(next) => path = next,
                None => return Ok(page),
            }
        }
        bail!("{path} leads in circles")
    }

    /// Sends a form with one of its buttons (or fields) set, as a press of a button does.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn press(&mut self, form: &Form, set: &[(&str, &str)]) -> anyhow::Result<Page> {
        let mut fields: Vec<(String, String)> =
            form.fields.iter().filter(|f| !f.0.is_empty()).cloned().collect();
        for (name, value) in set {
            fields.retain(|(known, _)| known != name);
            fields.push(((*name).to_owned(), (*value).to_owned()));
        }
        self.post(&form.action, &fields).await
    }

    /// Sends fields to a path.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn post(&mut self, path: &str, fields: &[(String, String)]) -> anyhow::Result<Page> {
        let mut body = reqwest::Url::parse("http://form/")?;
        body.query_pairs_mut().extend_pairs(fields);
        let request = self
            .http
            .post(format!("{}{path}", self.origin))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", &self.origin)
            .header("sec-fetch-site", "same-origin")
            .body(body.query().unwrap_or_default().to_owned());
        let page = self.send(request).await.with_context(|| format!("could not send the form of {path}"))?;
        match self.next(&page)? {
            Some(next) => self.get(&next).await,
            None => Ok(page),
        }
    }

    async fn send(&mut self, mut request: reqwest::RequestBuilder) -> anyhow::Result<Page> {
        if let Some(session) = &self.session {
            request = request.header(COOKIE, format!("{SESSION}={session}"));
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        for cookie in headers.get_all(SET_COOKIE) {
            self.take_cookie(cookie.to_str().unwrap_or_default())?;
        }
        Ok(Page { status, text: response.text().await?, headers })
    }

    /// What a browser demands of a cookie with this name.
    fn take_cookie(&mut self, cookie: &str) -> anyhow::Result<()> {
        let mut parts = cookie.split(';').map(str::trim);
        let Some((SESSION, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return Ok(());
        };
        let attributes: Vec<String> = parts.map(str::to_ascii_lowercase).collect();
        let has = |name: &str| attributes.iter().any(|a| a == name);
        ensure!(
            has("secure") && has("path=/") && has("httponly"),
            "a browser would refuse the cookie {cookie:?}"
        );
        ensure!(!attributes.iter().any(|a| a.starts_with("domain=")), "the cookie names a domain");
        ensure!(has("samesite=lax") || has("samesite=strict"), "the cookie goes to other sites");
        let over = value.is_empty() || has("max-age=0");
        self.session = (!over).then(|| value.to_owned());
        Ok(())
    }

    fn next(&self, page: &Page) -> anyhow::Result<Option<String>> {
        if !matches!(page.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(None);
        }
        let to =
            page.headers.get(LOCATION).and_then(|to| to.to_str().ok()).context("a redirect leads nowhere")?;
        let local = to.strip_prefix(&self.origin).unwrap_or(to);
        ensure!(local.starts_with('/') && !local.starts_with("//"), "a redirect leads away, to {to}");
        Ok(Some(local.to_owned()))
    }

    /// Uses a one-time link: opens its page, presses its button.
    ///
    /// # Errors
    /// When the link does not work.
    pub async fn enter(&mut self, link: &str) -> anyhow::Result<Page> {
        let path =
            link.strip_prefix(&self.origin).with_context(|| format!("{link} is of another site"))?.to_owned();
        let page = self.get(&path).await?;
        ensure!(page.status == 200, "the link's page answers {}", page.status);
        let form = page.form(&path)?;
        let page = self.press(&form, &[]).await?;
        ensure!(self.session.is_some(), "the link signed nobody in (status {})", page.status);
        ensure!(page.status == 200, "the console answers {}", page.status);
        Ok(page)
    }

    /// Shows a second factor where the network asks for one: adds a passkey called `name` to the account, and signs in
    /// with it. Whether it was asked for.
    ///
    /// # Errors
    /// When the passkey is not taken, or does not sign in.
    pub async fn second_factor(&mut self, name: &str) -> anyhow::Result<bool> {
        let console = self.get("/console").await?;
        if console.status != 403 || !console.text.contains("two factors") {
            return Ok(false);
        }
        let page = self.get("/account").await?;
        let form = page.form("/account/passkeys")?;
        let origin = html::attribute(&page.text, "data-at").context("passkeys do not work here")?;
        let asked = self.question(&form, "/account/passkeys/ask").await?;
        let (mut passkey, answer) = Passkey::make(&asked, &origin, super::fresh_key()?, super::random()?)?;
        let page = self.press(&form, &[("credential", &answer), ("name", name)]).await?;
        ensure!(page.status == 200, "the passkey was not taken: status {}", page.status);

        let form = self.get("/signin").await?.form("/signin/passkey")?;
        let asked = self.question(&form, "/signin/passkey/ask").await?;
        let answer = passkey.sign(&asked, &origin)?;
        let page = self.press(&form, &[("credential", &answer)]).await?;
        ensure!(page.status == 200, "the passkey signed nobody in: status {}", page.status);
        Ok(true)
    }

    /// What a passkey's form asks before it is sent.
    async fn question(&mut self, form: &Form, at: &str) -> anyhow::Result<serde_json::Value> {
        let asked = self.press(&Form { action: at.to_owned(), ..form.clone() }, &[]).await?;
        ensure!(asked.status == 200, "no passkey was asked for: status {}", asked.status);
        serde_json::from_str(&asked.text).context("the question for a passkey cannot be read")
    }

    /// Takes the passkeys called `name` from the account, as far as they are not its only way in: whether none is left.
    ///
    /// # Errors
    /// When the server cannot be asked.
    pub async fn forget_passkeys(&mut self, name: &str) -> anyhow::Result<bool> {
        let mut left = false;
        let account = self.get("/account").await?;
        let named = format!("<bdi>{name}</bdi>");
        for row in account.text.split("<tr>").filter(|row| row.contains(&named)) {
            for form in html::forms(row).iter().filter(|form| form.action.ends_with("/remove")) {
                left |= self.press(form, &[]).await?.status != 200;
            }
        }
        Ok(!left)
    }

    /// As the operator: makes a new account and gives its one-time link.
    ///
    /// # Errors
    /// When the console shows no link.
    pub async fn invite(&mut self, role: &str, name: &str) -> anyhow::Result<String> {
        let console = self.get("/console").await?;
        let forms = html::forms(&console.text);
        let form = forms
            .iter()
            .find(|f| f.action == "/console/invite" && f.fields.iter().any(|(field, _)| field == "name"))
            .context("the console has no form to invite somebody")?;
        let page = self.press(form, &[("role", role), ("name", name)]).await?;
        let links = html::words(&page.text, &format!("{}/enter/", self.origin));
        links
            .into_iter()
            .next()
            .with_context(|| format!("the console shows no link (status {})", page.status))
    }

    /// Opens the link a terminal shows, compares the fingerprint, and approves.
    ///
    /// # Errors
    /// When the page shows another key, or the approval is not taken.
    pub async fn approve(&mut self, link: &str, code: &str, fingerprint: &str) -> anyhow::Result<()> {
        let path =
            link.strip_prefix(&self.origin).with_context(|| format!("{link} is of another site"))?.to_owned();
        let page = self.get(&path).await?;
        ensure!(
            page.text.contains(fingerprint),
            "the page does not show the key {fingerprint} (status {})",
            page.status
        );
        ensure!(page.text.contains(code), "the page does not show the code {code}");
        let form = html::forms(&page.text)
            .into_iter()
            .find(|f| f.fields.iter().any(|(name, _)| name == "enrolment"));
        let form = form.context("the page has no form to approve")?;
        ensure!(
            form.buttons.iter().any(|(_, value)| value == "approve"),
            "the page has no button to approve"
        );
        let page = self.press(&form, &[("decision", "approve")]).await?;
        ensure!(
            page.status == 200 && page.text.contains("Approved"),
            "the approval was not taken: status {}",
            page.status
        );
        Ok(())
    }
}
