//! Many messages over several nodes, on a topic and direct, and the proof that none was lost or repeated (nor, of direct ones,
//! reordered).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fednode::client::Client;
use futures::StreamExt as _;
use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::process::Node;
use crate::wait::{PATIENCE, eventually};

/// Requests at a time, of each node that publishes.
const AT_A_TIME: usize = 16;

/// How often nodes are reloaded under messages.
const BETWEEN_RELOADS: Duration = Duration::from_millis(100);

/// Nodes that change their log level ten times a second, each by SIGHUP.
#[derive(Debug)]
pub struct Restless {
    go_on: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

/// What a flood took.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// From the first request to the last message at the last reader.
    pub took: Duration,
    /// Requests that were answered 429 or 503, which says that nothing was sent, and made again.
    pub again: u64,
}

// === impl Restless ===

impl Restless {
    /// Begins.
    #[must_use]
    pub fn start(nodes: &[Node]) -> Self {
        let go_on = Arc::new(AtomicBool::new(true));
        let tasks = nodes.iter().map(|node| tokio::spawn(fidget(node, Arc::clone(&go_on)))).collect();
        Self { go_on, tasks }
    }

    /// Ends.
    ///
    /// # Panics
    /// If a node could not be reloaded.
    pub async fn stop(self) {
        self.go_on.store(false, Ordering::SeqCst);
        for task in self.tasks {
            task.await.expect("the node runs");
        }
    }
}

fn fidget(node: &Node, go_on: Arc<AtomicBool>) -> impl Future<Output = ()> + use<> {
    let (pid, path, mut conf) = (node.pid(), node.spec().conf_path(), node.spec().conf.clone());
    async move {
        let mut every = interval(BETWEEN_RELOADS);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while go_on.load(Ordering::SeqCst) {
            every.tick().await;
            conf["logging"]["level"] =
                json!(if conf["logging"]["level"] == "info" { "warn" } else { "info" });
            let beside = path.with_extension("next");
            let written = std::fs::write(&beside, conf.to_string());
            written.and_then(|()| std::fs::rename(&beside, &path)).expect("the folder can be written");
            kill_process(pid, Signal::HUP).expect("the node runs");
        }
    }
}

// === impl Flood ===

impl Flood {
    /// Publishes so many messages on a topic, each node its share, and reads them at every node.
    ///
    /// # Panics
    /// If one is lost, repeated, or comes from somebody else.
    pub async fn on_topic(nodes: &[Node], topic: &str, count: u64) -> Self {
        let readers: Vec<_> = join(nodes.iter().map(|node| Reader::start(node, topic, nodes.len()))).await;
        let path = format!("/v1/topics/{topic}/messages");
        // The announcements of a topic are on their way for a moment.
        for (number, node) in nodes.iter().enumerate() {
            eventually("everybody hears everybody", async || {
                let answer = node.client().post(&path, &[], format!("warm {number}").into_bytes()).await;
                assert!(answer.expect("the node answers").status.is_success());
                readers.iter().all(|reader| reader.hears(number)).then_some(())
            })
            .await;
        }
        let (began, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let publishers = nodes.iter().flat_map(|node| (0..AT_A_TIME).map(move |_| node.client()));
        let publishers: Vec<_> = publishers
            .map(|client| tokio::spawn(publish(client, path.clone(), Arc::clone(&next), count)))
            .collect();
        let mut again = 0;
        for publisher in publishers {
            again += publisher.await.expect("a publisher ends").expect("every message is published");
        }
        for reader in &readers {
            reader.wait_for(count).await;
        }
        let took = began.elapsed();
        // What comes twice comes before this: it is later than all of its author's, and of the others' each reader has all.
        for node in nodes {
            let end = node.client().post(&path, &[], b"end".to_vec()).await;
            assert!(end.expect("the node answers").status.is_success());
        }
        for reader in readers {
            let numbers = reader.finish().await;
            assert_eq!(numbers, count, "lost or repeated");
        }
        Self { took, again }
    }

    /// Sends so many direct messages from one node to another, one after the other.
    ///
    /// # Panics
    /// If one is lost, repeated or reordered.
    pub async fn direct(from: &Node, to: &Node, count: u64) -> Self {
        let mut inbox = to.client().events("/v1/messages").await.expect("the inbox opens");
        let (began, sender) = (Instant::now(), from.key().to_owned());
        let receiver = tokio::spawn(async move {
            for expected in 0..count {
                let event = tokio::time::timeout(PATIENCE, inbox.next()).await;
                let event = event.unwrap_or_else(|_| panic!("message {expected} did not come"));
                let event: Value = serde_json::from_str(&event.expect("the inbox is open")).expect("JSON");
                assert_eq!(event["from"], sender.as_str());
                assert_eq!(event["data"], expected.to_string().as_str(), "lost, repeated or reordered");
            }
        });
        let path = format!("/v1/peers/{}/messages", to.key().replace('+', "-").replace('/', "_"));
        let mut again = 0;
        for number in 0..count {
            let sent = post(&from.client(), &path, &number.to_string()).await;
            again += sent.expect("every message is acknowledged");
        }
        receiver.await.expect("everything arrives");
        Self { took: began.elapsed(), again }
    }

    /// Messages per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "no test sends 2^53 messages")]
    pub fn rate(&self, count: u64) -> f64 {
        count as f64 / self.took.as_secs_f64()
    }
}

struct Reader {
    heard: Arc<Vec<AtomicU64>>,
    numbers: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

// === impl Reader ===

impl Reader {
    async fn start(node: &Node, topic: &str, authors: usize) -> Self {
        let path = format!("/v1/topics/{topic}/messages");
        let mut events = node.client().events(&path).await.expect("the topic is configured");
        let heard: Arc<Vec<_>> = Arc::new((0..authors).map(|_| AtomicU64::new(0)).collect());
        let numbers = Arc::new(AtomicU64::new(0));
        let (heard_too, count) = (Arc::clone(&heard), Arc::clone(&numbers));
        let task = tokio::spawn(async move {
            let (mut seen, mut ends) = (HashSet::new(), 0);
            while ends < authors {
                let event = tokio::time::timeout(2 * PATIENCE, events.next()).await;
                let event = event.expect("nothing comes any more").expect("the stream goes on");
                let event: Value = serde_json::from_str(&event).expect("an event is JSON");
                let data = event["data"].as_str().unwrap_or_else(|| panic!("no message: {event}"));
                if data == "end" {
                    ends += 1;
                } else if let Some(author) = data.strip_prefix("warm ") {
                    let author: usize = author.parse().expect("authors are numbered");
                    heard_too[author].fetch_add(1, Ordering::SeqCst);
                } else {
                    let number: u64 = data.parse().expect("messages are numbered");
                    assert!(seen.insert(number), "{number} came twice");
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { heard, numbers, task }
    }

    fn hears(&self, author: usize) -> bool {
        self.heard[author].load(Ordering::SeqCst) > 0
    }

    /// Waits for so many, as long as some come.
    async fn wait_for(&self, count: u64) {
        loop {
            let before = self.numbers.load(Ordering::SeqCst);
            if before == count {
                return;
            }
            eventually(&format!("more than {before} messages of {count}"), async || {
                assert!(!self.task.is_finished(), "the reader gave up after {before} messages");
                (self.numbers.load(Ordering::SeqCst) > before).then_some(())
            })
            .await;
        }
    }

    async fn finish(self) -> u64 {
        self.task.await.expect("nothing came twice");
        self.numbers.load(Ordering::SeqCst)
    }
}

async fn join<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    futures::future::join_all(futures).await
}

async fn publish(client: Client, path: String, next: Arc<AtomicU64>, count: u64) -> Result<u64, String> {
    let mut again = 0;
    loop {
        let number = next.fetch_add(1, Ordering::SeqCst);
        if number >= count {
            return Ok(again);
        }
        again += post(&client, &path, &number.to_string()).await?;
    }
}

/// Posts a message until it is taken. Gives the answers that said that it was not.
pub(crate) async fn post(client: &Client, path: &str, message: &str) -> Result<u64, String> {
    let mut again = 0;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = client.post(path, &[], message.as_bytes().to_vec()).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status.is_success() {
            return Ok(again);
        }
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if ![429, 503].contains(&answer.status.as_u16()) || Instant::now() > deadline {
            return Err(format!("message {message}: {text}"));
        }
        again += 1;
        // As the answer asks for.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
