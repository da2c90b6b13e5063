//! How far an address means the same place: what may be told to whom (N5).
//!
//! `127.0.0.1` is another machine to everybody else, `192.168.1.7` another one in every other network. Such an address is told only
//! to a peer that is itself reached in that way, and taken only from such a peer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// From the widest to the narrowest. A connection of one reach carries the addresses of that reach and of all wider ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Reach {
    /// Everywhere.
    World,
    /// In one network: private, link-local and other special-purpose addresses (RFC 1918, 3927, 4193, 4291, 6598).
    Site,
    /// On one machine: loopback.
    Host,
}

// === impl Reach ===

impl Reach {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::World, Self::Site, Self::Host];

    /// As it goes over the wire.
    pub(crate) const fn to_byte(self) -> u8 {
        match self {
            Self::World => 0,
            Self::Site => 1,
            Self::Host => 2,
        }
    }

    /// What the byte says.
    pub(crate) const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::World),
            1 => Some(Self::Site),
            2 => Some(Self::Host),
            _ => None,
        }
    }

    /// The reach of an IP address.
    pub(crate) const fn of_ip(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() => Self::Host,
            IpAddr::V4(ip) => Self::of_v4(ip),
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    const fn of_v4(ip: Ipv4Addr) -> Self {
        let [a, b, ..] = ip.octets();
        let special = ip.is_private()
            || ip.is_link_local()
            || ip.is_documentation()
            || a == 0
            // Shared by a provider's customers (RFC 6598), and the benchmarking network (RFC 2544).
            || (a == 100 && b & 0xc0 == 64)
            || (a == 198 && b & 0xfe == 18)
            || a >= 240;
        if special { Self::Site } else { Self::World }
    }

    const fn of_v6(ip: Ipv6Addr) -> Self {
        let documentation = ip.segments()[0] == 0x2001 && ip.segments()[1] == 0x0db8;
        let special = ip.is_unique_local() || ip.is_unicast_link_local() || documentation;
        if special || ip.is_unspecified() { Self::Site } else { Self::World }
    }

    /// The reach of a multiaddress, by its first part. A name reaches everywhere but where it is one of those that never do
    /// (RFC 6761, 6762, and names without a dot).
    pub(crate) fn of(address: &Multiaddr) -> Self {
        match address.iter().next() {
            Some(Protocol::Ip4(ip)) => Self::of_ip(ip.into()),
            Some(Protocol::Ip6(ip)) => Self::of_ip(ip.into()),
            Some(Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name)) => Self::of_name(&name),
            _ => Self::Host,
        }
    }

    fn of_name(name: &str) -> Self {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        match name.rsplit('.').next() {
            Some("localhost") => Self::Host,
            Some("local" | "internal" | "lan" | "home" | "test") => Self::Site,
            _ if !name.contains('.') => Self::Site,
            _ => Self::World,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_reach_as_far_as_their_registries_say() {
        for (text, reach) in [
            ("/ip4/8.8.8.8/tcp/1", Reach::World),
            ("/ip4/100.63.0.1/tcp/1", Reach::World),
            ("/ip4/100.64.0.1/tcp/1", Reach::Site),
            ("/ip4/10.0.0.1/tcp/1", Reach::Site),
            ("/ip4/172.16.0.1/tcp/1", Reach::Site),
            ("/ip4/172.32.0.1/tcp/1", Reach::World),
            ("/ip4/192.168.0.1/udp/1/quic-v1", Reach::Site),
            ("/ip4/169.254.1.1/tcp/1", Reach::Site),
            ("/ip4/192.0.2.1/tcp/1", Reach::Site),
            ("/ip4/127.0.0.1/tcp/1", Reach::Host),
            ("/ip4/127.9.9.9/tcp/1", Reach::Host),
            ("/ip6/::1/tcp/1", Reach::Host),
            ("/ip6/::ffff:127.0.0.1/tcp/1", Reach::Host),
            ("/ip6/::ffff:10.0.0.1/tcp/1", Reach::Site),
            ("/ip6/fe80::1/tcp/1", Reach::Site),
            ("/ip6/fd00::1/tcp/1", Reach::Site),
            ("/ip6/2001:db8::1/tcp/1", Reach::Site),
            ("/ip6/2a00::1/tcp/1", Reach::World),
            ("/dns4/node1.example.com/tcp/1", Reach::World),
            ("/dns/localhost/tcp/1", Reach::Host),
            ("/dns/a.LOCALHOST./tcp/1", Reach::Host),
            ("/dns6/printer.local/tcp/1", Reach::Site),
            ("/dns4/printer/tcp/1", Reach::Site),
        ] {
            assert_eq!(Reach::of(&text.parse().unwrap()), reach, "{text}");
        }
    }

    #[test]
    fn a_byte_is_the_same_on_both_ends() {
        for reach in Reach::ALL {
            assert_eq!(Reach::from_byte(reach.to_byte()), Some(reach));
        }
        assert_eq!(Reach::from_byte(3), None);
    }
}
