//! Signing in through a real OpenID Connect provider, and every way in which that must not work.

#![allow(clippy::unwrap_used)]

#[path = "oidc/idp.rs"]
mod idp;
mod net;
mod passkey;

use std::time::{Duration, Instant};

use gangline_server::{
    Config,
    config::{Oidc, SecondFactor},
    serve,
};
use gangline_wire::{Endpoint, api::account::Role, endpoints as e};
use idp::{Idp, Person};
use net::{Answer, Net};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn people_get_the_role_that_their_claims_say() {
    let idp = Idp::start().await;
    let net = idp.network(|_| ()).await;
    // The page offers it, and the way back is the page that was asked for.
    let asked = net.get("/approve?code=ABCD").await;
    assert_eq!(asked.status, 401);
    assert!(asked.text().contains("/signin/provider?back=%2Fapprove%3Fcode%3DABCD"), "{}", asked.text());

    // Once with roles in the user info, once in the ID token; every kind of key.
    for (alg, in_id_token) in
        [("RS256", false), ("RS256", true), ("PS256", true), ("ES256", true), ("EdDSA", true)]
    {
        idp.set(json!({"alg": alg, "in_id_token": in_id_token})).await;
        for role in Role::ALL {
            let mut person = Person::new(&format!("ada-{alg}-{in_id_token}.{role}"));
            let page = person.sign_in(&net, &idp).await;
            assert_eq!((page.status, page.location.as_str()), (303, "/approve"), "{alg}: {}", page.text);
            for cookie in &page.set_cookies {
                assert!(
                    cookie.starts_with("__Host-gangline")
                        && cookie.contains("; Path=/; Secure; HttpOnly; SameSite=Lax")
                );
            }
            let console = person.open(&format!("{}/console", net.origin)).await;
            assert_eq!(console.status, 200, "{}", console.text);
            assert!(console.text.to_lowercase().contains(&role.to_string()), "{role}: {}", console.text);
            assert!(!person.here.contains_key("__Host-gangline-signin"), "the sign-in's cookie is left");
            // Whoever is signed in is not asked again.
            assert_eq!(person.open(&format!("{}/signin", net.origin)).await.location, "/console");
        }
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_its_issuer_and_subject_and_its_role_is_the_provider_s() {
    let idp = Idp::start().await;
    let net = idp.network(|oidc| oidc.role_map.push(("default".into(), Role::Renter))).await;
    let mut first = Person::new("ada.supplier");
    first.sign_in(&net, &idp).await;
    let mut second = Person::new("ada.supplier");
    second.sign_in(&net, &idp).await;
    // The same name and the same address, but another subject.
    let mut other = Person::new("ada.renter");
    other.sign_in(&net, &idp).await;
    let console = net.page(&net.operator, "/console").await.text();
    let accounts = |console: &str| console.matches("name=\"account\"").count();
    assert_eq!(accounts(&console), 3, "the operator, one Ada and another: {console}");
    // The first operator came by the link, and still can.
    assert!(console.contains("ada"));

    // A machine that a supplier approved is theirs the next time too.
    let browser = first.browser(&net).await;
    net.machine(&browser, "llvmpipe", gangline_types::AdapterKind::Software).await;
    assert!(second.open(&format!("{}/console", net.origin)).await.text.contains("testhost"));
    assert!(!other.open(&format!("{}/console", net.origin)).await.text.contains("testhost"));
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_client_signs_in_too() {
    let idp = Idp::start().await;
    idp.set(json!({"is_public": true})).await;
    let net = idp.network(|oidc| oidc.client_secret_file = None).await;
    let mut person = Person::new("ada.renter");
    assert_eq!(person.sign_in(&net, &idp).await.status, 303);
    assert!(person.is_signed_in(&net).await);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_taken_once_and_only_in_the_browser_that_asked() {
    let idp = Idp::start().await;
    let net = idp.network(|_| ()).await;
    let refused = |page: &idp::Page, status: u16, code: &str| {
        assert_eq!(page.status, status, "{}", page.text);
        assert!(page.text.contains(code), "not {code}: {}", page.text);
        assert!(
            !page.set_cookies.iter().any(|c| c.starts_with("__Host-gangline=")),
            "a session all the same"
        );
    };
    let mut ada = Person::new("ada.supplier");
    let mut eve = Person::new("eve.renter");
    let ada_back = ada.begin(&net, &idp).await;
    let eve_back = eve.begin(&net, &idp).await;

    // Eve sends Ada her own answer, to have her sign in as Eve; takes Ada's; has no cookie; changes the state.
    refused(&ada.open(&eve_back).await, 403, "other_sign_in");
    refused(&eve.open(&ada_back).await, 403, "other_sign_in");
    refused(&Person::new("x").open(&ada_back).await, 403, "other_sign_in");
    refused(&ada.open(&ada_back.replace("state=", "state=0")).await, 403, "other_sign_in");
    refused(&ada.open(&format!("{}/signin/callback?code=x", net.origin)).await, 403, "other_sign_in");
    // Her cookie with one letter changed.
    let cookie = ada.here["__Host-gangline-signin"].clone();
    ada.here.insert("__Host-gangline-signin".into(), format!("A{}", &cookie[1..]).replace("AA", "AB"));
    let changed = ada.here["__Host-gangline-signin"] != cookie;
    if changed {
        refused(&ada.open(&ada_back).await, 403, "other_sign_in");
    }
    // Another provider's name on the answer.
    ada.here.insert("__Host-gangline-signin".into(), cookie.clone());
    let encoded: String = form_urlencoded::byte_serialize(idp.issuer.as_bytes()).collect();
    assert!(ada_back.contains(&encoded), "{ada_back}");
    refused(&ada.open(&ada_back.replace(&encoded, "https%3A%2F%2Fevil.example")).await, 400, "not_vouched");
    let at = ada_back.find("iss=").unwrap();
    let end = ada_back[at..].find('&').map_or(ada_back.len(), |n| at + n + 1);
    let unnamed = format!("{}{}", &ada_back[..at], &ada_back[end..]);
    refused(&ada.open(&unnamed).await, 400, "not_vouched");
    // The wrong verifier: Eve's code in Ada's sign-in.
    let code = |url: &str| url.split("code=").nth(1).unwrap().split('&').next().unwrap().to_owned();
    let mixed = ada_back.replace(&code(&ada_back), &code(&eve_back));
    refused(&ada.open(&mixed).await, 400, "not_vouched");

    // None of it has spoilt Ada's own answer; a copy of it, cookie and all, is nothing.
    assert_eq!(ada.open(&ada_back).await.status, 303);
    let mut copy = Person::new("x");
    copy.here.insert("__Host-gangline-signin".into(), cookie);
    refused(&copy.open(&ada_back).await, 410, "sign_in_used");
    assert!(ada.is_signed_in(&net).await && !copy.is_signed_in(&net).await);

    // The provider itself takes a code once: in a sign-in of its own, Ada's code is refused.
    let late = copy.begin_with(&net, &idp).await;
    let state = late.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let replayed =
        format!("{}/signin/callback?code={}&state={state}&iss={encoded}", net.origin, code(&ada_back));
    refused(&copy.open(&replayed).await, 400, "invalid_grant");

    // The person says no.
    let mut shy = Person::new("shy.renter");
    let start = shy.open(&format!("{}/signin/provider", net.origin)).await.location;
    let state = start.split("state=").nth(1).unwrap().split('&').next().unwrap();
    let no = format!("{}/signin/callback?error=access_denied&state={state}&iss={encoded}", net.origin);
    refused(&shy.open(&no).await, 403, "access_denied");

    // It is all written down.
    let mut console = String::new();
    for _ in 0..100 {
        console = net.page(&net.operator, "/console").await.text();
        if console.contains("other_sign_in") && console.contains("not_vouched") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(console.contains("other_sign_in") && console.contains("not_vouched"), "{console}");
    assert!(!console.contains(&code(&ada_back)), "a code was written down");
    net.stop().await;
}

impl Person {
    /// Begins without the provider: its address with the state in it.
    async fn begin_with(&mut self, net: &Net, _: &Idp) -> String {
        self.open(&format!("{}/signin/provider", net.origin)).await.location
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_or_stale_id_token_is_refused() {
    let idp = Idp::start().await;
    idp.set(json!({"in_id_token": true})).await;
    let net = idp.network(|_| ()).await;
    let now = net::now().0;
    let roles = json!({"realm_access": {"roles": ["operator"]}});
    let with = |how: &str, changes: Value| {
        let mut all = changes;
        all["how"] = how.into();
        all
    };
    let mut tried = 0;
    for (what, tamper, words) in [
        ("another nonce", with("true_key", json!({"nonce": "0".repeat(64)})), "nonce"),
        ("no nonce", with("true_key", json!({"nonce": null})), "nonce"),
        ("expired", with("true_key", json!({"iat": now - 60, "exp": now - 1})), "expired"),
        ("made long ago", with("true_key", json!({"iat": now - 7200, "exp": now + 7200})), "just now"),
        ("made in the future", with("true_key", json!({"iat": now + 7200, "exp": now + 9000})), "just now"),
        ("another issuer", with("true_key", json!({"iss": "https://evil.example"})), "expected"),
        ("another audience", with("true_key", json!({"aud": "other"})), "must contain"),
        (
            "a further audience",
            with("true_key", json!({"aud": [idp.client, "other"]})),
            "not a trusted audience",
        ),
        ("another client's", with("true_key", json!({"azp": "other"})), "another client"),
        (
            "another access token's",
            with("true_key", json!({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"})),
            "another one",
        ),
        ("another key under the same name", with("other_key", roles.clone()), "ignature"),
        ("a key nobody published", with("unknown_key", roles.clone()), "does not publish"),
        ("no signature", with("none", roles.clone()), ""),
        ("the client's secret as key", with("secret", roles), "not one of"),
    ] {
        idp.set(json!({"tamper": tamper})).await;
        let mut person = Person::new("ada.renter");
        let page = person.sign_in(&net, &idp).await;
        assert_eq!(page.status, 400, "{what}: {}", page.text);
        assert!(page.text.contains("not_vouched") && page.text.contains(words), "{what}: {}", page.text);
        assert!(!person.is_signed_in(&net).await, "{what}");
        tried += 1;
    }
    assert_eq!(tried, 14);
    // The true token, signed anew with the true key, is taken: it was the changes that were refused.
    idp.set(json!({"tamper": {"how": "true_key"}})).await;
    let mut person = Person::new("ada.renter");
    assert_eq!(person.sign_in(&net, &idp).await.status, 303);
    let console = net.page(&net.operator, "/console").await.text();
    assert!(!console.contains("evil.example</"), "{console}");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_keys_of_the_provider_are_fetched_but_not_for_everybody_who_asks() {
    let idp = Idp::start().await;
    let net = idp.network(|_| ()).await;
    assert_eq!(Person::new("ada.renter").sign_in(&net, &idp).await.status, 303);
    for _ in 0..2 {
        idp.set(json!({"rotate": true})).await;
        let before = idp.hits("/jwks").await;
        let mut person = Person::new("ada.renter");
        assert_eq!(person.sign_in(&net, &idp).await.status, 303, "after new keys");
        assert_eq!(idp.hits("/jwks").await, before + 1);
        assert_eq!(Person::new("bob.renter").sign_in(&net, &idp).await.status, 303);
        assert_eq!(idp.hits("/jwks").await, before + 1, "known keys were fetched again");
    }
    // Anybody can send logout messages with made-up keys; the provider is asked a few times at most, and
    // sign-ins are not kept out by it.
    let before = idp.hits("/jwks").await;
    for n in 0..12 {
        let token = idp.logout_token("unknown_key", json!({"sub": "ada.renter", "jti": n.to_string()})).await;
        let answer = backchannel(&net, &token).await;
        assert!([400, 503].contains(&answer.status), "{}", answer.text());
    }
    assert!(
        idp.hits("/jwks").await <= before + 3,
        "a stranger made the server ask {} times",
        idp.hits("/jwks").await - before
    );
    idp.set(json!({"rotate": true})).await;
    assert_eq!(Person::new("ada.renter").sign_in(&net, &idp).await.status, 303);
    net.stop().await;
}

async fn backchannel(net: &Net, token: &str) -> Answer {
    let body = form_urlencoded::Serializer::new(String::new()).append_pair("logout_token", token).finish();
    let request = net
        .http
        .post(format!("{}{}", net.origin, e::SignInBackchannel::path(&[])))
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body);
    Answer::of(request.send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_here_goes_on_to_the_provider_and_back() {
    let idp = Idp::start().await;
    let net = idp.network(|_| ()).await;
    let mut person = Person::new("ada.renter");
    person.sign_in(&net, &idp).await;
    let browser = person.browser(&net).await;
    let request = net
        .http
        .post(format!("{}/leave", net.origin))
        .header("cookie", &browser.cookie)
        .header("origin", &net.origin)
        .body(format!("csrf={}", browser.csrf));
    let left = request.send().await.unwrap();
    assert_eq!(left.status(), 200);
    let refresh = left.headers()["refresh"].to_str().unwrap().to_owned();
    let cleared: Vec<_> =
        left.headers().get_all("set-cookie").iter().map(|v| v.to_str().unwrap().to_owned()).collect();
    assert!(cleared.iter().any(|c| c.starts_with("__Host-gangline=;")), "{cleared:?}");
    assert!(cleared.iter().any(|c| c.starts_with("__Host-gangline-hint=;")), "{cleared:?}");
    assert!(left.text().await.unwrap().contains("You are signed out here"));
    assert!(!person.is_signed_in(&net).await, "the session goes on");

    let url = refresh.strip_prefix("0;url=").unwrap();
    assert!(url.starts_with(&format!("{}/session/end?", idp.issuer)), "{url}");
    assert!(url.contains("id_token_hint=") && url.contains("client_id=gangline"), "{url}");
    let back = person.sign_out_there(&idp, url).await;
    assert_eq!(back, format!("{}/signin", net.origin));
    assert_eq!(person.open(&back).await.status, 200);
    // There it is over as well: the provider asks for the login again.
    let start = person.open(&format!("{}/signin/provider", net.origin)).await.location;
    let next = person.there.get(&start).send().await.unwrap();
    assert!(next.headers()["location"].to_str().unwrap().contains("/interaction/"));

    // Whoever came by a one-time link leaves as before.
    let local = net.form(&net.operator, "/leave", &[]).await;
    assert_eq!(local.status, 303);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_out_at_the_provider_ends_the_sessions_here() {
    let idp = Idp::start().await;
    let net = idp.network(|_| ()).await;
    let (mut desk, mut phone, mut bob) =
        (Person::new("ada.renter"), Person::new("ada.renter"), Person::new("bob.renter"));
    for person in [&mut desk, &mut phone, &mut bob] {
        assert_eq!(person.sign_in(&net, &idp).await.status, 303);
    }
    // Ada signs out at the provider itself, on her desk: that session ends, the others go on.
    let asked = Instant::now();
    desk.sign_out_there(&idp, &format!("{}/session/end?client_id=gangline", idp.issuer)).await;
    while desk.is_signed_in(&net).await {
        assert!(asked.elapsed() < Duration::from_secs(2), "still signed in after {:?}", asked.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("signed out at the provider, signed out here after {:?}", asked.elapsed());
    assert!(phone.is_signed_in(&net).await && bob.is_signed_in(&net).await);

    // Messages that are not the provider's, or not such messages, end nothing.
    let event = "http://schemas.openid.net/event/backchannel-logout";
    let now = net::now().0;
    let ada = json!({"sub": "ada.renter", "jti": "forged"});
    let with = |changes: Value| {
        let mut all = ada.clone();
        all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        all
    };
    for (what, how, changes) in [
        ("another key", "other_key", json!({})),
        ("no signature", "none", json!({})),
        ("the secret as key", "secret", json!({})),
        ("another issuer", "true_key", json!({"iss": "https://evil.example"})),
        ("another audience", "true_key", json!({"aud": "other"})),
        ("no event", "true_key", json!({"events": {}})),
        ("another event", "true_key", json!({"events": {format!("{event}s"): {}}})),
        ("an ID token", "true_key", json!({"nonce": "n"})),
        ("an old one", "true_key", json!({"iat": now - 7200, "exp": now - 3600})),
        ("one without a name", "true_key", json!({"jti": null})),
        ("one about nobody", "true_key", json!({"sub": null})),
    ] {
        let answer = backchannel(&net, &idp.logout_token(how, with(changes)).await).await;
        assert_eq!(
            (answer.status, answer.error().code.as_str()),
            (400, "not_vouched"),
            "{what}: {}",
            answer.text()
        );
        assert!(phone.is_signed_in(&net).await, "{what} ended a session");
    }
    for body in ["", "logout_token=", "logout_token=a&logout_token=b", "other=x"] {
        let request = net.http.post(format!("{}/signin/backchannel", net.origin)).body(body);
        assert_eq!(request.send().await.unwrap().status(), 400, "{body}");
    }

    // A true one about a person ends all of theirs, and works once.
    let token = idp.logout_token("true_key", json!({"sub": "ada.renter", "jti": "once"})).await;
    let began = Instant::now();
    assert_eq!(backchannel(&net, &token).await.status, 200);
    assert!(!phone.is_signed_in(&net).await);
    println!("a logout message was taken and felt after {:?}", began.elapsed());
    assert!(bob.is_signed_in(&net).await);
    assert_eq!(phone.sign_in(&net, &idp).await.status, 303);
    let again = backchannel(&net, &token).await;
    assert_eq!((again.status, again.error().code.as_str()), (400, "not_vouched"));
    assert!(phone.is_signed_in(&net).await, "a copy of a message ended a session");
    // About somebody who is not here: nothing to end is no fault.
    let token = idp.logout_token("true_key", json!({"sub": "nobody", "jti": "2"})).await;
    assert_eq!(backchannel(&net, &token).await.status, 200);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_no_role_or_organisation_here_is_told_so() {
    let idp = Idp::start().await;
    let net = idp
        .network(|oidc| {
            oidc.org_claim = Some("org_id".into());
            oidc.orgs = vec!["org_one".into()];
        })
        .await;
    for (login, code, words) in [
        ("ada", "no_role", "you have no role in this network"),
        ("ada.admin", "no_role", "ask whoever manages accounts"),
        ("ada.operator.org_two", "other_organisation", "not for an organisation of this network"),
    ] {
        let mut person = Person::new(login);
        let page = person.sign_in(&net, &idp).await;
        assert_eq!(page.status, 403, "{}", page.text);
        assert!(
            page.text.to_lowercase().contains(words) && page.text.contains(code),
            "{login}: {}",
            page.text
        );
        assert!(!person.is_signed_in(&net).await);
    }
    assert_eq!(Person::new("ada.operator.org_one").sign_in(&net, &idp).await.status, 303);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_taken_away_ends_what_was_begun_with_it() {
    let idp = Idp::start().await;
    let net = idp.network(|_| ()).await;
    idp.set(json!({"in_id_token": true})).await;
    let mut desk = Person::new("ada.supplier");
    let page = desk.sign_in(&net, &idp).await;
    assert_eq!(page.status, 303, "{}", page.text);
    // The provider now says that she is a renter: so she is, in the session that she has, too.
    idp.set(json!({"tamper": {"how": "true_key", "realm_access": {"roles": ["renter"]}}})).await;
    let mut phone = Person::new("ada.supplier");
    assert_eq!(phone.sign_in(&net, &idp).await.status, 303);
    // Whoever is answered finds over what the answer ended: what comes after it is not cut.
    let console = desk.open(&format!("{}/console", net.origin)).await;
    assert_eq!(console.status, 200, "{}", console.text);
    let console = console.text;
    assert!(
        console.contains("data-role=\"renter\"") || console.to_lowercase().contains("renter"),
        "{console}"
    );
    // And then that she is nobody.
    idp.set(json!({"tamper": {"how": "true_key", "realm_access": {"roles": []}}})).await;
    assert_eq!(Person::new("ada.supplier").sign_in(&net, &idp).await.status, 403);
    assert!(!desk.is_signed_in(&net).await && !phone.is_signed_in(&net).await);
    net.stop().await;
}

/// Every session began an hour earlier than it did, put into the books behind the server's back.
async fn an_hour_passes(net: &Net) {
    let file = net.folder.path().join("data").join("gangline.sqlite");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let books = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("UPDATE session SET created_at = created_at - 3600").execute(&books).await.unwrap();
    books.close().await;
}

/// Signs in once more through the link of the page that asks for it; the page that Gangline answers with.
async fn again(net: &Net, idp: &Idp, person: &mut Person) -> idp::Page {
    let page = person.open(&format!("{}/signin/provider?back=%2Fconsole&again=yes", net.origin)).await;
    assert!(
        page.location.contains("prompt=login") && page.location.contains("max_age=0"),
        "{}",
        page.location
    );
    let back = person.at_provider(idp, &page.location).await;
    person.open(&back).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dangerous_act_takes_a_sign_in_that_the_provider_has_asked_for_anew() {
    let idp = Idp::start().await;
    let net = idp.network(|_| ()).await;
    let mut ada = Person::new("ada.operator");
    ada.sign_in(&net, &idp).await;
    let ask = [("role", "renter"), ("name", "Eve")];
    let browser = ada.browser(&net).await;
    assert_eq!(net.form(&browser, "/console/invite", &ask).await.status, 200, "just signed in");
    an_hour_passes(&net).await;
    let refused = net.form(&browser, "/console/invite", &ask).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    let offered = "/signin/provider?back=%2Fconsole&#38;again=yes";
    assert!(refused.text().replace("&amp;", "&#38;").contains(offered), "{}", refused.text());

    // Signed in there, an ordinary sign-in is not asked for anything; this one is.
    assert!(ada.prompts.contains(&"login".to_owned()));
    ada.prompts.clear();
    ada.sign_in(&net, &idp).await;
    assert!(!ada.prompts.contains(&"login".to_owned()), "{:?}", ada.prompts);
    let page = again(&net, &idp, &mut ada).await;
    assert!(ada.prompts.contains(&"login".to_owned()), "the provider did not ask: {:?}", ada.prompts);
    assert_eq!((page.status, page.location.as_str()), (303, "/console"), "{}", page.text);
    let browser = ada.browser(&net).await;
    assert_eq!(net.form(&browser, "/console/invite", &ask).await.status, 200);

    // A provider that does not say when it asked, or that did long ago, has not asked.
    an_hour_passes(&net).await;
    for auth_time in [json!(null), json!(net::now().0 - 1_000)] {
        idp.set(json!({"tamper": {"how": "true_key", "auth_time": auth_time}})).await;
        let page = again(&net, &idp, &mut ada).await;
        assert_eq!(page.status, 400, "{auth_time} was taken: {}", page.text);
        assert!(page.text.contains("did not ask"), "{}", page.text);
        let browser = ada.browser(&net).await;
        assert_eq!(net.form(&browser, "/console/invite", &ask).await.status, 403, "{auth_time}");
    }
    // For an ordinary sign-in that says nothing.
    assert_eq!(ada.sign_in(&net, &idp).await.status, 303);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_is_weaker_than_was_asked_for_is_none() {
    let idp = Idp::start().await;
    let net = idp.network(|oidc| oidc.acr = vec!["urn:two-factors".into(), "phrh".into()]).await;
    let mut ada = Person::new("ada.renter");
    let page = ada.open(&format!("{}/signin/provider", net.origin)).await;
    assert!(page.location.contains("acr_values=urn%3Atwo-factors+phrh"), "{}", page.location);
    // The provider does as it pleases with such a wish: what it says it did is what counts.
    for (acr, status) in [
        (json!(null), 400),
        (json!("0"), 400),
        (json!(["phrh"]), 400),
        (json!("phrh"), 303),
        (json!("urn:two-factors"), 303),
    ] {
        idp.set(json!({"tamper": {"how": "true_key", "acr": acr}})).await;
        let mut person = Person::new("ada.renter");
        let page = person.sign_in(&net, &idp).await;
        assert_eq!(page.status, status, "{acr}: {}", page.text);
        assert_eq!(person.is_signed_in(&net).await, status == 303);
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_s_word_makes_two_factors_and_its_silence_one() {
    let idp = Idp::start().await;
    let required = |config: &mut Config| config.second_factor = SecondFactor::Required;
    let net = idp.network_with(|_| (), required).await;
    for (amr, is_strong) in
        [(json!(null), false), (json!(["pwd"]), false), (json!(["pwd", "otp", "mfa"]), true)]
    {
        idp.set(json!({"tamper": {"how": "true_key", "amr": amr}})).await;
        let mut person = Person::new("ada.renter");
        assert_eq!(person.sign_in(&net, &idp).await.status, 303, "{amr}");
        let console = person.open(&format!("{}/console", net.origin)).await;
        assert_eq!(console.status, if is_strong { 200 } else { 403 }, "{amr}: {}", console.text);
    }
    // Who is known by the provider's word alone may add a first passkey, and none beside somebody's own.
    idp.set(json!({"tamper": null})).await;
    let sign_in = async || {
        let mut person = Person::new("ada.renter");
        person.sign_in(&net, &idp).await;
        person.browser(&net).await
    };
    let (first, second) = (sign_in().await, sign_in().await);
    let (_, answer) = passkey::made(&net, &second).await;
    let mut own = passkey::added(&net, &first).await;
    let late = net.form(&second, "/account/passkeys", &[("credential", &answer)]).await;
    assert_eq!(late.status, 403, "a second passkey by one factor");
    assert_eq!(passkey::asked(&net, &second, "/account/passkeys/ask").await.status, 403);
    let whole = passkey::signed_in(&net, &first, &mut own).await;
    assert_eq!(net.page(&whole, "/console").await.status, 200);
    passkey::added(&net, &whole).await;
    net.stop().await;
    // Where the operator has named how strong a sign-in has to be, every one is.
    let net = idp.network_with(|oidc| oidc.acr = vec!["phrh".into()], required).await;
    idp.set(json!({"tamper": {"how": "true_key", "acr": "phrh"}})).await;
    let mut person = Person::new("ada.renter");
    person.sign_in(&net, &idp).await;
    assert!(person.is_signed_in(&net).await);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_away_says_neither_yes_nor_no() {
    let idp = Idp::start().await;
    // Away from the start: the server starts, machines and links work.
    idp.set(json!({"away": true})).await;
    let net = idp.network(|_| ()).await;
    let mut person = Person::new("ada.renter");
    let start = format!("{}/signin/provider", net.origin);
    let page = person.open(&start).await;
    assert_eq!(page.status, 503, "{}", page.text);
    assert!(page.text.contains("that is not a no") && page.text.contains("one-time"), "{}", page.text);
    let local = net.invite("renter", "Bob").await;
    assert_eq!(net.page(&local, "/console").await.status, 200);
    assert_eq!(backchannel(&net, "a.b.c").await.status, 503);

    // Back again: found without a restart.
    idp.set(json!({"away": false})).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while person.open(&start).await.status != 303 {
        assert!(Instant::now() < deadline, "the provider is back and not found");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // Away on the way back: the answer is not used up, and works once the provider is there.
    let back = person.begin(&net, &idp).await;
    idp.set(json!({"away": true})).await;
    let page = person.open(&back).await;
    assert_eq!(page.status, 503, "{}", page.text);
    assert!(page.text.contains("that is not a no"));
    idp.set(json!({"away": false})).await;
    assert_eq!(person.open(&back).await.status, 303);
    assert!(person.is_signed_in(&net).await);
    // Away later: who is signed in stays so.
    idp.set(json!({"away": true})).await;
    assert!(person.is_signed_in(&net).await);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_would_not_be_safe_are_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    let good = Oidc { issuer: "https://idp.example".into(), client_id: "gangline".into(), ..Oidc::default() };
    for (what, oidc, words) in [
        ("plain http", Oidc { issuer: "http://idp.example".into(), ..good.clone() }, "must be https"),
        ("plain http near by", Oidc { issuer: "http://10.0.0.1".into(), ..good.clone() }, "must be https"),
        ("a password", Oidc { issuer: "https://u:p@idp.example".into(), ..good.clone() }, "no user"),
        ("no address", Oidc { issuer: "idp".into(), ..good.clone() }, "not an address"),
        (
            "no secret",
            Oidc { client_secret_file: Some("/nowhere/at/all".into()), ..good.clone() },
            "cannot be read",
        ),
        ("an open secret", Oidc { client_secret_file: Some(secret.clone()), ..good.clone() }, "chmod 600"),
        ("no roles", Oidc { role_map: vec![], ..good.clone() }, "nobody could sign in"),
        ("half an organisation", Oidc { orgs: vec!["x".into()], ..good.clone() }, "belong together"),
    ] {
        #[cfg(unix)]
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let config = Config { oidc: Some(oidc), ..net::quick_config(&folder.path().join("data")) };
        let Err(error) = serve(config).await else { panic!("{what} was taken") };
        assert!(error.to_string().contains(words), "{what}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_provider_there_is_none_of_this() {
    let net = Net::start().await;
    for path in ["/signin/provider", "/signin/callback?code=x&state=y"] {
        assert_eq!(net.get(path).await.status, 404, "{path}");
    }
    assert_eq!(backchannel(&net, "a.b.c").await.status, 404);
    let page = net.get("/signin").await;
    assert_eq!(page.status, 200);
    assert!(!page.text().contains("/signin/provider"));
    net.stop().await;
}
