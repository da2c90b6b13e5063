//! Every key of `node` and `network`, and those of `peers` that the network goes by, changed on a live node with messages
//! flowing: from outside it can be seen that the change works, in both directions, and that no connection was lost which the
//! plan did not name. "It says so" is not "it does so": sockets, refusals and threads are looked at, not the value.
//!
//! Each test goes the operator's way: `fednode reload --dry-run` tells the plan, then SIGHUP. The identity is the one refusal.

#![allow(unreachable_pub, reason = "a module of a test is not seen from outside")]

mod limits;
mod network;
mod node;
mod pace;
mod scene;

use std::collections::BTreeSet;

use fednode_tests::{Node, Spec};
use serde_json::{Value, json};

/// A key, and what the plan says of it.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As in `conf.yaml`, sections before it.
    pub path: &'static str,
    /// The component that it belongs to.
    pub component: &'static str,
    /// How it is changed.
    pub strategy: &'static str,
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
}

/// Keys of `peers` that the network does not go by.
const ELSEWHERE: &[&str] = &["peers.file", "peers.exchange_interval", "peers.max_known"];

/// What a node itself says that it is configured by: a key that is added to the configuration has to be added above.
#[tokio::test]
async fn the_keys_that_are_tested_are_the_keys_that_there_are() {
    let mut found = keys_of(&Spec::new().start().await).await;
    let mut spec = Spec::new();
    std::fs::write(spec.folder().join("node.key"), &spec.keys.private_key).expect("it can be written");
    spec.conf["node"] = json!({"key_file": "node.key"});
    found.extend(keys_of(&spec.start().await).await);
    let tested: BTreeSet<String> = TESTED.iter().chain(ELSEWHERE).map(|key| (*key).to_owned()).collect();
    assert_eq!(tested.len(), TESTED.len() + ELSEWHERE.len(), "one stands there twice");
    assert_eq!(tested, found);
}

async fn keys_of(node: &Node) -> BTreeSet<String> {
    let answer = node.client().get("/admin/config").await.expect("it answers");
    let config: Value = answer.json().expect("JSON");
    let mut keys = BTreeSet::new();
    for section in ["node", "network", "peers"] {
        gather(section, &config["config"][section], &mut keys);
    }
    keys
}

fn gather(path: &str, value: &Value, keys: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(map) => {
            for (name, value) in map {
                gather(&format!("{path}.{name}"), value, keys);
            }
        }
        None => keys.extend([path.to_owned()]),
    }
}
