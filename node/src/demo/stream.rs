//! Numbered messages round the ring of members, all the time, and what became of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::member::Member;
use super::{Failure, PATIENCE};
use crate::client::Client;

/// Between two messages of one sender: traffic, not a load test.
const PAUSE: Duration = Duration::from_millis(2);

/// The last message of a stream.
const END: &str = "end";

pub(super) struct Streams {
    streams: Vec<Stream>,
    stop: Arc<AtomicBool>,
}

struct Stream {
    sent: Arc<AtomicU64>,
    sender: JoinHandle<Result<(), Failure>>,
    receiver: JoinHandle<Vec<u64>>,
}

/// What became of the messages.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) reordered: u64,
}

// === impl Tally ===

impl Tally {
    pub(super) const fn is_clean(&self) -> bool {
        self.lost == 0 && self.repeated == 0 && self.reordered == 0
    }

    fn add(&mut self, sent: u64, received: &[u64]) {
        let mut unique = received.to_vec();
        unique.sort_unstable();
        unique.dedup();
        self.sent += sent;
        self.lost += sent.saturating_sub(unique.len() as u64);
        self.repeated += (received.len() - unique.len()) as u64;
        self.reordered += received.windows(2).filter(|pair| pair[1] < pair[0]).count() as u64;
    }
}

// === impl Streams ===

impl Streams {
    pub(super) async fn start(members: &[Member]) -> Result<Self, Failure> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut streams = Vec::new();
        for (from, to) in members.iter().zip(members.iter().cycle().skip(1)) {
            let inbox = to.client().events("/v1/messages").await.map_err(|error| error.to_string())?;
            let receiver = tokio::spawn(receive(inbox, from.key().to_owned()));
            let sent = Arc::new(AtomicU64::new(0));
            let sender = send(from.client(), to.messages_path(), Arc::clone(&sent), Arc::clone(&stop));
            streams.push(Stream { sent, sender: tokio::spawn(sender), receiver });
        }
        Ok(Self { streams, stop })
    }

    /// Messages that were acknowledged so far.
    pub(super) fn sent(&self) -> u64 {
        self.streams.iter().map(|stream| stream.sent.load(Ordering::Relaxed)).sum()
    }

    /// Waits until each stream has got some further.
    pub(super) async fn go_on(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        for stream in &self.streams {
            let now = stream.sent.load(Ordering::Relaxed);
            while stream.sent.load(Ordering::Relaxed) < now + 3 {
                if stream.sender.is_finished() || Instant::now() > deadline {
                    return Err("a stream of messages came to a halt".to_owned());
                }
                // As long as a message takes: the sender only counts, and wakes nobody.
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    pub(super) async fn finish(&mut self) -> Result<Tally, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        for stream in self.streams.drain(..) {
            stream.sender.await.map_err(|error| error.to_string())??;
            let received = stream.receiver.await.map_err(|error| error.to_string())?;
            tally.add(stream.sent.load(Ordering::Relaxed), &received);
        }
        Ok(tally)
    }
}

async fn send(
    client: Client,
    path: String,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
) -> Result<(), Failure> {
    loop {
        let last = stop.load(Ordering::Relaxed);
        let number = sent.load(Ordering::Relaxed);
        let text = if last { END.to_owned() } else { number.to_string() };
        let answer = client.post(&path, &[], text.into_bytes()).await.map_err(|error| error.to_string())?;
        if !answer.status.is_success() {
            return Err(format!("message {number}: {}", String::from_utf8_lossy(&answer.body)));
        }
        if last {
            return Ok(());
        }
        sent.fetch_add(1, Ordering::Relaxed);
        // The pace of the traffic; nothing is waited for.
        tokio::time::sleep(PAUSE).await;
    }
}

async fn receive(mut inbox: impl futures::Stream<Item = String> + Unpin, from: String) -> Vec<u64> {
    let mut received = Vec::new();
    while let Ok(Some(event)) = tokio::time::timeout(PATIENCE, inbox.next()).await {
        let Ok(event) = serde_json::from_str::<Value>(&event) else { continue };
        let text = event["data"].as_str().unwrap_or_default();
        if event["from"] != from.as_str() {
            continue;
        }
        if text == END {
            break;
        }
        received.extend(text.parse::<u64>());
    }
    received
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_repeated_or_reordered_is_counted() {
        let mut tally = Tally::default();
        tally.add(5, &[0, 1, 2, 3, 4]);
        assert!(tally.is_clean());
        tally.add(5, &[0, 2, 1, 1, 4]);
        assert_eq!((tally.lost, tally.repeated, tally.reordered), (1, 1, 1));
    }
}
