//! Addresses that the node listens on: which it can, and which get in each other's way.

use std::net::{IpAddr, SocketAddr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use net::Endpoint;
use storage::document::{Findings, Node, place::Spot};

/// Reads an address that this node can listen on.
pub(super) fn listenable(node: &Node<'_>) -> Option<Multiaddr> {
    const FORM: &str = "write /ip4/0.0.0.0/tcp/9000 or /ip6/::/udp/9000/quic-v1";
    let text = node.text()?;
    let address = match storage::address::parse(text) {
        Ok(address) => address,
        Err(error) => {
            node.refuse(format!("{} {error}", node.shown()), FORM);
            return None;
        }
    };
    if let Some(endpoint) = Endpoint::of(&address) {
        let Some(message) = group(endpoint.address.ip()) else { return Some(address) };
        node.refuse(message, FORM);
        return None;
    }
    let parts: Vec<Protocol<'_>> = address.iter().collect();
    match parts.as_slice() {
        [name @ (Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_)), ..] => {
            let example = match name {
                Protocol::Dns6(_) => "/ip6/::/tcp/9000",
                _ => "/ip4/0.0.0.0/tcp/9000",
            };
            let hint =
                format!("names are for peers.yaml; listen on an address of this machine, as {example}");
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
