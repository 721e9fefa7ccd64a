//! Passwords: only where browsers have no passkeys and there is no provider, set after a one-time link, slow to guess.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod net;
mod pki;

use gangline_server::{Config, config::Tls, serve};
use net::{Answer, Browser, Net};
use pki::{Authority, files};

const GOOD: &str = "kestrel obelisk wry";
const BETTER: &str = "vier laute moewen im nebel";

/// SHA-1 of a password as a list has it, with how often it was seen: of `kestrel obelisk dry`, and of another.
const BREACHED: &str =
    "B60F124C2AC18A941DDA8474D0CCFD8CDE2FBF3B:3\r\nF4C3CC41580D475EB2F8E3A47B397966DD589128:12\r\n";

/// A network that is reached by https at an address, where browsers have no passkeys.
async fn start() -> Net {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("breached");
    std::fs::write(&list, BREACHED).unwrap();
    let authority = Authority::new();
    let [cert, key] = files(folder.path());
    authority.write([&cert, &key], &["127.0.0.1"]);
    let config = Config {
        tls: Some(Tls::Files { cert, key }),
        password_sign_in: true,
        breached_passwords: Some(list),
        ..net::quick_config(&folder.path().join("data"))
    };
    Net::start_trusting(folder, config, Some(&authority.pem)).await
}

async fn sign_in(net: &Net, login: &str, password: &str) -> Answer {
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("login", login), ("password", password)])
        .finish();
    let request = net
        .http
        .post(format!("{}/signin/password", net.origin))
        .header("origin", &net.origin)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body);
    Answer::of(request.send().await.unwrap()).await
}

async fn set(net: &Net, who: &Browser, login: &str, current: &str, password: &str) -> Answer {
    net.form(who, "/account/password", &[("login", login), ("current", current), ("password", password)])
        .await
}

/// The session of an answer that signed somebody in.
async fn browser(net: &Net, answer: &Answer) -> Browser {
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let mut browser = Browser { cookie, csrf: String::new() };
    browser.csrf = net::hidden(&net.page(&browser, "/console").await.text(), "csrf");
    browser
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_set_after_a_link_and_signs_in() {
    let net = start().await;
    let ada = net.invite("supplier", "Ada Lovelace").await;
    let page = net.page(&ada, "/account").await.text();
    assert!(page.contains("New password, 15 characters or more"), "{page}");
    assert!(net.get("/signin").await.text().contains("Sign in with a password"));

    // Short, common, or made of what anybody knows: not taken, and said why.
    for (weak, words) in [
        ("short", "fewer than 15 characters"),
        ("password12345678", "guessed first"),
        ("qwertyuiopasdfghjkl", "guessed first"),
        ("Ada Lovelace 1815", "names that belong"),
        ("gangline-127-ada.l", "names that belong"),
        ("kestrel obelisk dry", "breached elsewhere"),
    ] {
        let answer = set(&net, &ada, "ada.l", "", weak).await;
        assert_eq!(answer.status, 422, "{weak} was taken");
        assert!(answer.text().contains(words), "{weak}: {}", answer.text());
    }
    assert_eq!(set(&net, &ada, "Ada L", "", GOOD).await.status, 422, "a name with a space");
    let answer = set(&net, &ada, "ada.l", "", GOOD).await;
    assert_eq!(answer.header("location"), Some("/account"), "{}", answer.text());
    let eve = net.invite("renter", "Eve").await;
    assert_eq!(set(&net, &eve, "ada.l", "", BETTER).await.status, 409, "another's name");

    // What is wrong is not told.
    let wrong = sign_in(&net, "ada.l", BETTER).await;
    let unknown = sign_in(&net, "nobody", GOOD).await;
    assert_eq!((wrong.status, unknown.status), (403, 403));
    assert!(wrong.text().contains("no name and password") && unknown.text().contains("no name and password"));
    assert_eq!(
        sign_in(&net, "ada.l", &GOOD.to_uppercase()).await.status,
        403,
        "changed before it was compared"
    );
    assert_eq!(sign_in(&net, "ada.l", &GOOD[..15]).await.status, 403, "cut before it was compared");
    let answer = sign_in(&net, "ada.l", GOOD).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/console")), "{}", answer.text());
    let desk = browser(&net, &answer).await;
    let account = net.page(&desk, "/account").await.text();
    assert!(account.contains("<td>password</td>"), "{account}");

    // Changed by whoever knows it; the other sessions end. After a link nobody has to.
    assert_eq!(set(&net, &desk, "ada.l", "wrong", BETTER).await.status, 403);
    assert_eq!(set(&net, &desk, "ada.l", GOOD, BETTER).await.status, 303);
    assert_eq!(net.page(&ada, "/console").await.status, 401, "a session from before goes on");
    assert_eq!(net.page(&desk, "/console").await.status, 200);
    assert_eq!(sign_in(&net, "ada.l", GOOD).await.status, 403, "the old password");
    assert_eq!(sign_in(&net, "ada.l", BETTER).await.status, 303);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_passwords_is_slowed_down_for_each_name() {
    let net = start().await;
    let ada = net.invite("renter", "Ada").await;
    assert_eq!(set(&net, &ada, "ada.l", "", GOOD).await.status, 303);
    let mut refused = 0;
    while sign_in(&net, "ada.l", BETTER).await.status == 403 {
        refused += 1;
        assert!(refused < 20, "guessing goes on and on");
    }
    let slow = sign_in(&net, "ada.l", GOOD).await;
    assert_eq!(slow.status, 429, "{}", slow.text());
    assert!(slow.header("retry-after").is_some());
    // Nobody else is kept out, and whoever is has a link.
    assert_eq!(sign_in(&net, "ben.x", GOOD).await.status, 403);
    assert_eq!(net.page(&ada, "/console").await.status, 200);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_something_better_works_there_are_no_passwords() {
    // Not asked for: no page, no form.
    let net = Net::start().await;
    let ada = net.invite("renter", "Ada").await;
    assert_eq!(set(&net, &ada, "ada.l", "", GOOD).await.status, 404);
    assert_eq!(sign_in(&net, "ada.l", GOOD).await.status, 404);
    assert!(!net.get("/signin").await.text().contains("password\""));
    net.stop().await;
    // Asked for where passkeys work: it does not start.
    let folder = tempfile::tempdir().unwrap();
    let config = Config { password_sign_in: true, ..net::quick_config(folder.path()) };
    let Err(error) = serve(config).await else { panic!("passwords beside passkeys") };
    assert!(error.to_string().contains("--password-sign-in"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_breached_passwords_that_is_none_keeps_a_server_from_starting() {
    for list in ["", "password\n", "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8\n"] {
        let folder = tempfile::tempdir().unwrap();
        let [cert, key] = files(folder.path());
        Authority::new().write([&cert, &key], &["127.0.0.1"]);
        let file = folder.path().join("breached");
        std::fs::write(&file, list).unwrap();
        let config = Config {
            tls: Some(Tls::Files { cert, key }),
            password_sign_in: true,
            breached_passwords: Some(file),
            ..net::quick_config(&folder.path().join("data"))
        };
        let Err(error) = serve(config).await else { panic!("{list:?} was taken") };
        assert!(error.to_string().contains("is no list of breached passwords"), "{error}");
    }
}
