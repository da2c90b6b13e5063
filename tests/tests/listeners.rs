//! Listeners of a live node: ports that are swapped and left open, IPv6, and addresses that go away and come back.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use fednode_tests::{Node, Port, Spec, Traffic, eventually};
use serde_json::{Value, json};

fn committed(outcome: &Value) {
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
}

#[tokio::test]
async fn two_listeners_swap_their_ports_and_an_open_port_stays_the_same() {
    let mut nodes = Node::federation(2).await;
    let traffic = Traffic::start(&nodes[0], &nodes[1]).await;
    let before = nodes[1].connections().await;
    let other = Port::free();
    let (a, b) = (nodes[1].spec().port.number(), other.number());
    let mut open = None;
    for (one, two) in [(a, b), (b, a), (a, b)] {
        let addresses = json!([
            format!("/ip4/127.0.0.1/tcp/{one}"),
            format!("/ip4/0.0.0.0/tcp/{two}"),
            "/ip4/127.0.0.1/tcp/0",
            "/ip4/127.0.0.1/udp/0/quic-v1",
        ]);
        committed(&nodes[1].reload_with(|conf| conf["network"]["addresses"] = addresses.clone()).await);
        let listeners = nodes[1].status().await["listeners"].clone();
        assert_eq!((&listeners[0], &listeners[1]), (&addresses[0], &addresses[1]));
        let real = [listeners[2].clone(), listeners[3].clone()];
        assert!(!real.contains(&addresses[2]) && !real.contains(&addresses[3]), "the real ports: {real:?}");
        assert_eq!(*open.get_or_insert(real.clone()), real);
        // Only the wildcard is reached on every loopback address.
        assert!(std::net::TcpStream::connect(("127.0.0.2", two)).is_ok());
        assert!(std::net::TcpStream::connect(("127.0.0.2", one)).is_err());
        traffic.go_on().await;
    }
    traffic.finish().await;
    assert_eq!(nodes[1].connections().await, before);
}

#[tokio::test]
async fn nodes_find_each_other_over_ipv6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    for transport in ["tcp/PORT", "udp/PORT/quic-v1"] {
        let mut specs = Spec::federation(2);
        let address = |ip: &str, port: &Port| {
            format!("/ip6/{ip}/{}", transport.replace("PORT", &port.number().to_string()))
        };
        for spec in &mut specs {
            spec.conf["network"]["addresses"] = json!([address("::", &spec.port), spec.port.wildcard()]);
        }
        specs[0].peers["peers"][1]["addresses"] = json!([address("::1", &specs[1].port)]);
        let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
        for node in &mut nodes {
            node.wait_until_it_serves().await;
        }
        nodes[0].wait_for_connections(1).await;
        let status = nodes[0].status().await;
        assert!(status["connections"][0]["address"].as_str().unwrap().starts_with("/ip6/::1/"), "{status:#}");
        let traffic = Traffic::start(&nodes[0], &nodes[1]).await;
        let specific = address("::1", &Port::free());
        committed(&nodes[1].reload_with(|conf| conf["network"]["addresses"] = json!([specific])).await);
        traffic.finish().await;
    }
}

/// A network of its own, with one interface besides loopback, which goes away and comes back.
struct Namespace(String);

// === impl Namespace ===

impl Namespace {
    const ADDRESS: &str = "10.77.0.1";

    /// `None`, with the reason printed, where none can be made: it takes privileges.
    fn new() -> Option<Self> {
        if let Err(error) = Command::new("ip").arg("-V").output() {
            println!("skipped: no network namespace can be made without iproute2: {error}");
            return None;
        }
        let namespace = Self(format!("fednode-test-{}", std::process::id()));
        let made = ip(&["netns", "add", &namespace.0]);
        if !made.status.success() {
            println!("skipped: no network namespace can be made: {}", String::from_utf8_lossy(&made.stderr));
            return None;
        }
        assert!(namespace.ip(&["link", "set", "lo", "up"]).status.success());
        let made = namespace.plug();
        if !made.status.success() {
            println!("skipped: no interface can be made: {}", String::from_utf8_lossy(&made.stderr));
            return None;
        }
        Some(namespace)
    }

    fn ip(&self, arguments: &[&str]) -> Output {
        ip(&[&["-n", &self.0], arguments].concat())
    }

    /// Makes the interface.
    fn plug(&self) -> Output {
        let made = self.ip(&["link", "add", "federation", "type", "veth", "peer", "name", "elsewhere"]);
        if made.status.success() {
            let address = format!("{}/24", Self::ADDRESS);
            assert!(self.ip(&["address", "add", &address, "dev", "federation"]).status.success());
            assert!(self.ip(&["link", "set", "federation", "up"]).status.success());
        }
        made
    }

    /// Takes the interface away, and its address with it.
    fn unplug(&self) {
        assert!(self.ip(&["link", "delete", "federation"]).status.success());
    }

    /// The node, to be run in here.
    fn holds(&self, spec: Spec) -> Spec {
        let script = spec.folder().join("fednode-in-here");
        let binary = fednode_tests::process::binary();
        let text = format!("#!/bin/sh\nexec ip netns exec {} {} \"$@\"\n", self.0, binary.display());
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        spec.binary(&script)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.0]);
    }
}

fn ip(arguments: &[&str]) -> Output {
    Command::new("ip").args(arguments).output().expect("it was there a moment ago")
}

#[tokio::test]
async fn an_address_that_goes_away_and_comes_back_is_named_and_takes_nothing_down() {
    let Some(namespace) = Namespace::new() else { return };
    let mut specs = Spec::federation(2);
    let port = specs[1].port.number();
    let away = format!("/ip4/{}/tcp/{port}", Namespace::ADDRESS);
    let quic = format!("/ip4/{}/udp/{port}/quic-v1", Namespace::ADDRESS);
    specs[1].conf["network"]["addresses"] = json!([away, quic, "/ip4/127.0.0.1/tcp/0"]);
    specs[0].peers["peers"][1]["addresses"] = json!([away]);
    let mut nodes: Vec<Node> = specs.into_iter().map(|spec| namespace.holds(spec).spawn()).collect();
    for node in &mut nodes {
        node.wait_until_it_serves().await;
        node.wait_for_connections(1).await;
    }
    let ready = async |node: &Node| {
        let answer = node.client().get("/readyz").await.unwrap();
        (answer.status.as_u16(), answer.json::<Value>().unwrap())
    };
    assert_eq!(ready(&nodes[1]).await.0, 200);

    for change in [json!(1), json!(2)] {
        namespace.unplug();
        let failing = eventually("the address is missed", async || {
            let failing = nodes[1].status().await["failing_listeners"].clone();
            (failing.as_array()?.len() == 2).then_some(failing)
        })
        .await;
        assert_eq!((&failing[0]["address"], &failing[1]["address"]), (&json!(away), &json!(quic)));
        let (code, answer) = ready(&nodes[1]).await;
        assert_eq!(code, 503);
        let check = &answer["checks"]["network"];
        assert!(check["status"] == "fail" && check["error"].as_str().unwrap().contains(&away), "{answer:#}");
        // It still takes orders about everything else.
        committed(&nodes[1].reload_with(|conf| conf["node"]["worker_threads"] = change).await);

        assert!(namespace.plug().status.success());
        eventually("the address is back", async || (ready(&nodes[1]).await.0 == 200).then_some(())).await;
        assert_eq!(nodes[1].status().await["failing_listeners"], json!([]));
        // And the listeners with it: one who comes anew gets in, over each of them.
        let address =
            if nodes[0].spec().peers["peers"][1]["addresses"] == json!([away]) { &quic } else { &away };
        let mut spec = nodes.remove(0).kill().await;
        spec.peers["peers"][1]["addresses"] = json!([address]);
        nodes.insert(0, spec.start().await);
        nodes[0].wait_for_connections(1).await;
    }
}
