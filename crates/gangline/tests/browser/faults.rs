//! What must not be wrong with any page: accessibility, width on a phone, and what the console says.

use serde_json::{Value, json};

use crate::chromium::{AXE_VARIABLE, Session, rules};

/// The success criteria of WCAG 2.2, levels A and AA.
const TAGS: [&str; 5] = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];

/// Accessibility rules, read once.
pub struct Axe(String);

impl Axe {
    pub fn load() -> Self {
        let file = std::env::var_os(AXE_VARIABLE);
        Self(rules(file.as_deref()).unwrap_or_else(|problem| panic!("{problem}")))
    }

    /// The rules that the page breaks, with the elements that break them.
    pub async fn faults(&self, page: &Session) -> Vec<String> {
        page.client.execute(&self.0, vec![]).await.unwrap();
        let run = "const [tags, done] = arguments;
            axe.run(document, {runOnly: {type: 'tag', values: tags}, resultTypes: ['violations']})
                .then(r => done({violations: r.violations, passes: r.passes.length}),
                      e => done({failed: String(e)}));";
        let result = page.client.execute_async(run, vec![json!(TAGS)]).await.unwrap();
        assert_eq!(result["failed"], Value::Null, "the rules could not be run");
        assert!(result["passes"].as_u64().unwrap() >= 8, "hardly a rule was run: {result}");
        let of = |violation: &Value| {
            let nodes = violation["nodes"].as_array().unwrap().iter().take(4).map(|n| n["html"].to_string());
            let nodes: Vec<String> = nodes.collect();
            format!("{}: {} at {}", violation["id"], violation["help"], nodes.join(", "))
        };
        result["violations"].as_array().unwrap().iter().map(of).collect()
    }
}

/// What sticks out of the page to the side: the widest such element is named.
pub async fn too_wide(page: &Session) -> Option<String> {
    let sizes = page
        .script(
            "const e = document.documentElement, out = [...document.body.querySelectorAll('*')]
                .filter(n => n.getBoundingClientRect().right > e.clientWidth + 1 && !n.closest('.scroll'))
                .map(n => n.outerHTML.slice(0, 120));
            return [e.scrollWidth, e.clientWidth, out.slice(0, 4)];",
        )
        .await;
    let (scroll, client) = (sizes[0].as_u64().unwrap(), sizes[1].as_u64().unwrap());
    (scroll > client).then(|| format!("{scroll} pixels of content on {client}: {}", sizes[2]))
}

/// What the console said, but for the browser's own word that this page is not a success.
pub async fn said(page: &Session, status: u16) -> Vec<String> {
    let own = format!("the server responded with a status of {status}");
    let mut said = page.console().await;
    if status >= 400 {
        said.retain(|line| !(line.contains("\"network\"") && line.contains(&own)));
    }
    said
}
