//! What a node has learned of others is there after a restart, and a person may edit the file.

use std::fs;
use std::path::PathBuf;

use fednode_tests::{Node, Spec, eventually};

fn file(spec: &Spec) -> PathBuf {
    spec.folder().join("data/known.yaml")
}

async fn known(node: &Node) -> Vec<String> {
    let status = node.status().await;
    let known = status["known"].as_array().unwrap();
    known.iter().map(|peer| peer["public_key"].as_str().unwrap().to_owned()).collect()
}

/// Starts it again; what it knows now, it knows from the file.
async fn again(spec: Spec) -> Node {
    let mut node = spec.spawn_as_it_is();
    node.wait_until_it_serves().await;
    node
}

#[tokio::test]
async fn what_was_learned_outlives_the_process_and_a_person_may_edit_it() {
    let mut nodes = Node::federation(2).await;
    let (other, node) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    let key = other.key().to_owned();
    eventually("the peer is known", async || known(&node).await.contains(&key).then_some(())).await;
    let (_, spec) = node.stop().await;
    let (_, _other) = other.stop().await;
    let text = fs::read_to_string(file(&spec)).unwrap();
    assert!(text.contains(&key), "{text}");
    let yaml: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(yaml["peers"][0]["public_key"], key.as_str());

    // Nobody is there to learn from.
    let node = again(spec).await;
    eventually("it is known again", async || (known(&node).await == [key.clone()]).then_some(())).await;
    let (_, spec) = node.stop().await;

    // Garbage: the version before stands in for it.
    fs::write(file(&spec), "garbage").unwrap();
    let node = again(spec).await;
    node.wait_for_log("it is kept as").await;
    node.wait_for_log("stands in for it").await;
    eventually("it is known all the same", async || (known(&node).await == [key.clone()]).then_some(()))
        .await;
    let (_, spec) = node.stop().await;

    // An entry that a person takes out is forgotten.
    let text = fs::read_to_string(file(&spec)).unwrap();
    let edited: String = text.split_inclusive('\n').filter(|line| !line.contains(&key)).collect();
    fs::write(file(&spec), edited).unwrap();
    let (_, spec) = again(spec).await.stop().await;
    assert!(!fs::read_to_string(file(&spec)).unwrap().contains(&key), "it came back");
}
