//! The log files that are open, each with the thread that writes to it.
//!
//! Opening, too, is the thread's work: a disk that does not answer holds it, and whoever asked for the file stops waiting. The thread is
//! then left to the disk. One path has one thread at most, whoever names it, so that two settings never rotate a file against each other,
//! none removes what the other has just opened, and a disk that hangs holds no more threads than it has files.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::LogFileError;
use super::desk::{Desk, Place};
use super::queue::{Batch, Queue, no_answer};
use super::rotate::{RotatingFile, sync};
use super::spare::Spare;
use super::writer::serve;

/// So many files are open or wait for their disk at most; a reload needs two at a time.
const MAX_FILES: usize = 8;

/// How long whoever lets a file go that nobody wrote to waits for it to be removed.
const CLOSE_WITHIN: Duration = Duration::from_millis(100);

/// The files that are open, by path.
#[derive(Debug, Default)]
pub(super) struct Files {
    shelf: Mutex<BTreeMap<PathBuf, Arc<Shared>>>,
    spare: Spare,
    /// A file was opened or closed, or could not be opened.
    changed: Condvar,
}

/// What those who hold a file and its thread share.
#[derive(Debug)]
struct Shared {
    path: PathBuf,
    queue: Queue<RotatingFile>,
    /// Locked inside of the shelf only.
    gate: Mutex<Gate>,
    /// A thread brings its lines to the disk.
    is_syncing: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Gate {
    is_open: bool,
    is_fresh: bool,
    /// At most as many as ask while the file is opened, each of which stops waiting some time.
    waiting: Vec<Waiter>,
}

type Waiter = oneshot::Sender<io::Result<()>>;

/// A hold on a log file. The file is closed when the last one is dropped and its lines are written.
#[derive(Debug)]
pub(super) struct LogFile {
    shared: Arc<Shared>,
    files: Arc<Files>,
}

/// A log file that is being opened.
#[derive(Debug)]
pub(super) struct Opening {
    file: LogFile,
    opened: oneshot::Receiver<io::Result<()>>,
}

// === impl Files ===

impl Files {
    /// Begins to open a file, unless it is open already.
    pub(super) fn open(self: &Arc<Self>, path: &Path, desk: &Arc<Desk>) -> Result<Opening, LogFileError> {
        let at = |source| LogFileError { path: path.into(), source };
        let (waiter, opened) = oneshot::channel();
        let mut shelf = self.lock();
        if let Some(shared) = shelf.get(path) {
            let mut gate = shared.gate();
            if gate.is_open {
                // The other end is held here.
                let _ = waiter.send(Ok(()));
            } else {
                gate.waiting.retain(|waiter| !waiter.is_closed());
                gate.waiting.push(waiter);
            }
            drop(gate);
            shared.queue.hold();
            let file = LogFile { shared: Arc::clone(shared), files: Arc::clone(self) };
            drop(shelf);
            return Ok(Opening { file, opened });
        }
        if shelf.len() >= MAX_FILES {
            let text = "the disks of too many log files do not answer; mend them, or use stdout";
            return Err(at(io::Error::other(text)));
        }
        let gate = Mutex::new(Gate { waiting: vec![waiter], ..Gate::default() });
        let shared =
            Arc::new(Shared { path: path.into(), queue: Queue::new(), gate, is_syncing: Arc::default() });
        let (owner, files, desk) = (Arc::clone(&shared), Arc::clone(self), Arc::clone(desk));
        self.spare.put(Box::new(move || run(&owner, &files, &desk))).map_err(at)?;
        shelf.insert(path.into(), Arc::clone(&shared));
        drop(shelf);
        Ok(Opening { file: LogFile { shared, files: Arc::clone(self) }, opened })
    }

    /// Waits until the lines of all files are written: see [`Queue::flush`].
    pub(super) fn flush(&self, by: Instant, is_last: bool) -> bool {
        let all: Vec<_> = self.lock().values().cloned().collect();
        // Each of them, whatever becomes of the one before.
        all.iter().filter(|shared| !shared.queue.flush(by, is_last)).count() == 0
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Arc<Shared>>> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the thread: whether the file is closed now. Nobody is told that it is open from here on.
    fn begin_to_close(&self, shared: &Shared) -> bool {
        let _shelf = self.lock();
        let is_over = shared.queue.is_let_go();
        shared.gate().is_open &= !is_over;
        is_over
    }

    /// For the thread: whether it ends, because nobody has asked for the file since it began to close it.
    fn end(&self, shared: &Shared) -> bool {
        let mut shelf = self.lock();
        shared.gate().is_fresh = false;
        self.changed.notify_all();
        let is_over = shared.queue.is_let_go();
        if is_over {
            shelf.remove(&shared.path);
        }
        is_over
    }
}

/// The life of the thread of a file.
fn run(shared: &Shared, files: &Files, desk: &Desk) {
    let place = Place::File(shared.path.clone());
    let mut batch = Batch::default();
    loop {
        let opened = catch_unwind(|| RotatingFile::open(&shared.path));
        let mut file = match opened.unwrap_or_else(|_| Err(panicked())) {
            Ok(file) => file,
            Err(error) => {
                let mut shelf = files.lock();
                shelf.remove(&shared.path);
                for waiter in mem::take(&mut shared.gate().waiting) {
                    // Whoever has stopped waiting has been told so.
                    let _ = waiter.send(Err(again(&error)));
                }
                files.changed.notify_all();
                return;
            }
        };
        {
            let _shelf = files.lock();
            let mut gate = shared.gate();
            (gate.is_open, gate.is_fresh) = (true, file.is_fresh());
            for waiter in mem::take(&mut gate.waiting) {
                let _ = waiter.send(Ok(()));
            }
            files.changed.notify_all();
        }
        loop {
            serve(&mut file, &shared.queue, &mut batch, desk, &place);
            if files.begin_to_close(shared) {
                break;
            }
        }
        // A panic in there is a bug, and leaves an empty file.
        let _ = catch_unwind(AssertUnwindSafe(|| file.close()));
        if files.end(shared) {
            return;
        }
    }
}

fn panicked() -> io::Error {
    io::Error::other("panicked; this is a bug")
}

/// The same error for one more.
fn again(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

// === impl Shared ===

impl Shared {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Opening ===

impl Opening {
    /// The file when it is open. One that is not in time is given up.
    pub(super) async fn within(self, patience: Duration) -> Result<LogFile, LogFileError> {
        let opened = tokio::time::timeout(patience, self.opened).await;
        let opened = opened.unwrap_or_else(|_| Ok(Err(no_answer()))).unwrap_or_else(|_| Err(no_answer()));
        opened.map_err(|source| LogFileError { path: self.file.path().into(), source })?;
        Ok(self.file)
    }

    /// The same for a thread that may block.
    pub(super) fn blocking_within(mut self, patience: Duration) -> Result<LogFile, LogFileError> {
        let by = Instant::now() + patience;
        let files = Arc::clone(&self.file.files);
        let mut source = no_answer();
        let mut shelf = files.lock();
        loop {
            match self.opened.try_recv() {
                Ok(Ok(())) => {
                    drop(shelf);
                    return Ok(self.file);
                }
                Ok(Err(error)) => {
                    source = error;
                    break;
                }
                Err(oneshot::error::TryRecvError::Closed) => break,
                Err(oneshot::error::TryRecvError::Empty) => {}
            }
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            shelf = files.changed.wait_timeout(shelf, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(shelf);
        Err(LogFileError { path: self.file.path().into(), source })
    }
}

// === impl LogFile ===

impl LogFile {
    pub(super) fn path(&self) -> &Path {
        &self.shared.path
    }

    pub(super) fn queue(&self) -> &Queue<RotatingFile> {
        &self.shared.queue
    }

    /// Whether both are holds on one file.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Has the file's thread do something, after the lines that wait.
    ///
    /// # Errors
    /// The work's own; [`ErrorKind::TimedOut`](io::ErrorKind::TimedOut) if it is not done in time, and then it may still be done.
    pub(super) async fn ask<R: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce(&mut RotatingFile) -> io::Result<R> + Send + 'static,
    ) -> io::Result<R> {
        if self.queue().is_stuck() {
            return Err(no_answer());
        }
        let (answer, answered) = oneshot::channel();
        self.queue().request(Box::new(move |file| {
            // Whoever has stopped waiting has been told so.
            let _ = answer.send(work(file));
        }))?;
        match tokio::time::timeout(patience, answered).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(panicked())),
            Err(_) => {
                self.queue().gave_up();
                Err(no_answer())
            }
        }
    }

    /// Makes the lines so far durable, on another thread than that which writes: lines go on meanwhile.
    ///
    /// # Errors
    /// As [`LogFile::ask`].
    pub(super) async fn sync(&self, patience: Duration) -> io::Result<()> {
        let by = tokio::time::Instant::now() + patience;
        let file = self.ask(patience, |file| file.to_sync()).await?;
        let is_syncing = Arc::clone(&self.shared.is_syncing);
        if is_syncing.swap(true, Ordering::SeqCst) {
            // One at a time, or a disk that hangs would hold a thread for each.
            return Err(no_answer());
        }
        let (answer, answered) = oneshot::channel();
        let job = move || {
            let synced = catch_unwind(AssertUnwindSafe(|| sync(&file)));
            is_syncing.store(false, Ordering::SeqCst);
            // Whoever has stopped waiting has been told so.
            let _ = answer.send(synced.unwrap_or_else(|_| Err(panicked())));
        };
        if let Err(error) = self.files.spare.put(Box::new(job)) {
            self.shared.is_syncing.store(false, Ordering::SeqCst);
            return Err(error);
        }
        let synced = tokio::time::timeout_at(by, answered).await;
        synced.map_or_else(|_| Err(no_answer()), |synced| synced.unwrap_or_else(|_| Err(panicked())))
    }
}

impl Drop for LogFile {
    /// Waits for a moment if nobody has written to the file: that nothing is left of it can be seen when a rollback is over.
    fn drop(&mut self) {
        self.shared.queue.let_go();
        if self.shared.queue.is_used() {
            return;
        }
        let by = Instant::now() + CLOSE_WITHIN;
        let mut shelf = self.files.lock();
        while self.shared.gate().is_fresh && self.shared.queue.is_let_go() {
            let left = by.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            shelf = self.files.changed.wait_timeout(shelf, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
