//! Watching a set of files, and telling when their contents have come to rest in a new state (R24).
//!
//! What counts is contents, not events. Events of the kernel (crate `notify`) only say where to look; a slow poll looks
//! anyway, so that an event that was lost, or a folder that sends none, costs seconds and not the change. A file is told
//! when three things are true: it has stood still for [`Options::settle`], its digest is another one than was told or
//! [seen](Watched::seen) last, and the other files of the set stand still too: an operator who edits two of them gets one
//! reload. What cannot happen by construction: a half file of a writer that pauses for less than `settle` (it does not stand
//! still), a last state that is missed (what is there is compared with what was told, not with what happened), a loop (the
//! same bytes are told to nobody, and reading is no event).
//!
//! | case | how it is met |
//! |---|---|
//! | an editor writes beside and renames | folders are watched, not files |
//! | written in place, in chunks | each chunk starts `settle` anew |
//! | deleted and created again | that a file is gone is told after three times `settle`, at least 250 ms |
//! | ConfigMap: `conf.yaml` → `..data/conf.yaml` → `..2024/conf.yaml` | the folder of every link of the chain is watched, and the chain is walked again after each event |
//! | a folder is replaced, or is not there yet | the deepest folder that is there is watched; folders are compared by inode (one further up that is moved away is found by the poll) |
//! | inotify is exhausted (`EMFILE`, `ENOSPC`) | said once, then only polled; tried again every minute |
//! | the queue of inotify overflows | everything is looked at again |
//! | a pipe, a socket or a folder in place of a file | is seen and told by its kind, never opened for reading |
//! | one file of the set never comes to rest | the others are told 15 s after they came to rest, without it |
//! | same size, same timestamp, other bytes | what was told is read once more when its timestamps are old enough to be trusted |
//!
//! All file work is done by one thread of its own: a file system that hangs holds nobody else up. Its memory is bounded:
//! [`MAX_FILES`] files, one pending order, one pending answer, and of the kernel's events only the names that are watched.

mod entry;
mod folders;
mod inbox;
mod look;
mod worker;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;

use inbox::Inbox;
use worker::Worker;

/// How many files may be watched: a configuration names a dozen.
pub const MAX_FILES: usize = 256;

/// The largest file whose contents are compared, in bytes; of a larger one size and times are.
pub const MAX_HASHED: u64 = 16 * 1024 * 1024;

/// How a digest of a file's contents is made. It tells states of one file apart, and is no protection against whoever may
/// write the file.
pub type Digest = fn(&[u8]) -> u64;

/// How files are watched.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a file must stand still before it is told; zero tells each state that is seen.
    pub settle: Duration,
    /// How often all files are looked at, whatever the kernel says or does not say.
    pub poll: Duration,
    /// How coarse the file system's timestamps may be: a file that was read sooner after its last change may have been written
    /// to once more without looking any different, so it is read again when they are older than this.
    pub coarse: Duration,
    /// Whether the kernel is asked for events. Without it files are only polled.
    pub events: bool,
    /// How contents are compared: [`digest`], or one that the reader can compute from what it keeps.
    pub digest: Digest,
}

/// A file to be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Its path, symlinks and all. It need not be there.
    pub path: PathBuf,
    /// What the reader has read from it last, if it says so: another state than this one is told, and this one is not. `None`
    /// for what is there when the file is first looked at. Counts when it is another than in the set before: a reader whose
    /// last attempt was refused says what it said before, and is not told again what it refused.
    pub seen: Option<Seen>,
}

/// A state of a file, as far as a reader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// There is none.
    Missing,
    /// Its contents have this [`Digest`].
    Content(u64),
}

/// Files have come to rest in another state than was told before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Which, by their absolute paths, in alphabetical order.
    pub files: Vec<PathBuf>,
}

/// Changes what is watched. Clones mean the same watching.
#[derive(Clone)]
pub struct WatchHandle(Arc<Inbox>);

/// The stream of changes. While nobody takes them they become one. It ends only if its thread panics; dropped, it ends
/// the watching.
pub struct Watch(Arc<Inbox>);

/// There are more files than can be watched; the set stays as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} files are too many to watch; at most {MAX_FILES} are")]
pub struct TooMany(pub usize);

/// Why watching did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// See [`TooMany`].
    #[error(transparent)]
    TooMany(#[from] TooMany),
    /// The system gives no thread.
    #[error("no thread for watching files: {0}")]
    Thread(#[source] io::Error),
}

/// The usual [`Digest`]: 64 bits of the standard library's hash, with keys that are drawn anew in each process.
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    static KEYS: OnceLock<RandomState> = OnceLock::new();
    KEYS.get_or_init(RandomState::new).hash_one(bytes)
}

// === impl Options ===

impl Default for Options {
    /// A second to settle, a look every two: a change is live within seconds even where no event comes. FAT has the coarsest
    /// timestamps, of two seconds.
    fn default() -> Self {
        let (settle, two) = (Duration::from_secs(1), Duration::from_secs(2));
        Self { settle, poll: two, coarse: two, events: true, digest }
    }
}

// === impl Watched ===

impl Watched {
    /// A file whose state now is where the watching begins.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), seen: None }
    }

    /// A file that the reader has read.
    #[must_use]
    pub fn seen(path: impl Into<PathBuf>, seen: Seen) -> Self {
        Self { path: path.into(), seen: Some(seen) }
    }
}

// === impl Watch ===

impl Watch {
    /// Starts watching. An empty set costs a sleeping thread, and nothing of the kernel.
    ///
    /// # Errors
    /// If there are too many files, or no thread.
    pub fn start(options: Options, files: Vec<Watched>) -> Result<(WatchHandle, Self), StartError> {
        let inbox = Arc::new(Inbox::default());
        let handle = WatchHandle(Arc::clone(&inbox));
        handle.set(files, options.settle)?;
        let worker = Worker::new(options, Arc::clone(&inbox));
        std::thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || worker.run())
            .map_err(StartError::Thread)?;
        Ok((handle, Self(inbox)))
    }
}

impl Stream for Watch {
    type Item = Changed;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Changed>> {
        self.0.poll_told(cx).map(|files| Some(Changed { files: files?.into_iter().collect() }))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").finish_non_exhaustive()
    }
}

// === impl WatchHandle ===

impl WatchHandle {
    /// Watches these files instead, and lets them settle for so long. A file that was watched before keeps what is known about
    /// it. An empty set switches the watching off. Never blocks; of several calls in a row the last one counts.
    ///
    /// # Errors
    /// If there are too many; nothing is changed then.
    pub fn set(&self, files: Vec<Watched>, settle: Duration) -> Result<(), TooMany> {
        let count = files.iter().map(|file| &file.path).collect::<BTreeSet<_>>().len();
        if count > MAX_FILES {
            return Err(TooMany(count));
        }
        self.0.order(files, settle);
        Ok(())
    }

    /// Whether the kernel gives no events, so that only the poll finds changes.
    #[must_use]
    pub fn only_polls(&self) -> bool {
        self.0.only_polls()
    }
}

impl fmt::Debug for WatchHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchHandle").finish_non_exhaustive()
    }
}

#[cfg(all(test, unix))]
mod tests;
