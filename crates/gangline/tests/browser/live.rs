//! An open page follows the network: figures and standings change under the reader's eyes, without a reload.

use gangline_types::{AdapterKind, public::PublicGpu};

use crate::{
    chromium::{Driver, Session},
    faults::said,
    net::Net,
    world::SOFTWARE,
};

/// What a row or head of a GPU says.
fn of_gpu(part: &str, word: &str) -> String {
    format!("document.querySelector('[data-gpu] [{part}]').textContent === '{word}'")
}
fn total(name: &str, figure: u32) -> String {
    format!("document.querySelector('[data-live={name}]').textContent === '{figure}'")
}

/// Opens a page and marks it; a reload would lose the mark.
async fn opened(driver: &Driver, url: &str) -> Session {
    let page = driver.open().await;
    page.goto(url).await;
    page.script("window.sameDocument = true;").await;
    page.until("document.querySelector('.live.on')").await;
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_explorer_and_gpu_page_follow_beats_and_verdicts() {
    let (net, driver) = (Net::start().await, Driver::start());
    let ada = net.invite("supplier", "Ada").await;
    let (key, gpu) = net.machine(&ada, SOFTWARE, AdapterKind::Software).await;
    net.until(&format!("/api/v1/public/gpus/{gpu}"), |_: &PublicGpu| true).await;
    let explorer = opened(&driver, &net.origin).await;
    let alone = opened(&driver, &format!("{}/gpu/{gpu}", net.origin)).await;
    for page in [&explorer, &alone] {
        assert!(page.holds(&of_gpu("data-link", "away")).await);
        assert!(page.holds(&of_gpu("data-standing", "unproven")).await);
    }
    assert!(explorer.holds(&total("connected", 0)).await);

    net.beat(&key, gpu).await;
    explorer.until(&total("connected", 1)).await;
    while net.prove_once(&key, gpu).await.again {}
    explorer.until(&total("proven", 1)).await;
    for page in [&explorer, &alone] {
        page.until(&of_gpu("data-link", "connected")).await;
        page.until(&of_gpu("data-standing", "proven")).await;
        assert!(page.holds("window.sameDocument").await, "the page was loaded again");
        assert_eq!(said(page, 200).await, Vec::<String>::new());
    }
    explorer.close().await;
    alone.close().await;
    net.stop().await;
}
