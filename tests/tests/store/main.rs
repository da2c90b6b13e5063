//! The peer store under fire: `peers.yaml` with ten hands in it at once, killed writers, disks that refuse, and every way in which
//! editors and tools save a file (N9).

mod between;
mod editors;
mod kills;
mod refusals;
mod writers;

use std::fs;
use std::path::Path;
use std::process::Output;

use fednode_tests::{Node, Spec};
use serde_json::{Value, json};

/// Where nobody is (RFC 5737).
const ADDRESS: &str = "/ip4/192.0.2.1/tcp/9000";

/// A node's file as a person writes it, with marks at both ends.
const WRITTEN: &str = "# Ours, see the wiki\npeers:\n# the end\n";

/// Another configuration whose node does not run, with the same `peers.yaml`.
fn sleeper(of: &Spec) -> Spec {
    let mut spec = Spec::new();
    spec.conf["peers"]["file"] = json!(of.peers_path());
    spec.write();
    spec
}

/// A node whose `peers.yaml` a person has written.
async fn node(mut spec: Spec) -> Node {
    spec.conf["reload"] = json!({"budget": "20s", "history": 3});
    spec.write();
    fs::write(spec.peers_path(), WRITTEN).expect("the folder can be written");
    let mut node = spec.spawn_as_it_is();
    node.wait_until_it_serves().await;
    node
}

/// Adds a member by the API; the answer's status and body.
async fn add(node: &Node, key: &str) -> (u16, Value) {
    let body = json!({"public_key": key, "addresses": [ADDRESS]}).to_string().into_bytes();
    let answer = node.client().post("/admin/peers", &[], body).await.expect("the node answers");
    (answer.status.as_u16(), answer.json().unwrap_or_default())
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// The keys in a file of members, if it is whole.
fn keys(bytes: &[u8]) -> Option<Vec<String>> {
    let file = storage::PeersFile::parse("peers.yaml", bytes.into(), Default::default()).ok()?;
    Some(file.members.keys().map(ToString::to_string).collect())
}

/// Names in a folder that a writer uses for a moment.
fn leftovers(folder: &Path) -> Vec<std::path::PathBuf> {
    fednode_tests::ground::leftovers(folder)
}
