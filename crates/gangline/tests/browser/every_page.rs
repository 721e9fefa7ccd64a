//! Every page in dark and light, on a desk and on a phone: accessible, no wider than its screen, and
//! silent in the console. And the weight of a first visit.

use std::path::PathBuf;

use gangline_wire::api::enrol::KeyKind;

use crate::{
    chromium::{Driver, Session},
    faults::{Axe, said, too_wide},
    world::{World, asks, link, link_to},
};

struct Check<'a> {
    world: &'a World,
    axe: Axe,
    shots: Option<PathBuf>,
    faults: Vec<String>,
    pages: usize,
}

impl Check<'_> {
    /// Goes to a page in both themes and checks it.
    async fn goes(&mut self, page: &Session, name: &str, path: &str, status: u16) {
        for theme in ["dark", "light"] {
            page.theme(theme).await;
            page.goto(&format!("{}{path}", self.world.net.origin)).await;
            self.here(page, name, theme, status).await;
        }
    }

    /// Checks the page that is there, as it is.
    async fn here(&mut self, page: &Session, name: &str, theme: &str, status: u16) {
        self.world.beat().await;
        self.pages += 1;
        let shown = "return performance.getEntriesByType('navigation')[0].responseStatus;";
        assert_eq!(page.script(shown).await, status, "{name}");
        assert_eq!(page.script("return document.documentElement.dataset.theme;").await, theme, "{name}");
        let mut faults = said(page, status).await;
        for screen in ["desk", "phone"] {
            if screen == "phone" {
                page.phone().await;
                assert_eq!(page.script("return document.documentElement.clientWidth;").await, 390, "{name}");
            }
            faults.extend(too_wide(page).await.map(|wide| format!("{screen}: {wide}")));
            self.keep(page, &format!("{name}-{theme}-{screen}.png")).await;
            faults.extend(self.axe.faults(page).await.into_iter().map(|fault| format!("{screen}: {fault}")));
        }
        page.desk().await;
        self.faults.extend(faults.into_iter().map(|fault| format!("{name}, {theme}, {fault}")));
    }

    async fn keep(&self, page: &Session, file: &str) {
        if let Some(folder) = &self.shots {
            std::fs::write(folder.join(file), page.client.screenshot().await.unwrap()).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_accessible_fits_a_phone_and_keeps_to_the_policy() {
    let (driver, axe) = (Driver::start(), Axe::load());
    let world = &World::start().await;
    let net = &world.net;
    let shots = std::env::var_os("GANGLINE_SHOTS").map(PathBuf::from);
    let mut check = Check { world, axe, shots, faults: Vec::new(), pages: 0 };

    let anyone = driver.open().await;
    let page = &anyone;
    page.goto(&net.origin).await;
    check.goes(page, "explorer-search", "/?q=llvmpipe", 200).await;
    check.goes(page, "explorer-suspect", "/?standing=suspect", 200).await;
    check.goes(page, "explorer-none", "/?q=gpu_zzzz", 200).await;
    check.goes(page, "gpu-proven", &format!("/gpu/{}", world.proven), 200).await;
    check.goes(page, "gpu-suspect", &format!("/gpu/{}", world.suspect), 200).await;
    check.goes(page, "snapshots", "/snapshots", 200).await;
    check.goes(page, "snapshot", &format!("/snapshots/{}", world.period), 200).await;
    check.goes(page, "api", "/api", 200).await;
    let enter = link(net, &[("role", "renter"), ("name", "Carol")]).await;
    check.goes(page, "enter", enter.strip_prefix(&net.origin).unwrap(), 200).await;
    check.goes(page, "sign-in-needed", "/console", 401).await;
    check.goes(page, "sign-in-to-approve", "/approve?code=ABCD-EFGH", 401).await;
    check.goes(page, "not-found", "/no/such/page", 404).await;
    check.goes(page, "link-used", &format!("/enter/{}", "0".repeat(64)), 410).await;
    check.goes(page, "malformed", "/?standing=odd", 400).await;

    let operator = driver.open().await;
    let page = &operator;
    enters(page, &link_to(net, "operator").await).await;
    check.goes(page, "console-operator", "/console", 200).await;
    page.fill("input[name=name]", "Dora").await;
    page.press("Make a link").await;
    page.find(".fresh pre code").await;
    check.here(page, "console-operator-link", "light", 200).await;
    // Two acts that wait: one that another has to approve would, and one of the operator's command line.
    net.form(&net.operator, "/console/invite", &[("role", "operator"), ("name", "Olga")]).await;
    let key = net.enrol(&net.operator, KeyKind::CommandLine).await;
    let wish = serde_json::json!({"doer": {"key": key.public().id()}, "since": 1, "dry_run": false});
    assert_eq!(
        net.call(&key, "POST", "/api/v1/operate/restore", &wish).await.error().code,
        "approval_needed"
    );
    check.goes(page, "console-approvals", "/console/approvals", 200).await;
    page.press("Decline").await;
    check.here(page, "console-approvals-decided", "light", 200).await;
    operator.close().await;

    let supplier = driver.open().await;
    let page = &supplier;
    enters(page, &link_to(net, "Ada").await).await;
    check.goes(page, "console-supplier", "/console", 200).await;
    check.goes(page, "account", "/account", 200).await;
    check.goes(page, "approve", "/approve", 200).await;
    check.goes(page, "approve-unknown", "/approve?code=2222-2222", 404).await;
    for (theme, decision, heading) in [("dark", "Approve", "Approved"), ("light", "Deny", "Denied")] {
        let (_, ticket) = asks(net, KeyKind::Machine).await;
        let path = format!("/approve?code={}", ticket.user_code);
        check.goes(page, "approve-decide", &path, 200).await;
        page.theme(theme).await;
        page.goto(&format!("{}{path}", net.origin)).await;
        page.press(decision).await;
        page.heading(heading).await;
        check.here(page, &format!("approve-{decision}"), theme, 200).await;
    }
    supplier.close().await;

    let renter = driver.open().await;
    let page = &renter;
    enters(page, &link_to(net, "Bob").await).await;
    check.goes(page, "console-renter", "/console", 200).await;
    let (_, ticket) = asks(net, KeyKind::Machine).await;
    let path = format!("/approve?code={}", ticket.user_code);
    check.goes(page, "approve-refused", &path, 403).await;
    renter.close().await;

    // Last, when there is most to see.
    check.goes(&anyone, "explorer", "/", 200).await;
    only_own_parts(&anyone, &net.origin).await;
    anyone.close().await;

    first_visit(world).await;
    let Check { faults, pages, .. } = check;
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    println!("{pages} pages drawn, each on a desk and on a phone: no fault");
}

/// Signs a browser in by a one-time link.
async fn enters(page: &Session, link: &str) {
    page.goto(link).await;
    page.press("Sign in").await;
    page.heading("console").await;
}

/// Whatever the page loaded came from its own server.
async fn only_own_parts(page: &Session, origin: &str) {
    let loaded = page.script("return performance.getEntriesByType('resource').map(e => e.name);").await;
    let loaded: Vec<&str> = loaded.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(loaded.len() >= 3, "{loaded:?}");
    assert!(loaded.iter().all(|name| name.starts_with(&format!("{origin}/"))), "{loaded:?}");
}

/// The explorer and all that it refers to, as a browser gets it: compressed.
async fn first_visit(world: &World) {
    let mut paths = vec!["/".to_owned()];
    let home = world.net.get("/").await.text();
    paths.extend(parts(&home));
    assert_eq!(paths.len(), 4, "a page, its style, its script and its picture: {paths:?}");
    let mut sum = 0;
    for path in &paths {
        let url = format!("{}{path}", world.net.origin);
        let answer = world.net.http.get(url).header("accept-encoding", "br").send().await.unwrap();
        assert_eq!(answer.headers()["content-encoding"], "br", "{path}");
        let bytes = answer.bytes().await.unwrap().len();
        println!("first visit: {bytes:>6} bytes compressed {path}");
        sum += bytes;
    }
    println!("first visit: {sum:>6} bytes compressed in all");
    assert!(sum < 40_000, "a first visit takes {sum} bytes");
}

/// The assets that a page names, each once.
fn parts(page: &str) -> Vec<String> {
    let mut parts: Vec<String> =
        page.split('"').filter(|value| value.starts_with("/assets/")).map(ToOwned::to_owned).collect();
    parts.sort();
    parts.dedup();
    parts
}
