//! What reaches the watching thread, and what it leaves for the reader: each of it coalesced, none of it a queue.

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::Watched;

/// Between the kernel's events, the handle, the thread and the stream.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    bell: Condvar,
}

#[derive(Default)]
struct State {
    mail: Mail,
    /// Paths whose events count: those on the way to a file. Events of others are dropped where they come in.
    names: HashSet<PathBuf>,
    told: BTreeSet<PathBuf>,
    reader: Option<Waker>,
    only_polls: bool,
    /// The thread is gone.
    ended: bool,
}

/// What the thread finds when it wakes up.
#[derive(Default)]
pub(super) struct Mail {
    /// The newest set, and how long its files settle.
    pub(super) order: Option<(Vec<Watched>, Duration)>,
    /// Names that something happened to.
    pub(super) touched: HashSet<PathBuf>,
    /// Events were lost: anything may have happened.
    pub(super) lost: bool,
    /// Nobody listens any more.
    pub(super) closed: bool,
}

// === impl Inbox ===

impl Inbox {
    pub(super) fn order(&self, files: Vec<Watched>, settle: Duration) {
        self.lock().mail.order = Some((files, settle));
        self.bell.notify_one();
    }

    pub(super) fn close(&self) {
        self.lock().mail.closed = true;
        self.bell.notify_one();
    }

    /// Something happened to these paths.
    pub(super) fn touch(&self, paths: Vec<PathBuf>) {
        let mut state = self.lock();
        let before = state.mail.touched.len();
        for path in paths {
            if state.names.contains(&path) {
                state.mail.touched.insert(path);
            }
        }
        if state.mail.touched.len() > before {
            self.bell.notify_one();
        }
    }

    /// Events were lost.
    pub(super) fn lose(&self) {
        self.lock().mail.lost = true;
        self.bell.notify_one();
    }

    /// From here on the events of these paths count.
    pub(super) fn listen_for(&self, names: HashSet<PathBuf>) {
        self.lock().names = names;
    }

    /// Waits until there is mail, or `until`; not before `earliest`, except for the end.
    pub(super) fn wait(&self, earliest: Instant, until: Option<Instant>) -> Mail {
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let due = until.is_some_and(|until| until <= now) || !state.mail.is_empty();
            if state.mail.closed || (due && earliest <= now) {
                return std::mem::take(&mut state.mail);
            }
            let wake_at = if due { Some(earliest) } else { until };
            state = match wake_at {
                Some(at) => {
                    let left = at.saturating_duration_since(now);
                    self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.bell.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Tells the reader.
    pub(super) fn tell(&self, files: impl IntoIterator<Item = PathBuf>) {
        let reader = {
            let mut state = self.lock();
            state.told.extend(files);
            state.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// What the reader has to be told; `None` at the end.
    pub(super) fn poll_told(&self, cx: &mut Context<'_>) -> Poll<Option<BTreeSet<PathBuf>>> {
        let mut state = self.lock();
        if !state.told.is_empty() {
            return Poll::Ready(Some(std::mem::take(&mut state.told)));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    /// What was told of files that are not watched any more, and was not taken yet, is of no interest.
    pub(super) fn forget_all_but(&self, keep: impl Fn(&PathBuf) -> bool) {
        self.lock().told.retain(keep);
    }

    pub(super) fn only_polls(&self) -> bool {
        self.lock().only_polls
    }

    pub(super) fn set_only_polls(&self, only_polls: bool) {
        self.lock().only_polls = only_polls;
    }

    /// The thread ends.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.tell([]);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Mail ===

impl Mail {
    fn is_empty(&self) -> bool {
        self.order.is_none() && self.touched.is_empty() && !self.lost && !self.closed
    }
}
