//! Signing in with a password, where browsers have no passkeys: https at an address. Set by the form of the account's
//! page, used by the form of the page that asks to sign in, and refused in words.

use gangline_server::{Config, config::Tls};

use crate::{
    chromium::{Driver, Session},
    faults::{Axe, said, too_wide},
    net::{Net, quick_config},
    pki::{Authority, files},
    world::link,
};

const GOOD: &str = "kestrel obelisk wry";
const BETTER: &str = "vier laute moewen im nebel";

async fn start() -> Net {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let [cert, key] = files(folder.path());
    authority.write([&cert, &key], &["127.0.0.1"]);
    let config = Config {
        tls: Some(Tls::Files { cert, key }),
        password_sign_in: true,
        ..quick_config(&folder.path().join("data"))
    };
    Net::start_trusting(folder, config, Some(&authority.pem)).await
}

async fn sets(page: &Session, login: &str, current: Option<&str>, password: &str) {
    page.find("#login").await.clear().await.unwrap();
    page.fill("#login", login).await;
    if let Some(current) = current {
        page.fill("#current", current).await;
    }
    page.fill("#password", password).await;
    page.press("Set the password").await;
}

async fn signs_in(page: &Session, net: &Net, login: &str, password: &str) {
    page.goto(&format!("{}/signin", net.origin)).await;
    page.fill("#login", login).await;
    page.fill("#password", password).await;
    page.press("Sign in with a password").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_set_and_signs_in_by_its_forms() {
    let (net, driver, axe) = (start().await, Driver::start(), Axe::load());
    let page = driver.open_believing_anybody().await;
    let invited = link(&net, &[("role", "renter"), ("name", "Rae")]).await;
    page.goto(&invited).await;
    page.press("Sign in").await;
    page.heading("Renter's console").await;
    page.goto(&format!("{}/account", net.origin)).await;
    let shown = page.text("main").await;
    assert!(shown.contains("browsers have no passkeys for this address"), "{shown}");
    assert!(!shown.contains("Add a passkey"), "{shown}");
    assert_eq!(axe.faults(&page).await, Vec::<String>::new());
    page.phone().await;
    assert_eq!(too_wide(&page).await, None);
    page.desk().await;

    // The browser itself sends nothing that is too short; the server says why it takes none that is guessed first.
    sets(&page, "rae", None, "short").await;
    assert!(page.holds("!document.querySelector('#password').validity.valid").await, "a short one was sent");
    page.find("#password").await.clear().await.unwrap();
    sets(&page, "rae", None, "qwertyuiopasdfghjkl").await;
    page.until("document.querySelector('main').textContent.includes('weak_password')").await;
    assert_eq!(said(&page, 422).await, Vec::<String>::new());
    page.goto(&format!("{}/account", net.origin)).await;
    sets(&page, "rae", None, GOOD).await;
    page.until("document.body.textContent.includes('assword') && document.querySelector('#current')").await;
    assert_eq!(
        page.script("return document.querySelector('#password').value;").await,
        "",
        "it is on the page"
    );

    // Out, wrong, and in.
    page.press("Sign out").await;
    page.until("location.pathname === '/'").await;
    signs_in(&page, &net, "rae", BETTER).await;
    page.until("document.querySelector('main').textContent.includes('no name and password')").await;
    assert!(page.client.get_named_cookie("__Host-gangline").await.is_err(), "a wrong password signs in");
    page.goto(&format!("{}/signin", net.origin)).await;
    assert_eq!(axe.faults(&page).await, Vec::<String>::new());
    signs_in(&page, &net, "rae", GOOD).await;
    page.heading("Renter's console").await;
    let cookie = page.client.get_named_cookie("__Host-gangline").await.unwrap();
    assert_eq!((cookie.secure(), cookie.http_only()), (Some(true), Some(true)), "{cookie:?}");

    // Changed by whoever knows it; the old one is of no use any more.
    page.goto(&format!("{}/account", net.origin)).await;
    sets(&page, "rae", Some(GOOD), BETTER).await;
    page.until("location.pathname === '/account' && document.querySelector('#current')").await;
    let other = driver.open_believing_anybody().await;
    signs_in(&other, &net, "rae", GOOD).await;
    other.until("document.querySelector('main').textContent.includes('no name and password')").await;
    signs_in(&other, &net, "rae", BETTER).await;
    other.heading("Renter's console").await;
    for session in [page, other] {
        session.close().await;
    }
    net.stop().await;
}
