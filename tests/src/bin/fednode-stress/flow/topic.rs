//! Numbered messages on a topic: what was acknowledged arrives once at everybody who was connected to its author all the time.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use fednode_tests::hum::HUM;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::{Sent, Tally, UNDER_WAY, pace, parse, post, read};
use crate::connections::both;
use crate::finding::Rule;
use crate::world::{Phase, World, locked};

/// The numbers as they came, each with the life of the reader's node. One that has begun anew does not know what it has passed
/// on before, and the others may tell it once more.
type Heard = Vec<(usize, u32)>;

/// All that is published and heard.
#[derive(Debug)]
pub(crate) struct Topic {
    /// By author.
    sent: Vec<Mutex<Vec<Sent>>>,
    /// By author and reader.
    heard: Vec<Vec<Mutex<Heard>>>,
    acknowledged: AtomicU64,
}

// === impl Topic ===

impl Topic {
    fn new(world: &World) -> Self {
        let authors = world.scenario.traffic.publishers;
        let heard = || (0..world.places.len()).map(|_| Mutex::default()).collect();
        Self {
            sent: (0..authors).map(|_| Mutex::default()).collect(),
            heard: (0..authors).map(|_| heard()).collect(),
            acknowledged: AtomicU64::new(0),
        }
    }

    async fn publish(&self, world: &World, author: usize) {
        let (client, path) = (world.places[author].client(), path());
        let mut every = pace(world.scenario.traffic.topic_per_second);
        while world.phase() < Phase::Ends {
            every.tick().await;
            if !world.places[author].serves() {
                continue;
            }
            let message = {
                let mut sent = locked(&self.sent[author]);
                sent.push(Sent { at: world.now(), acked: None });
                sent.len() - 1
            };
            let acked = post(world, &client, &path, format!("t{author}:{message}")).await;
            self.acknowledged.fetch_add(u64::from(acked.is_some()), Ordering::SeqCst);
            locked(&self.sent[author])[message].acked = acked;
        }
    }

    fn take(&self, world: &World, reader: usize, event: &Value) {
        let text = event["data"].as_str().unwrap_or_default();
        match parse(text) {
            Some(('t', author, number))
                if world.places.get(author).is_some_and(|place| event["from"] == place.key.as_str()) =>
            {
                if let Some(heard) = self.heard.get(author) {
                    locked(&heard[reader]).push((number, world.places[reader].life()));
                }
            }
            _ => world.found(Rule::Messages, Some(reader), format!("a message of nobody: {event}")),
        }
    }

    /// How many were acknowledged until now.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Whether everybody has heard something of every author that was sent after this moment.
    pub(crate) fn flows_since(&self, since: u64) -> Result<(), String> {
        for (author, readers) in self.heard.iter().enumerate() {
            let sent = locked(&self.sent[author]);
            for (reader, heard) in readers.iter().enumerate() {
                let is_new =
                    |(number, _): &(usize, u32)| sent.get(*number).is_some_and(|sent| sent.at > since);
                if !locked(heard).last().is_some_and(is_new) {
                    return Err(format!("messages of node {author} on the topic, at node {reader}"));
                }
            }
        }
        Ok(())
    }

    /// Who lost what, until now; told if it is the end.
    pub(crate) fn judge(&self, world: &World, is_end: bool) -> Tally {
        let mut all = Tally::default();
        let end = world.now();
        for (author, readers) in self.heard.iter().enumerate() {
            let sent = locked(&self.sent[author]);
            all.sent += sent.len() as u64;
            all.acknowledged += sent.iter().filter(|one| one.acked.is_some()).count() as u64;
            for (reader, heard) in readers.iter().enumerate() {
                let quiet = world.troubles.quiet_between(author, reader, 0, end);
                let quiet = both(&quiet, &together(world, author, reader, end));
                let (tally, wrongs) = tell(&sent, &locked(heard), &quiet);
                all.add(tally);
                for (at, text) in wrongs.into_iter().filter(|_| is_end) {
                    let text = format!("topic, node {author} at node {reader}: {text}");
                    world.findings.add(at, Rule::Messages, Some(reader), text);
                }
            }
        }
        all
    }
}

fn path() -> String {
    format!("/v1/topics/{HUM}/messages")
}

/// The times in which the author's messages go to the reader directly.
fn together(world: &World, author: usize, reader: usize, end: u64) -> Vec<(u64, u64)> {
    if author == reader { vec![(0, end)] } else { world.connections.joined(author, reader, end) }
}

/// Compares what one author sent with what one reader heard. What was sent well within a time in which nothing was between them
/// must be there: at its beginning the author may not know yet that anybody listens.
fn tell(sent: &[Sent], heard: &[(usize, u32)], quiet: &[(u64, u64)]) -> (Tally, Vec<(u64, String)>) {
    let (mut tally, mut wrongs) = (Tally::default(), Vec::new());
    let (mut seen, mut in_one_life) = (HashSet::new(), HashSet::new());
    for &(number, life) in heard {
        seen.insert(number);
        if !in_one_life.insert((number, life)) {
            tally.repeated += 1;
            let at = sent.get(number).map_or(0, |sent| sent.at);
            wrongs.push((at, format!("message {number} came twice")));
        }
    }
    tally.arrived = seen.len() as u64;
    for (number, one) in sent.iter().enumerate() {
        let Some(acked) = one.acked else { continue };
        let is_due = |(from, to): &(u64, u64)| one.at >= from + UNDER_WAY && acked + UNDER_WAY <= *to;
        if seen.contains(&number) {
        } else if quiet.iter().any(is_due) {
            tally.lost += 1;
            wrongs.push((one.at, format!("message {number} was acknowledged, and did not come")));
        } else {
            tally.excused += 1;
        }
    }
    (tally, wrongs)
}

/// Starts everything; gives those who publish, too.
pub(crate) fn start(world: &Arc<World>) -> (Arc<Topic>, Vec<JoinHandle<()>>) {
    let topic = Arc::new(Topic::new(world));
    for reader in 0..world.places.len() {
        let (world, topic) = (Arc::clone(world), Arc::clone(&topic));
        tokio::spawn(async move {
            read(&world, reader, &path(), |event| topic.take(&world, reader, event)).await;
        });
    }
    let authors = (0..topic.sent.len()).map(|author| {
        let (world, topic) = (Arc::clone(world), Arc::clone(&topic));
        tokio::spawn(async move { topic.publish(&world, author).await })
    });
    let authors = authors.collect();
    (topic, authors)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One message a second.
    fn sent(count: u64) -> Vec<Sent> {
        (0..count).map(|number| Sent { at: number * 1000, acked: Some(number * 1000 + 1) }).collect()
    }

    #[test]
    fn what_was_sent_while_nothing_was_between_them_is_due() {
        let sent = sent(60);
        let quiet = [(0, 30_000), (40_000, 70_000)];
        // What was sent near the ends of these times may come or not.
        let heard: Vec<_> = (5..25).chain(45..60).map(|number| (number, 1)).collect();
        let (tally, wrongs) = tell(&sent, &heard, &quiet);
        assert_eq!((tally.lost, wrongs.len(), tally.excused), (0, 0, 60 - 20 - 15));
        let gap: Vec<_> = heard.into_iter().filter(|(number, _)| *number != 50).collect();
        let (tally, wrongs) = tell(&sent, &gap, &quiet);
        assert_eq!((tally.lost, wrongs.len()), (1, 1));
        assert!(wrongs[0].0 == 50_000 && wrongs[0].1.contains("message 50"));
    }

    #[test]
    fn what_comes_twice_and_what_never_comes_is_found() {
        let (tally, wrongs) = tell(&sent(10), &[(1, 1), (2, 1), (2, 1), (3, 1)], &[]);
        assert_eq!((tally.repeated, wrongs.len()), (1, 1));
        let (tally, wrongs) = tell(&sent(10), &[(1, 1), (1, 2)], &[]);
        assert_eq!((tally.arrived, tally.repeated, wrongs.len()), (1, 0, 0), "another life");
        let (tally, wrongs) = tell(&sent(60), &[], &[(0, 99_000)]);
        assert_eq!((tally.lost, wrongs.len()), (55, 55));
    }
}
