//! Ports that are this test's alone.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

/// Below the range that the kernel gives to outgoing connections: a port that is not listened on for a moment must not become
/// somebody's source port.
const RANGE: std::ops::Range<u16> = 12_000..20_000;

/// A port, for TCP and for UDP, kept from other tests, in this process or another, by an abstract socket named after it.
pub(super) struct Port {
    pub(super) number: u16,
    _claim: UnixListener,
}

impl Port {
    pub(super) fn free() -> Self {
        let start = std::process::id() % u32::try_from(RANGE.len()).unwrap();
        let numbers = RANGE.cycle().skip(start as usize).take(RANGE.len());
        let claimed = numbers.filter_map(|number| {
            let name = UnixAddr::from_abstract_name(format!("fednode-test-port-{number}")).ok()?;
            let claim = UnixListener::bind_addr(&name).ok()?;
            // Somebody who knows nothing of claims may listen here.
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, number)).ok()?;
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, number)).ok()?;
            Some(Self { number, _claim: claim })
        });
        claimed.into_iter().next().expect("a free port among eight thousand")
    }
}
