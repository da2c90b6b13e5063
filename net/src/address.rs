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

/// The socket address of exactly `/ip4|ip6/…/tcp/…`.
pub(crate) fn tcp_socket(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::from(ip),
        Protocol::Ip6(ip) => IpAddr::from(ip),
        _ => return None,
    };
    match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// The multiaddress of a TCP socket.
pub(crate) fn tcp_address(socket: SocketAddr) -> Multiaddr {
    Multiaddr::from(socket.ip()).with(Protocol::Tcp(socket.port()))
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
    fn only_plain_tcp_is_a_socket() {
        for (text, socket) in [
            ("/ip4/127.0.0.1/tcp/9", Some("127.0.0.1:9")),
            ("/ip6/::1/tcp/9", Some("[::1]:9")),
            ("/ip4/127.0.0.1/udp/9/quic-v1", None),
            ("/ip4/127.0.0.1/tcp/9/ws", None),
            ("/dns4/example.com/tcp/9", None),
            ("/ip4/127.0.0.1", None),
        ] {
            let address: Multiaddr = text.parse().unwrap();
            assert_eq!(tcp_socket(&address), socket.map(|s| s.parse().unwrap()), "{text}");
            if let Some(socket) = tcp_socket(&address) {
                assert_eq!(tcp_address(socket), address);
            }
        }
    }
}
