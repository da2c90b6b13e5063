//! Numbered direct messages: what was acknowledged arrives, once and in order.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::task::JoinHandle;

use super::{Sent, Tally, UNDER_WAY, pace, parse, post, read};
use crate::finding::Rule;
use crate::trouble::Kind;
use crate::world::{Phase, World, locked};

/// One stream.
#[derive(Debug)]
struct Lane {
    from: usize,
    to: usize,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    sent: Vec<Sent>,
    /// The numbers as they came.
    received: Vec<usize>,
}

/// All streams.
#[derive(Debug)]
pub(crate) struct Direct {
    lanes: Vec<Lane>,
    acknowledged: AtomicU64,
}

// === impl Direct ===

impl Direct {
    pub(crate) fn new(world: &World) -> Self {
        let count = world.places.len();
        let lanes = (0..count).flat_map(|from| {
            // Not only neighbours: 1, 2, 4, … further.
            (0..world.scenario.traffic.direct).map(move |number| Lane {
                from,
                to: (from + far(number, count)) % count,
                log: Mutex::default(),
            })
        });
        Self { lanes: lanes.collect(), acknowledged: AtomicU64::new(0) }
    }

    /// Sends on one stream until the phase of rest is over.
    async fn send(&self, world: &World, number: usize) {
        let lane = &self.lanes[number];
        let key = world.places[lane.to].key.replace('+', "-").replace('/', "_");
        let (client, path) = (world.places[lane.from].client(), format!("/v1/peers/{key}/messages"));
        let mut every = pace(world.scenario.traffic.direct_per_second);
        while world.phase() < Phase::Ends {
            every.tick().await;
            if !world.places[lane.from].serves() {
                continue;
            }
            let message = {
                let mut log = locked(&lane.log);
                log.sent.push(Sent { at: world.now(), acked: None });
                log.sent.len() - 1
            };
            let acked = post(world, &client, &path, format!("d{number}:{message}")).await;
            self.acknowledged.fetch_add(u64::from(acked.is_some()), Ordering::SeqCst);
            locked(&lane.log).sent[message].acked = acked;
        }
    }

    fn take(&self, world: &World, reader: usize, event: &Value) {
        let text = event["data"].as_str().unwrap_or_default();
        let Some(('d', stream, number)) = parse(text) else {
            world.found(Rule::Messages, Some(reader), format!("a direct message of nobody: {event}"));
            return;
        };
        match self.lanes.get(stream) {
            Some(lane) if lane.to == reader && event["from"] == world.places[lane.from].key.as_str() => {
                locked(&lane.log).received.push(number);
            }
            _ => world.found(Rule::Messages, Some(reader), format!("a message of another's: {event}")),
        }
    }

    /// How many were acknowledged until now.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Whether each stream has delivered something that was sent after this moment.
    pub(crate) fn flows_since(&self, since: u64) -> Result<(), String> {
        for lane in &self.lanes {
            let log = locked(&lane.log);
            let is_new = |number: &usize| log.sent.get(*number).is_some_and(|sent| sent.at > since);
            if !log.received.last().is_some_and(is_new) {
                return Err(format!("direct messages from node {} to node {}", lane.from, lane.to));
            }
        }
        Ok(())
    }

    /// Who lost what, until now; told if it is the end.
    pub(crate) fn judge(&self, world: &World, is_end: bool) -> Tally {
        let mut all = Tally::default();
        for lane in &self.lanes {
            let log = locked(&lane.log);
            let excuse =
                |sent: Sent, acked: u64| world.troubles.is(Kind::Down, lane.to, sent.at, acked + UNDER_WAY);
            let (tally, wrongs) = tell(&log.sent, &log.received, excuse);
            all.add(tally);
            for (at, text) in wrongs.into_iter().filter(|_| is_end) {
                let text = format!("direct, node {} to node {}: {text}", lane.from, lane.to);
                world.findings.add(at, Rule::Messages, Some(lane.to), text);
            }
        }
        all
    }
}

/// 1, 2, 4, … further, and then what is left.
fn far(number: usize, count: usize) -> usize {
    let far = 1_usize << number.min(16);
    if far < count { far } else { (number + 1) % count }.max(1)
}

/// Compares what was sent with what came. Gives what is wrong with the time at which it was sent.
fn tell(
    sent: &[Sent],
    received: &[usize],
    excuse: impl Fn(Sent, u64) -> bool,
) -> (Tally, Vec<(u64, String)>) {
    let mut tally = Tally { sent: sent.len() as u64, ..Tally::default() };
    let (mut wrongs, mut seen, mut last) = (Vec::new(), HashSet::new(), None);
    for &number in received {
        let at = sent.get(number).map_or(0, |sent| sent.at);
        if !seen.insert(number) {
            tally.repeated += 1;
            wrongs.push((at, format!("message {number} came twice")));
            continue;
        }
        // Nothing is promised of the order of what nobody acknowledged.
        if sent.get(number).is_none_or(|sent| sent.acked.is_none()) {
            continue;
        }
        if last > Some(number) {
            tally.reordered += 1;
            wrongs.push((at, format!("message {number} came after message {}", last.unwrap_or_default())));
        }
        last = last.max(Some(number));
    }
    tally.arrived = seen.len() as u64;
    for (number, sent) in sent.iter().enumerate() {
        let Some(acked) = sent.acked else { continue };
        tally.acknowledged += 1;
        if seen.contains(&number) {
        } else if excuse(*sent, acked) {
            tally.excused += 1;
        } else {
            tally.lost += 1;
            wrongs.push((sent.at, format!("message {number} was acknowledged, and did not come")));
        }
    }
    (tally, wrongs)
}

/// Starts everything; gives those who send, too.
pub(crate) fn start(world: &Arc<World>) -> (Arc<Direct>, Vec<JoinHandle<()>>) {
    let direct = Arc::new(Direct::new(world));
    for reader in 0..world.places.len() {
        let (world, direct) = (Arc::clone(world), Arc::clone(&direct));
        tokio::spawn(async move {
            read(&world, reader, "/v1/messages", |event| direct.take(&world, reader, event)).await;
        });
    }
    let senders = (0..direct.lanes.len()).map(|number| {
        let (world, direct) = (Arc::clone(world), Arc::clone(&direct));
        tokio::spawn(async move { direct.send(&world, number).await })
    });
    let senders = senders.collect();
    (direct, senders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(acked: &[bool]) -> Vec<Sent> {
        let at = |(number, acked): (usize, &bool)| Sent {
            at: number as u64,
            acked: acked.then_some(number as u64 + 1),
        };
        acked.iter().enumerate().map(at).collect()
    }

    #[test]
    fn what_nobody_acknowledged_may_come_or_not_but_not_twice() {
        let sent = sent(&[true, false, false, true]);
        let (tally, wrongs) = tell(&sent, &[0, 3, 1], |_, _| false);
        assert_eq!((tally.acknowledged, tally.arrived, tally.lost, wrongs.len()), (2, 3, 0, 0));
        let (tally, _) = tell(&sent, &[0, 1, 1, 3], |_, _| false);
        assert_eq!(tally.repeated, 1);
    }

    #[test]
    fn what_is_lost_repeated_or_reordered_is_found() {
        let sent = sent(&[true, true, true]);
        let (tally, wrongs) = tell(&sent, &[0, 2, 1, 2], |_, _| false);
        assert_eq!((tally.lost, tally.repeated, tally.reordered, wrongs.len()), (0, 1, 1, 2));
        let (tally, wrongs) = tell(&sent, &[0, 2], |_, _| false);
        assert_eq!(
            (tally.lost, wrongs),
            (1, vec![(1, "message 1 was acknowledged, and did not come".to_owned())])
        );
        let (tally, wrongs) = tell(&sent, &[0], |_, acked| acked == 3);
        assert_eq!((tally.lost, tally.excused, wrongs.len()), (1, 1, 1));
    }

    #[test]
    fn nobody_sends_to_himself() {
        for count in 3..64 {
            assert!((0..count - 1).all(|number| !far(number, count).is_multiple_of(count)), "{count}");
        }
    }
}
