//! Messages that flow from one node to another while something else happens, and the proof that none was lost, repeated or
//! reordered.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fednode::client::Client;
use futures::StreamExt as _;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::process::Node;
use crate::wait::{PATIENCE, eventually};

/// The least time from one message to the next: half the rate that a node takes of one peer if its configuration does not say
/// otherwise (1,000 per second). A machine that is fast enough would run into it, and a refused message is no lost one.
const PACE: Duration = Duration::from_millis(2);

/// A stream of numbered messages.
#[derive(Debug)]
pub struct Traffic {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sender: JoinHandle<Result<(), String>>,
    receiver: JoinHandle<Vec<u64>>,
}

impl Traffic {
    /// Starts a stream, and returns when its first messages have arrived.
    ///
    /// # Panics
    /// If one of them is refused.
    pub async fn start(from: &Node, to: &Node) -> Self {
        let (sent, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut inbox = to.client().events("/v1/messages").await.expect("the inbox opens");
        let sender_key = from.key().to_owned();
        let received = Arc::new(AtomicU64::new(0));
        let arrived = Arc::clone(&received);
        let receiver = tokio::spawn(async move {
            let mut numbers = Vec::new();
            while let Ok(Some(event)) = tokio::time::timeout(PATIENCE, inbox.next()).await {
                let event: Value = serde_json::from_str(&event).expect("an event is JSON");
                if event["from"] != sender_key.as_str() {
                    continue;
                }
                match event["data"].as_str().unwrap_or_default() {
                    "end" => break,
                    number => numbers.push(number.parse().expect("messages are numbered")),
                }
                arrived.store(numbers.len() as u64, Ordering::SeqCst);
            }
            numbers
        });
        let sender =
            tokio::spawn(send(from.client(), to.key().to_owned(), Arc::clone(&sent), Arc::clone(&stop)));
        let mut traffic = Self { sent, stop, sender, receiver };
        let arrive = async || {
            let arrived = received.load(Ordering::SeqCst) > 3;
            (arrived || traffic.sender.is_finished()).then_some(())
        };
        eventually("messages arrive", arrive).await;
        if traffic.sender.is_finished() {
            panic!("the sender ended: {:?}", (&mut traffic.sender).await);
        }
        traffic
    }

    /// Waits until some more have been acknowledged, so that what happened before lies between messages.
    pub async fn go_on(&self) {
        let now = self.sent.load(Ordering::SeqCst);
        eventually("messages go on", async || {
            let goes_on = self.sent.load(Ordering::SeqCst) > now + 3;
            assert!(goes_on || !self.sender.is_finished(), "the sender gave up after {now} messages");
            goes_on.then_some(())
        })
        .await;
    }

    /// Ends the stream.
    ///
    /// # Panics
    /// If a message was refused, lost, repeated or reordered.
    pub async fn finish(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.sender.await.expect("the sender ends").expect("every message is acknowledged");
        let sent = self.sent.load(Ordering::SeqCst);
        let received = self.receiver.await.expect("the receiver ends");
        let expected: Vec<u64> = (0..sent).collect();
        assert_eq!(received, expected, "lost, repeated or reordered");
        sent
    }
}

async fn send(client: Client, to: String, sent: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Result<(), String> {
    let path = format!("/v1/peers/{}/messages", to.replace('+', "-").replace('/', "_"));
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        pace.tick().await;
        let ended = stop.load(Ordering::SeqCst);
        let number = sent.load(Ordering::SeqCst);
        let text = if ended { "end".to_owned() } else { number.to_string() };
        let answer =
            client.post(&path, &[], text.clone().into_bytes()).await.map_err(|error| error.to_string())?;
        if !answer.status.is_success() {
            let error = format!("message {text}: {}", String::from_utf8_lossy(&answer.body));
            eprintln!("{error}");
            return Err(error);
        }
        if ended {
            return Ok(());
        }
        sent.fetch_add(1, Ordering::SeqCst);
    }
}
