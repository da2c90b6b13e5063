//! The section `protocol` of `conf.yaml`: topics and services (N7, N8).

use std::collections::BTreeSet;
use std::time::Duration;

use net::{ConnectedService, Endpoint, ExposedService, ProtocolSection, RateLimit};
use storage::PeerKey;
use storage::document::{Node, Section};

use super::decode::duration;
use super::listen::socket_address;

/// The most topics, services exposed and services connected, each: they are announced to every peer.
const MAX_ENTRIES: usize = 1_024;

/// The longest name of a topic or service, in bytes.
const MAX_NAME: usize = 128;

/// Decodes the section; the members that services name go to `named`.
pub(super) fn section(
    section: Section<'_>,
    exchange_interval: Duration,
    named: &mut Vec<(String, PeerKey)>,
    listeners: &mut Vec<(String, Endpoint)>,
) -> ProtocolSection {
    let ping_interval = duration(&section.key("ping_interval"), 15_000, 100, 3_600_000);
    let size = section.key("max_message_size").size(256..=64 << 20).unwrap_or(1 << 20);
    let rate_limit = rate_limit(section.key("rate_limit").section());
    let topics = topics(&section.key("topics"));
    let services = section.key("services").section();
    let expose = expose(&services.key("expose"), named);
    let connect = connect(&services.key("connect"), named, listeners);
    services.finish();
    section.finish();
    let max_message_size = usize::try_from(size).unwrap_or(usize::MAX);
    ProtocolSection {
        ping_interval,
        max_message_size,
        rate_limit,
        exchange_interval,
        topics,
        expose,
        connect,
    }
}

fn rate_limit(section: Section<'_>) -> RateLimit {
    let limit = RateLimit {
        messages_per_second: section.key("messages_per_second").number(0.001..=1e6).unwrap_or(1_000.0),
        burst: section.key("burst").integer32(1..=1_000_000).unwrap_or(2_000),
    };
    section.finish();
    limit
}

fn topics(list: &Node<'_>) -> Vec<String> {
    let mut topics = Vec::new();
    let mut seen = BTreeSet::new();
    for item in list.items() {
        let topic = item.section();
        if let Some(name) = name(&topic.key("name").required("blocks"), &mut seen) {
            topics.push(name.to_owned());
        }
        topic.finish();
    }
    bounded(list, topics.len());
    topics
}

fn expose(list: &Node<'_>, named: &mut Vec<(String, PeerKey)>) -> Vec<ExposedService> {
    let mut services = Vec::new();
    let mut seen = BTreeSet::new();
    for item in list.items() {
        let service = item.section();
        let name = name(&service.key("name").required("bitcoin-rpc"), &mut seen);
        let target = target(&service.key("target").required("\"127.0.0.1:18443\""));
        let allowed = service.key("allow").nullable();
        let mut keys = Vec::new();
        for entry in allowed.items() {
            if let Some(key) = peer(&entry, named)
                && !keys.contains(&key)
            {
                keys.push(key);
            }
        }
        let allow = allowed.is_given().then_some(keys);
        service.finish();
        if let (Some(name), Some(target)) = (name, target) {
            services.push(ExposedService { name: name.to_owned(), target: target.to_owned(), allow });
        }
    }
    bounded(list, services.len());
    services
}

fn connect(
    list: &Node<'_>,
    named: &mut Vec<(String, PeerKey)>,
    listeners: &mut Vec<(String, Endpoint)>,
) -> Vec<ConnectedService> {
    let mut services: Vec<ConnectedService> = Vec::new();
    for item in list.items() {
        let service = item.section();
        let name = name(&service.key("name").required("bitcoin-rpc"), &mut BTreeSet::new());
        let peer_node = service.key("peer").required("<public key>");
        let peer = peer(&peer_node, named);
        let listen_node = service.key("listen").required("\"127.0.0.1:7001\"");
        let listen = socket_address(&listen_node, "127.0.0.1:7001");
        if let Some(address) = listen {
            if address.port() == 0 {
                listen_node
                    .refuse("has port 0, which nobody could find", "write a port, as \"127.0.0.1:7001\"");
            }
            listeners.push((listen_node.path(), Endpoint::tcp(address)));
        }
        service.finish();
        if let (Some(name), Some(peer), Some(listen)) = (name, peer, listen) {
            services.push(ConnectedService { name: name.to_owned(), peer, listen });
        }
    }
    bounded(list, services.len());
    services
}

fn bounded(list: &Node<'_>, count: usize) {
    if count > MAX_ENTRIES {
        list.refuse(format!("has {count} entries"), format!("at most {MAX_ENTRIES}"));
    }
}

fn name<'n>(node: &Node<'n>, seen: &mut BTreeSet<String>) -> Option<&'n str> {
    let name = node.filled()?;
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte));
    if !plain || name.len() > MAX_NAME {
        let hint = format!("letters, digits and any of - _ . /, at most {MAX_NAME} of them");
        node.refuse(format!("{} is no name", node.shown()), hint);
        return None;
    }
    if !seen.insert(name.to_owned()) {
        node.refuse(format!("{} stands there twice", node.shown()), "give each another name");
        return None;
    }
    Some(name)
}

/// `HOST:PORT`; whether the host is there shows when a stream comes.
fn target<'n>(node: &Node<'n>) -> Option<&'n str> {
    let text = node.text()?;
    let good = text.rsplit_once(':').is_some_and(|(host, port)| {
        let port = port.parse::<u16>().is_ok_and(|port| port != 0);
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let name = !host.is_empty() && host.len() <= 253 && !host.contains([':', '/', ' ', '[', ']']);
        port && (name || (bracketed && text.parse::<std::net::SocketAddr>().is_ok()))
    });
    if !good {
        node.refuse(format!("{} is no host with a port", node.shown()), "write it as \"127.0.0.1:18443\"");
        return None;
    }
    Some(text)
}

fn peer(node: &Node<'_>, named: &mut Vec<(String, PeerKey)>) -> Option<PeerKey> {
    match node.text()?.parse::<PeerKey>() {
        Ok(key) => {
            named.push((node.path(), key));
            Some(key)
        }
        Err(error) => {
            storage::peers_file::refuse_key(node, &error);
            None
        }
    }
}
