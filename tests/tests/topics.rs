//! Broadcast topics and `/v1/events` over HTTP, on real nodes that are reloaded while messages flow.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fednode_tests::wait::PATIENCE;
use fednode_tests::{Flood, Node, Restless, Spec, eventually};
use futures::StreamExt as _;
use serde_json::{Value, json};

/// `FEDNODE_TEST_MESSAGES`: how many messages of each kind flow. (100,000 was run by hand.)
fn messages() -> u64 {
    std::env::var("FEDNODE_TEST_MESSAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(3000)
}

async fn federation(size: usize, change: impl Fn(&mut Value)) -> Vec<Node> {
    let mut specs = Spec::federation(size);
    specs.iter_mut().for_each(|spec| change(&mut spec.conf));
    let mut nodes: Vec<Node> = specs.into_iter().map(Spec::spawn).collect();
    for node in &mut nodes {
        node.wait_until_it_serves().await;
    }
    for node in &nodes {
        node.wait_for_connections(size - 1).await;
    }
    nodes
}

async fn publish(node: &Node, topic: &str, data: &str) -> (u16, Value) {
    let path = format!("/v1/topics/{topic}/messages");
    let answer = node.client().post(&path, &[("content-type", "text/plain")], data.into()).await.unwrap();
    (answer.status.as_u16(), answer.json().expect("every answer is JSON"))
}

fn committed(outcome: &Value) {
    assert_eq!(outcome["outcome"], "committed", "{outcome:#}");
}

type Events = std::pin::Pin<Box<dyn futures::Stream<Item = String> + Send>>;

async fn stream(node: &Node, path: &str) -> Events {
    Box::pin(node.client().events(path).await.expect("the stream opens"))
}

/// The next event that `wanted` knows.
async fn event(events: &mut Events, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let found = async {
        loop {
            let text = events.next().await.unwrap_or_else(|| panic!("the stream ended before {what}"));
            let event: Value = serde_json::from_str(&text).expect("an event is JSON");
            if wanted(&event) {
                break event;
            }
        }
    };
    tokio::time::timeout(fednode_tests::wait::PATIENCE, found).await.unwrap_or_else(|_| panic!("no {what}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_both_kinds_run_across_reloads_of_another_section() {
    let count = messages();
    let nodes = federation(3, |conf| {
        conf["protocol"] = json!({
            "topics": [{"name": "blocks"}],
            // It is not what is tested: as fast as they go.
            "rate_limit": {"messages_per_second": 1e6, "burst": 1_000_000},
        });
    })
    .await;
    let before: Vec<_> = futures::future::join_all(nodes.iter().map(Node::connections)).await;
    let generations = async || {
        let all = futures::future::join_all(nodes.iter().map(Node::status)).await;
        all.iter().map(|status| status["generation"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    // Another section changes on every node, ten times a second, all the while.
    let restless = Restless::start(&nodes);
    let topic = Flood::on_topic(&nodes, "blocks", count).await;
    let direct = Flood::direct(&nodes[0], &nodes[1], count).await;
    // However quick the machine is, some reloads fell into this time.
    eventually("ten reloads", async || generations().await.iter().all(|g| *g > 10).then_some(())).await;
    restless.stop().await;
    println!("topic: {topic:?}, {:.0}/s; direct: {direct:?}, {:.0}/s", topic.rate(count), direct.rate(count));
    println!("generations: {:?}", generations().await);
    let after: Vec<_> = futures::future::join_all(nodes.iter().map(Node::connections)).await;
    assert_eq!(after, before, "every connection is the one that it was");
    let metrics = String::from_utf8(nodes[0].client().get("/metrics").await.unwrap().body.to_vec()).unwrap();
    let line = metrics
        .lines()
        .find_map(|line| line.strip_prefix("fednode_messages_total{kind=\"topic\",direction=\"received\"} "));
    assert!(line.unwrap().parse::<u64>().unwrap() > 0, "{metrics}");
}

#[tokio::test]
async fn a_topic_comes_and_goes_by_sighup_while_another_one_is_in_use() {
    let topics = |names: &[&str]| {
        let list: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
        move |conf: &mut Value| conf["protocol"]["topics"] = json!(list)
    };
    let mut nodes = federation(2, topics(&["stays"])).await;
    let mut stays = stream(&nodes[1], "/v1/topics/stays/messages").await;
    for round in 0..3 {
        assert_eq!(publish(&nodes[0], "a/b", "x").await.0, 404);
        assert!(nodes[1].client().events("/v1/topics/a/b/messages").await.is_err());
        for node in &mut nodes {
            let outcome = node.reload_with(topics(&["stays", "a/b"])).await;
            committed(&outcome);
            assert_eq!(outcome["components"][0]["name"], "protocol");
            assert_eq!(node.status().await["topics"], json!(["stays", "a/b"]));
        }
        let mut comes = stream(&nodes[1], "/v1/topics/a/b/messages").await;
        let mut heard = Box::pin(event(&mut comes, "a message", |event| event["data"] == "hello"));
        let message = loop {
            assert_eq!(publish(&nodes[0], "a/b", "hello").await.0, 200);
            let moment = Duration::from_millis(20);
            if let Ok(message) = tokio::time::timeout(moment, &mut heard).await {
                break message;
            }
        };
        drop(heard);
        assert_eq!(
            (&message["from"], &message["content_type"]),
            (&json!(nodes[0].key()), &json!("text/plain"))
        );
        for node in &mut nodes {
            committed(&node.reload_with(topics(&["stays"])).await);
        }
        let end = event(&mut comes, "the end", |event| event["event"] == "end").await;
        assert_eq!(end["reason"], "removed");
        assert!(comes.next().await.is_none());
        let text = format!("round {round}");
        eventually("the topic that stays", async || {
            (publish(&nodes[0], "stays", &text).await.0 == 200).then_some(())
        })
        .await;
        event(&mut stays, "a message", |event| event["data"] == text.as_str()).await;
    }
}

#[tokio::test]
async fn every_refusal_says_what_is_wrong() {
    let nodes = federation(1, |conf| {
        conf["protocol"] = json!({
            "topics": [{"name": "a"}],
            "max_message_size": "1KiB",
            "rate_limit": {"messages_per_second": 0.01, "burst": 1},
        });
    })
    .await;
    let node = &nodes[0];
    let (status, body) = publish(node, "a", &"x".repeat(1025)).await;
    assert_eq!((status, &body["status"]), (413, &json!("error")));
    let odd = [("content-type", "n\u{f8}")];
    let answer = node.client().post("/v1/topics/a/messages", &odd, Vec::new()).await.unwrap();
    assert_eq!(answer.status.as_u16(), 400);
    let mut own = stream(node, "/v1/topics/a/messages").await;
    assert_eq!(publish(node, "a", "alone").await.0, 200, "nobody else is there to hear it");
    let message = event(&mut own, "the node's own message", |event| event["data"] == "alone").await;
    assert_eq!(message["id"], 1);
    // By hand: the header counts.
    let mut raw = UnixStream::connect(node.client().socket()).unwrap();
    raw.write_all(
        b"POST /v1/topics/a/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
    )
    .unwrap();
    let mut answer = String::new();
    raw.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 429"), "{answer}");
    let retry =
        answer.lines().find_map(|line| line.to_lowercase().strip_prefix("retry-after: ").map(str::to_owned));
    assert!(retry.unwrap().parse::<u64>().unwrap() > 10, "{answer}");
}

#[tokio::test]
async fn who_comes_back_to_a_topic_gets_what_it_missed() {
    let nodes = federation(1, |conf| conf["protocol"] = json!({"topics": [{"name": "a"}]})).await;
    for n in 0..5 {
        assert_eq!(publish(&nodes[0], "a", &n.to_string()).await.0, 200);
    }
    let mut raw = UnixStream::connect(nodes[0].client().socket()).unwrap();
    raw.write_all(b"GET /v1/topics/a/messages HTTP/1.1\r\nhost: x\r\nlast-event-id: 3\r\n\r\n").unwrap();
    let mut text = String::new();
    while !text.contains("id: 5\n") {
        let mut part = [0; 4096];
        let count = raw.read(&mut part).unwrap();
        assert!(count > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&part[..count]));
    }
    let ids: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["4", "5"]);
}

#[tokio::test]
async fn a_reader_of_the_inbox_that_does_not_read_is_told_that_it_was_cut_off() {
    let nodes = federation(2, |_| ()).await;
    let mut raw = UnixStream::connect(nodes[1].client().socket()).unwrap();
    raw.set_read_timeout(Some(PATIENCE)).unwrap();
    raw.write_all(b"GET /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b": subscribed\n\n\r\n") {
        let mut byte = [0];
        raw.read_exact(&mut byte).unwrap();
        text.extend(byte);
    }
    // More than a reader may be behind and its socket may hold; each arrives, also the one that waited for it.
    let (data, mut sent) = ("x".repeat(4096), 0);
    while !nodes[1].log().contains("does not read and was cut off") {
        assert!(sent < 4000, "it is never cut off");
        for _ in 0..50 {
            let answer = nodes[0].send(nodes[1].key(), &data).await.unwrap();
            assert_eq!(answer.status.as_u16(), 200, "message {sent}: {answer:?}");
            sent += 1;
        }
    }
    raw.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let (_, last) = text.rsplit_once("event: ").expect("an event with a name");
    assert!(last.starts_with("end\ndata: ") && last.contains("\"too_slow\""), "{last}");
}

#[tokio::test]
async fn events_tell_of_connections_reloads_members_and_topics() {
    let mut specs = Spec::federation(2);
    let second = specs.pop().unwrap();
    let mut first = specs.pop().unwrap().start().await;
    let mut events = stream(&first, "/v1/events").await;
    let key = second.keys.public_key.clone();
    let second = second.start().await;
    let opened = event(&mut events, "a connection", |event| event["event"] == "connection_opened").await;
    assert_eq!(opened["connection"]["public_key"], key.as_str());
    assert!(opened["time"].as_f64().unwrap() > 1.6e9, "{opened}");
    let is_connected = |event: &Value| event["event"] == "member_changed" && event["state"] == "connected";
    assert_eq!(event(&mut events, "a member", is_connected).await["public_key"], key.as_str());

    let outcome = first.reload_with(|conf| conf["protocol"]["topics"] = json!([{"name": "a"}])).await;
    let entered = |event: &Value| event["event"] == "reload_state" && event["state"] == "validating";
    event(&mut events, "the reload's begin", entered).await;
    // Two sources: a topic is told by one, the outcome by the other.
    let (mut topic, mut finished) = (None, None);
    while topic.is_none() || finished.is_none() {
        let told = event(&mut events, "a topic and an outcome", |event| {
            event["event"] == "topic_added" || event["event"] == "reload_finished"
        })
        .await;
        let place = if told["event"] == "topic_added" { &mut topic } else { &mut finished };
        *place = Some(told);
    }
    assert_eq!(topic.unwrap()["topic"], "a");
    assert_eq!(finished.unwrap()["outcome"]["id"], outcome["id"]);

    second.stop().await;
    let closed = event(&mut events, "its end", |event| event["event"] == "connection_closed").await;
    assert_eq!((&closed["public_key"], &closed["id"]), (&json!(key), &opened["connection"]["id"]));
    assert!(!closed["reason"].as_str().unwrap().is_empty(), "{closed}");
    committed(&first.reload_with(|conf| conf["protocol"]["topics"] = json!([])).await);
    event(&mut events, "the topic's end", |event| event["event"] == "topic_removed").await;
}
