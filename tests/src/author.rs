//! Other valid configurations of a node, at random: every section changes, and what flows stays allowed.

use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use crate::port::Port;
use crate::process::Spec;
use crate::stage::NOBODY;

/// Writes configurations of one node. The same random numbers give the same configurations.
#[derive(Debug)]
pub struct Author {
    conf: Value,
    peers: Value,
    /// The other members, to whose services it may connect.
    others: Vec<Value>,
    /// A listener that comes and goes, one of a service, and the API's.
    ports: [Port; 3],
}

// === impl Author ===

impl Author {
    /// Begins with the files of this node.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        let mut others = spec.peers["peers"].as_array().cloned().unwrap_or_default();
        others.retain(|peer| peer["public_key"] != spec.keys.public_key.as_str());
        Self {
            others,
            conf: spec.conf.clone(),
            peers: spec.peers.clone(),
            ports: std::array::from_fn(|_| Port::free()),
        }
    }

    /// The members as they were in the beginning: a list.
    #[must_use]
    pub fn members(&self) -> &Value {
        &self.peers["peers"]
    }

    /// Other valid values of every section. What flows stays allowed, and the socket and the data stay where they are.
    ///
    /// # Panics
    /// If the node's own file does not write its lists of topics and services out.
    #[must_use]
    pub fn conf(&self, random: &mut StdRng) -> Value {
        let mut conf = self.conf.clone();
        conf["node"]["worker_threads"] = json!(random.random_range(0..4));
        conf["node"]["shutdown_timeout"] = json!(one_of(random, &["10s", "30s"]));
        self.network(&mut conf["network"], random);
        let peers = &mut conf["peers"];
        peers["exchange_interval"] = json!(one_of(random, &["300ms", "1s", "30s", "24h"]));
        peers["connection_timeout"] = json!(one_of(random, &["5s", "10s", "1m"]));
        peers["reconnect_min"] = json!(one_of(random, &["50ms", "1s"]));
        peers["reconnect_max"] = json!(one_of(random, &["2s", "1m"]));
        peers["max_known"] = json!(one_of(random, &[0, 1, 10_000]));
        self.protocol(&mut conf["protocol"], random);
        conf["logging"]["level"] = json!(one_of(random, &["debug", "info", "warn", "error"]));
        conf["logging"]["format"] = json!(one_of(random, &["json", "text"]));
        conf["logging"]["file_output"] = json!(random.random::<bool>());
        conf["logging"]["file_name"] = json!(one_of(random, &["one.log", "other.log"]));
        conf["logging"]["file_max_size"] = json!(one_of(random, &["64KiB", "1MiB"]));
        let listen = random.random::<bool>().then(|| self.ports[2].address().to_string());
        conf["admin"]["listen"] = json!(listen);
        conf["reload"]["history"] = json!(random.random_range(5..50));
        conf["reload"]["budget"] = json!(one_of(random, &["20s", "30s"]));
        conf["reload"]["health_gate"] = json!(random.random::<bool>());
        conf
    }

    fn network(&self, network: &mut Value, random: &mut StdRng) {
        let addresses = network["addresses"].as_array_mut().expect("a list");
        if random.random::<bool>() {
            addresses.push(json!(self.ports[0].loopback()));
        }
        if random.random::<bool>() {
            addresses.push(json!(self.ports[0].quic()));
        }
        network["external_addresses"] = json!(one_of(random, &[&["/dns4/one.example/tcp/9000"][..], &[]]));
        network["membership"] = json!(one_of(random, &["open", "members"]));
        network["limits"] = json!({
            "connections": random.random_range(1..1024),
            "connections_per_peer": random.random_range(1..5),
            "connections_per_ip": random.random_range(1..64),
            "pending_incoming": random.random_range(4..64),
        });
    }

    fn protocol(&self, protocol: &mut Value, random: &mut StdRng) {
        protocol["ping_interval"] = json!(one_of(random, &["10s", "15s", "1h"]));
        protocol["max_message_size"] = json!(one_of(random, &["1KiB", "64KiB", "8MiB"]));
        protocol["rate_limit"]["messages_per_second"] = json!(one_of(random, &[100_000, 1_000_000]));
        protocol["rate_limit"]["burst"] = json!(one_of(random, &[100_000, 1_000_000]));
        for number in 0..random.random_range(0..4) {
            let topics = protocol["topics"].as_array_mut().expect("a list");
            topics.push(json!({"name": format!("more-{number}")}));
        }
        for number in 0..random.random_range(0..4) {
            let target = one_of(random, &["127.0.0.1:1", "localhost:9"]);
            let mut row = json!({"name": format!("more-{number}"), "target": target});
            if random.random::<bool>() {
                row["allow"] = json!([]);
            }
            protocol["services"]["expose"].as_array_mut().expect("a list").insert(0, row);
        }
        if random.random::<bool>() {
            let peer = self.others[random.random_range(0..self.others.len())]["public_key"].clone();
            let name = one_of(random, &["more-0", "more-1"]);
            let row = json!({"name": name, "peer": peer, "listen": self.ports[1].address().to_string()});
            protocol["services"]["connect"].as_array_mut().expect("a list").insert(0, row);
        }
    }

    /// The same members, some with other particulars, and sometimes one who does not run.
    ///
    /// # Panics
    /// If the node's own file has no list.
    #[must_use]
    pub fn peers(&self, random: &mut StdRng) -> Value {
        let mut peers = self.peers.clone();
        let list = peers["peers"].as_array_mut().expect("a list");
        for member in &mut *list {
            if random.random::<bool>() {
                member["name"] = json!(one_of(random, &["ACME", "Bank"]));
                member["connection_timeout"] = json!(one_of(random, &["2s", "20s"]));
                member["max_retries"] = json!(random.random_range(0..9));
            }
        }
        if random.random::<bool>() {
            list.push(json!({"public_key": NOBODY, "addresses": ["/ip4/127.0.0.1/tcp/1"]}));
        }
        peers
    }
}

fn one_of<T: Clone>(random: &mut StdRng, values: &[T]) -> T {
    values[random.random_range(0..values.len())].clone()
}
