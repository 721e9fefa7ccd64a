//! From where a request comes if proxies that the operator has named stand before this server: the `Forwarded`
//! header (RFC 7239), read from the right, and only as far as those who wrote it are such proxies.
//!
//! An address is good for quotas, for the record and for detectors. It never says who somebody is.

use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::outbound::{BadNetwork, network};

/// Proxies before this server that a request is followed through, at most.
const HOPS_MAX: usize = 8;
/// Bytes of `Forwarded` fields that are looked at, at most; a longer head says nothing.
const FIELD_BYTES_MAX: usize = 4 * 1024;

/// Networks of proxies whose word on where a request comes from is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// These networks, each as `10.0.0.0/8`, `fd00::/8` or one address.
    ///
    /// # Errors
    /// Names the first that cannot be read.
    pub fn of<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self, BadNetwork> {
        networks.into_iter().map(network).collect::<Result<_, _>>().map(Self)
    }

    /// Whether `address` is one of theirs.
    pub fn hold(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Where a request comes from that `peer` has passed on, with these `Forwarded` fields in the order in which they
    /// came. Each proxy has written, last, whom it was asked by; that is followed from the right for as long as it is a
    /// proxy of ours that was asked. What cannot be read, or is hidden, ends it: then it comes from the last that is known.
    pub fn origin<'a>(&self, peer: IpAddr, fields: impl IntoIterator<Item = &'a str>) -> IpAddr {
        let mut from = peer.to_canonical();
        if !self.hold(from) {
            return from;
        }
        let fields: Vec<&str> = fields.into_iter().collect();
        if fields.iter().map(|field| field.len()).sum::<usize>() > FIELD_BYTES_MAX {
            return from;
        }
        for element in
            fields.into_iter().flat_map(elements).collect::<Vec<_>>().into_iter().rev().take(HOPS_MAX)
        {
            match asked_by(element) {
                Some(address) => from = address,
                None => break,
            }
            if !self.hold(from) {
                break;
            }
        }
        from
    }
}

/// Parts of a text between `separator`s that do not stand in quotes; none if a quote is left open.
fn split(text: &str, separator: char) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if c == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

/// The elements of a field, from the first proxy to the last; empty ones mean nothing (RFC 9110, 5.6.1). Of one that
/// was spoiled, so that it would hide what a proxy has put behind it, what stands before its last comma is unreadable.
fn elements(field: &str) -> Vec<&str> {
    let parts = split(field, ',').unwrap_or_else(|| match field.rsplit_once(',') {
        Some((spoiled, last)) => vec![spoiled, last],
        None => vec![field],
    });
    parts.into_iter().map(str::trim).filter(|element| !element.is_empty()).collect()
}

/// The address that stands under `for` in an element, once; with a port, it is left out.
fn asked_by(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in split(element, ';')? {
        let (name, value) = pair.trim().split_once('=')?;
        if name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
    }
    let value = found?;
    let node = match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => value,
    };
    let bare = || node.parse::<core::net::Ipv4Addr>().ok().map(IpAddr::from);
    let bracketed =
        || node.strip_prefix('[')?.strip_suffix(']')?.parse::<core::net::Ipv6Addr>().ok().map(IpAddr::from);
    let with_port = || node.parse::<SocketAddr>().ok().map(|at| at.ip());
    bare().or_else(bracketed).or_else(with_port).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: &str = "10.0.0.2";

    fn proxies() -> Proxies {
        Proxies::of(["10.0.0.0/24", "fd00::1"]).unwrap()
    }

    fn check(peer: &str, fields: &[&str], expected: &str) {
        let from = proxies().origin(peer.parse().unwrap(), fields.iter().copied());
        assert_eq!(from.to_string(), expected, "{peer} {fields:?}");
    }

    #[test]
    fn a_proxy_of_ours_says_whom_it_was_asked_by() {
        check(NEAR, &["for=192.0.2.60"], "192.0.2.60");
        check(NEAR, &["for=192.0.2.60;proto=https;by=203.0.113.43"], "192.0.2.60");
        check(NEAR, &["For=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17");
        check(NEAR, &["for=\"192.0.2.60:80\";host=\"a,b;c\""], "192.0.2.60");
        check(NEAR, &["for=\"[::ffff:192.0.2.60]\""], "192.0.2.60");
        check("fd00::1", &["for=192.0.2.60"], "192.0.2.60");
        check("::ffff:10.0.0.2", &["for=192.0.2.60"], "192.0.2.60");
        // Two of ours, in one field or in two.
        check(NEAR, &["for=192.0.2.60, for=10.0.0.3"], "192.0.2.60");
        check(NEAR, &["for=192.0.2.60", "for=10.0.0.3"], "192.0.2.60");
    }

    #[test]
    fn nobody_else_is_believed() {
        // Whoever asks directly says nothing of themselves.
        check("192.0.2.7", &["for=198.51.100.1"], "192.0.2.7");
        // What a client has put before the proxy's own word is not read.
        check(NEAR, &["for=127.0.0.1, for=192.0.2.7"], "192.0.2.7");
        check(NEAR, &["for=10.0.0.9", "for=192.0.2.7"], "192.0.2.7");
        // A quote that a client leaves open does not swallow the proxy's word.
        check(NEAR, &["for=\"x", "for=192.0.2.7"], "192.0.2.7");
        check(NEAR, &["for=\"x, for=192.0.2.7"], "192.0.2.7");
        check(NEAR, &["for=\"x, for=\"[2001:db8::1]\""], "2001:db8::1");
        check(NEAR, &["for=198.51.100.1;for=192.0.2.7"], NEAR);
        assert_eq!(Proxies::default().origin(NEAR.parse().unwrap(), ["for=192.0.2.7"]).to_string(), NEAR);
    }

    #[test]
    fn what_cannot_be_read_comes_from_the_proxy() {
        for field in [
            "",
            ",",
            "for",
            "for=",
            "for=unknown",
            "for=_hidden",
            "for=192.0.2",
            "by=192.0.2.7",
            "for=\"192.0.2.7",
            "for=2001:db8::1",
        ] {
            check(NEAR, &[field], NEAR);
        }
        check(NEAR, &["for=192.0.2.7, for=unknown"], NEAR);
        check(NEAR, &["for=unknown, for=10.0.0.3"], "10.0.0.3");
        check(NEAR, &[&format!("for=192.0.2.7;x=\"{}\"", "y".repeat(FIELD_BYTES_MAX))], NEAR);
        let long = format!("for=192.0.2.7{}", ", for=10.0.0.3".repeat(HOPS_MAX));
        check(NEAR, &[&long], "10.0.0.3");
        assert!(Proxies::of(["ten"]).is_err());
    }
}
