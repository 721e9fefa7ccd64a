//! Whom this server may ask by itself: only addresses of the public internet, and what the operator has named.
//!
//! Pure: a name has been resolved by whoever asks here, and the connection goes to the very address that was
//! judged. The ranges are those of IANA's special-purpose address registries for IPv4 and IPv6.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// What kind of address is not of the public internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// This machine itself.
    Loopback,
    /// Somebody's own network.
    Private,
    /// Between a carrier and its customers (RFC 6598).
    CarrierGrade,
    /// This link alone; clouds answer with secrets here.
    LinkLocal,
    /// Many at once.
    Multicast,
    /// None in particular.
    Unspecified,
    /// Set aside: documentation, benchmarks, translation, the future.
    Reserved,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::CarrierGrade => "carrier-grade NAT",
            Self::LinkLocal => "link-local",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Reserved => "reserved",
        })
    }
}

/// An address that is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{address} is a {kind} address, which this server does not ask")]
pub struct NotAsked {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub kind: Kind,
}

/// IPv4 networks that are not of the public internet.
const V4: &[(Ipv4Addr, u8, Kind)] = &[
    (Ipv4Addr::new(0, 0, 0, 0), 8, Kind::Unspecified),
    (Ipv4Addr::new(10, 0, 0, 0), 8, Kind::Private),
    (Ipv4Addr::new(100, 64, 0, 0), 10, Kind::CarrierGrade),
    (Ipv4Addr::new(127, 0, 0, 0), 8, Kind::Loopback),
    (Ipv4Addr::new(169, 254, 0, 0), 16, Kind::LinkLocal),
    (Ipv4Addr::new(172, 16, 0, 0), 12, Kind::Private),
    (Ipv4Addr::new(192, 0, 0, 0), 24, Kind::Reserved),
    (Ipv4Addr::new(192, 0, 2, 0), 24, Kind::Reserved),
    (Ipv4Addr::new(192, 88, 99, 0), 24, Kind::Reserved),
    (Ipv4Addr::new(192, 168, 0, 0), 16, Kind::Private),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Kind::Reserved),
    (Ipv4Addr::new(198, 51, 100, 0), 24, Kind::Reserved),
    (Ipv4Addr::new(203, 0, 113, 0), 24, Kind::Reserved),
    (Ipv4Addr::new(224, 0, 0, 0), 4, Kind::Multicast),
    (Ipv4Addr::new(240, 0, 0, 0), 4, Kind::Reserved),
];

/// IPv6 networks that are not of the public internet, apart from those that carry an IPv4 address. The last row
/// is not a network: what is outside of 2000::/3 is not given out at all.
const V6: &[(Ipv6Addr, u8, Kind)] = &[
    (Ipv6Addr::UNSPECIFIED, 128, Kind::Unspecified),
    (Ipv6Addr::LOCALHOST, 128, Kind::Loopback),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Kind::Private),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, Kind::LinkLocal),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10, Kind::Private),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, Kind::Multicast),
    // Teredo, ORCHID, benchmarks and the rest of the protocol assignments.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, Kind::Reserved),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, Kind::Reserved),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, Kind::Reserved),
];

/// The IPv4 address that an IPv6 address stands for: mapped (RFC 4291), NAT64 (RFC 6052) or 6to4 (RFC 3056).
fn carried(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match s {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

/// What kind of address `ip` is if it is not of the public internet.
pub fn kind(ip: IpAddr) -> Option<Kind> {
    match ip {
        IpAddr::V4(v4) => V4
            .iter()
            .find(|(network, bits, _)| Ipv4Net::new_assert(*network, *bits).contains(&v4))
            .map(|(_, _, kind)| *kind),
        IpAddr::V6(v6) => match carried(v6) {
            Some(v4) => kind(IpAddr::V4(v4)),
            None => V6
                .iter()
                .find(|(network, bits, _)| Ipv6Net::new_assert(*network, *bits).contains(&v6))
                .map(|(_, _, kind)| *kind)
                .or_else(|| (v6.segments()[0] & 0xe000 != 0x2000).then_some(Kind::Reserved)),
        },
    }
}

/// What the operator lets this server ask beside the public internet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exceptions {
    /// Networks.
    networks: Vec<IpNet>,
    /// Host names, in lower case, that may have addresses of any network but link-local, multicast and
    /// unspecified ones.
    hosts: Vec<String>,
}

/// A network that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network; write one as 10.0.0.0/8, fd00::/8 or 192.0.2.7")]
pub struct BadNetwork(pub String);

/// A network as somebody wrote it.
pub(crate) fn network(text: &str) -> Result<IpNet, BadNetwork> {
    IpNet::from_str(text)
        .or_else(|_| IpAddr::from_str(text).map(IpNet::from))
        .map_err(|_| BadNetwork(text.chars().take(64).collect()))
}

impl Exceptions {
    /// These networks, each as `10.0.0.0/8`, `fd00::/8` or one address.
    ///
    /// # Errors
    /// Names the first that cannot be read.
    pub fn of_networks<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self, BadNetwork> {
        Self::default().and_networks(networks)
    }

    /// The same and these networks.
    ///
    /// # Errors
    /// Names the first that cannot be read.
    pub fn and_networks<'a>(
        mut self,
        networks: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, BadNetwork> {
        for text in networks {
            self.networks.push(network(text)?);
        }
        Ok(self)
    }

    /// The same and a host that the operator has named itself, such as that of its identity provider.
    #[must_use]
    pub fn and_host(mut self, host: &str) -> Self {
        self.hosts.push(host.to_ascii_lowercase());
        self
    }

    /// Whether `address`, to which `host` resolved, may be asked.
    ///
    /// # Errors
    /// [`NotAsked`] with what kind of address it is.
    pub fn may_ask(&self, host: &str, address: IpAddr) -> Result<(), NotAsked> {
        let Some(kind) = kind(address) else { return Ok(()) };
        // An operator who means the IPv4 network means its mapped form too.
        let plain = match address {
            IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
            IpAddr::V4(_) => address,
        };
        if self.networks.iter().any(|network| network.contains(&plain)) {
            return Ok(());
        }
        let never = matches!(kind, Kind::LinkLocal | Kind::Multicast | Kind::Unspecified);
        if !never && self.hosts.iter().any(|named| named.eq_ignore_ascii_case(host)) {
            return Ok(());
        }
        Err(NotAsked { address, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        let check = |address: &str, expected: Option<Kind>| {
            assert_eq!(kind(address.parse().unwrap()), expected, "{address}");
        };
        for public in
            ["1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1", "223.255.255.255"]
        {
            check(public, None);
        }
        for public in ["2606:4700::1111", "2a00::1", "2001:200::1", "64:ff9b::1.1.1.1", "::ffff:1.1.1.1"] {
            check(public, None);
        }
        check("127.0.0.1", Some(Kind::Loopback));
        check("127.255.255.254", Some(Kind::Loopback));
        check("0.0.0.0", Some(Kind::Unspecified));
        check("10.1.2.3", Some(Kind::Private));
        check("172.16.0.1", Some(Kind::Private));
        check("172.31.255.255", Some(Kind::Private));
        check("192.168.1.1", Some(Kind::Private));
        check("100.64.0.1", Some(Kind::CarrierGrade));
        check("169.254.169.254", Some(Kind::LinkLocal));
        check("224.0.0.1", Some(Kind::Multicast));
        check("255.255.255.255", Some(Kind::Reserved));
        check("198.18.0.1", Some(Kind::Reserved));
        check("::", Some(Kind::Unspecified));
        check("::1", Some(Kind::Loopback));
        check("fc00::1", Some(Kind::Private));
        check("fd12:3456::1", Some(Kind::Private));
        check("fe80::1", Some(Kind::LinkLocal));
        check("ff02::1", Some(Kind::Multicast));
        check("2001:db8::1", Some(Kind::Reserved));
        check("2001::1", Some(Kind::Reserved));
        check("4000::1", Some(Kind::Reserved));
        // An address in another's clothes is judged by what it wears them over.
        check("::ffff:127.0.0.1", Some(Kind::Loopback));
        check("::ffff:169.254.169.254", Some(Kind::LinkLocal));
        check("64:ff9b::10.0.0.1", Some(Kind::Private));
        check("2002:7f00:1::", Some(Kind::Loopback));
        check("::127.0.0.1", Some(Kind::Reserved));
    }

    #[test]
    fn the_operator_s_exceptions_hold_for_what_was_named_and_no_more() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let none = Exceptions::default();
        assert_eq!(none.may_ask("hooks.example", ip("93.184.216.34")), Ok(()));
        let refused = none.may_ask("hooks.example", ip("10.0.0.1")).unwrap_err();
        assert_eq!(refused.to_string(), "10.0.0.1 is a private address, which this server does not ask");
        let some = Exceptions::of_networks(["10.0.0.0/8", "::1", "127.0.0.1/32"]).unwrap();
        for allowed in ["10.9.9.9", "::1", "127.0.0.1", "::ffff:10.0.0.1"] {
            assert_eq!(some.may_ask("x", ip(allowed)), Ok(()), "{allowed}");
        }
        for refused in ["127.0.0.2", "192.168.0.1", "169.254.169.254"] {
            assert!(some.may_ask("x", ip(refused)).is_err(), "{refused}");
        }
        let named = none.and_host("IdP.internal");
        assert_eq!(named.may_ask("idp.internal", ip("192.168.0.1")), Ok(()));
        assert!(named.may_ask("other.internal", ip("192.168.0.1")).is_err());
        assert!(named.may_ask("idp.internal", ip("169.254.169.254")).is_err(), "a cloud's secrets");
        assert_eq!(Exceptions::of_networks(["10/8"]), Err(BadNetwork("10/8".into())));
    }
}
