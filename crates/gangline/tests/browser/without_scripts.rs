//! Everything that matters works for somebody who runs no scripts.

use gangline_types::{AdapterKind, public::NetworkTotals};
use gangline_wire::api::enrol::{EnrolmentPoll, EnrolmentState, KeyKind};

use crate::{
    chromium::Driver,
    net::Net,
    world::{SOFTWARE, asks, link_to, machine},
};

/// GPUs on a page of the list.
const PAGE: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn the_explorer_and_the_approval_work_without_scripts() {
    let (net, driver) = (Net::start().await, Driver::start());
    let ada = net.invite("supplier", "Ada").await;
    let mut models = vec![(SOFTWARE, AdapterKind::Software); PAGE + 3];
    models[7] = ("A card of its own", AdapterKind::Discrete);
    machine(&net, &ada, &models).await;
    net.until("/api/v1/public/network", |t: &NetworkTotals| t.registered == models.len() as u64).await;
    let page = driver.open_without_scripts().await;

    // The list goes on by links; heads that a script would make into buttons are text.
    page.goto(&net.origin).await;
    assert_eq!(page.count("tr[data-gpu]").await, PAGE);
    assert_eq!(page.count("th button").await, 0, "a script ran");
    page.press("Next page").await;
    page.find("tr[data-gpu]:nth-child(3):last-child").await;
    page.press("First page").await;
    page.find(&format!("tr[data-gpu]:nth-child({PAGE})")).await;

    // The head's search and the list's own.
    page.fill("#find", "of its own\n").await;
    page.find("tr[data-gpu]:only-child").await;
    assert!(page.text("tr[data-gpu]").await.contains("A card of its own"));
    page.find("#q").await.clear().await.unwrap();
    page.fill("#q", "nothing like it").await;
    page.press("Show").await;
    page.find("#gpus .empty").await;

    // Colours: automatic, dark, light, and back to the same page.
    for theme in ["dark", "light", "auto"] {
        page.find(".theme button").await.click().await.unwrap();
        page.find(&format!("html[data-theme={theme}]")).await;
        let url = page.client.current_url().await.unwrap();
        assert_eq!((url.path(), url.query()), ("/", Some("q=nothing+like+it")));
    }

    // Sign in, approve, sign out.
    page.goto(&link_to(&net, "Ada").await).await;
    page.press("Sign in").await;
    page.heading("console").await;
    let (key, ticket) = asks(&net, KeyKind::Machine).await;
    page.goto(&format!("{}/approve", net.origin)).await;
    page.fill("#code", &ticket.user_code).await;
    page.press("Continue").await;
    page.heading("asks for a key").await;
    assert!(page.text("main").await.contains(&key.public().fingerprint()));
    page.press("Approve").await;
    page.heading("Approved").await;
    let poll = EnrolmentPoll { enrolment: ticket.enrolment, public_key: key.public() };
    let state: EnrolmentState = net.call(&key, "POST", "/api/v1/enrolments/poll", &poll).await.json();
    assert_eq!(state, EnrolmentState::Approved);
    page.press("Sign out").await;
    page.heading("Network explorer").await;
    page.close().await;
    net.stop().await;
}
