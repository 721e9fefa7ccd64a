//! Passkeys by Chromium's own virtual authenticator: added in the console, used instead of a link, refused when
//! somebody has a copy, not removed by mistake.

use gangline_types::PasskeyId;
use serde_json::{Value, json};

use crate::{
    chromium::{Driver, Session},
    faults::{Axe, said},
    net::Net,
    world::link,
};

/// Gives a browser an authenticator that verifies its user.
pub async fn authenticator(page: &Session) -> String {
    let wished = json!({
        "protocol": "ctap2", "transport": "internal", "hasResidentKey": true, "hasUserVerification": true,
        "isUserVerified": true, "isUserConsenting": true,
    });
    page.webdriver(http::Method::POST, "webauthn/authenticator", wished).await.as_str().unwrap().to_owned()
}

/// What an authenticator holds, private keys and all.
async fn credentials(page: &Session, authenticator: &str) -> Vec<Value> {
    let path = format!("webauthn/authenticator/{authenticator}/credentials");
    page.webdriver(http::Method::GET, &path, Value::Null).await.as_array().unwrap().clone()
}

/// The address at which passkeys work here.
pub fn named(net: &Net, path: &str) -> String {
    format!("http://localhost:{}{path}", net.address.port())
}

async fn signed_in_by_link(driver: &Driver, net: &Net, role: &str) -> Session {
    let invited = link(net, &[("role", role), ("name", "Rae")]).await;
    let page = driver.open().await;
    page.goto(&named(net, invited.strip_prefix(&net.origin).unwrap())).await;
    page.press("Sign in").await;
    page.heading("console").await;
    page
}

pub async fn adds(page: &Session, net: &Net, name: &str) {
    page.goto(&named(net, "/account")).await;
    page.fill("#passkey-name", name).await;
    page.press("Add a passkey").await;
    page.until(&format!("document.querySelector('main table')?.textContent.includes('{name}')")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passkey_is_added_and_signs_in_without_a_link() {
    let (net, driver, axe) = (Net::start().await, Driver::start(), Axe::load());
    let page = signed_in_by_link(&driver, &net, "renter").await;
    let device = authenticator(&page).await;
    adds(&page, &net, "laptop").await;
    assert_eq!(credentials(&page, &device).await.len(), 1);
    assert_eq!(axe.faults(&page).await, Vec::<String>::new());

    // The only way in stays.
    page.press("Remove").await;
    page.find("#confirm [data-yes]").await.click().await.unwrap();
    page.until("document.querySelector('main').textContent.includes('only_way_in')").await;
    assert!(page.text("main").await.contains("only_way_in"), "the only way in was removed");

    // Out, and in again by the passkey alone.
    page.goto(&named(&net, "/account")).await;
    page.press("Sign out").await;
    page.until("location.pathname === '/'").await;
    page.goto(&named(&net, "/signin")).await;
    assert_eq!(axe.faults(&page).await, Vec::<String>::new());
    page.press("Sign in with a passkey").await;
    page.heading("Renter's console").await;
    page.goto(&named(&net, "/account")).await;
    let shown = page.text("main").await;
    assert!(shown.contains("laptop") && shown.contains("this one") && shown.contains("passkey"), "{shown}");

    // Somebody's copy of the key counts from the beginning: its signature is refused, and the answer is used up.
    let copy = {
        let mut copy = credentials(&page, &device).await.remove(0);
        copy["signCount"] = json!(0);
        copy
    };
    let thief = driver.open().await;
    let clone = authenticator(&thief).await;
    let path = format!("webauthn/authenticator/{clone}/credential");
    thief.webdriver(http::Method::POST, &path, copy).await;
    thief.goto(&named(&net, "/signin")).await;
    thief.press("Sign in with a passkey").await;
    thief.until("document.querySelector('main').textContent.includes('bad_passkey')").await;
    thief.goto(&named(&net, "/console")).await;
    assert!(thief.text("main").await.contains("Please sign in"), "a copy of a passkey signs in");

    // An authenticator that has never been here knows nothing to sign with.
    let stranger = driver.open().await;
    authenticator(&stranger).await;
    stranger.goto(&named(&net, "/signin")).await;
    stranger.press("Sign in with a passkey").await;
    stranger
        .until("document.querySelector('[data-passkey-words]').textContent.includes('did not work')")
        .await;

    // Its own session is ended from the list.
    page.goto(&named(&net, "/account")).await;
    page.script("document.querySelector('form[action^=\"/account/sessions/\"] button').click();").await;
    page.until("location.pathname === '/'").await;
    page.goto(&named(&net, "/console")).await;
    assert!(page.text("main").await.contains("Please sign in"));
    for session in [page, thief, stranger] {
        session.close().await;
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_passkey_cannot_work_the_page_says_so() {
    let (net, driver) = (Net::start().await, Driver::start());
    // By address and not by name.
    let invited = link(&net, &[("role", "supplier"), ("name", "Ada")]).await;
    let page = driver.open().await;
    page.goto(&invited).await;
    page.press("Sign in").await;
    page.heading("console").await;
    page.goto(&format!("{}/account", net.origin)).await;
    page.until("document.querySelector('[data-passkey-words]').textContent.includes('http://localhost:')")
        .await;
    assert_eq!(said(&page, 200).await, Vec::<String>::new());
    // Without scripts.
    let plain = driver.open_without_scripts().await;
    plain.goto(&named(&net, "/signin")).await;
    let words = plain.text("main").await;
    assert!(words.contains("needs scripts") && words.contains("one-time link"), "{words}");
    assert!(!words.contains("Sign in with a passkey"), "{words}");

    // Answers that are none, or to no question.
    let browser = net.invite("renter", "Eve").await;
    let refused = net.form(&browser, "/account/passkeys", &[("credential", "{}")]).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    let refused = net.form(&browser, "/signin/passkey", &[("credential", "[]")]).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    let path = format!("/account/passkeys/{}/remove", PasskeyId::from_bytes([1; 16]));
    assert_eq!(net.form(&browser, &path, &[]).await.status, 404);
    for session in [page, plain] {
        session.close().await;
    }
    net.stop().await;
}
