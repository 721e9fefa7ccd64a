//! Acts that take an approval: nobody does them alone by a browser or by a key, they are done once as they stood on the
//! page, and whoever is the only operator waits instead of being locked out.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

mod net;

use gangline_guard::log::{
    Entry, Event, TilePath,
    tiles::{bundle_entries, paths_of},
};
use gangline_server::Config;
use gangline_types::{AdapterKind, ApprovalId, FreezeId};
use gangline_wire::api::enrol::KeyKind;
use net::{Answer, Browser, Net, quick_config};

async fn start() -> Net {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { alone_delay_seconds: 3, ..quick_config(folder.path()) };
    Net::start_in(folder, config).await
}

/// The page of approvals for somebody.
async fn page(net: &Net, who: &Browser) -> String {
    let page = net.page(who, "/console/approvals").await;
    assert_eq!(page.status, 200, "{}", page.text());
    page.text()
}

/// Dangerous acts in the public log, a line each, once the last of them is done.
async fn acts(net: &Net) -> Vec<String> {
    for _ in 0..300 {
        let text = net.get("/log/checkpoint").await.text();
        let size: u64 = text.lines().nth(1).unwrap().parse().unwrap();
        let mut acts = Vec::new();
        for path in paths_of(size) {
            let TilePath::Entries { width, .. } = path else { continue };
            let bytes = net.get(&format!("/log/tile/{path}")).await.body;
            for entry in bundle_entries(&bytes, width).unwrap() {
                if let Event::DangerousAct { act, approver, step } = Entry::from_bytes(&entry).unwrap().event
                {
                    acts.push(format!("{act} {} {step}", approver.as_str()));
                }
            }
        }
        if acts.iter().any(|act| act == "thaw another done") {
            return acts;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("it never came into the log");
}

/// The act on the page that is not among those known so far.
async fn new_act(net: &Net, known: &mut Vec<ApprovalId>) -> ApprovalId {
    let page = page(net, &net.operator).await;
    let rows = page.split("<tr id=\"").skip(1).map(|row| row[..30].parse().unwrap());
    let fresh: Vec<ApprovalId> = rows.filter(|act| !known.contains(act)).collect();
    let [act] = fresh[..] else { panic!("{fresh:?} are new in {page}") };
    known.push(act);
    act
}

fn link_in(net: &Net, answer: &Answer) -> String {
    let text = answer.text();
    let at = text.find("/enter/").unwrap_or_else(|| panic!("no link in {text}"));
    format!("{}{}", net.origin, &text[at..at + "/enter/".len() + 64])
}

/// The only operator makes another: approved by oneself, done after the delay, with the form that was kept.
async fn second_operator(net: &Net, known: &mut Vec<ApprovalId>) -> Browser {
    let fields = [("role", "operator"), ("name", "Ben")];
    let asked = net.form(&net.operator, "/console/invite", &fields).await;
    assert_eq!((asked.status, asked.header("location")), (303, Some("/console/approvals")));
    let act = new_act(net, known).await;
    let shown = page(net, &net.operator).await;
    assert!(
        shown.contains("a link for a new operator &quot;Ben&quot;")
            || shown.contains("a link for a new operator &#34;Ben&#34;"),
        "{shown}"
    );
    assert!(shown.contains("there is no other operator"), "{shown}");
    // Asking once more asks once.
    assert_eq!(net.form(&net.operator, "/console/invite", &fields).await.status, 303);
    assert_eq!(page(net, &net.operator).await.matches("<tr id=").count(), known.len());
    assert_eq!(net.decide(&net.operator, act, "approve").await.status, 303);
    let early = net.form(&net.operator, "/console/invite", &fields).await;
    assert_eq!(early.status, 303, "done before the delay: {}", early.text());
    let since = std::time::Instant::now();
    loop {
        let answer = net.form(&net.operator, "/console/invite", &fields).await;
        if answer.status == 200 {
            assert!(since.elapsed().as_secs() < 60);
            return net.enter(&link_in(net, &answer)).await;
        }
        assert!(since.elapsed().as_secs() < 60, "never done: {}", answer.status);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_wide_freeze_is_lifted_by_two_and_not_by_one() {
    let net = start().await;
    let ada = net.invite("supplier", "Ada").await;
    let (machine, gpu) = net.machine(&ada, "llvmpipe", AdapterKind::Software).await;
    let mut known = Vec::new();
    let ben = second_operator(&net, &mut known).await;

    let frozen = net
        .form(&net.operator, "/console/security/freezes", &[("target", "fleet"), ("reason", "a test")])
        .await;
    assert_eq!(frozen.status, 303, "{}", frozen.text());
    let label = serde_json::json!({"label": "x"});
    let path = format!("/api/v1/gpus/{gpu}/label");
    assert_eq!(net.call(&machine, "PUT", &path, &label).await.error().code, "frozen");
    let shown = net.page(&net.operator, "/console/security").await.text();
    let at = shown.find("frz_").unwrap();
    let freeze: FreezeId = shown[at..at + 30].parse().unwrap();
    let lift = format!("/console/security/freezes/{freeze}/lift");

    // One asks, and does not approve; a supplier does not even see it.
    assert_eq!(net.form(&net.operator, &lift, &[]).await.header("location"), Some("/console/approvals"));
    let act = new_act(&net, &mut known).await;
    // People are told that it waits, by the same way as of every incident, until it is decided.
    let waits = |page: String| page.contains("waits for another operator") && page.contains(&act.to_string());
    assert!(waits(net.page(&net.operator, "/console/security").await.text()), "nobody learns of it");
    let own = net.decide(&net.operator, act, "approve").await;
    assert_eq!(own.status, 403, "whoever asked approved: {}", own.text());
    assert_eq!(net.decide(&ada, act, "approve").await.status, 404);
    assert_eq!(net.call(&machine, "PUT", &path, &label).await.error().code, "frozen");
    assert!(!page(&net, &net.operator).await.contains("value=\"approve\""), "a button that would be refused");
    // The other cannot do what the first asked for, either: it is asked for anew.
    assert_eq!(net.form(&ben, &lift, &[]).await.status, 303);
    let bens = new_act(&net, &mut known).await;
    assert_eq!(net.decide(&ben, bens, "decline").await.status, 303);
    let declined = net.form(&ben, &lift, &[]).await;
    assert_eq!(declined.status, 403, "{}", declined.text());

    let told = net.decide(&ben, act, "approve").await;
    assert!(!waits(net.page(&net.operator, "/console/security").await.text()), "it is told of for ever");
    assert_eq!(told.header("location"), Some("/console/approvals"));
    let done = told.header("set-cookie").unwrap_or_default().to_owned();
    assert!(done.starts_with("__Host-gangline-done=approved;"), "{done}");
    assert!(page(&net, &net.operator).await.contains("Do it now"));
    assert!(!page(&net, &ben).await.contains("Do it now"), "somebody else's form");
    assert_eq!(net.form(&net.operator, &lift, &[]).await.header("location"), Some("/console/security"));
    assert_eq!(net.call(&machine, "PUT", &path, &label).await.status, 200);

    // Once: another freeze of the fleet takes another approval, and so does the same act by the same person.
    assert_eq!(net.form(&net.operator, &lift, &[]).await.status, 404, "a freeze that is over");
    let twice = net.decide(&ben, act, "approve").await;
    assert_eq!(twice.status, 409, "{}", twice.text());

    // All of it stands in the log, for anyone.
    let kinds = acts(&net).await;
    for step in ["asked", "approved", "declined", "done"] {
        assert!(kinds.contains(&format!("thaw another {step}")), "{step} is not in {kinds:?}");
    }
    assert!(kinds.contains(&"invite alone done".to_owned()), "{kinds:?}");
    net.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_line_asks_for_is_confirmed_in_a_browser() {
    let net = start().await;
    let key = net.enrol(&net.operator, KeyKind::CommandLine).await;
    let other = net.enrol(&net.operator, KeyKind::CommandLine).await;
    let eve = net.invite("renter", "Eve").await;
    let wish = |doer: &gangline_wire::SigningKey| serde_json::json!({"doer": {"key": doer.public().id()}, "since": 1, "dry_run": false});
    let path = "/api/v1/operate/restore";
    let refused = net.call(&key, "POST", path, &wish(&key)).await;
    assert_eq!(refused.status, 403);
    let error = refused.error();
    let asked = error.approval.clone().unwrap();
    assert_eq!(error.code, "approval_needed");
    assert_eq!(asked.address, format!("{}/console/approvals#{}", net.origin, asked.approval));
    let again = net.call(&key, "POST", path, &wish(&key)).await.error();
    assert_eq!(again.approval, Some(asked.clone()), "asking twice asks once");

    // The page says which key, and what exactly.
    let shown = page(&net, &net.operator).await;
    for part in [key.public().fingerprint(), format!("names given by {} since 1", key.public().id())] {
        assert!(shown.contains(&part), "{part} is not in {shown}");
    }
    assert_eq!(net.decide(&eve, asked.approval, "approve").await.status, 404);
    assert_eq!(net.decide(&net.operator, asked.approval, "approve").await.status, 303);
    // Of this, by this key, once.
    for (who, what) in [(&key, &other), (&other, &key)] {
        let code = net.call(who, "POST", path, &wish(what)).await.error().code;
        assert_eq!(code, "approval_needed", "another act, or another key");
    }
    assert_eq!(net.call(&key, "POST", path, &wish(&key)).await.status, 200);
    let once = net.call(&key, "POST", path, &wish(&key)).await.error();
    assert_eq!(once.code, "approval_needed");
    let declined = once.approval.unwrap().approval;
    assert_ne!(declined, asked.approval);
    assert_eq!(net.decide(&net.operator, declined, "decline").await.status, 303);
    assert_eq!(net.call(&key, "POST", path, &wish(&key)).await.error().code, "approval_declined");
    // What stops is quick: one key is frozen by a command line at once, the whole fleet is not.
    let freeze = |target: String| serde_json::json!({"target": target, "reason": "a test", "dry_run": false});
    let one =
        net.call(&key, "POST", "/api/v1/operate/freezes", &freeze(other.public().id().to_string())).await;
    assert_eq!(one.status, 200, "{}", one.text());
    let all = net.call(&key, "POST", "/api/v1/operate/freezes", &freeze("fleet".into())).await;
    assert_eq!(all.error().code, "approval_needed");
    net.stop().await;
}
