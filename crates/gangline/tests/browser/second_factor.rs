//! A network that asks for two factors, as somebody meets it who comes by a one-time link: told what is missing on every
//! page, and in by Chromium's own virtual authenticator.

use gangline_server::{Config, config::SecondFactor};

use crate::{
    chromium::Driver,
    faults::{Axe, said, too_wide},
    net::{Net, quick_config},
    passkey,
    passkeys::{adds, authenticator, named},
    world::link,
};

/// A network whose operator has shown two factors.
async fn start() -> Net {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { second_factor: SecondFactor::Required, ..quick_config(folder.path()) };
    let mut net = Net::start_in(folder, config).await;
    let mut own = passkey::added(&net, &net.operator).await;
    net.operator = passkey::signed_in(&net, &net.operator, &mut own).await;
    net
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_by_a_link_is_told_what_is_missing_and_gets_in_by_a_passkey() {
    let (net, driver, axe) = (start().await, Driver::start(), Axe::load());
    let invitation = link(&net, &[("role", "supplier"), ("name", "Ada")]).await;
    let page = driver.open().await;
    authenticator(&page).await;
    page.goto(&named(&net, invitation.strip_prefix(&net.origin).unwrap())).await;
    page.press("Sign in").await;
    page.heading("Your account").await;
    let shown = page.text("main").await;
    assert!(shown.contains("One more factor") && shown.contains("nothing but this page opens"), "{shown}");
    assert_eq!(axe.faults(&page).await, Vec::<String>::new());
    page.phone().await;
    assert_eq!(too_wide(&page).await, None);
    page.desk().await;
    assert_eq!(said(&page, 200).await, Vec::<String>::new());
    // Every way around leads back.
    for path in ["/console", "/approve?code=2222-2222", "/console/security"] {
        page.goto(&named(&net, path)).await;
        let shown = page.text("main").await;
        assert!(
            shown.contains("asks for two factors") && shown.contains("Nothing was done"),
            "{path}: {shown}"
        );
        assert_eq!(axe.faults(&page).await, Vec::<String>::new());
        page.press("Go to your account").await;
        page.heading("Your account").await;
    }
    adds(&page, &net, "laptop").await;
    page.press("Go on to sign in").await;
    page.press("Sign in with a passkey").await;
    page.heading("console").await;
    page.goto(&named(&net, "/account")).await;
    let shown = page.text("main").await;
    assert!(!shown.contains("One more factor") && shown.contains("passkey"), "{shown}");

    // From now on the passkey alone is enough, and a link alone is not.
    page.press("Sign out").await;
    page.until("location.pathname === '/'").await;
    page.goto(&named(&net, "/signin")).await;
    page.press("Sign in with a passkey").await;
    page.heading("console").await;
    page.close().await;
    net.stop().await;
}
