//! What every page keeps to, asked of every page of the gallery with plain and with hostile text.

mod common;

use std::collections::HashSet;

use common::*;
use gangline_pages::*;
use gangline_types::Standing;

/// Characters that act on what stands around them.
const ACTING: [char; 5] = ['\u{202e}', '\u{200b}', '\u{feff}', '\u{1b}', '\0'];

/// One start tag: its name and its attributes, as written.
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
}

impl Tag {
    fn get(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|a| a.0 == name).map(|a| a.1.as_str())
    }
}

/// The start and end tags of a page. It panics on markup that no template of ours writes, such as an
/// attribute without double quotes: then text has become markup.
fn tags(page: &str) -> Vec<Tag> {
    let mut out = Vec::new();
    let mut rest = page;
    while let Some(open) = rest.find('<') {
        let (name_at, text) = (open + 1, &rest[open + 1..]);
        if text.starts_with('!') {
            rest = &rest[name_at..];
            continue;
        }
        let end = text.find(|c: char| c.is_ascii_whitespace() || c == '>').expect("a tag ends");
        let mut tag = Tag { name: text[..end].trim_end_matches('/').to_owned(), attributes: Vec::new() };
        let known = tag.name.trim_start_matches('/');
        assert!(
            !known.is_empty() && known.chars().all(|c| c.is_ascii_alphanumeric()),
            "a tag named {known:?}"
        );
        let mut inner = text[end..].trim_start();
        while !inner.starts_with('>') && !inner.starts_with("/>") {
            let end = inner.find(|c: char| c == '=' || c == '>' || c == '/' || c.is_ascii_whitespace());
            let end = end.expect("an attribute ends");
            let name = inner[..end].to_owned();
            let legal = |c: char| {
                c.is_ascii_lowercase()
                    || c == '-'
                    || matches!(name.as_str(), "viewBox" | "preserveAspectRatio")
            };
            assert!(name.chars().all(legal), "an attribute named {name:?} in <{known}>");
            inner = &inner[end..];
            let mut value = String::new();
            if let Some(quoted) = inner.strip_prefix("=\"") {
                let close = quoted.find('"').expect("a value ends");
                value = quoted[..close].to_owned();
                inner = &quoted[close + 1..];
            } else {
                assert!(!inner.starts_with('='), "attribute {name} of <{known}> has no double quotes");
            }
            tag.attributes.push((name, value));
            inner = inner.trim_start();
        }
        out.push(tag);
        rest = inner;
    }
    out
}

/// Everything that must hold for any page.
fn check(name: &str, page: &str, signed_in: bool) {
    let tags = tags(page);
    let ids: Vec<&str> = tags.iter().filter_map(|t| t.get("id")).collect();
    let unique: HashSet<&str> = ids.iter().copied().collect();
    assert_eq!(ids.len(), unique.len(), "{name}: an id is used twice");

    let mut level = 0;
    let mut scripts = 0;
    let mut form: Option<(bool, bool)> = None;
    for tag in &tags {
        for (attribute, value) in &tag.attributes {
            assert!(attribute != "style", "{name}: <{}> has a style", tag.name);
            assert!(!attribute.starts_with("on"), "{name}: <{}> has {attribute}", tag.name);
            if matches!(attribute.as_str(), "href" | "src" | "action") {
                assert!(
                    value.starts_with('/') && !value.starts_with("//") || value.starts_with('#'),
                    "{name}: {attribute} leads to {value}"
                );
            }
            if let Some(id) = value.strip_prefix('#').filter(|_| attribute == "href") {
                assert!(unique.contains(id), "{name}: link to #{id}, which is not there");
            }
            if matches!(attribute.as_str(), "for" | "aria-labelledby" | "aria-describedby" | "aria-controls")
            {
                for id in value.split(' ') {
                    assert!(unique.contains(id), "{name}: {attribute} names #{id}, which is not there");
                }
            }
        }
        match tag.name.as_str() {
            "style" | "iframe" | "object" | "embed" | "base" => panic!("{name}: holds <{}>", tag.name),
            "script" => {
                scripts += 1;
                assert!(
                    tag.get("src").is_some_and(|s| s.starts_with("/assets/app.")),
                    "{name}: an inline script"
                );
            }
            "h1" | "h2" | "h3" | "h4" => {
                let here: u32 = tag.name[1..].parse().expect("a digit");
                assert!(here <= level + 1, "{name}: h{here} after h{level}");
                assert!(here > 1 || level == 0, "{name}: a second h1");
                level = here;
            }
            "form" => form = Some((tag.get("method") == Some("post"), false)),
            "input" if tag.get("name") == Some("csrf") => {
                let (post, _) = form.expect("a field stands in a form");
                assert!(post, "{name}: the csrf token would go into an address");
                form = Some((post, true));
            }
            "input" | "select" if tag.get("type") != Some("hidden") => {
                let id = tag.get("id").unwrap_or_else(|| panic!("{name}: a field without an id"));
                assert!(
                    tags.iter().any(|t| t.name == "label" && t.get("for") == Some(id)),
                    "{name}: #{id} has no label"
                );
            }
            "/form" => {
                let (post, token) = form.take().expect("a form was open");
                assert!(!signed_in || !post || token, "{name}: a form without csrf");
            }
            _ => {}
        }
    }
    assert!(level > 0, "{name}: no heading");
    assert_eq!(scripts, 1, "{name}: one script, our own");
    for acting in ACTING {
        assert!(!page.contains(acting), "{name}: U+{:04X} came through", acting as u32);
    }
}

/// Whether a page of the gallery is drawn for somebody who is signed in.
fn signed_in(name: &str) -> bool {
    name.starts_with("approve") || matches!(name, "operator" | "supplier" | "renter")
}

#[test]
fn every_page_keeps_to_the_rules() {
    for theme in [Theme::Auto, Theme::Dark, Theme::Light] {
        for (name, page) in gallery(&Words(None), theme) {
            check(name, &page, signed_in(name));
            assert!(page.contains(&format!("data-theme=\"{}\"", theme.as_str())), "{name}");
        }
    }
}

/// The tags of a page with the names of their attributes: what text must not be able to change.
fn skeleton(page: &str) -> Vec<String> {
    let shape = |t: Tag| {
        let attributes: Vec<String> = t.attributes.into_iter().map(|a| a.0).collect();
        format!("{} {}", t.name, attributes.join(" "))
    };
    tags(page).into_iter().map(shape).collect()
}

#[test]
fn hostile_text_is_inert_in_every_field() {
    let harmless = gallery(&Words(Some("harmless".into())), Theme::Dark);
    for hostile in [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "</title></svg></table></form><iframe>",
        "a\u{202e}b\u{200b}c\u{feff}d\u{1b}[31m\0",
        "{{ 7 * 7 }} &lt;b&gt; &#x3c;",
    ] {
        let pages = gallery(&Words(Some(hostile.to_owned())), Theme::Dark);
        for ((name, page), (_, known)) in pages.iter().zip(&harmless) {
            assert_eq!(skeleton(page), skeleton(known), "{name}: {hostile:?} became markup");
            for acting in ACTING {
                assert!(!page.contains(acting), "{name}: U+{:04X} came through", acting as u32);
            }
        }
    }
}

#[test]
fn the_first_visit_is_small() {
    use std::io::Write;
    let page = explorer(&Chrome::default(), &explorer_view(&Words(None), 50));
    let mut brotli = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 20);
    brotli.write_all(page.as_bytes()).expect("writing into a Vec cannot fail");
    let html = brotli.into_inner().len();
    let files: usize = assets().iter().map(|a| a.brotli.len()).sum();
    println!("explorer {html} B, assets {files} B, together {} B", html + files);
    assert!(html + files < 40_000, "the explorer's first visit is {} B", html + files);
}

#[test]
fn assets_are_named_by_their_content() {
    let page = explorer(&Chrome::default(), &empty_explorer());
    for asset in assets() {
        assert!(page.contains(&asset.path), "{} is not used", asset.path);
        let mut plain = Vec::new();
        brotli::BrotliDecompress(&mut asset.brotli.as_slice(), &mut plain).expect("our own compression");
        assert_eq!(plain, asset.bytes, "{}", asset.path);
        assert!(asset.path.contains(&blake3::hash(asset.bytes).to_hex()[..12]));
        let text = String::from_utf8_lossy(asset.bytes);
        for sink in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
        {
            assert!(!text.contains(sink), "{} holds {sink}", asset.path);
        }
        assert!(!text.replace("http://www.w3.org/", "").contains("://"), "{} names another host", asset.path);
    }
}

#[test]
fn the_policy_allows_nothing_inline_and_nobody_else() {
    for directive in CSP.split("; ") {
        let (name, value) = directive.split_once(' ').expect("a directive has a value");
        assert!(matches!(value, "'none'" | "'self'" | "'script'"), "{name} allows {value}");
    }
}

#[test]
fn the_explorer_and_every_console_tell_three_counts_apart() {
    let (chrome, words) = (Chrome::default(), Words(None));
    let page = explorer(&chrome, &explorer_view(&words, 50));
    for (name, value) in [("connected", "5,872"), ("proven", "5,214"), ("rentable", "3,391")] {
        let others = [operator(&chrome, &operator_view(&words)), renter(&chrome, &renter_view(&words))];
        for page in others.iter().chain([&page]) {
            assert!(page.contains(&format!("data-live=\"{name}\">{value}<")), "{name}");
        }
        // A supplier without machines has nothing else to follow, so theirs are as they were drawn.
        let supplier = supplier(&chrome, &supplier_view(&words));
        assert!(
            supplier.to_lowercase().contains(&format!("<h2>{name}</h2><p class=\"big\">{value}<")),
            "{name}"
        );
    }
    assert!(page.contains("software device"), "a software device is called one");
    assert!(page.contains("/?after=cursor-1#gpus"), "the next page");
}

#[test]
fn a_filter_goes_from_page_to_page() {
    let mut view = explorer_view(&Words(None), 3);
    view.filter =
        GpuFilter { query: "RTX & \"co\"".into(), standing: Some(Standing::Suspect), continued: true };
    let page = explorer(&Chrome::default(), &view);
    check("filtered", &page, false);
    assert!(page.contains("/?q=RTX%20%26%20%22co%22&amp;standing=suspect&amp;after=cursor-1#gpus"));
    assert!(page.contains("value=\"RTX &amp; &quot;co&quot;\""));
}

#[test]
fn a_gpu_page_says_what_proofs_do_not_show_and_names_no_owner() {
    let page = gpu(&Chrome::default(), &gpu_view(&Words(None), true));
    for words in
        ["What a proof cannot show", "where it is", "what happens between proofs", "software device: no GPU"]
    {
        assert!(page.contains(words), "{words}");
    }
    for prefix in ["acct_", "mach_", "key_", "ses_"] {
        assert!(!page.contains(prefix), "a public page holds {prefix}");
    }
}

#[test]
fn nobody_signed_in_sees_no_csrf_and_no_sign_out() {
    let page = explorer(&Chrome::default(), &empty_explorer());
    assert!(!page.contains("csrf") && !page.contains("/leave"));
    let mut chrome = Chrome { role: Some(Role::Renter), csrf: Some("t\"k".into()), ..Chrome::default() };
    let page = explorer(&chrome, &empty_explorer());
    check("signed in", &page, true);
    assert!(page.contains("value=\"t&quot;k\"") && page.contains("/leave"));
    chrome.banner = Some("simulated".into());
    assert!(explorer(&chrome, &empty_explorer()).contains("simulated"));
}

#[test]
fn an_api_document_may_be_anything() {
    for document in [
        serde_json::json!(null),
        serde_json::json!([1, 2]),
        serde_json::json!({"paths": 3, "components": {"schemas": []}}),
        serde_json::json!({"paths": {"/a": {"get": {"parameters": [{"$ref": "#/nowhere"}], "responses": {"200": 1}}}}}),
    ] {
        check(
            "api",
            &api(&Chrome::default(), &ApiView { document, document_href: "/openapi.json".into() }),
            false,
        );
    }
}
