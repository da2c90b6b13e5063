//! Addresses that the node listens on: which it can, and which get in each other's way.

use std::net::{IpAddr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use storage::document::{Findings, Node, place::Spot};

/// What a listener takes up: an address and a port of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The transport.
    pub transport: Transport,
    /// Address and port.
    pub address: SocketAddr,
}

/// What ports are counted for separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP, for QUIC.
    Udp,
}

// === impl Endpoint ===

impl Endpoint {
    /// A TCP listener.
    #[must_use]
    pub const fn tcp(address: SocketAddr) -> Self {
        Self { transport: Transport::Tcp, address }
    }

    /// The endpoint of a multiaddr `/ip4` or `/ip6`, then `/tcp/PORT` or `/udp/PORT…`; `None` for any other.
    #[must_use]
    pub fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let ip = match parts.next()? {
            Protocol::Ip4(ip) => IpAddr::V4(ip),
            Protocol::Ip6(ip) => IpAddr::V6(ip),
            _ => return None,
        };
        match parts.next()? {
            Protocol::Tcp(port) => Some(Self::tcp(SocketAddr::new(ip, port))),
            Protocol::Udp(port) => {
                Some(Self { transport: Transport::Udp, address: SocketAddr::new(ip, port) })
            }
            _ => None,
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

/// Reads an address that this node can listen on.
pub(super) fn listenable(node: &Node<'_>) -> Option<Multiaddr> {
    const FORM: &str = "write /ip4/0.0.0.0/tcp/9000 or /ip6/::/tcp/9000";
    let text = node.text()?;
    let address = match storage::address::parse(text) {
        Ok(address) => address,
        Err(error) => {
            node.refuse(format!("{} {error}", node.shown()), FORM);
            return None;
        }
    };
    if let Some(ip) = Endpoint::of(&address).and_then(|endpoint| group(endpoint.address.ip())) {
        node.refuse(ip, FORM);
        return None;
    }
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    match parts.as_slice() {
        [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Tcp(_)] => Some(address),
        [Protocol::Ip4(_) | Protocol::Ip6(_), Protocol::Udp(_), Protocol::QuicV1] => {
            refuse_quic(node);
            None
        }
        [Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_), ..] => {
            let hint =
                "names are for peers.yaml; listen on an address of this machine, as /ip4/0.0.0.0/tcp/9000";
            node.refuse(format!("{} is a name, which cannot be listened on", node.shown()), hint);
            None
        }
        [.., Protocol::P2p(_)] => {
            node.refuse(
                format!("{} ends in a peer id", node.shown()),
                "remove /p2p/…: the node knows who it is",
            );
            None
        }
        _ => {
            node.refuse(format!("{} is of no form that this node can listen on", node.shown()), FORM);
            None
        }
    }
}

/// What is wrong with an address that stands for many machines: nobody can connect to it.
fn group(ip: IpAddr) -> Option<String> {
    let kind = storage::address::group(ip)?;
    Some(format!("{ip} is a {kind} address, which no connection can reach"))
}

/// The one place to delete once there are QUIC listeners: `listenable` then accepts what it passes to this.
fn refuse_quic(node: &Node<'_>) {
    node.refuse(
        format!("{} is a QUIC address, and QUIC listeners come with a later release", node.shown()),
        "listen on /tcp/PORT for now",
    );
}

/// Reports each listener that wants a port that an earlier one has, naming both.
pub(super) fn report_overlaps(findings: &Findings, listeners: &[(String, Endpoint)]) {
    for (index, (path, endpoint)) in listeners.iter().enumerate() {
        let earlier = listeners.iter().take(index).find(|(_, other)| endpoint.overlaps(other));
        if let Some((other_path, other)) = earlier {
            let message = if other == endpoint {
                format!("is the same address as {other_path}")
            } else {
                format!("{} overlaps with {other_path}, {}", endpoint.address, other.address)
            };
            let problem = reload::Problem::at(path.clone(), message);
            findings.error(problem.hint("keep one of them, or give one another port"), Spot::Value);
        }
    }
}

/// Reads `ADDRESS:PORT` of a TCP listener.
pub(super) fn socket_address(node: &Node<'_>, example: &str) -> Option<SocketAddr> {
    let text = node.text()?;
    match text.parse::<SocketAddr>() {
        Ok(address) => match group(address.ip()) {
            None => Some(address),
            Some(message) => {
                node.refuse(message, format!("write an address of this machine, as \"{example}\""));
                None
            }
        },
        Err(_) => {
            node.refuse(
                format!("{} is no address with a port", node.shown()),
                format!("write it as \"{example}\"; names are not resolved here"),
            );
            None
        }
    }
}
