//! Multiaddresses as sockets: the forms that this node listens on and counts by.

use std::net::{IpAddr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

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
