//! Three nodes, a stream of messages from the first to the second, and a key of the second that changes.

use std::collections::BTreeSet;

use fednode_tests::stranger::Call;
use fednode_tests::{Hum, Lines, Node, Spec, Stranger, Traffic, eventually};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::Key;

/// See the module.
pub struct Scene {
    /// The second is the one that is changed, unless a test says otherwise.
    pub nodes: Vec<Node>,
    traffic: Traffic,
    /// What flows besides.
    hum: Option<Hum>,
    /// They stay to the end: one that left would be a connection that closes while others are counted.
    pub guests: Vec<Stranger>,
}

/// Which node a test changes.
pub const LIVE: usize = 1;

/// Between which nodes something flows, each from the first to the second.
#[derive(Clone, Copy, Debug)]
pub struct Ways {
    direct: (usize, usize),
    topic: (usize, usize),
    tunnel: (usize, usize),
}

/// Everything comes to the live node.
pub const TO_LIVE: Ways = Ways { direct: (0, LIVE), topic: (0, LIVE), tunnel: (0, LIVE) };

/// The live node sends direct messages and connects to a service; the topic is the others'. So what it lets in may be next to nothing.
pub const FROM_LIVE: Ways = Ways { direct: (LIVE, 0), topic: (0, 2), tunnel: (LIVE, 0) };

// === impl Scene ===

impl Scene {
    pub async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With other files than usual from the start.
    pub async fn with(edit: impl FnOnce(&mut [Spec])) -> Self {
        let mut specs = Spec::federation(3);
        edit(&mut specs);
        let nodes = connected(specs).await;
        let traffic = Traffic::start(&nodes[0], &nodes[LIVE]).await;
        Self { nodes, traffic, hum: None, guests: Vec::new() }
    }

    /// With messages on a topic and a stream through a tunnel besides.
    pub async fn busy(ways: Ways, edit: impl FnOnce(&mut [Spec])) -> Self {
        let mut specs = Spec::federation(3);
        let lines = Lines::lay(&mut specs, ways.topic, ways.tunnel).await;
        edit(&mut specs);
        let nodes = connected(specs).await;
        let (from, to) = ways.direct;
        let traffic = Traffic::start(&nodes[from], &nodes[to]).await;
        let hum = Some(lines.start(&nodes).await);
        Self { nodes, traffic, hum, guests: Vec::new() }
    }

    /// The node that is changed.
    pub fn live(&self) -> &Node {
        &self.nodes[LIVE]
    }

    /// Where its first listener is.
    pub fn address(&self) -> String {
        self.live().spec().port.loopback()
    }

    /// A call to the live node, which is in its `status` when it is taken.
    pub async fn call(&self, stranger: &Stranger, address: &str) -> Option<Call> {
        let call = stranger.call(address).await?;
        // The connection speaks as soon as it is there; the node's books may be a moment behind.
        let peer_id = stranger.peer_id.to_string();
        eventually("the node knows of it", async || {
            let status = self.live().status().await;
            let connections = status["connections"].as_array()?.iter();
            let known = connections.filter(|connection| connection["peer_id"] == peer_id.as_str()).count();
            (known == stranger.calls()).then_some(())
        })
        .await;
        Some(call)
    }

    /// Whether somebody new who calls at this address is let in.
    pub async fn lets_in(&mut self, address: &str) -> bool {
        let guest = Stranger::new();
        let is_in = self.call(&guest, address).await.is_some();
        self.guests.push(guest);
        is_in
    }

    /// A raw connection to the live node.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.live().spec().port.address()).await.expect("it listens")
    }

    /// Changes the key to this value.
    pub async fn change(&mut self, key: Key, value: Value) -> Value {
        self.change_at(LIVE, key, |conf| set(conf, key.path, value)).await
    }

    /// Changes the key on one of the nodes.
    pub async fn change_at(&mut self, index: usize, key: Key, edit: impl FnOnce(&mut Value)) -> Value {
        self.nodes[index].edit(edit);
        self.changed(index, key).await
    }

    /// Changes the key in the live node's `peers.yaml`.
    pub async fn change_peers(&mut self, key: Key, edit: impl FnOnce(&mut Vec<Value>)) -> Value {
        self.nodes[LIVE].edit_peers(edit);
        self.changed(LIVE, key).await
    }

    /// Puts files that say another value of this key into force: plan, SIGHUP, and what both say.
    pub async fn changed(&mut self, index: usize, key: Key) -> Value {
        let before = self.connections().await;
        let plan = self.plan(index).await;
        assert_eq!(plan["outcome"], "planned", "{plan:#}");
        let changes = plan["changes"].as_array().expect("a list");
        assert_eq!(changes.len(), 1, "{plan:#}");
        assert_eq!(anybody(&changes[0]["path"]), key.told(), "{plan:#}");
        for (name, value) in [("component", key.component), ("strategy", key.strategy)] {
            assert_eq!(changes[0][name], value, "{plan:#}");
        }
        assert_eq!(self.connections().await, before, "a plan touches nothing");

        let outcome = self.nodes[index].hangup().await;
        assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
        assert_eq!(outcome["changes"], plan["changes"]);
        let (told, closing) = (&outcome["connections"], &plan["connections"]["would_close"]);
        assert_eq!(told["would_close"], *closing, "{outcome:#}");
        let closing = closing.as_array().expect("a list").iter();
        let closing: BTreeSet<_> = closing.filter_map(|closed| closed["id"].as_str()).collect();
        assert_eq!(told["closed_by_reload"], closing.len(), "{outcome:#}");
        self.go_on().await;
        for (node, (before, after)) in before.into_iter().zip(self.connections().await).enumerate() {
            for connection in before {
                let is_named = node == index && closing.contains(connection.0.as_str());
                assert_eq!(
                    after.contains(&connection),
                    !is_named,
                    "{connection:?} of node {node}: {after:?}"
                );
            }
        }
        outcome
    }

    /// Tries a change that is refused, and puts the files back. Returns the error.
    pub async fn refused(&mut self, key: Key, edit: impl FnOnce(&mut Value)) -> Value {
        let (before, status) = (self.connections().await, self.live().status().await);
        let conf = self.live().spec().conf.clone();
        self.nodes[LIVE].edit(edit);
        let error = self.refusal(key).await;
        self.nodes[LIVE].edit(|own| *own = conf);
        let outcome = self.live().hangup().await;
        assert_eq!(outcome["outcome"], "unchanged", "{outcome:#}");
        let now = self.live().status().await;
        for fact in ["generation", "peer_id", "public_key", "pid", "listeners", "state"] {
            assert_eq!(now[fact], status[fact], "{fact}");
        }
        assert_eq!(self.connections().await, before);
        error
    }

    /// What the files say is refused, in the plan and by the node, with one error about this key.
    pub async fn refusal(&mut self, key: Key) -> Value {
        let plan = self.plan(LIVE).await;
        let outcome = self.live().hangup().await;
        for refusal in [&plan, &outcome] {
            assert_eq!(refusal["outcome"], "rejected", "{refusal:#}");
            let errors = refusal["errors"].as_array().expect("a list");
            assert_eq!((errors.len(), &errors[0]["path"]), (1, &json!(key.path)), "{refusal:#}");
            assert!(errors[0]["hint"].is_string(), "{refusal:#}");
        }
        self.go_on().await;
        outcome["errors"][0].clone()
    }

    /// `fednode reload --dry-run --json`.
    async fn plan(&self, index: usize) -> Value {
        let spec = self.nodes[index].spec();
        let mut command = spec.command(&["reload", "--dry-run", "--json"]);
        // An edit of `node.data_dir` must not lead the client astray.
        command.env("FEDNODE_SOCKET", self.nodes[index].data_dir().join("admin.sock"));
        let output = tokio::process::Command::from(command).output().await.expect("the command runs");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    async fn connections(&self) -> Vec<Vec<(String, String)>> {
        let mut all = Vec::new();
        for node in &self.nodes {
            all.push(node.connections().await);
        }
        all
    }

    /// Waits until some more of everything has arrived.
    pub async fn go_on(&self) {
        self.traffic.go_on().await;
        if let Some(hum) = &self.hum {
            hum.go_on().await;
        }
    }

    /// Ends the streams: no message was refused, lost, repeated or reordered.
    pub async fn finish(self) -> Vec<Node> {
        self.traffic.finish().await;
        if let Some(hum) = self.hum {
            hum.finish().await;
        }
        self.nodes
    }
}

async fn connected(specs: Vec<Spec>) -> Vec<Node> {
    let others = specs.len() - 1;
    let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
    for node in &mut nodes {
        node.wait_until_it_serves().await;
    }
    for node in &nodes {
        node.wait_for_connections(others).await;
    }
    nodes
}

/// A path as it is told, of whichever member it is: `peers[<public key>].name` as `peers[].name`.
fn anybody(path: &Value) -> String {
    let path = path.as_str().expect("a path");
    match (path.find('['), path.rfind(']')) {
        (Some(begin), Some(end)) => [&path[..=begin], &path[end..]].concat(),
        _ => path.to_owned(),
    }
}

/// Sets the value at a path of keys with dots between.
fn set(conf: &mut Value, path: &str, value: Value) {
    let place = path.split('.').fold(conf, |place, key| &mut place[key]);
    *place = value;
}
