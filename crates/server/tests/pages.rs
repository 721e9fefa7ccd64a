//! The pages as browsers use them: a link becomes a session, a session asks and decides, forms of other
//! sites bounce off, and what goes wrong is a page that says so.

#![allow(clippy::unwrap_used)]

mod net;

use gangline_pages::CSP;
use gangline_types::{
    AdapterKind, ClusterId, GpuId, KeyId, Label, MicroCredits, Seconds, Text, cluster::ClusterState,
};
use gangline_wire::api::{cluster::*, enrol::*, machine::*};
use net::{Answer, Browser, Net, hidden, new_key};
use reqwest::{RequestBuilder, Response};

/// An answer with its headers.
struct Page {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Page {
    async fn of(request: RequestBuilder) -> Self {
        let response: Response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

fn url(net: &Net, path: &str) -> String {
    format!("{}{path}", net.origin)
}

/// A form as a browser without a session sends it.
fn form(net: &Net, path: &str, body: &str) -> RequestBuilder {
    let form = net.http.post(url(net, path)).header("content-type", "application/x-www-form-urlencoded");
    form.header("origin", &net.origin).body(body.to_owned())
}

/// A new link's path, made by the operator.
async fn link(net: &Net, fields: &[(&str, &str)]) -> String {
    let page = net.form(&net.operator, "/console/invite", fields).await;
    assert_eq!(page.status, 200, "{}", page.text());
    let text = page.text();
    let at = text.find("/enter/").unwrap();
    text[at..at + "/enter/".len() + 64].to_owned()
}

/// Waits until the operator's console holds what was refused: it is written down beside the answers.
async fn operator_sees(net: &Net, holds: impl Fn(&str) -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        let console = net.page(&net.operator, "/console").await.text();
        if holds(&console) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "the operator never saw it: {console}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn ask(net: &Net, key: &gangline_wire::SigningKey, kind: KeyKind) -> EnrolmentTicket {
    let request = EnrolmentRequest {
        public_key: key.public(),
        kind,
        host: Label::new("<b>host</b>").unwrap(),
        summary: Text::new("Debian 12, 2 cores").unwrap(),
    };
    net.call(key, "POST", "/api/v1/enrolments", &request).await.json()
}

async fn state(net: &Net, key: &gangline_wire::SigningKey, ticket: &EnrolmentTicket) -> EnrolmentState {
    let poll = EnrolmentPoll { enrolment: ticket.enrolment, public_key: key.public() };
    net.call(key, "POST", "/api/v1/enrolments/poll", &poll).await.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn public_pages_answer_under_the_policy_and_errors_are_pages() {
    let net = Net::start().await;
    for path in ["/", "/?q=RTX&standing=proven", "/snapshots", "/snapshots?from=0", "/api"] {
        let page = Page::of(net.http.get(url(&net, path))).await;
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        assert!(page.header("content-type").starts_with("text/html"), "{path}");
        assert_eq!(page.header("content-security-policy"), CSP, "{path}");
        // The front page is the same for everybody: a browser keeps it, and asks each time whether it still holds.
        let kept = if path == "/" { "no-cache" } else { "no-store" };
        assert_eq!(page.header("cache-control"), kept, "{path}");
        assert_eq!(page.header("x-content-type-options"), "nosniff", "{path}");
        // Anything stricter makes browsers send forms from nowhere.
        assert_eq!(page.header("referrer-policy"), "same-origin", "{path}");
        assert!(page.headers.get("set-cookie").is_none(), "{path} sets a cookie");
    }
    let check = async |path: &str, status: u16, words: &str| {
        let page = Page::of(net.http.get(url(&net, path))).await;
        assert_eq!(page.status, status, "{path}: {}", page.text);
        assert!(
            page.text.starts_with("<!doctype html>") && page.text.contains(words),
            "{path}: {}",
            page.text
        );
        assert_eq!(page.header("content-security-policy"), CSP, "{path}");
    };
    check(&format!("/gpu/{}", GpuId::from_bytes([1; 16])), 404, "not_found").await;
    check("/gpu/gpu_';DROP TABLE gpu;--", 404, "not_found").await;
    check("/snapshots/4000000000", 404, "not_found").await;
    check("/snapshots/x", 404, "not_found").await;
    check("/no/such/page", 404, "not_found").await;
    check("/?standing=<script>", 400, "malformed").await;
    check("/console", 401, "Please sign in").await;
    check("/approve?code=ABCD-EFGH", 401, "sign in first").await;
    let elsewhere = Page::of(net.http.get(url(&net, "/")).header("host", "evil.example")).await;
    assert_eq!(elsewhere.status, 421);
    assert!(elsewhere.text.contains("other_authority"));
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn assets_are_kept_for_ever_and_compressed_for_those_who_can() {
    let net = Net::start().await;
    let home = net.get("/").await.text();
    for asset in gangline_pages::assets() {
        assert!(home.contains(&asset.path), "{} is not referred to", asset.path);
        let plain = net.http.get(url(&net, &asset.path)).send().await.unwrap();
        assert_eq!(plain.headers()["content-type"], asset.content_type);
        assert_eq!(plain.headers()["cache-control"], "public, max-age=31536000, immutable");
        assert!(plain.headers().get("content-encoding").is_none());
        assert_eq!(plain.bytes().await.unwrap(), asset.bytes);
        let small = net.http.get(url(&net, &asset.path)).header("accept-encoding", "gzip, br");
        let small = small.send().await.unwrap();
        assert_eq!(small.headers()["content-encoding"], "br");
        assert_eq!(small.headers()["vary"], "accept-encoding");
        assert_eq!(small.bytes().await.unwrap(), asset.brotli);
    }
    let page = net.http.get(url(&net, "/")).header("accept-encoding", "br").send().await.unwrap();
    assert_eq!(page.headers()["content-encoding"], "br");
    let gone = Page::of(net.http.get(url(&net, "/assets/app.000000000000.css"))).await;
    assert_eq!(gone.status, 404);
    assert!(!gone.header("cache-control").contains("immutable"), "an error would be kept for ever");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_theme_is_remembered_and_leads_back_to_this_site_only() {
    let net = Net::start().await;
    for (back, location) in [
        ("/snapshots%3Ffrom%3D0", "/snapshots?from=0"),
        ("https%3A%2F%2Fevil.example", "/"),
        ("%2F%2Fevil.example", "/"),
        ("%2F%5Cevil.example", "/"),
        ("%2F%09%2Fevil.example", "/"),
        ("%2F%0D%0ASet-Cookie%3A%20a%3Db", "/"),
    ] {
        let page = Page::of(form(&net, "/theme", &format!("theme=dark&back={back}"))).await;
        assert_eq!((page.status, page.header("location")), (303, location), "{back}");
        let cookie = page.header("set-cookie");
        assert_eq!(cookie, "gangline-theme=dark; Path=/; Max-Age=31536000; SameSite=Lax");
    }
    let odd = Page::of(form(&net, "/theme", "theme=%22%3E%3Cscript%3E&back=/")).await;
    assert!(odd.header("set-cookie").starts_with("gangline-theme=auto;"));
    let dark = Page::of(net.http.get(url(&net, "/")).header("cookie", "a=b; gangline-theme=dark")).await;
    assert!(dark.text.contains("data-theme=\"dark\""));
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_did_is_told_on_the_front_page_to_them_alone() {
    let net = Net::start().await;
    let (told, done) = ("The session is ended.", "__Host-gangline-done=session-ended");
    for _ in 0..3 {
        let theirs = Page::of(net.http.get(url(&net, "/")).header("cookie", done)).await;
        assert!(theirs.text.contains(told), "not told: {}", theirs.text);
        let others = net.get("/").await.text();
        assert!(others.contains("<h1") && !others.contains(told), "told to others");
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_shown_opened_and_used_once() {
    let net = Net::start().await;
    let enter = link(&net, &[("role", "supplier"), ("name", "<i>Ada</i>")]).await;
    let console = net.page(&net.operator, "/console").await.text();
    assert!(!console.contains("/enter/"), "a link is shown a second time");
    assert!(console.contains("&lt;i&gt;Ada&lt;/i&gt;") && !console.contains("<i>Ada"));

    // Looking at it changes nothing.
    for _ in 0..2 {
        let page = Page::of(net.http.get(url(&net, &enter))).await;
        assert_eq!(page.status, 200, "{}", page.text);
        assert!(page.text.contains("Sign in as supplier"), "{}", page.text);
        assert!(page.headers.get("set-cookie").is_none());
    }
    // A form of another site does not use it either.
    for (name, value) in
        [("origin", "https://evil.example"), ("origin", "null"), ("sec-fetch-site", "cross-site")]
    {
        let request = net.http.post(url(&net, &enter)).header(name, value).body("");
        let page = Page::of(request).await;
        assert_eq!(page.status, 403, "{name}: {value}");
        assert!(page.headers.get("set-cookie").is_none() && page.text.contains("csrf"), "{}", page.text);
    }
    let used = Page::of(form(&net, &enter, "")).await;
    assert_eq!((used.status, used.header("location")), (303, "/console"));
    let cookie = used.header("set-cookie");
    let (pair, flags) = cookie.split_once("; ").unwrap();
    assert_eq!(flags, "Path=/; Secure; HttpOnly; SameSite=Lax");
    assert!(pair.starts_with("__Host-gangline=") && !enter.contains(&pair["__Host-gangline=".len()..]));

    for request in [net.http.get(url(&net, &enter)), form(&net, &enter, "")] {
        let again = Page::of(request).await;
        assert_eq!(again.status, 410);
        assert!(
            again.text.contains("link_used") && again.text.contains("sk the operator for a new one"),
            "{}",
            again.text
        );
        assert!(again.headers.get("set-cookie").is_none());
    }
    for never in ["/enter/x".to_owned(), format!("/enter/{}", "0".repeat(64))] {
        assert_eq!(net.get(&never).await.status, 410, "{never}");
    }
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_links_is_slowed_down() {
    let net = Net::start().await;
    for n in 0..200 {
        let page = Page::of(net.http.get(url(&net, &format!("/enter/{n:064x}")))).await;
        if page.status == 429 {
            assert!(page.header("retry-after").parse::<u64>().unwrap() > 0);
            assert!(page.text.contains("too_many") && page.text.contains("Try again in"), "{}", page.text);
            net.stop().await;
            return;
        }
        assert_eq!(page.status, 410);
    }
    panic!("200 links could be tried at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_count_only_with_their_sessions_own_token() {
    let net = Net::start().await;
    let supplier = net.invite("supplier", "Ada").await;
    let renter = net.invite("renter", "Bob").await;
    let stolen = Browser { cookie: renter.cookie.clone(), csrf: supplier.csrf.clone() };
    let without = Browser { csrf: String::new(), ..renter.clone() };
    for (who, case) in [(&stolen, "another session's token"), (&without, "no token")] {
        let answer = net.form(who, "/leave", &[]).await;
        assert_eq!(answer.status, 403, "{case}: {}", answer.text());
        assert!(answer.text().contains("csrf"));
    }
    let body = format!("csrf={}", renter.csrf);
    let crossing = [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ];
    for (name, value) in crossing {
        let request = net.http.post(url(&net, "/leave")).header("cookie", &renter.cookie).header(name, value);
        assert_eq!(Page::of(request.body(body.clone())).await.status, 403, "{name}: {value}");
    }
    assert_eq!(net.page(&renter, "/console").await.status, 200, "one of these ended the session");

    // The operator sees each of them.
    operator_sees(&net, |console| console.matches(">csrf<").count() >= 5).await;

    let left = form(&net, "/leave", &body).header("cookie", &renter.cookie);
    let left = Page::of(left).await;
    assert_eq!((left.status, left.header("location")), (303, "/"));
    assert_eq!(
        left.header("set-cookie"),
        "__Host-gangline=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"
    );
    assert_eq!(net.page(&renter, "/console").await.status, 401, "the session lives on");
    assert_eq!(net.page(&supplier, "/console").await.status, 200);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_looked_at_and_decided_once_by_whom_it_concerns() {
    let net = Net::start().await;
    let supplier = net.invite("supplier", "Ada").await;
    let renter = net.invite("renter", "Bob").await;
    let key = new_key();
    let ticket = ask(&net, &key, KeyKind::Machine).await;

    let empty = net.page(&supplier, "/approve").await;
    assert!(empty.status == 200 && empty.text().contains("Approve a new key"));
    for wrong in ["2222-2222", "x", "%00%3Cscript%3E"] {
        let page = net.page(&supplier, &format!("/approve?code={wrong}")).await;
        assert_eq!(page.status, 404, "{wrong}");
        assert!(
            page.text().contains("No key asks with this code") && !page.text().contains("<script>"),
            "{}",
            page.text()
        );
    }
    // A renter may not take machines in, and is told who may.
    let shown = format!("/approve?code={}", ticket.user_code.to_lowercase().replace('-', ""));
    let refused = net.page(&renter, &shown).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("only a supplier"), "{}", refused.text());
    let enrolment = ticket.enrolment.to_string();
    let fields = |decision| [("enrolment", enrolment.as_str()), ("decision", decision)];
    assert_eq!(net.form(&renter, "/approve", &fields("approve")).await.status, 403);

    let page = net.page(&supplier, &shown).await.text();
    for part in [&ticket.user_code, &key.public().fingerprint(), "Ada", "&lt;b&gt;host", "Debian 12, 2 cores"]
    {
        assert!(page.contains(part), "the page does not show {part}: {page}");
    }
    assert_eq!(hidden(&page, "enrolment"), enrolment);
    assert_eq!(net.form(&supplier, "/approve", &fields("perhaps")).await.status, 400);
    assert_eq!(state(&net, &key, &ticket).await, EnrolmentState::Pending);

    let approved = net.form(&supplier, "/approve", &fields("approve")).await;
    assert!(approved.status == 200 && approved.text().contains("Approved"), "{}", approved.text());
    assert_eq!(state(&net, &key, &ticket).await, EnrolmentState::Approved);
    let again = net.form(&supplier, "/approve", &fields("deny")).await;
    assert_eq!(again.status, 409, "{}", again.text());
    assert_eq!(net.page(&supplier, &shown).await.status, 404, "a used code still shows something");

    let other = new_key();
    let ticket = ask(&net, &other, KeyKind::CommandLine).await;
    let id = ticket.enrolment.to_string();
    let denied = net.form(&renter, "/approve", &[("enrolment", &id), ("decision", "deny")]).await;
    assert!(denied.status == 200 && denied.text().contains("Denied"));
    assert_eq!(state(&net, &other, &ticket).await, EnrolmentState::Denied);
    let unknown = gangline_types::EnrolmentId::from_bytes([9; 16]).to_string();
    assert_eq!(
        net.form(&renter, "/approve", &[("enrolment", &unknown), ("decision", "deny")]).await.status,
        404
    );
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_codes_is_slowed_down_for_each_account() {
    let net = Net::start().await;
    let (supplier, other) = (net.invite("supplier", "Ada").await, net.invite("supplier", "Bea").await);
    let mut statuses = Vec::new();
    while statuses.last() != Some(&429) && statuses.len() < 200 {
        statuses.push(net.page(&supplier, "/approve?code=2222-2222").await.status);
    }
    assert_eq!(statuses.last(), Some(&429), "200 codes could be tried at once");
    assert_eq!(net.page(&other, "/approve?code=2222-2222").await.status, 404);
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_operator_invites_and_names_whom() {
    let net = Net::start().await;
    let supplier = net.invite("supplier", "Ada").await;
    let refused = net.form(&supplier, "/console/invite", &[("role", "operator"), ("name", "x")]).await;
    assert_eq!(refused.status, 403, "{}", refused.text());

    let unknown = gangline_types::AccountId::from_bytes([9; 16]).to_string();
    for (fields, status) in [
        (vec![], 422),
        (vec![("name", "nobody")], 422),
        (vec![("role", "supplier"), ("account", unknown.as_str())], 422),
        (vec![("account", unknown.as_str())], 404),
        (vec![("role", "king")], 400),
        (vec![("account", "acct_'--")], 400),
        (vec![("role", "supplier"), ("name", "a\u{202e}b")], 400),
    ] {
        let answer = net.form(&net.operator, "/console/invite", &fields).await;
        assert_eq!(answer.status, status, "{fields:?}: {}", answer.text());
        assert!(!answer.text().contains("/enter/"), "{fields:?}");
    }

    // A further link signs in to the same account.
    let console = net.page(&net.operator, "/console").await.text();
    let row = console.split("<tr>").find(|row| row.contains("<bdi>Ada</bdi>")).unwrap();
    let account = hidden(row, "account");
    let enter = link(&net, &[("account", &account)]).await;
    let again = net.enter(&url(&net, &enter)).await;
    assert_ne!(again.cookie, supplier.cookie);
    let console = net.page(&again, "/console").await.text();
    assert!(
        console.contains("Supplier&#39;s console") || console.contains("Supplier's console"),
        "{console}"
    );
    assert_eq!(net.page(&supplier, "/console").await.status, 200, "the first session ended");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_changes_what_is_its_own_and_nothing_else() {
    let net = Net::start().await;
    let (ada, eve) = (net.invite("supplier", "Ada").await, net.invite("supplier", "Eve").await);
    let (key, gpu) = net.machine(&ada, "llvmpipe", AdapterKind::Software).await;
    net.beat(&key, gpu).await;
    net.until::<gangline_types::public::PublicGpu>(&format!("/api/v1/public/gpus/{gpu}"), |g| g.connected)
        .await;

    // Names: the owner's, shown at once to the owner and soon to all; hostile text stays text.
    let path = format!("/console/gpus/{gpu}/label");
    assert_eq!(net.form(&eve, &path, &[("label", "mine now")]).await.status, 404);
    assert_eq!(net.form(&net.operator, &path, &[("label", "mine now")]).await.status, 404);
    assert_eq!(net.form(&ada, &path, &[("label", "<script>alert(1)</script>")]).await.status, 303);
    let console = net.page(&ada, "/console").await.text();
    assert!(console.contains("&lt;script&gt;alert(1)") && !console.contains("<script>alert"), "{console}");
    for part in ["testhost", "connected", "Debian 12", &key.public().fingerprint(), &gpu.to_string()] {
        assert!(console.contains(part), "the console does not show {part}: {console}");
    }
    let named: fn(&gangline_types::public::PublicGpu) -> bool = |g| g.label.as_str().starts_with("<script>");
    net.until(&format!("/api/v1/public/gpus/{gpu}"), named).await;
    for path in [format!("/gpu/{gpu}"), "/".to_owned(), format!("/?q={}", &gpu.to_string()[..12])] {
        let page = net.get(&path).await.text();
        assert!(page.contains(&gpu.to_string()) && !page.contains("<script>alert"), "{path}: {page}");
        assert!(
            !page.contains("mach_") && !page.contains("acct_") && !page.contains("Ada"),
            "{path} shows an owner"
        );
    }
    assert_eq!(net.form(&ada, &path, &[("label", "")]).await.status, 303, "a name cannot be taken away");
    net.until(&format!("/api/v1/public/gpus/{gpu}"), |g: &gangline_types::public::PublicGpu| {
        g.label.as_str().is_empty()
    })
    .await;

    // Keys: the owner's to end; another's are not there.
    let id = key.public().id();
    assert_eq!(net.form(&eve, &format!("/console/keys/{id}/revoke"), &[]).await.status, 404);
    let unknown = format!("/console/keys/{}/revoke", KeyId::from_bytes([9; 16]));
    assert_eq!(net.form(&ada, &unknown, &[]).await.status, 404);
    assert_eq!(net.form(&ada, &format!("/console/keys/{id}/revoke"), &[]).await.status, 303);
    let refused = net.call(&key, "POST", "/api/v1/machine/beats", &serde_json::json!({})).await;
    assert_eq!(refused.error().code, "revoked_key");
    assert!(net.page(&ada, "/console").await.text().contains("revoked"));

    let unknown = format!("/console/clusters/{}/release", ClusterId::from_bytes([9; 16]));
    assert_eq!(net.form(&ada, &unknown, &[]).await.status, 404);
    // What anyone was refused is told to the operator, with its reason, its request and its sender.
    let parts = ["revoked_key", "not_found", "/console/gpus/", "127.0.0.1"];
    operator_sees(&net, |console| parts.iter().all(|part| console.contains(part))).await;
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renter_releases_from_the_console_and_sees_the_receipt() {
    let net = Net::start().await;
    let supplier = net.invite("supplier", "Ada").await;
    let (key, gpu) = net.machine(&supplier, "llvmpipe (LLVM 15.0.6, 256 bits)", AdapterKind::Software).await;
    net.beat(&key, gpu).await;
    for _ in 0..3 {
        assert!(net.prove_once(&key, gpu).await.accepted);
    }
    let offer = Offer {
        gpu,
        price_per_hour: MicroCredits(3_600_000),
        hours_max: 2,
        memory_bytes: 1 << 30,
        cpus_millis: 1000,
    };
    let sync = async |clusters: Vec<ObservedCluster>| -> SyncOrders {
        let report = SyncReport { paused: false, offers: vec![offer.clone()], clusters, wait: Seconds(0) };
        net.call(&key, "POST", "/api/v1/machine/sync", &report).await.json()
    };
    sync(vec![]).await;
    let (bob, eve) = (net.invite("renter", "Bob").await, net.invite("renter", "Eve").await);
    let cli = net.enrol(&bob, KeyKind::CommandLine).await;
    let cluster = net.hire(&cli, gpu).await;
    let seen = |state| ObservedCluster {
        cluster: cluster.id,
        state,
        detail: Text::default(),
        evidence: None,
        receipt_signature: None,
    };
    sync(vec![seen(Observed::Running)]).await;
    for (who, name) in [(&bob, "renter"), (&net.operator, "operator")] {
        let console = net.page(who, "/console").await.text();
        assert!(
            console.contains(&cluster.id.to_string()) && console.contains("running"),
            "{name}: {console}"
        );
    }
    assert!(!net.page(&eve, "/console").await.text().contains("clu_"), "another's cluster is shown");

    let path = format!("/console/clusters/{}/release", cluster.id);
    assert_eq!(net.form(&eve, &path, &[]).await.status, 404);
    assert_eq!(net.form(&supplier, &path, &[]).await.status, 404);
    let released: Answer = net.form(&bob, &path, &[]).await;
    assert_eq!(released.status, 303, "{}", released.text());
    let view: ClusterView =
        net.call(&cli, "GET", &format!("/api/v1/clusters/{}", cluster.id), &()).await.json();
    assert_eq!(view.state, ClusterState::Releasing);
    let orders = sync(vec![seen(Observed::Gone)]).await;
    assert!(matches!(&orders.clusters[..], [Order { want: Want::Sign(_), .. }]), "{orders:?}");
    let console = net.page(&bob, "/console").await.text();
    assert!(console.contains("released by the renter"), "no receipt: {console}");
    assert!(!console.contains("action=\"/console/clusters/"), "it can be released again");
    net.stop().await;
}
