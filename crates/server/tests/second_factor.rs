//! Two factors where they are asked for: every route of the table, taken from the table, called with a session that
//! began by a one-time link. It opens the page of its account and what adds a passkey there, and nothing else; the
//! passkey then opens everything.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod net;
mod passkey;

use gangline_server::{Config, config::SecondFactor, serve};
use gangline_types::GpuId;
use gangline_wire::{Credential, Method, api::enrol::*, endpoints};
use net::{Answer, Browser, Net, routes::path_of};

/// Routes that a session of one factor opens. May only shrink.
const OPEN: [&str; 4] = ["AccountPage", "LeaveForm", "PasskeyAdd", "PasskeyAsk"];

async fn start() -> Net {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { second_factor: SecondFactor::Required, ..net::quick_config(folder.path()) };
    Net::start_in(folder, config).await
}

fn lacks_a_factor(answer: &Answer) -> bool {
    let text = answer.text();
    answer.status == 403 && text.contains("two factors") && text.contains("href=\"/account\"")
}

/// Every route that asks for a session, called with this one: names of those that it does not keep out.
async fn opened(net: &Net, who: &Browser) -> Vec<&'static str> {
    let mut opened = Vec::new();
    let mut asked = 0;
    // What ends the session comes last.
    let mut specs: Vec<_> = endpoints::ALL.iter().map(|d| d.spec).collect();
    specs.sort_by_key(|spec| spec.name == "LeaveForm");
    for spec in specs.iter().filter(|spec| spec.credential.is_session()) {
        let path = path_of(spec, GpuId::from_bytes([1; 16]));
        let answer = match spec.method {
            Method::Get => net.page(who, &path).await,
            _ => net.form(who, &path, &[]).await,
        };
        if !lacks_a_factor(&answer) {
            opened.push(spec.name);
        }
        asked += 1;
    }
    assert!(asked > 20, "only {asked} routes ask for a session");
    opened.sort_unstable();
    opened
}

#[tokio::test(flavor = "multi_thread")]
async fn one_factor_opens_the_own_account_and_nothing_else_until_there_are_two() {
    let net = start().await;
    // The operator, who may do most, by the very first link.
    let half = net.operator.clone();
    let account = net.page(&half, "/account").await;
    assert_eq!(account.status, 200, "{}", account.text());
    assert!(account.text().contains("One more factor") && account.text().contains("Add a passkey"));
    assert_eq!(opened(&net, &half).await, OPEN);
    let declared: Vec<_> =
        endpoints::ALL.iter().map(|d| d.spec).filter(|s| s.credential == Credential::AnySession).collect();
    assert_eq!(declared.len(), OPEN.len(), "a route was declared to take one factor");
    // What anybody may see is there, and the page to sign in at offers the passkey.
    let net = {
        net.stop().await;
        start().await
    };
    let half = net.operator.clone();
    assert_eq!(net.page(&half, "/").await.status, 200);
    assert!(net.page(&half, "/signin").await.text().contains("Sign in with a passkey"));

    let mut own = passkey::added(&net, &half).await;
    // Having added it is not having shown it.
    assert!(lacks_a_factor(&net.page(&half, "/console").await));
    assert!(net.page(&half, "/account").await.text().contains("Go on to sign in"));
    let whole = passkey::signed_in(&net, &half, &mut own).await;
    assert_eq!(net.page(&half, "/account").await.status, 401, "the session of one factor goes on");
    let console = net.page(&whole, "/console").await;
    assert_eq!(console.status, 200, "{}", console.text());
    let page = net.form(&whole, "/console/invite", &[("role", "supplier"), ("name", "Ada")]).await;
    assert_eq!(page.status, 200, "{}", page.text());
    assert_eq!(
        opened(&net, &whole).await.len(),
        endpoints::ALL.iter().filter(|d| d.spec.credential.is_session()).count()
    );
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_half_in_approves_nothing_and_is_written_down() {
    let net = start().await;
    let mut own = passkey::added(&net, &net.operator).await;
    let operator = passkey::signed_in(&net, &net.operator, &mut own).await;
    // Somebody holds a link that was meant for a supplier: no machine of theirs comes in by it.
    let half = net.invite_as(&operator, "supplier", "Ada").await;
    let key = net::new_key();
    let request = EnrolmentRequest {
        public_key: key.public(),
        kind: KeyKind::Machine,
        host: gangline_types::Label::new("testhost").unwrap(),
        summary: gangline_types::Text::new("a test").unwrap(),
    };
    let ticket: EnrolmentTicket = net.call(&key, "POST", "/api/v1/enrolments", &request).await.json();
    assert!(lacks_a_factor(&net.page(&half, &format!("/approve?code={}", ticket.user_code)).await));
    let fields = [("enrolment", ticket.enrolment.to_string()), ("decision", "approve".to_owned())];
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    assert!(lacks_a_factor(&net.form(&half, "/approve", &fields).await));
    let poll = EnrolmentPoll { enrolment: ticket.enrolment, public_key: key.public() };
    let state: EnrolmentState = net.call(&key, "POST", "/api/v1/enrolments/poll", &poll).await.json();
    assert_eq!(state, EnrolmentState::Pending);
    // Each attempt is written down with who it was; nobody is frozen for it.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let page = net.page(&operator, "/console/security?code=second_factor").await.text();
        if page.contains("second_factor") && page.contains("in a browser") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "the attempt was not written down: {page}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let mut whole = passkey::added(&net, &half).await;
    let ada = passkey::signed_in(&net, &half, &mut whole).await;
    net.enrol(&ada, KeyKind::Machine).await;

    // Whoever has lost their passkey is let in by another link, as whoever never had one; the old session goes on.
    let again = {
        let console = net.page(&operator, "/console").await.text();
        let row = console
            .split("<tr>")
            .find(|row| row.contains("<bdi>Ada</bdi>") && row.contains("name=\"account\""));
        let account = net::hidden(row.expect("a row of the account"), "account");
        let page = net.form(&operator, "/console/invite", &[("account", &account)]).await.text();
        let at = page.find("/enter/").unwrap_or_else(|| panic!("no link in {page}"));
        net.enter(&format!("{}{}", net.origin, &page[at..at + "/enter/".len() + 64])).await
    };
    assert!(lacks_a_factor(&net.page(&again, "/console").await));
    let mut new = passkey::added(&net, &again).await;
    let back = passkey::signed_in(&net, &again, &mut new).await;
    assert_eq!(net.page(&back, "/console").await.status, 200);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_could_show_two_factors_it_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        public_url: Some("http://192.0.2.7:7700".into()),
        second_factor: SecondFactor::Required,
        ..net::quick_config(folder.path())
    };
    let Err(error) = serve(config).await else { panic!("two factors are asked for, and nobody has two") };
    assert!(error.to_string().contains("nobody could show two factors"), "{error}");
}
