//! From a one-time link to an approved machine and out again, by what people see and click.

use fantoccini::Locator;
use gangline_wire::api::enrol::{EnrolmentPoll, EnrolmentState, KeyKind};

use crate::{
    chromium::{Driver, Session},
    faults::said,
    net::Net,
    world::{asks, link_to},
};

const COOKIE: &str = "__Host-gangline";

async fn signs_in(page: &Session, link: &str, role: &str) {
    page.goto(link).await;
    page.heading(&format!("Sign in as {role}")).await;
    assert!(page.client.get_named_cookie(COOKIE).await.is_err(), "opening a link signs in");
    page.press("Sign in").await;
    page.heading("console").await;
    let cookie = page.client.get_named_cookie(COOKIE).await.unwrap();
    assert_eq!((cookie.secure(), cookie.http_only()), (Some(true), Some(true)), "{cookie:?}");
    assert_eq!(page.script("return document.cookie;").await, "", "a script can read the session");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_signs_in_and_a_machine_is_approved_by_clicking() {
    let (net, driver) = (Net::start().await, Driver::start());

    // The operator makes a link by the form of the console.
    let operator = driver.open().await;
    signs_in(&operator, &link_to(&net, "operator").await, "operator").await;
    operator.fill("#name", "Ada").await;
    operator.press("Make a link").await;
    let invitation = operator.text(".fresh pre code").await;
    assert!(invitation.starts_with(&format!("{}/enter/", net.origin)), "{invitation}");

    // The supplier opens it elsewhere, types the code, compares the fingerprint and approves.
    let supplier = driver.open().await;
    signs_in(&supplier, &invitation, "supplier").await;
    let (key, ticket) = asks(&net, KeyKind::Machine).await;
    let poll = EnrolmentPoll { enrolment: ticket.enrolment, public_key: key.public() };
    let state =
        async || -> EnrolmentState { net.call(&key, "POST", "/api/v1/enrolments/poll", &poll).await.json() };
    supplier.goto(&format!("{}/approve", net.origin)).await;
    supplier.fill("#code", "2222-2222").await;
    supplier.press("Continue").await;
    let problem = supplier.text("#problem").await;
    assert!(problem.contains("No key asks with this code"), "{problem}");
    // As people type it: small letters, no dash.
    supplier.find("#code").await.clear().await.unwrap();
    supplier.fill("#code", &ticket.user_code.to_lowercase().replace('-', "")).await;
    supplier.press("Continue").await;
    supplier.heading("asks for a key").await;
    let shown = supplier.text("main").await;
    for part in [ticket.user_code.as_str(), &key.public().fingerprint(), "Ada", "attic"] {
        assert!(shown.contains(part), "{part} is not on the page: {shown}");
    }
    assert_eq!(state().await, EnrolmentState::Pending);
    supplier.press("Approve").await;
    supplier.heading("Approved").await;
    assert_eq!(state().await, EnrolmentState::Approved);

    revokes_after_a_second_thought(&supplier, &net, &key).await;

    // A used link signs nobody in.
    let late = driver.open().await;
    late.goto(&invitation).await;
    assert!(late.text("main").await.contains("link_used"));
    assert!(late.client.get_named_cookie(COOKIE).await.is_err());

    // Out again: the session is gone, here and on the server.
    supplier.press("Sign out").await;
    supplier.until("location.pathname === '/'").await;
    assert!(supplier.client.get_named_cookie(COOKIE).await.is_err(), "the cookie is kept");
    assert_eq!(said(&supplier, 404).await, Vec::<String>::new());
    supplier.goto(&format!("{}/console", net.origin)).await;
    assert!(supplier.text("main").await.contains("Please sign in"));
    assert_eq!(said(&operator, 200).await, Vec::<String>::new());
    for session in [operator, supplier, late] {
        session.close().await;
    }
    net.stop().await;
}

/// The button asks first; the key ends only by the answer "Revoke".
async fn revokes_after_a_second_thought(page: &Session, net: &Net, key: &gangline_wire::SigningKey) {
    let beat = serde_json::json!({"beats": [], "worker_version": "test"});
    let code = async || net.call(key, "POST", "/api/v1/machine/beats", &beat).await.text();
    page.goto(&format!("{}/console", net.origin)).await;
    for answer in ["Cancel", "Revoke"] {
        page.find("form[action$='/revoke'] button").await.click().await.unwrap();
        page.until("document.getElementById('confirm').open").await;
        assert!(page.text("#confirm [data-message]").await.contains("for good"));
        assert!(!code().await.contains("revoked_key"), "it was revoked before the answer");
        let button = format!("//dialog//button[normalize-space()='{answer}']");
        page.client.find(Locator::XPath(&button)).await.unwrap().click().await.unwrap();
        if answer == "Cancel" {
            page.until("!document.getElementById('confirm').open").await;
        }
    }
    page.until("document.querySelector('main').textContent.includes('revoked')").await;
    assert!(code().await.contains("revoked_key"));
}
