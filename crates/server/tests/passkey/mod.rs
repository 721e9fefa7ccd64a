//! Somebody with a passkey, which is made in the memory of the test.
#![allow(dead_code, clippy::unwrap_used)]

#[path = "../../../gangline/src/stage/passkey.rs"]
mod software;

use gangline_wire::SigningKey;
use serde_json::Value;
pub use software::Passkey;

use crate::net::{self, Answer, Browser, Net};

/// Where passkeys of this network work.
pub fn at(net: &Net) -> String {
    format!("http://localhost:{}", net.address.port())
}

/// The question of a form for a passkey.
pub async fn asked(net: &Net, who: &Browser, path: &str) -> Answer {
    net.form(who, path, &[]).await
}

/// A passkey for `who`, and the answer that has yet to be sent.
pub async fn made(net: &Net, who: &Browser) -> (Passkey, String) {
    made_of(net, who, net::new_key()).await
}

/// The same of this key.
pub async fn made_of(net: &Net, who: &Browser, key: SigningKey) -> (Passkey, String) {
    let asked: Value = asked(net, who, "/account/passkeys/ask").await.json();
    let mut id = [0; 16];
    id[..8].copy_from_slice(&net::NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed).to_le_bytes());
    Passkey::make(&asked, &at(net), key, id).unwrap()
}

/// Adds a passkey to the account of `who`.
pub async fn added(net: &Net, who: &Browser) -> Passkey {
    let (passkey, answer) = made(net, who).await;
    let added = net.form(who, "/account/passkeys", &[("credential", &answer), ("name", "laptop")]).await;
    assert_eq!((added.status, added.header("location")), (303, Some("/account")), "{}", added.text());
    passkey
}

/// Signs in with it, in the place of the session that this browser has.
pub async fn signed_in(net: &Net, was: &Browser, passkey: &mut Passkey) -> Browser {
    let asked: Value = asked(net, was, "/signin/passkey/ask").await.json();
    let answer = passkey.sign(&asked, &at(net)).unwrap();
    let answer = net.form(was, "/signin/passkey", &[("credential", &answer)]).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/console")), "{}", answer.text());
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let mut browser = Browser { cookie, csrf: String::new() };
    browser.csrf = net::hidden(&net.page(&browser, "/account").await.text(), "csrf");
    browser
}
