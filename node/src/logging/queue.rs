//! The way from whoever logs to the thread that writes: bounded, in order, and hardly ever waited for.
//!
//! A disk that does not answer stops the thread that writes to it, and nobody else: lines wait here up to a bound, and those beyond
//! it are lost and counted. Where a burst fills it while the writer is at work, whoever logs waits a moment for room: a healthy disk
//! costs no line. Whoever wants to know that lines are written asks with a deadline.

use std::io::{self, ErrorKind};
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::desk::Note;
use super::rotate::Limits;

/// So many bytes of lines wait for one output at most; as many are on their way in the writer's hands.
const MAX_BYTES: usize = 4 << 20;

/// So many lines wait for one output at most.
const MAX_LINES: usize = 32 << 10;

/// So many requests wait for one output at most: one that hangs is asked no more.
const MAX_REQUESTS: usize = 16;

/// The largest buffer that is kept between batches, in bytes.
const MAX_KEPT: usize = 256 << 10;

/// So long a burst may make those wait who log: from the moment in which it fills the queue, until the writer has caught up. What is beyond
/// that is lost, so that no disk, however slow it is, slows the node down for longer. One that hangs is waited for no more once its
/// writer has been at a batch for so long.
const PATIENCE: Duration = Duration::from_millis(500);

/// A write that takes longer is told of.
const STALLED: Duration = Duration::from_secs(1);

/// What the writer does for somebody who may have stopped waiting for it.
pub(super) type Request<T> = Box<dyn FnOnce(&mut T) + Send>;

/// Lines and requests for the thread that owns a `T`.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    /// The writer waits for something to do.
    work: Condvar,
    /// Somebody waits for lines to be written.
    written: Condvar,
    /// Somebody waits for the writer to take the lines that wait.
    room: Condvar,
    /// How long at most: [`PATIENCE`].
    patience: Duration,
}

struct State<T> {
    waiting: Batch,
    requests: Vec<Request<T>>,
    /// How many batches were begun: the one that is filled has this number.
    begun: u64,
    /// Up to which batch the writer is done.
    done: u64,
    /// Since when the writer is at a batch.
    busy: Option<Instant>,
    /// The writer did not come to an end while somebody waited. Nobody waits again until it does.
    is_stuck: bool,
    /// That lines wait was told.
    is_told: bool,
    /// No line is taken until the writer has taken those that wait: where room is scarce, it is not haggled over line by line.
    is_full: bool,
    /// Since when lines fill the queue faster than the writer empties it: until it finds nothing that waits.
    full_since: Option<Instant>,
    /// Lines lost since the last one that was taken.
    lost: u64,
    /// A line was put in, ever.
    is_used: bool,
    /// The writer sleeps.
    is_idle: bool,
    /// Who may put lines in.
    holders: usize,
}

/// Lines in one piece of memory, each with the limits of the settings that it was written under.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    lines: Vec<(usize, Limits)>,
}

// === impl Queue ===

impl<T> Queue<T> {
    /// Nothing waits, and one holds it.
    pub(super) fn new() -> Self {
        let state = State {
            waiting: Batch::default(),
            requests: Vec::new(),
            begun: 1,
            done: 0,
            busy: None,
            is_stuck: false,
            is_told: false,
            is_full: false,
            full_since: None,
            lost: 0,
            is_used: false,
            is_idle: false,
            holders: 1,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
            written: Condvar::new(),
            room: Condvar::new(),
            patience: PATIENCE,
        }
    }

    /// Puts a line in, if there is room. Waits for other callers, and up to [`PATIENCE`] for a writer that is at work.
    pub(super) fn push(&self, line: &[u8], limits: Limits) -> (bool, Option<Note>) {
        let mut state = self.with_room_for(line);
        if !state.takes(line) {
            state.is_full = true;
            // Nobody else need wait.
            self.room.notify_all();
            state.lost = state.lost.saturating_add(1);
            return (false, (state.lost == 1).then(|| Note::Failing(no_answer())));
        }
        self.put(state, line, limits)
    }

    /// Puts a line in, if there is room. Waits for nothing but other callers; where there is none, nobody hears of it.
    pub(super) fn try_push(&self, line: &[u8], limits: Limits) -> (bool, Option<Note>) {
        let state = self.lock();
        if !state.takes(line) {
            return (false, None);
        }
        self.put(state, line, limits)
    }

    /// Waits for the writer to take what waits, unless it is known not to.
    fn with_room_for(&self, line: &[u8]) -> MutexGuard<'_, State<T>> {
        let mut state = self.lock();
        if state.waiting.has_room(line) {
            return state;
        }
        let full_since = *state.full_since.get_or_insert_with(Instant::now);
        while !(state.is_full || state.is_stuck || state.waiting.has_room(line)) {
            let since = state.busy.map_or(full_since, |busy| busy.min(full_since));
            let left = (since + self.patience).saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.room.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }

    fn put(&self, mut state: MutexGuard<'_, State<T>>, line: &[u8], limits: Limits) -> (bool, Option<Note>) {
        let stalled = state.busy.is_some_and(|since| since.elapsed() >= STALLED);
        state.waiting.push(line, limits);
        state.is_used = true;
        self.wake(&mut state);
        let lost = mem::take(&mut state.lost);
        if lost > 0 {
            return (true, Some(Note::Recovered(lost)));
        }
        let is_news = stalled && !mem::replace(&mut state.is_told, true);
        (true, is_news.then_some(Note::Waiting))
    }

    /// So many lines that were lost could not be told of: they are told of when there is room again.
    pub(super) fn owe(&self, lost: u64) {
        let mut state = self.lock();
        state.lost = state.lost.saturating_add(lost);
    }

    /// Has the writer do this after the lines that wait; refused if too much is asked of it already.
    pub(super) fn request(&self, request: Request<T>) -> io::Result<()> {
        let mut state = self.lock();
        if state.requests.len() >= MAX_REQUESTS {
            return Err(no_answer());
        }
        state.requests.push(request);
        self.wake(&mut state);
        Ok(())
    }

    /// Waits until every line that was put in before is written or lost. Whether it is so. Where the last wait was in vain and the writer
    /// has not moved since, there is none, unless it is the last of all.
    pub(super) fn flush(&self, by: Instant, is_last: bool) -> bool {
        let mut state = self.lock();
        let goal = if state.waiting.is_empty() { state.begun.saturating_sub(1) } else { state.begun };
        while state.done < goal {
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() || (state.is_stuck && !is_last) {
                state.is_stuck = true;
                return false;
            }
            state = self.written.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Whether the writer is known not to answer.
    pub(super) fn is_stuck(&self) -> bool {
        let state = self.lock();
        state.is_stuck || state.busy.is_some_and(|since| since.elapsed() >= STALLED)
    }

    /// Whether a line was ever put in.
    pub(super) fn is_used(&self) -> bool {
        self.lock().is_used
    }

    /// A request was not answered in time.
    pub(super) fn gave_up(&self) {
        let mut state = self.lock();
        state.is_stuck = state.busy.is_some();
    }

    /// One more holds it.
    pub(super) fn hold(&self) {
        let mut state = self.lock();
        state.holders = state.holders.saturating_add(1);
    }

    /// One fewer holds it; after the last one, the writer's work is over with the lines that wait.
    pub(super) fn let_go(&self) {
        let mut state = self.lock();
        state.holders = state.holders.saturating_sub(1);
        self.wake(&mut state);
    }

    /// Whether nobody holds it.
    pub(super) fn is_let_go(&self) -> bool {
        self.lock().holders == 0
    }

    /// For the writer: it is done with `batch`, which is emptied, filled with what waits, and returned with the requests. Sleeps where there
    /// is nothing. `None` when nobody will put anything in any more.
    pub(super) fn next(&self, batch: &mut Batch) -> Option<Vec<Request<T>>> {
        batch.clear();
        self.lines_are_written();
        let mut state = self.lock();
        (state.busy, state.is_stuck, state.is_told) = (None, false, false);
        if state.waiting.is_empty() {
            state.full_since = None;
        }
        while state.waiting.is_empty() && state.requests.is_empty() {
            if state.holders == 0 {
                return None;
            }
            state.is_idle = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.is_idle = false;
        }
        mem::swap(&mut state.waiting, batch);
        state.begun = state.begun.saturating_add(1);
        state.busy = Some(Instant::now());
        state.is_full = false;
        self.room.notify_all();
        Some(mem::take(&mut state.requests))
    }

    /// For the writer: it is done with the lines of its batch, and does what it was asked for besides.
    pub(super) fn lines_are_written(&self) {
        let mut state = self.lock();
        state.done = state.begun.saturating_sub(1);
        self.written.notify_all();
    }

    fn wake(&self, state: &mut State<T>) {
        // Once, not for every line until it is awake.
        if mem::take(&mut state.is_idle) {
            self.work.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl State ===

impl<T> State<T> {
    fn takes(&self, line: &[u8]) -> bool {
        !self.is_full && self.waiting.has_room(line)
    }
}

impl<T> std::fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.lock();
        f.debug_struct("Queue")
            .field("lines", &state.waiting.lines.len())
            .field("requests", &state.requests.len())
            .field("begun", &state.begun)
            .field("done", &state.done)
            .field("busy", &state.busy.map(|since| since.elapsed()))
            .field("is_stuck", &state.is_stuck)
            .field("is_idle", &state.is_idle)
            .field("holders", &state.holders)
            .finish_non_exhaustive()
    }
}

// === impl Batch ===

impl Batch {
    /// The lines, in order.
    pub(super) fn lines(&self) -> impl Iterator<Item = (&[u8], Limits)> {
        let begins = std::iter::once(0).chain(self.lines.iter().map(|(end, _)| *end));
        begins
            .zip(&self.lines)
            .map(|(begin, (end, limits))| (self.bytes.get(begin..*end).unwrap_or_default(), *limits))
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// One line has room, however long it is.
    fn has_room(&self, line: &[u8]) -> bool {
        self.is_empty()
            || (self.lines.len() < MAX_LINES && self.bytes.len().saturating_add(line.len()) <= MAX_BYTES)
    }

    fn push(&mut self, line: &[u8], limits: Limits) {
        self.bytes.extend_from_slice(line);
        self.lines.push((self.bytes.len(), limits));
    }

    fn clear(&mut self) {
        if self.bytes.capacity() > MAX_KEPT {
            *self = Self::default();
        }
        self.bytes.clear();
        self.lines.clear();
    }
}

/// The output has not answered for as long as anybody waits for it.
pub(super) fn no_answer() -> io::Error {
    io::Error::new(ErrorKind::TimedOut, "it does not answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { max_size: 0, max_backups: 0 };

    fn taken(batch: &Batch) -> Vec<String> {
        batch.lines().map(|(line, _)| String::from_utf8(line.to_vec()).unwrap()).collect()
    }

    #[test]
    fn what_does_not_fit_is_lost_and_told_of_once_and_the_rest_is_in_order() {
        let queue = Queue::<()>::new();
        let mut batch = Batch::default();
        let mut lost = 0;
        let mut told = 0;
        for number in 0..MAX_LINES + 10 {
            let (taken, note) = queue.push(number.to_string().as_bytes(), LIMITS);
            lost += u64::from(!taken);
            told += usize::from(matches!(note, Some(Note::Failing(_))));
        }
        assert_eq!((lost, told), (10, 1));
        assert!(!queue.flush(Instant::now(), false) && queue.is_stuck(), "nobody writes");

        assert!(queue.next(&mut batch).unwrap().is_empty());
        let expected: Vec<_> = (0..MAX_LINES).map(|number| number.to_string()).collect();
        assert!(taken(&batch) == expected);
        let (took, note) = queue.push(b"again", LIMITS);
        assert!(took && matches!(note, Some(Note::Recovered(10))), "{note:?}");
        assert!(queue.next(&mut batch).is_some());
        assert_eq!(taken(&batch), ["again"]);
        assert!(!queue.flush(Instant::now(), false), "it is on its way");

        queue.let_go();
        assert!(queue.next(&mut batch).is_none());
        assert!(queue.flush(Instant::now(), false) && !queue.is_stuck());
    }

    #[test]
    fn a_burst_waits_for_a_writer_that_is_at_work_and_loses_nothing() {
        const LINES: usize = 5 * MAX_LINES;
        // However slow the machine is.
        let patience = Duration::from_secs(60);
        let queue = std::sync::Arc::new(Queue::<()> { patience, ..Queue::new() });
        let writer = std::thread::spawn({
            let queue = std::sync::Arc::clone(&queue);
            move || {
                let (mut batch, mut lines) = (Batch::default(), Vec::new());
                while queue.next(&mut batch).is_some() {
                    lines.extend(taken(&batch));
                }
                lines
            }
        });
        for number in 0..LINES {
            assert!(queue.push(number.to_string().as_bytes(), LIMITS).0, "{number}: {queue:?}");
        }
        queue.let_go();
        assert!(writer.join().unwrap() == (0..LINES).map(|number| number.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn a_line_of_any_length_has_room_where_nothing_waits() {
        let queue = Queue::<()>::new();
        assert!(queue.push(&vec![b'x'; 2 * MAX_BYTES], LIMITS).0);
        assert!(!queue.try_push(b"y", LIMITS).0);
        assert!(queue.next(&mut Batch::default()).is_some());
        assert!(queue.push(b"z", LIMITS).0);
    }

    #[test]
    fn one_that_hangs_is_not_asked_without_end() {
        let queue = Queue::<()>::new();
        let asked = (0..MAX_REQUESTS + 5).filter(|_| queue.request(Box::new(|()| {})).is_ok()).count();
        assert_eq!(asked, MAX_REQUESTS);
    }
}
