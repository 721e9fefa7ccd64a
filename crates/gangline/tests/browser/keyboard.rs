//! Pages by keyboard alone: a way past the head, "/" for the search, and a focus that is always seen.

use fantoccini::{
    actions::{InputSource, KeyAction, KeyActions},
    key::Key,
};
use gangline_types::{AdapterKind, public::PublicGpu};

use crate::{
    chromium::{Driver, Session},
    net::Net,
    world::SOFTWARE,
};

async fn types(page: &Session, key: char) {
    let strokes = [KeyAction::Down { value: key }, KeyAction::Up { value: key }];
    let strokes =
        strokes.into_iter().fold(KeyActions::new("keyboard".into()), |all, stroke| all.then(stroke));
    page.client.perform_actions(strokes).await.unwrap();
}

/// Whether the element in focus shows it, within the window.
const SEEN: &str = "(e => { const s = getComputedStyle(e), r = e.getBoundingClientRect();
    return e.matches(':focus-visible') && s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2
        && r.width > 0 && r.right > 0 && r.left < innerWidth && r.bottom > 0 && r.top < innerHeight; })
    (document.activeElement)";

#[tokio::test(flavor = "multi_thread")]
async fn the_explorer_is_used_by_keyboard_alone() {
    let (net, driver) = (Net::start().await, Driver::start());
    let ada = net.invite("supplier", "Ada").await;
    let (_, gpu) = net.machine(&ada, SOFTWARE, AdapterKind::Software).await;
    net.until(&format!("/api/v1/public/gpus/{gpu}"), |_: &PublicGpu| true).await;
    let page = driver.open().await;
    page.goto(&net.origin).await;

    // The first stop leads past the head of the page.
    types(&page, Key::Tab.into()).await;
    assert!(page.holds("document.activeElement.matches('.skip')").await);
    assert!(page.holds(SEEN).await, "the way past the head is not seen");
    types(&page, Key::Enter.into()).await;
    page.until("document.activeElement.id === 'main'").await;

    // Every stop is seen, and each is passed once.
    page.goto(&net.origin).await;
    let mut stops = 0;
    loop {
        types(&page, Key::Tab.into()).await;
        if page.holds("document.activeElement === document.body || document.activeElement.seen").await {
            break;
        }
        stops += 1;
        let stop = page
            .script(
                "document.activeElement.seen = true;
            return document.activeElement.outerHTML.slice(0, 160);",
            )
            .await;
        assert!(page.holds(SEEN).await, "no focus is seen on {stop}");
        assert!(stops < 200, "the keyboard is trapped at {stop}");
    }
    let missed = page.script(
        "return [...document.querySelectorAll('a[href], button, input:not([type=hidden]), summary')]
            .filter(e => !e.seen && e.checkVisibility()).map(e => e.outerHTML.slice(0, 160));",
    );
    assert_eq!(missed.await, serde_json::json!([]), "the keyboard does not reach these");

    // "/" goes to the search, and is text once there.
    page.goto(&net.origin).await;
    types(&page, '/').await;
    assert!(page.holds("document.activeElement.id === 'find' && document.activeElement.value === ''").await);
    assert!(page.holds(SEEN).await, "the search does not show that it is in focus");
    types(&page, '/').await;
    assert!(page.holds("document.activeElement.value === '/'").await);
    types(&page, Key::Backspace.into()).await;
    for letter in "llvm".chars() {
        types(&page, letter).await;
    }
    types(&page, Key::Enter.into()).await;
    page.until("location.search === '?q=llvm'").await;
    assert_eq!(page.count("tr[data-gpu]").await, 1);

    // A head of the table sorts, and says so.
    page.script("document.querySelector('th[scope=col] button').focus();").await;
    types(&page, Key::Enter.into()).await;
    assert_eq!(page.count("th[aria-sort=ascending]").await, 1);
    page.close().await;
    net.stop().await;
}
