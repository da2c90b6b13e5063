//! Multiaddresses as sockets: the forms that this node listens on and counts by.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// The addresses that count as one, because one host can have them all: an IPv4 address, an IPv6 /64 (RFC 4291, 2.5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Block(IpAddr);

// === impl Block ===

impl Block {
    /// The block that an address is in.
    pub(crate) fn of(ip: IpAddr) -> Self {
        const NETWORK: u128 = !(u64::MAX as u128);
        Self(match ip.to_canonical() {
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & NETWORK).into(),
            v4 => v4,
        })
    }
}

/// The IP address that a multiaddress begins with, if it begins with one.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

/// What ports are counted for separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP, for QUIC.
    Udp,
}

/// What a listener takes up: an address and a port of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// The transport.
    pub transport: Transport,
    /// Address and port.
    pub address: SocketAddr,
}

// === impl Endpoint ===

impl Endpoint {
    /// A TCP listener.
    #[must_use]
    pub const fn tcp(address: SocketAddr) -> Self {
        Self { transport: Transport::Tcp, address }
    }

    /// A QUIC listener.
    #[must_use]
    pub const fn quic(address: SocketAddr) -> Self {
        Self { transport: Transport::Udp, address }
    }

    /// The endpoint of exactly `/ip4|ip6/…/tcp/PORT` or `/ip4|ip6/…/udp/PORT/quic-v1`; `None` for any other multiaddress.
    #[must_use]
    pub fn of(address: &Multiaddr) -> Option<Self> {
        let ip = ip_of(address)?;
        let mut parts = address.iter().skip(1);
        match (parts.next()?, parts.next(), parts.next()) {
            (Protocol::Tcp(port), None, None) => Some(Self::tcp(SocketAddr::new(ip, port))),
            (Protocol::Udp(port), Some(Protocol::QuicV1), None) => {
                Some(Self::quic(SocketAddr::new(ip, port)))
            }
            _ => None,
        }
    }

    /// The multiaddress of it.
    #[must_use]
    pub fn to_multiaddr(&self) -> Multiaddr {
        let (ip, port) = (Multiaddr::from(self.address.ip()), self.address.port());
        match self.transport {
            Transport::Tcp => ip.with(Protocol::Tcp(port)),
            Transport::Udp => ip.with(Protocol::Udp(port)).with(Protocol::QuicV1),
        }
    }

    /// Whether both want the same port of one address: equal ones do, and a wildcard with any of its family. Port 0 is a new
    /// port each time. (libp2p's `::` takes no IPv4: `IPV6_V6ONLY`.)
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.address.ip(), other.address.ip());
        self.transport == other.transport
            && self.address.port() == other.address.port()
            && self.address.port() != 0
            && mine.is_ipv4() == theirs.is_ipv4()
            && (mine == theirs || mine.is_unspecified() || theirs.is_unspecified())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let same =
            |one: &str, other: &str| Block::of(one.parse().unwrap()) == Block::of(other.parse().unwrap());
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"), "an IPv4 address in IPv6's clothes");
    }

    #[test]
    fn plain_tcp_and_quic_are_endpoints() {
        for (text, endpoint) in [
            ("/ip4/127.0.0.1/tcp/9", Some(Endpoint::tcp("127.0.0.1:9".parse().unwrap()))),
            ("/ip6/::1/tcp/9", Some(Endpoint::tcp("[::1]:9".parse().unwrap()))),
            ("/ip4/127.0.0.1/udp/9/quic-v1", Some(Endpoint::quic("127.0.0.1:9".parse().unwrap()))),
            ("/ip6/::/udp/0/quic-v1", Some(Endpoint::quic("[::]:0".parse().unwrap()))),
            ("/ip4/127.0.0.1/udp/9", None),
            ("/ip4/127.0.0.1/udp/9/quic", None),
            ("/ip4/127.0.0.1/udp/9/quic-v1/webtransport", None),
            ("/ip4/127.0.0.1/tcp/9/ws", None),
            ("/dns4/example.com/tcp/9", None),
            ("/ip4/127.0.0.1", None),
        ] {
            let address: Multiaddr = text.parse().unwrap();
            assert_eq!(Endpoint::of(&address), endpoint, "{text}");
            if let Some(endpoint) = endpoint {
                assert_eq!(endpoint.to_multiaddr(), address);
            }
        }
    }

    #[test]
    fn endpoints_overlap_by_transport_family_and_port() {
        let overlap = |one: &str, other: &str| {
            let endpoint = |text: &str| Endpoint::of(&text.parse().unwrap()).unwrap();
            let (one, other) = (endpoint(one), endpoint(other));
            assert_eq!(one.overlaps(&other), other.overlaps(&one));
            one.overlaps(&other)
        };
        assert!(overlap("/ip4/127.0.0.1/udp/9/quic-v1", "/ip4/127.0.0.1/udp/9/quic-v1"));
        assert!(overlap("/ip4/0.0.0.0/udp/9/quic-v1", "/ip4/127.0.0.1/udp/9/quic-v1"));
        assert!(!overlap("/ip4/127.0.0.1/udp/9/quic-v1", "/ip4/127.0.0.1/tcp/9"));
        assert!(!overlap("/ip4/127.0.0.1/udp/9/quic-v1", "/ip4/127.0.0.2/udp/9/quic-v1"));
        assert!(!overlap("/ip4/0.0.0.0/tcp/9", "/ip6/::/tcp/9"));
        assert!(!overlap("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0"));
    }
}
