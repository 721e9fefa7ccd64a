//! Which headers pass between a renter and a cluster's Ray, either way. Pure: reads no clock, opens nothing.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};

/// Where Ray believes it is addressed: the dashboard's own address within its node.
const RAY_HOST: HeaderValue = HeaderValue::from_static("127.0.0.1:8265");

/// Headers about one connection and not about the message (RFC 9110 section 7.6.1), either way.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// What a renter's request says to us and not to Ray: how it was addressed, signed and forwarded, and every
/// credential a browser or program may have added. The length is counted anew.
const FOR_US: [&str; 13] = [
    "host",
    "content-length",
    "expect",
    "signature",
    "signature-input",
    "content-digest",
    "cookie",
    "authorization",
    "x-ray-authorization",
    "referer",
    "forwarded",
    "via",
    "x-real-ip",
];
const FOR_US_PREFIXES: [&str; 2] = ["gangline-", "x-forwarded-"];

/// What a cluster's answer may not do to the origin it is served from: keep state there, change how browsers
/// reach it, ask for a password in its name, take it over. Policies of its own give way to ours.
const NOT_FROM_A_CLUSTER: [&str; 16] = [
    "set-cookie",
    "set-cookie2",
    "set-login",
    "clear-site-data",
    "strict-transport-security",
    "public-key-pins",
    "alt-svc",
    "www-authenticate",
    "authentication-info",
    "service-worker-allowed",
    "report-to",
    "reporting-endpoints",
    "nel",
    "cache-control",
    "content-security-policy",
    "x-content-type-options",
];

/// Whether `headers` ask for, or agree to, an upgrade to exactly `protocol`.
pub(super) fn asks_to_upgrade(headers: &HeaderMap, protocol: &str) -> bool {
    let mut upgrades = headers.get_all(header::UPGRADE).iter();
    let named = upgrades.next().is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()));
    named
        && upgrades.next().is_none()
        && connection_options(headers).any(|o| o.eq_ignore_ascii_case("upgrade"))
}

/// The words of all `Connection` headers: `upgrade`, `close`, and names of further hop-by-hop headers.
fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok());
    values.flat_map(|v| v.split(',')).map(str::trim)
}

fn passing(headers: &HeaderMap, dropped: impl Fn(&str) -> bool) -> HeaderMap {
    let hop_by_hop = |name: &HeaderName| {
        HOP_BY_HOP.contains(&name.as_str())
            || connection_options(headers).any(|o| o.eq_ignore_ascii_case(name.as_str()))
    };
    let mut passing = HeaderMap::with_capacity(headers.len() + 4);
    for (name, value) in headers {
        if !hop_by_hop(name) && !dropped(name.as_str()) {
            passing.append(name, value.clone());
        }
    }
    passing
}

/// Headers for Ray made from a renter's. `authorization` is put in; `websocket` says to ask for that upgrade.
pub(super) fn to_ray(from_renter: &HeaderMap, authorization: HeaderValue, websocket: bool) -> HeaderMap {
    let for_us = |name: &str| FOR_US.contains(&name) || FOR_US_PREFIXES.iter().any(|p| name.starts_with(p));
    let mut headers = passing(from_renter, for_us);
    headers.insert(header::HOST, RAY_HOST);
    headers.insert(header::AUTHORIZATION, authorization);
    if websocket {
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    headers
}

/// Headers for a renter made from Ray's.
///
/// Whatever a cluster answers is served under our own origin, and a renter's program may answer anything:
/// `content-security-policy: sandbox` gives it an origin of its own without scripts, and nothing of it is
/// kept where others could find it. The renter's proxy on loopback serves one cluster alone under an origin
/// of its own, and takes these two headers off again there, so that Ray's dashboard, which needs its scripts,
/// works.
pub(super) fn to_renter(from_ray: &HeaderMap) -> HeaderMap {
    // A length beside a transfer coding is not the length of the message (RFC 9112 section 6.3).
    let coded = from_ray.contains_key(header::TRANSFER_ENCODING);
    let mut headers = passing(from_ray, |name| {
        NOT_FROM_A_CLUSTER.contains(&name) || (coded && name == header::CONTENT_LENGTH)
    });
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // The renter's own browser may keep it and ask whether it changed; nobody in between may.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers
}

/// 101: from here on `protocol` is spoken.
pub(super) fn switching(protocol: &HeaderValue) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(header::UPGRADE, protocol.clone());
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(headers: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair =
            |(n, v): &(&'static str, &'static str)| (HeaderName::from_static(n), HeaderValue::from_static(v));
        let mut map = HeaderMap::new();
        for (name, value) in headers.iter().map(pair) {
            map.append(name, value);
        }
        map
    }

    fn listed(headers: &HeaderMap) -> Vec<(&str, &str)> {
        let mut all: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        all.sort_unstable();
        all
    }

    #[test]
    fn ray_learns_its_own_host_and_token_and_nothing_of_ours() {
        let renter = map(&[
            ("host", "gangline.example"),
            ("connection", "keep-alive, x-private, upgrade"),
            ("x-private", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
            ("signature", "gl=:AA==:"),
            ("signature-input", "gl=()"),
            ("gangline-sequence", "7"),
            ("gangline-anything", "8"),
            ("content-digest", "sha-256=:AA==:"),
            ("content-length", "3"),
            ("cookie", "__Host-session=s"),
            ("authorization", "Bearer mine"),
            ("x-ray-authorization", "Bearer mine"),
            ("forwarded", "for=1"),
            ("x-forwarded-for", "1"),
            ("x-forwarded-proto", "https"),
            ("referer", "http://127.0.0.1/?token=t"),
            ("accept", "a"),
            ("accept", "b"),
            ("content-type", "application/json"),
        ]);
        let ray = to_ray(&renter, HeaderValue::from_static("Bearer ray"), false);
        assert_eq!(
            listed(&ray),
            [
                ("accept", "a"),
                ("accept", "b"),
                ("authorization", "Bearer ray"),
                ("content-type", "application/json"),
                ("host", "127.0.0.1:8265"),
            ]
        );
    }

    #[test]
    fn a_websocket_is_asked_for_afresh() {
        let renter = map(&[("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "k")]);
        let ray = to_ray(&renter, HeaderValue::from_static("Bearer ray"), true);
        assert_eq!(
            listed(&ray),
            [
                ("authorization", "Bearer ray"),
                ("connection", "Upgrade"),
                ("host", "127.0.0.1:8265"),
                ("sec-websocket-key", "k"),
                ("upgrade", "websocket"),
            ]
        );
    }

    #[test]
    fn a_cluster_sets_nothing_on_our_origin() {
        let ray = map(&[
            ("set-cookie", "a=b"),
            ("clear-site-data", "\"*\""),
            ("strict-transport-security", "max-age=1"),
            ("www-authenticate", "Basic"),
            ("content-security-policy", "default-src *"),
            ("cache-control", "public"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "9"),
            ("content-type", "text/html"),
            ("etag", "\"e\""),
        ]);
        let ours = [
            ("cache-control", "private, no-cache"),
            ("content-security-policy", "sandbox"),
            ("content-type", "text/html"),
            ("etag", "\"e\""),
            ("x-content-type-options", "nosniff"),
        ];
        assert_eq!(listed(&to_renter(&ray)), ours);
    }

    #[test]
    fn an_upgrade_is_asked_for_in_one_way_only() {
        let ask = |headers| asks_to_upgrade(&map(headers), "gangline-tunnel");
        assert!(ask(&[("connection", "keep-alive, Upgrade"), ("upgrade", "Gangline-Tunnel")]));
        assert!(!ask(&[("connection", "close"), ("upgrade", "gangline-tunnel")]));
        assert!(!ask(&[("upgrade", "gangline-tunnel")]));
        assert!(!ask(&[("connection", "upgrade")]));
        assert!(!ask(&[("connection", "upgrade"), ("upgrade", "websocket")]));
        assert!(!ask(&[("connection", "upgrade"), ("upgrade", "gangline-tunnel"), ("upgrade", "websocket")]));
    }
}
