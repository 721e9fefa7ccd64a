//! Tests of the door's decisions; whole requests through it are in `tests/connect.rs`.

use super::*;

fn gate() -> Gate {
    Gate::new(Token("t0ken".into()), "127.0.0.1:9000".parse().unwrap())
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
        .collect()
}

#[test]
fn only_this_door_is_answered_for() {
    let check = |pairs: &[(&'static str, &str)], expected| {
        assert_eq!(gate().check_origin(&"/".parse().unwrap(), &headers(pairs)), expected, "{pairs:?}");
    };
    check(&[("host", "127.0.0.1:9000")], Ok(()));
    check(&[("host", "LOCALHOST:9000")], Ok(()));
    check(&[], Err(Stranger::Host));
    for host in [
        "127.0.0.1",
        "127.0.0.1:9001",
        "evil.example:9000",
        "localhost.evil.example:9000",
        "127.0.0.1:9000.evil",
    ] {
        check(&[("host", host)], Err(Stranger::Host));
    }
    check(&[("host", "127.0.0.1:9000"), ("host", "evil.example")], Err(Stranger::Host));
    let other: http::Uri = "http://evil.example/".parse().unwrap();
    assert_eq!(gate().check_origin(&other, &headers(&[("host", "127.0.0.1:9000")])), Err(Stranger::Host));
}

#[test]
fn pages_of_other_origins_are_refused() {
    let check = |name: &'static str, value: &str, expected| {
        let headers = headers(&[("host", "127.0.0.1:9000"), (name, value)]);
        assert_eq!(gate().check_origin(&"/".parse().unwrap(), &headers), expected, "{name}: {value}");
    };
    check("origin", "http://127.0.0.1:9000", Ok(()));
    for origin in ["null", "http://127.0.0.1:9001", "https://127.0.0.1:9000", "http://evil.example", ""] {
        check("origin", origin, Err(Stranger::Origin));
    }
    check("sec-fetch-site", "same-origin", Ok(()));
    check("sec-fetch-site", "none", Ok(()));
    // Another port of this machine is the same site and still another origin.
    check("sec-fetch-site", "same-site", Err(Stranger::Origin));
    check("sec-fetch-site", "cross-site", Err(Stranger::Origin));
}

#[test]
fn the_token_is_taken_where_ray_and_browsers_put_it() {
    let check = |name: &'static str, value: &str, expected| {
        assert_eq!(gate().check_token(&headers(&[(name, value)])), expected, "{name}: {value}");
    };
    check("authorization", "Bearer t0ken", Ok(()));
    check("authorization", "bearer t0ken", Ok(()));
    check("x-ray-authorization", "Bearer t0ken", Ok(()));
    check("cookie", "a=b; gangline-connect=t0ken", Ok(()));
    check("cookie", "ray-authentication-token=t0ken", Ok(()));
    check("authorization", "Bearer T0ken", Err(Stranger::WrongToken));
    check("authorization", "Bearer ", Err(Stranger::WrongToken));
    check("authorization", "Basic t0ken", Err(Stranger::NoToken));
    check("cookie", "gangline-connect=", Err(Stranger::WrongToken));
    check("cookie", "other=t0ken", Err(Stranger::NoToken));
    check("accept", "t0ken", Err(Stranger::NoToken));
    assert_eq!(format!("{:?}", gate().token), "Token([redacted])");
}

#[test]
fn a_link_opens_with_its_token_only() {
    let check = |uri: &str, expected| assert_eq!(gate().check_link(&uri.parse().unwrap()), expected, "{uri}");
    check("/?gangline_token=t0ken", Some(Ok(())));
    check("/x?a=b&gangline_token=t0ken", Some(Ok(())));
    check("/?gangline_token=", Some(Err(Stranger::WrongToken)));
    check("/?gangline_token=t0ken1", Some(Err(Stranger::WrongToken)));
    check("/?x=gangline_token=t0ken", None);
    check("/", None);
}

#[test]
fn no_path_leads_out_of_the_cluster() {
    for good in ["/", "/api/jobs/", "/static/js/a..b.js", "/a%20b", "/..a", "/a.../b"] {
        assert!(stays_below(good), "{good} was refused");
    }
    for bad in [
        "/..",
        "/a/../b",
        "/.",
        "/a/./b",
        "/%2e%2e/x",
        "/.%2E/x",
        "/a\\..\\b",
        "/a%5c..",
        "/a%2f..%2fb",
        "/%2f../x",
        "",
        "x",
    ] {
        assert!(!stays_below(bad), "{bad} was taken");
    }
}

#[test]
fn no_credential_passes_in_either_direction() {
    let request = headers(&[
        ("host", "127.0.0.1:9000"),
        ("authorization", "Bearer t0ken"),
        ("x-ray-authorization", "Bearer t0ken"),
        ("cookie", "gangline-connect=t0ken"),
        ("referer", "http://127.0.0.1:9000/?gangline_token=t0ken"),
        ("signature", "gl=:x:"),
        ("signature-input", "gl=()"),
        ("gangline-sequence", "9"),
        ("connection", "keep-alive, X-Once"),
        ("x-once", "1"),
        ("content-type", "application/json"),
        ("user-agent", "python-requests/2"),
    ]);
    let kept: Vec<String> = outgoing(&request).into_iter().map(|(name, _)| name).collect();
    assert_eq!(kept, ["content-type", "user-agent"]);

    let answer = headers(&[
        ("set-cookie", "ray-authentication-token=cluster"),
        ("access-control-allow-origin", "*"),
        ("transfer-encoding", "chunked"),
        ("content-type", "text/html"),
        ("content-length", "3"),
    ]);
    let kept: Vec<_> = returned(&answer).keys().map(|name| name.as_str().to_owned()).collect();
    assert_eq!(kept, ["content-type", "content-length"]);
}

#[test]
fn a_dashboard_may_run_here_and_nothing_may_act_elsewhere() {
    let answer = headers(&[
        ("content-security-policy", "sandbox"),
        ("cross-origin-opener-policy", "same-origin"),
        ("set-cookie", "a=b"),
        ("access-control-allow-origin", "*"),
        ("content-type", "text/html"),
        ("etag", "1"),
    ]);
    let names: Vec<_> = returned(&answer).keys().map(|name| name.as_str().to_owned()).collect();
    assert_eq!(names, ["content-type", "etag"]);
}
