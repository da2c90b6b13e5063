//! Signals that can be held back (R2, R3). What is promised stands in the [module above](super).

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tokio::time::{Instant, Sleep};

use super::{Sender, Signal};

/// How many signals one look takes from the source: a source that always has one more does not keep the look from ending.
const AT_ONCE: usize = 1024;

/// Signals, of which none is yielded while it is held back. Needs a tokio runtime with a clock.
#[derive(Debug)]
pub struct Signals<S> {
    /// `None` when it has ended.
    source: Option<S>,
    shared: Arc<Shared>,
    /// Reloads that were not yielded yet, as one.
    reload: Option<Sender>,
    stops: Stops,
    /// Ends when the first stop has been kept for the limit.
    limit: Option<Pin<Box<Sleep>>>,
}

/// Makes guards. Cheap to clone, and usable from any thread.
#[derive(Clone, Debug)]
pub struct Holder(Arc<Shared>);

/// While it lives, [`Signals`] yields nothing but a stop that was kept for too long, or was repeated.
#[derive(Debug)]
#[must_use = "signals are let through again when the guard is dropped"]
pub struct Hold(Arc<Shared>);

#[derive(Debug, Default)]
struct Stops {
    /// Those to be yielded, in order.
    waiting: VecDeque<Sender>,
    /// When the first of them came.
    first: Option<Instant>,
    /// Whoever stops means it: nothing is kept from here on.
    insisted: bool,
}

struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    held: usize,
    limit: Duration,
    reader: Option<Waker>,
}

/// A limit that is none: more could not be added to a point in time.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// More say no more than two.
const MAX_STOPS: usize = 2;

// === impl Signals ===

impl<S: Stream<Item = Signal> + Unpin> Signals<S> {
    /// Reads signals from `source`, and keeps a stop back no longer than `limit`: the longest time that a critical section
    /// may take, such as the budget of a reload.
    pub fn new(source: S, limit: Duration) -> (Self, Holder) {
        let shared = Arc::new(Shared(Mutex::new(State { limit, ..State::default() })));
        let holder = Holder(Arc::clone(&shared));
        let stops = Stops::default();
        (Self { source: Some(source), shared, reload: None, stops, limit: None }, holder)
    }

    /// Waits for the next stop only; reloads are kept as if they were held back. `None` when there can be no more.
    pub async fn stop(&mut self) -> Option<Sender> {
        std::future::poll_fn(|cx| {
            self.gather(cx);
            match self.poll_stop(cx) {
                Poll::Ready(sender) => Poll::Ready(Some(sender)),
                Poll::Pending if self.source.is_none() && self.stops.waiting.is_empty() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Takes over what the source has.
    fn gather(&mut self, cx: &mut Context<'_>) {
        for _ in 0..AT_ONCE {
            let Some(source) = &mut self.source else { return };
            match source.poll_next_unpin(cx) {
                Poll::Ready(Some(Signal::Reload(sender))) => self.reload = Some(sender),
                Poll::Ready(Some(Signal::Stop(sender))) => self.stops.arrived(sender),
                Poll::Ready(None) => self.source = None,
                Poll::Pending => return,
            }
        }
        // There may be more: looked for at once, and after others had their turn.
        cx.waker().wake_by_ref();
    }

    fn poll_stop(&mut self, cx: &mut Context<'_>) -> Poll<Sender> {
        let (held, limit) = self.shared.observe(cx);
        let Some(first) = self.stops.first else { return Poll::Pending };
        if held && !self.stops.insisted {
            let at = first + limit.min(FOREVER);
            // The limit to which a stop is held back; the end of the hold wakes this earlier.
            let sleep = self.limit.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if sleep.deadline() != at {
                sleep.as_mut().reset(at);
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        self.limit = None;
        self.stops.take().map_or(Poll::Pending, Poll::Ready)
    }
}

impl<S: Stream<Item = Signal> + Unpin> Stream for Signals<S> {
    type Item = Signal;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Signal>> {
        self.gather(cx);
        if let Poll::Ready(sender) = self.poll_stop(cx) {
            return Poll::Ready(Some(Signal::Stop(sender)));
        }
        if let Some(sender) = self.reload
            && !self.shared.observe(cx).0
        {
            self.reload = None;
            return Poll::Ready(Some(Signal::Reload(sender)));
        }
        let nothing_left = self.reload.is_none() && self.stops.waiting.is_empty();
        if self.source.is_none() && nothing_left { Poll::Ready(None) } else { Poll::Pending }
    }
}

// === impl Stops ===

impl Stops {
    fn arrived(&mut self, sender: Sender) {
        if self.waiting.len() < MAX_STOPS {
            self.waiting.push_back(sender);
        }
        self.first.get_or_insert_with(Instant::now);
        self.insisted |= self.waiting.len() == MAX_STOPS;
    }

    fn take(&mut self) -> Option<Sender> {
        let sender = self.waiting.pop_front();
        if self.waiting.is_empty() {
            self.first = None;
        }
        self.insisted |= sender.is_some();
        sender
    }
}

// === impl Holder ===

impl Holder {
    /// Holds signals back until the guard is dropped.
    pub fn hold(&self) -> Hold {
        let mut state = self.0.lock();
        state.held = state.held.saturating_add(1);
        Hold(Arc::clone(&self.0))
    }

    /// How many guards there are.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.lock().held
    }

    /// From here on a stop is kept for so long, counted from its arrival; those that are kept already, too.
    pub fn set_limit(&self, limit: Duration) {
        let reader = {
            let mut state = self.0.lock();
            state.limit = limit;
            state.reader.take()
        };
        wake(reader);
    }
}

// === impl Hold ===

impl Drop for Hold {
    fn drop(&mut self) {
        let reader = {
            let mut state = self.0.lock();
            state.held = state.held.saturating_sub(1);
            if state.held == 0 { state.reader.take() } else { None }
        };
        wake(reader);
    }
}

// === impl Shared ===

impl Shared {
    /// Whether signals are held back, and for how long a stop may be; the reader is woken when either changes.
    fn observe(&self, cx: &Context<'_>) -> (bool, Duration) {
        let mut state = self.lock();
        match &mut state.reader {
            Some(reader) => reader.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        (state.held > 0, state.limit)
    }

    /// Locked for the length of an assignment; a panic in between is not possible.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("held", &self.lock().held).finish_non_exhaustive()
    }
}

fn wake(reader: Option<Waker>) {
    if let Some(reader) = reader {
        reader.wake();
    }
}
