//! Ports that no other test and no outgoing connection takes while they are held.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

/// Below the range that the kernel gives to outgoing connections, which could take a port between two uses of it.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// A port of TCP and of UDP that is this test's alone for as long as the value lives. Other tests, in this process or another, are kept
/// away by an abstract socket named after the port: it leaves no file behind and ends with the process.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _claim: UnixListener,
}

impl Port {
    /// A free port.
    ///
    /// # Panics
    /// If there is none in twelve thousand.
    #[must_use]
    pub fn free() -> Self {
        let start = u16::try_from(std::process::id() % 12_000).unwrap_or(0);
        for offset in 0..RANGE.len() as u16 {
            let number = RANGE.start + (start + offset) % (RANGE.end - RANGE.start);
            let name = format!("fednode-test-port-{number}");
            let Ok(address) = UnixAddr::from_abstract_name(name) else { continue };
            let Ok(claim) = UnixListener::bind_addr(&address) else { continue };
            // Somebody who knows nothing of claims may listen here.
            let any = (Ipv4Addr::UNSPECIFIED, number);
            if TcpListener::bind(any).is_ok() && UdpSocket::bind(any).is_ok() {
                return Self { number, _claim: claim };
            }
        }
        panic!("no free port between {} and {}", RANGE.start, RANGE.end);
    }

    /// The number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// `/ip4/127.0.0.1/tcp/PORT`.
    #[must_use]
    pub fn loopback(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}", self.number)
    }

    /// `/ip4/0.0.0.0/tcp/PORT`.
    #[must_use]
    pub fn wildcard(&self) -> String {
        format!("/ip4/0.0.0.0/tcp/{}", self.number)
    }

    /// `/ip4/127.0.0.1/udp/PORT/quic-v1`.
    #[must_use]
    pub fn quic(&self) -> String {
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", self.number)
    }

    /// `/ip4/0.0.0.0/udp/PORT/quic-v1`.
    #[must_use]
    pub fn quic_wildcard(&self) -> String {
        format!("/ip4/0.0.0.0/udp/{}/quic-v1", self.number)
    }

    /// Whether nobody has the UDP port.
    #[must_use]
    pub fn is_free_for_udp(&self) -> bool {
        UdpSocket::bind(self.address()).is_ok()
    }

    /// Where to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }

    /// Whether somebody accepts on it now.
    #[must_use]
    pub fn accepts(&self) -> bool {
        std::net::TcpStream::connect(self.address()).is_ok()
    }
}
