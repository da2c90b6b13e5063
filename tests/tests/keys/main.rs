//! Every key of `node`, `network`, `peers` and `protocol`, and of an entry of `peers.yaml`, changed on a live node with messages
//! flowing: from outside it can be seen that the change works, in both directions, and that no connection was lost which the
//! plan did not name. "It says so" is not "it does so": sockets, refusals and threads are looked at, not the value.
//!
//! Each test goes the operator's way: `fednode reload --dry-run` tells the plan, then SIGHUP. The identity is the one refusal.

#![allow(unreachable_pub, reason = "a module of a test is not seen from outside")]

mod door;
mod exchange;
mod limits;
mod members;
mod network;
mod node;
mod pace;
mod pings;
mod rates;
mod scene;
mod services;
mod topics;

use std::collections::BTreeSet;

use fednode_tests::stage::NOBODY;
use fednode_tests::{Node, Port, Spec};
use serde_json::{Value, json};

/// A key, and what the plan says of it.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As in `conf.yaml`, sections before it; of an entry of a list with `[]`, and `peers[]` for one of `peers.yaml`.
    pub path: &'static str,
    /// The component that it belongs to.
    pub component: &'static str,
    /// How it is changed.
    pub strategy: &'static str,
}

// === impl Key ===

impl Key {
    /// As a plan tells of it: a list of `conf.yaml` is one value, the entries of `peers.yaml` are told one by one.
    pub fn told(&self) -> &'static str {
        let is_member = self.path.starts_with("peers[]");
        if is_member { self.path } else { self.path.split("[]").next().unwrap_or(self.path) }
    }
}

/// Makes a test of each line, and the list of what is tested.
macro_rules! keys {
    ($($path:literal, $component:literal, $strategy:literal: $module:ident::$test:ident;)*) => {
        const TESTED: &[&str] = &[$($path),*];

        $(
            #[tokio::test]
            async fn $test() {
                let key = Key { path: $path, component: $component, strategy: $strategy };
                $module::$test(key).await;
            }
        )*
    };
}

keys! {
    "node.private_key", "network", "restart": node::private_key;
    "node.key_file", "reload", "in_place": node::key_file;
    "node.data_dir", "history", "replace_part": node::data_dir;
    "node.worker_threads", "network", "new_connections": node::worker_threads;
    "node.shutdown_timeout", "reload", "in_place": node::shutdown_timeout;
    "network.addresses", "network", "replace_part": network::addresses;
    "network.external_addresses", "network", "in_place": network::external_addresses;
    "network.membership", "network", "in_place": network::membership;
    "network.limits.connections", "network", "in_place": limits::connections;
    "network.limits.connections_per_peer", "network", "in_place": limits::connections_per_peer;
    "network.limits.connections_per_ip", "network", "in_place": limits::connections_per_ip;
    "network.limits.pending_incoming", "network", "in_place": limits::pending_incoming;
    "peers.connection_timeout", "network", "in_place": pace::connection_timeout;
    "peers.reconnect_min", "network", "in_place": pace::reconnect_min;
    "peers.reconnect_max", "network", "in_place": pace::reconnect_max;
    "peers.file", "peer_store", "in_place": members::file;
    "peers.exchange_interval", "protocol", "in_place": exchange::exchange_interval;
    "peers.max_known", "peer_store", "in_place": exchange::max_known;
    "peers[]", "peer_store", "in_place": members::entry;
    "peers[].addresses", "peer_store", "in_place": members::addresses_of_one;
    "peers[].name", "peer_store", "in_place": members::name;
    "peers[].connection_timeout", "peer_store", "in_place": members::connection_timeout_of_one;
    "peers[].max_retries", "peer_store", "in_place": members::max_retries;
    "protocol.ping_interval", "protocol", "in_place": pings::ping_interval;
    "protocol.max_message_size", "protocol", "in_place": topics::max_message_size;
    "protocol.rate_limit.messages_per_second", "protocol", "in_place": rates::messages_per_second;
    "protocol.rate_limit.burst", "protocol", "in_place": rates::burst;
    "protocol.topics", "protocol", "in_place": topics::topics;
    "protocol.topics[].name", "protocol", "in_place": topics::topic_name;
    "protocol.services.expose", "protocol", "in_place": services::expose;
    "protocol.services.expose[].name", "protocol", "in_place": services::exposed_name;
    "protocol.services.expose[].target", "protocol", "in_place": services::exposed_target;
    "protocol.services.expose[].allow", "protocol", "in_place": services::exposed_allow;
    "protocol.services.connect", "protocol", "replace_part": services::connect;
    "protocol.services.connect[].name", "protocol", "replace_part": services::connected_name;
    "protocol.services.connect[].peer", "protocol", "replace_part": services::connected_peer;
    "protocol.services.connect[].listen", "protocol", "replace_part": services::connected_listen;
}

/// What a node itself says that it is configured by: a key that is added to the configuration has to be added above.
#[tokio::test]
async fn the_keys_that_are_tested_are_the_keys_that_there_are() {
    let mut found = keys_of(&Spec::new().start().await).await;
    found.extend(keys_of(&full().start().await).await);
    let tested: BTreeSet<String> = TESTED.iter().map(|key| (*key).to_owned()).collect();
    assert_eq!(tested.len(), TESTED.len(), "one stands there twice");
    assert_eq!(tested, found);
}

/// A node whose files have an entry in every list, and every key that may be left out.
fn full() -> Spec {
    let (mut spec, port) = (Spec::new(), Port::free());
    std::fs::write(spec.folder().join("node.key"), &spec.keys.private_key).expect("it can be written");
    spec.conf["node"] = json!({"key_file": "node.key"});
    spec.conf["protocol"] = json!({"topics": [{"name": "a"}], "services": {
        "expose": [{"name": "a", "target": "127.0.0.1:1", "allow": [NOBODY]}],
        "connect": [{"name": "a", "peer": NOBODY, "listen": port.address().to_string()}],
    }});
    spec.peers = json!({"peers": [{
        "public_key": NOBODY, "addresses": [], "name": "nobody", "connection_timeout": "1s", "max_retries": 1
    }]});
    spec
}

async fn keys_of(node: &Node) -> BTreeSet<String> {
    let answer = node.client().get("/admin/config").await.expect("it answers");
    let answer: Value = answer.json().expect("JSON");
    let mut keys = BTreeSet::new();
    for section in ["node", "network", "peers", "protocol"] {
        gather(section, &answer["config"][section], &mut keys);
    }
    let members: Value = serde_yaml::from_str(answer["peers"].as_str().expect("a text")).expect("YAML");
    for member in members["peers"].as_array().expect("a list") {
        gather("peers[]", member, &mut keys);
    }
    // An entry is added or removed with its key.
    if keys.remove("peers[].public_key") {
        keys.insert("peers[]".to_owned());
    }
    keys
}

fn gather(path: &str, value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                gather(&format!("{path}.{name}"), value, keys);
            }
        }
        Value::Array(entries) if entries.iter().any(Value::is_object) => {
            for entry in entries {
                gather(&format!("{path}[]"), entry, keys);
            }
        }
        _ => keys.extend([path.to_owned()]),
    }
}
