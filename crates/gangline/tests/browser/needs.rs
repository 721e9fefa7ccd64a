//! What these tests need is found, or said to be missing; a fault that is there is seen.

use std::ffi::OsStr;

use crate::{
    chromium::{AXE_VARIABLE, Driver, program, rules},
    faults::{Axe, said, too_wide},
    net::Net,
};

#[test]
fn a_missing_browser_or_rule_is_an_error_with_its_cure() {
    let folder = tempfile::tempdir().unwrap();
    let problem = program("chromedriver", folder.path().as_os_str()).unwrap_err();
    assert!(problem.contains("chromedriver is not on the PATH") && problem.contains("--only browser"));
    let problem = rules(None).unwrap_err();
    assert!(problem.contains(AXE_VARIABLE) && problem.contains("--only browser"), "{problem}");
    let problem = rules(Some(OsStr::new("/nowhere/axe.min.js"))).unwrap_err();
    assert!(problem.contains("/nowhere/axe.min.js"), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_faults_are_seen() {
    let (net, driver, axe) = (Net::start().await, Driver::start(), Axe::load());
    let page = driver.open().await;
    page.goto(&net.origin).await;
    page.phone().await;
    assert_eq!(said(&page, 200).await, Vec::<String>::new());
    assert_eq!(too_wide(&page).await, None);
    assert_eq!(axe.faults(&page).await, Vec::<String>::new());

    page.script(
        "const main = document.getElementById('main');
        const image = document.createElement('img');
        image.width = 500;
        image.src = document.querySelector('.brand img').src;
        main.append(image);
        main.setAttribute('style', 'color: red');",
    )
    .await;
    let faults = axe.faults(&page).await;
    assert!(faults.iter().any(|f| f.contains("image-alt")), "{faults:?}");
    let wide = too_wide(&page).await.expect("500 pixels stick out of 390");
    assert!(wide.contains("<img"), "{wide}");
    let said = said(&page, 200).await;
    assert!(said.iter().any(|s| s.contains("Content Security Policy")), "{said:?}");
    page.close().await;
    net.stop().await;
}
