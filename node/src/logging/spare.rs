//! Threads for files: one that its file does not need any more waits for the next file.
//!
//! A reload needs no thread that was not there before: where the machine has none left (the pid limit of a container), the log file
//! can be changed all the same.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What a thread does for a file, from its opening to its end.
type Job = Box<dyn FnOnce() + Send>;

/// The thread that waits, if it does. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Spare(Arc<Bench>);

#[derive(Default)]
struct Bench {
    state: Mutex<State>,
    call: Condvar,
}

#[derive(Default)]
struct State {
    /// For those who wait: never more than there are of them.
    jobs: VecDeque<Job>,
    waiting: usize,
    is_over: bool,
}

// === impl Spare ===

impl Default for Spare {
    /// With a thread that waits, if the machine has one.
    fn default() -> Self {
        let spare = Self(Arc::default());
        // Without it the first file asks for one of its own.
        let _ = spare.begin(Box::new(|| ()));
        spare
    }
}

impl Spare {
    /// Has a thread do it: the one that waits, or a new one.
    ///
    /// # Errors
    /// If there is none.
    pub(super) fn put(&self, job: Job) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.jobs.len() < state.waiting {
            state.jobs.push_back(job);
            self.0.call.notify_one();
            return Ok(());
        }
        drop(state);
        self.begin(job)
    }

    fn begin(&self, job: Job) -> io::Result<()> {
        let bench = Arc::clone(&self.0);
        let work = move || {
            job();
            while let Some(job) = bench.wait() {
                job();
            }
        };
        thread::Builder::new().name("log-file".to_owned()).spawn(work).map(drop)
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.call.notify_all();
    }
}

// === impl Bench ===

impl Bench {
    /// Waits for the next job. `None` if there will be none, or if another thread waits for it already.
    fn wait(&self) -> Option<Job> {
        let mut state = self.lock();
        if state.waiting > state.jobs.len() {
            return None;
        }
        state.waiting += 1;
        while state.jobs.is_empty() && !state.is_over {
            state = self.call.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
        state.jobs.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::thread::ThreadId;
    use std::time::{Duration, Instant};

    use super::*;

    fn thread_of(spare: &Spare) -> (Receiver<ThreadId>, std::sync::mpsc::SyncSender<()>) {
        let (tell, told) = sync_channel(1);
        let (release, held) = sync_channel::<()>(0);
        let job = move || {
            tell.send(thread::current().id()).unwrap();
            let _ = held.recv();
        };
        spare.put(Box::new(job)).unwrap();
        (told, release)
    }

    fn until(what: impl Fn() -> bool) {
        let began = Instant::now();
        while !what() {
            assert!(began.elapsed() < Duration::from_secs(60));
            thread::yield_now();
        }
    }

    #[test]
    fn one_file_after_the_other_needs_no_other_thread_and_one_that_hangs_does() {
        let spare = Spare::default();
        let is_one_waiting = || until(|| spare.0.lock().waiting == 1);
        is_one_waiting();
        let (first, release) = thread_of(&spare);
        let first = first.recv().unwrap();
        let (second, hangs) = thread_of(&spare);
        assert_ne!(second.recv().unwrap(), first);
        drop(release);
        is_one_waiting();
        let (third, release) = thread_of(&spare);
        assert_eq!(third.recv().unwrap(), first);
        drop((release, hangs));
        is_one_waiting();
        let bench = Arc::clone(&spare.0);
        drop(spare);
        until(|| Arc::strong_count(&bench) == 1);
    }
}
