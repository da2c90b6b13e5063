//! The configured topics, who on this node reads them, and the newest messages, kept for readers that come back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use storage::PeerKey;
use tokio::sync::mpsc;

/// How many messages are kept, of all topics together.
const KEPT: usize = 1024;
/// How many bytes of payload are kept.
const KEPT_BYTES: usize = 16 * 1024 * 1024;
/// How many messages one reader may be behind.
const LINE: usize = 8192;
/// How many bytes one reader may be behind; one larger message may wait alone.
const LINE_BYTES: usize = 64 * 1024 * 1024;
/// A reader that is behind by half of either makes the authors wait, and is cut off after so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// A message on a topic.
#[derive(Debug)]
pub struct TopicMessage {
    /// Counts up from 1 in the life of the process, over all topics, in the order in which they arrived here.
    pub id: u64,
    /// Who wrote it, as its signature proves: not whoever passed it on.
    pub from: PeerKey,
    /// What the author said it is.
    pub content_type: Option<String>,
    /// The payload.
    pub data: Vec<u8>,
}

/// Why a reader gets nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The topic is not configured any more.
    #[error("the topic is not configured any more")]
    Removed,
    /// The reader was too slow.
    #[error("the reader was too slow and was cut off")]
    TooSlow,
}

/// What one reader of a topic gets.
#[derive(Debug)]
pub struct TopicSubscription {
    line: mpsc::Receiver<Arc<TopicMessage>>,
    state: Arc<LineState>,
    caught_up: Arc<dyn CaughtUp>,
}

/// Told when a reader that had been far behind is so no more.
pub(super) trait CaughtUp: std::fmt::Debug + Send + Sync {
    fn caught_up(&self);
}

/// See the module. Every collection in it is bounded by the configuration or a constant of this file, but for the readers, each of
/// which is a request that somebody holds open.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    open: BTreeSet<String>,
    /// Of the rooms that had any when somebody last looked: many have none.
    readers: BTreeMap<String, Vec<Line>>,
    newest: u64,
    kept: VecDeque<(String, Arc<TopicMessage>)>,
    kept_bytes: usize,
}

/// Where one reader's messages go in.
#[derive(Debug)]
struct Line {
    to: mpsc::Sender<Arc<TopicMessage>>,
    state: Arc<LineState>,
    behind_since: Option<Instant>,
}

#[derive(Debug, Default)]
struct LineState {
    bytes: AtomicUsize,
    ended: OnceLock<Ended>,
}

// === impl TopicSubscription ===

impl TopicSubscription {
    /// The next message.
    ///
    /// # Errors
    /// When there will be none any more, after those that had arrived.
    pub async fn recv(&mut self) -> Result<Arc<TopicMessage>, Ended> {
        let received = self.line.recv().await;
        received.map(|message| self.taken(message)).ok_or_else(|| self.ended())
    }

    /// The next message, if it is there.
    ///
    /// # Errors
    /// As [`TopicSubscription::recv`].
    pub fn try_recv(&mut self) -> Result<Option<Arc<TopicMessage>>, Ended> {
        match self.line.try_recv() {
            Ok(message) => Ok(Some(self.taken(message))),
            Err(mpsc::error::TryRecvError::Empty) => Ok(None),
            Err(mpsc::error::TryRecvError::Disconnected) => Err(self.ended()),
        }
    }

    fn taken(&self, message: Arc<TopicMessage>) -> Arc<TopicMessage> {
        let size = message.data.len();
        let bytes = self.state.bytes.fetch_sub(size, Ordering::Relaxed);
        // Exactly one message takes the line under the mark, in each of the two measures.
        let half = LINE_BYTES / 2;
        if self.line.len() == LINE / 2 || (bytes > half && bytes.saturating_sub(size) <= half) {
            self.caught_up.caught_up();
        }
        message
    }

    fn ended(&self) -> Ended {
        // Nobody else closes a line.
        self.state.ended.get().copied().unwrap_or(Ended::Removed)
    }
}

impl Drop for TopicSubscription {
    fn drop(&mut self) {
        self.line.close();
        self.caught_up.caught_up();
    }
}

// === impl Line ===

impl Line {
    fn new(caught_up: Arc<dyn CaughtUp>) -> (Self, TopicSubscription) {
        let (to, line) = mpsc::channel(LINE);
        let state = Arc::new(LineState::default());
        let subscription = TopicSubscription { line, state: Arc::clone(&state), caught_up };
        (Self { to, state, behind_since: None }, subscription)
    }

    /// False if there is no more room, or nobody any more.
    fn push(&self, message: &Arc<TopicMessage>) -> bool {
        let size = message.data.len();
        let before = self.state.bytes.fetch_add(size, Ordering::Relaxed);
        if before > 0 && before.saturating_add(size) > LINE_BYTES {
            self.end(Ended::TooSlow);
            return false;
        }
        match self.to.try_send(Arc::clone(message)) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.end(Ended::TooSlow);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    fn is_behind(&self) -> bool {
        let queued = self.to.max_capacity().saturating_sub(self.to.capacity());
        queued > LINE / 2 || self.state.bytes.load(Ordering::Relaxed) > LINE_BYTES / 2
    }

    fn end(&self, why: Ended) {
        if self.state.ended.set(why).is_ok() && why == Ended::TooSlow {
            tracing::warn!("a subscriber of a topic does not read and was cut off");
        }
    }
}

// === impl Rooms ===

impl Rooms {
    /// Opens a room for each topic that has none. Gives their names.
    pub(super) fn open(&mut self, topics: &BTreeSet<String>) -> Vec<String> {
        let added: Vec<_> = topics.difference(&self.open).cloned().collect();
        self.open.extend(added.iter().cloned());
        added
    }

    /// Closes the rooms of all other topics: their readers come to an end, the others notice nothing. Gives the names.
    pub(super) fn close_others(&mut self, topics: &BTreeSet<String>) -> Vec<String> {
        let removed: Vec<_> = self.open.difference(topics).cloned().collect();
        for name in &removed {
            self.open.remove(name);
            for line in self.readers.remove(name).into_iter().flatten() {
                line.end(Ended::Removed);
            }
            self.kept.retain(|(topic, message)| {
                let stays = topic != name;
                if !stays {
                    self.kept_bytes = self.kept_bytes.saturating_sub(message.data.len());
                }
                stays
            });
        }
        removed
    }

    /// A new reader. Gets what is kept after the message that it names as its last, then all that comes. `None` if there is no such
    /// topic.
    pub(super) fn subscribe(
        &mut self,
        topic: &str,
        after: Option<u64>,
        caught_up: Arc<dyn CaughtUp>,
    ) -> Option<TopicSubscription> {
        if !self.open.contains(topic) {
            return None;
        }
        let (line, subscription) = Line::new(caught_up);
        // An id that this process has not come to is of its life before: everything is new.
        let after = match after {
            Some(id) if id > self.newest => 0,
            Some(id) => id,
            None => u64::MAX,
        };
        for (_, message) in self.kept.iter().filter(|(of, message)| of == topic && message.id > after) {
            line.push(message);
        }
        let lines = self.readers.entry(topic.to_owned()).or_default();
        lines.retain(|line| !line.to.is_closed());
        lines.push(line);
        Some(subscription)
    }

    /// Hands a message to every reader of the topic; one that has no room is cut off. False if there is no such topic.
    pub(super) fn deliver(
        &mut self,
        topic: &str,
        from: PeerKey,
        content_type: Option<String>,
        data: Vec<u8>,
    ) -> bool {
        if !self.open.contains(topic) {
            return false;
        }
        self.newest = self.newest.saturating_add(1);
        let message = Arc::new(TopicMessage { id: self.newest, from, content_type, data });
        if let Some(lines) = self.readers.get_mut(topic) {
            lines.retain(|line| line.push(&message));
        }
        self.keep(topic, message);
        true
    }

    fn keep(&mut self, topic: &str, message: Arc<TopicMessage>) {
        let size = message.data.len();
        if size > KEPT_BYTES {
            return;
        }
        while self.kept.len() >= KEPT || self.kept_bytes.saturating_add(size) > KEPT_BYTES {
            let Some((_, oldest)) = self.kept.pop_front() else { break };
            self.kept_bytes = self.kept_bytes.saturating_sub(oldest.data.len());
        }
        self.kept_bytes = self.kept_bytes.saturating_add(size);
        self.kept.push_back((topic.to_owned(), message));
    }

    /// Until when the authors should wait for a reader that is far behind, if there is one: until it is cut off, unless it has
    /// caught up before. Those whose time is over are cut off now.
    pub(super) fn crowded_until(&mut self, now: Instant) -> Option<Instant> {
        let mut until: Option<Instant> = None;
        self.readers.retain(|_, lines| {
            lines.retain_mut(|line| {
                if line.to.is_closed() || !line.is_behind() {
                    line.behind_since = None;
                    return !line.to.is_closed();
                }
                let over = *line.behind_since.get_or_insert(now) + PATIENCE;
                if over <= now {
                    line.end(Ended::TooSlow);
                    return false;
                }
                until = Some(until.map_or(over, |until| until.min(over)));
                true
            });
            !lines.is_empty()
        });
        until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    #[derive(Debug)]
    struct Nobody;

    impl CaughtUp for Nobody {
        fn caught_up(&self) {}
    }

    fn rooms(topics: &[&str]) -> Rooms {
        let mut rooms = Rooms::default();
        rooms.open(&topics.iter().map(|&name| name.to_owned()).collect());
        rooms
    }

    fn subscribe(rooms: &mut Rooms, after: Option<u64>) -> TopicSubscription {
        rooms.subscribe("a", after, Arc::new(Nobody)).unwrap()
    }

    fn say(rooms: &mut Rooms, topic: &str, data: Vec<u8>) {
        assert!(rooms.deliver(topic, Identity::generate().public_key(), None, data));
    }

    fn ids(subscription: &mut TopicSubscription) -> Vec<u64> {
        std::iter::from_fn(|| subscription.try_recv().ok().flatten()).map(|message| message.id).collect()
    }

    #[test]
    fn a_reader_gets_what_comes_and_one_that_comes_back_what_it_missed() {
        let mut rooms = rooms(&["a", "b"]);
        let mut early = subscribe(&mut rooms, None);
        for n in 0..6 {
            say(&mut rooms, if n % 2 == 0 { "a" } else { "b" }, vec![n]);
        }
        assert_eq!(ids(&mut early), [1, 3, 5]);
        assert!(ids(&mut subscribe(&mut rooms, None)).is_empty());
        assert_eq!(ids(&mut subscribe(&mut rooms, Some(1))), [3, 5]);
        assert_eq!(ids(&mut subscribe(&mut rooms, Some(77))), [1, 3, 5], "of an earlier process");
        assert!(rooms.subscribe("c", None, Arc::new(Nobody)).is_none());
    }

    #[test]
    fn a_topic_that_goes_ends_its_readers_and_no_others() {
        let mut rooms = rooms(&["a", "b"]);
        let mut a = subscribe(&mut rooms, None);
        let mut b = rooms.subscribe("b", None, Arc::new(Nobody)).unwrap();
        say(&mut rooms, "a", vec![1]);
        let next = BTreeSet::from(["b".to_owned(), "c".to_owned()]);
        assert_eq!(rooms.open(&next), ["c"]);
        say(&mut rooms, "a", vec![1]);
        assert_eq!(rooms.close_others(&next), ["a"]);
        assert_eq!(ids(&mut a), [1, 2], "what had arrived is not lost");
        assert_eq!(a.try_recv().unwrap_err(), Ended::Removed);
        assert!(!rooms.deliver("a", Identity::generate().public_key(), None, vec![]));
        say(&mut rooms, "b", vec![2]);
        assert_eq!(ids(&mut b), [3]);
    }

    #[test]
    fn a_reader_that_does_not_read_is_cut_off_and_told_so() {
        let (mut rooms, now) = (rooms(&["a"]), Instant::now());
        let (mut slow, mut quick) = (subscribe(&mut rooms, None), subscribe(&mut rooms, None));
        for _ in 0..=LINE / 2 {
            say(&mut rooms, "a", vec![]);
            ids(&mut quick);
        }
        assert_eq!(rooms.crowded_until(now), Some(now + PATIENCE));
        assert_eq!(rooms.crowded_until(now + PATIENCE / 2), Some(now + PATIENCE), "it has some time");
        assert_eq!(rooms.crowded_until(now + PATIENCE), None);
        assert_eq!(ids(&mut slow).len(), LINE / 2 + 1);
        assert_eq!(slow.try_recv().unwrap_err(), Ended::TooSlow);
        say(&mut rooms, "a", vec![]);
        assert_eq!(ids(&mut quick).len(), 1, "the other one reads on");
    }

    #[test]
    fn what_waits_for_a_reader_is_bounded_in_bytes_too() {
        let mut rooms = rooms(&["a"]);
        let mut slow = subscribe(&mut rooms, None);
        for _ in 0..100 {
            say(&mut rooms, "a", vec![0; 1024 * 1024]);
        }
        assert_eq!(ids(&mut slow).len(), LINE_BYTES / 1024 / 1024);
        assert_eq!(slow.try_recv().unwrap_err(), Ended::TooSlow);
        assert!(rooms.kept_bytes <= KEPT_BYTES && rooms.kept.len() <= KEPT);
    }
}
