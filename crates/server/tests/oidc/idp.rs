//! A real OpenID Connect provider in a process of its own, and people who sign in there with a browser's
//! patience: redirects followed one by one, forms sent as they stand.
#![allow(dead_code, clippy::unwrap_used)]

use std::{collections::BTreeMap, path::PathBuf, process::Stdio};

use gangline_server::{Config, config::Oidc};
use gangline_wire::api::account::Role;
use reqwest::{Client, Response, header, redirect::Policy};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::net::{self, Browser, Net};

/// The provider.
pub struct Idp {
    pub issuer: String,
    pub client: String,
    pub secret: String,
    http: Client,
    /// Ends with its standard input, so with this test however that ends.
    _process: Child,
}

fn client(cookies: bool) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().redirect(Policy::none()).no_proxy().cookie_store(cookies).build().unwrap()
}

impl Idp {
    pub async fn start() -> Self {
        let home = std::env::var_os("GANGLINE_OIDC_HOME").map(PathBuf::from).expect(
            "GANGLINE_OIDC_HOME names the folder with the provider's packages; `cargo xtask test --only oidc` makes it",
        );
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oidc/provider.mjs");
        let mut process = Command::new("node")
            .arg(script)
            .arg(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = lines.next_line().await.unwrap().expect("the provider says where it listens");
        let said: Value = serde_json::from_str(&line).unwrap();
        let word = |name: &str| said[name].as_str().unwrap().to_owned();
        Self {
            issuer: word("issuer"),
            client: word("client"),
            secret: word("secret"),
            http: client(false),
            _process: process,
        }
    }

    pub async fn control(&self, path: &str, said: Value) -> Value {
        let request = self.http.post(format!("{}/control{path}", self.issuer)).body(said.to_string());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    }

    /// Changes what the provider is or does.
    pub async fn set(&self, said: Value) {
        self.control("", said).await;
    }

    /// Requests for a path so far.
    pub async fn hits(&self, path: &str) -> u64 {
        self.control("/hits", json!({})).await[path].as_u64().unwrap_or(0)
    }

    /// A token, signed as told.
    pub async fn token(&self, how: &str, claims: Value) -> String {
        let said = self.control("/sign", json!({"how": how, "claims": claims})).await;
        said["token"].as_str().unwrap().to_owned()
    }

    /// A logout token as the standard has it, with changes.
    pub async fn logout_token(&self, how: &str, changes: Value) -> String {
        let now = net::now().0;
        let mut claims = json!({
            "iss": self.issuer, "aud": self.client, "iat": now, "exp": now + 120,
            "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let all = claims.as_object_mut().unwrap();
        all.retain(|_, v| !v.is_null());
        self.token(how, claims).await
    }

    /// Settings for this provider, whose roles stand where Keycloak's do.
    pub fn oidc(&self, folder: &std::path::Path) -> Oidc {
        let file = folder.join("oidc-secret");
        std::fs::write(&file, format!("{}\n", self.secret)).unwrap();
        #[cfg(unix)]
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        Oidc {
            issuer: self.issuer.clone(),
            client_id: self.client.clone(),
            client_secret_file: Some(file),
            scopes: ["openid", "profile", "email", "network"].map(str::to_owned).to_vec(),
            role_claim: "/realm_access/roles".into(),
            role_map: Role::ALL.map(|role| (role.to_string(), role)).to_vec(),
            ..Oidc::default()
        }
    }

    /// A network whose people sign in here.
    pub async fn network(&self, change: impl FnOnce(&mut Oidc)) -> Net {
        self.network_with(change, |_| ()).await
    }

    /// The same with other settings of the network's.
    pub async fn network_with(&self, change: impl FnOnce(&mut Oidc), also: impl FnOnce(&mut Config)) -> Net {
        let folder = tempfile::tempdir().unwrap();
        let mut oidc = self.oidc(folder.path());
        change(&mut oidc);
        let mut config = Config { oidc: Some(oidc), ..net::quick_config(&folder.path().join("data")) };
        also(&mut config);
        let net = Net::start_in(folder, config).await;
        self.set(json!({"origin": net.origin})).await;
        net
    }
}

/// An answer of Gangline's.
pub struct Page {
    pub status: u16,
    pub location: String,
    pub refresh: String,
    pub set_cookies: Vec<String>,
    pub text: String,
}

/// Somebody at a browser: their cookies here and at the provider are apart.
pub struct Person {
    pub login: String,
    pub there: Client,
    pub here: BTreeMap<String, String>,
    /// What the provider has asked for so far: `login`, `consent`.
    pub prompts: Vec<String>,
    http: Client,
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let at = text.find(start).unwrap_or_else(|| panic!("no {start} in {text}")) + start.len();
    text[at..].split(end).next().unwrap()
}

fn location(answer: &Response) -> Option<String> {
    Some(answer.headers().get(header::LOCATION)?.to_str().unwrap().to_owned())
}

impl Person {
    pub fn new(login: &str) -> Self {
        Self {
            login: login.into(),
            there: client(true),
            here: BTreeMap::new(),
            prompts: vec![],
            http: client(false),
        }
    }

    /// Opens a page of Gangline's and keeps its cookies.
    pub async fn open(&mut self, url: &str) -> Page {
        let cookies: Vec<String> = self.here.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let answer = self.http.get(url).header("cookie", cookies.join("; ")).send().await.unwrap();
        self.kept(answer).await
    }

    async fn kept(&mut self, answer: Response) -> Page {
        let header =
            |name| answer.headers().get(name).map(|v: &header::HeaderValue| v.to_str().unwrap().to_owned());
        let set_cookies: Vec<String> = answer
            .headers()
            .get_all(header::SET_COOKIE)
            .iter()
            .map(|v| v.to_str().unwrap().to_owned())
            .collect();
        for cookie in &set_cookies {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                self.here.remove(name);
            } else {
                self.here.insert(name.into(), value.into());
            }
        }
        Page {
            status: answer.status().as_u16(),
            location: header(header::LOCATION).unwrap_or_default(),
            refresh: header(header::REFRESH).unwrap_or_default(),
            set_cookies,
            text: answer.text().await.unwrap(),
        }
    }

    /// Signs in at the provider and gives the address at which it sends the browser back.
    pub async fn at_provider(&mut self, idp: &Idp, start: &str) -> String {
        let mut url = start.to_owned();
        for _ in 0..12 {
            let mut answer = self.there.get(&url).send().await.unwrap();
            if answer.status() == 200 {
                let page = answer.text().await.unwrap();
                let action = between(&page, "action=\"", "\"").replace("&amp;", "&");
                let action = if action.starts_with('/') { format!("{}{action}", idp.issuer) } else { action };
                let prompt = between(&page, "name=\"prompt\" value=\"", "\"");
                self.prompts.push(prompt.to_owned());
                let form: &[(&str, &str)] = match prompt {
                    "login" => &[("prompt", "login"), ("login", &self.login), ("password", "x")],
                    _ => &[("prompt", "consent")],
                };
                let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
                let request = self
                    .there
                    .post(action)
                    .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                    .body(body);
                answer = request.send().await.unwrap();
            }
            let status = answer.status();
            let Some(next) = location(&answer) else {
                panic!("the provider answered {status}: {}", answer.text().await.unwrap())
            };
            url = if next.starts_with('/') { format!("{}{next}", idp.issuer) } else { next };
            if !url.starts_with(&idp.issuer) {
                return url;
            }
        }
        panic!("the provider sends its visitors in circles");
    }

    /// Begins to sign in at Gangline; gives the address at which the provider sends the browser back.
    pub async fn begin(&mut self, net: &Net, idp: &Idp) -> String {
        let page = self.open(&format!("{}/signin/provider?back=%2Fapprove", net.origin)).await;
        assert_eq!(page.status, 303, "{}", page.text);
        assert!(page.location.starts_with(&idp.issuer), "{}", page.location);
        self.at_provider(idp, &page.location).await
    }

    /// Signs in as far as it goes.
    pub async fn sign_in(&mut self, net: &Net, idp: &Idp) -> Page {
        let back = self.begin(net, idp).await;
        self.open(&back).await
    }

    /// The session, for the forms of [`Net`].
    pub async fn browser(&mut self, net: &Net) -> Browser {
        let page = self.open(&format!("{}/account", net.origin)).await;
        assert_eq!(page.status, 200, "{} is not signed in: {}", self.login, page.text);
        let cookies: Vec<String> = self.here.iter().map(|(n, v)| format!("{n}={v}")).collect();
        Browser { cookie: cookies.join("; "), csrf: net::hidden(&page.text, "csrf") }
    }

    pub async fn is_signed_in(&mut self, net: &Net) -> bool {
        self.open(&format!("{}/console", net.origin)).await.status == 200
    }

    /// Signs out at the provider: the page asks, the person says yes.
    pub async fn sign_out_there(&self, idp: &Idp, url: &str) -> String {
        let page = self.there.get(url).send().await.unwrap().text().await.unwrap();
        let action = between(&page, "action=\"", "\"").to_owned();
        let xsrf = between(&page, "name=\"xsrf\" value=\"", "\"");
        let body = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("xsrf", xsrf), ("logout", "yes")])
            .finish();
        let request = self
            .there
            .post(action)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body);
        let answer = request.send().await.unwrap();
        let status = answer.status();
        location(&answer).unwrap_or_else(|| panic!("{} did not sign out: {status}", idp.issuer))
    }
}
