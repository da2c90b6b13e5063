//! Messages of this node that wait to be published: a bounded line, in order.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::PublishError;

/// How many messages may wait.
const PLACES: usize = 256;
/// How many bytes; one larger message may wait alone.
const BYTES: usize = 64 * 1024 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Line {
    waiting: Mutex<VecDeque<Outgoing>>,
    places: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// A message that waits.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) topic: String,
    pub(super) content_type: Option<String>,
    pub(super) data: Vec<u8>,
    answer: oneshot::Sender<Result<(), PublishError>>,
    /// Set by whoever comes first: the behaviour that publishes it, or the author who waits no longer.
    claimed: Arc<AtomicBool>,
    _place: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

// === impl Line ===

impl Line {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::default(),
            places: Arc::new(Semaphore::new(PLACES)),
            bytes: Arc::new(Semaphore::new(BYTES)),
        }
    }

    /// Puts a message in line and waits so long for what becomes of it.
    pub(super) async fn push(
        &self,
        topic: &str,
        content_type: Option<&str>,
        data: Vec<u8>,
        within: Duration,
        wake: impl FnOnce(),
    ) -> Result<(), PublishError> {
        let by = tokio::time::Instant::now() + within;
        let weight = u32::try_from(data.len().min(BYTES)).unwrap_or(u32::MAX);
        let room = async {
            let place = Arc::clone(&self.places).acquire_owned().await?;
            let bytes = Arc::clone(&self.bytes).acquire_many_owned(weight).await?;
            Ok::<_, tokio::sync::AcquireError>((place, bytes))
        };
        // Nobody closes the semaphores.
        let Ok(Ok((place, bytes))) = tokio::time::timeout_at(by, room).await else {
            return Err(PublishError::Busy);
        };
        let (answer, mut answered) = oneshot::channel();
        let claimed = Arc::new(AtomicBool::new(false));
        self.waiting().push_back(Outgoing {
            topic: topic.to_owned(),
            content_type: content_type.map(str::to_owned),
            data,
            answer,
            claimed: Arc::clone(&claimed),
            _place: place,
            _bytes: bytes,
        });
        wake();
        match tokio::time::timeout_at(by, &mut answered).await {
            Ok(answer) => answer.unwrap_or(Err(PublishError::Busy)),
            Err(_) if !claimed.swap(true, Ordering::AcqRel) => Err(PublishError::Busy),
            // It is published in this very moment.
            Err(_) => answered.await.unwrap_or(Err(PublishError::Busy)),
        }
    }

    /// The first message whose author still waits, if `ready` says so.
    pub(super) fn pop_if(&self, ready: impl FnOnce(&Outgoing) -> bool) -> Option<Outgoing> {
        let mut waiting = self.waiting();
        while waiting
            .pop_front_if(|first| first.claimed.load(Ordering::Acquire) || first.answer.is_closed())
            .is_some()
        {}
        let first = waiting.pop_front_if(|first| ready(first))?;
        (!first.claimed.swap(true, Ordering::AcqRel)).then_some(first)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Outgoing>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Outgoing ===

impl Outgoing {
    /// Tells the author what became of it.
    pub(super) fn answer(self, answer: Result<(), PublishError>) {
        // An author who is gone does not want to know.
        let _ = self.answer.send(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_no_longer_is_told_that_nothing_was_sent() {
        let line = Line::new();
        let answer = line.push("a", None, vec![1], Duration::ZERO, || {}).await;
        assert_eq!(answer, Err(PublishError::Busy));
        assert!(line.pop_if(|_| true).is_none(), "and so it is");
        assert_eq!(line.places.available_permits(), PLACES);
    }

    #[tokio::test]
    async fn messages_leave_in_order_and_their_authors_hear_of_it() {
        let line = Line::new();
        let push = |n: u8| line.push("a", None, vec![n], Duration::from_secs(60), || {});
        let take = async {
            assert!(line.pop_if(|_| false).is_none(), "not ready");
            for n in 0..3 {
                let outgoing = line.pop_if(|_| true).unwrap();
                assert_eq!(outgoing.data, [n]);
                outgoing.answer(Ok(()));
            }
        };
        let (a, b, c, ()) = tokio::join!(push(0), push(1), push(2), take);
        assert_eq!((a, b, c), (Ok(()), Ok(()), Ok(())));
    }

    #[tokio::test]
    async fn the_line_is_bounded() {
        let line = Line::new();
        let wait = Duration::from_millis(1);
        let all =
            futures::future::join_all((0..2 * PLACES).map(|_| line.push("a", None, vec![], wait, || {})));
        assert!(all.await.iter().all(|answer| *answer == Err(PublishError::Busy)));
        assert!(line.waiting().len() <= PLACES);
    }
}
