//! A move of the history to another data folder: copied while nothing is written, swapped in memory, and kept until it stands.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use storage::atomic::WriteError;
use storage::{Incoming, MoveError, Signpost, Whereabouts};
use tokio::sync::OwnedMutexGuard;

use super::books::Shelf;
use super::{History, HistoryError};

/// Which pause holds what is to be written back, and which actor may move the history.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    /// The number of the pause; 0 where there is none.
    current: AtomicU64,
    /// How many there were.
    begun: AtomicU64,
    /// The actor in office. One that was left behind in the middle of a step wakes up in that step.
    term: AtomicU64,
}

/// Nothing is written to the folder while this lives, unless a later one took its place.
#[derive(Debug)]
pub(super) struct Pause {
    pauses: Arc<Pauses>,
    number: u64,
}

/// Another folder with a copy of the history. Dropped, it is removed.
pub(super) struct Place {
    // In this order: closed, removed, and only then is it the next one's turn.
    shelf: Shelf,
    incoming: Incoming,
    announced: Announced,
    turn: OwnedMutexGuard<()>,
}

/// The signpost says that a copy is being made. Dropped, it says no more that it is.
pub(super) struct Announced {
    signpost: Signpost,
    /// Nothing where the move stands.
    before: Option<Whereabouts>,
}

/// A move that was made and does not stand yet.
pub(super) struct Moved {
    before: Shelf,
    incoming: Incoming,
    announced: Announced,
    turn: OwnedMutexGuard<()>,
    pause: Pause,
}

/// Why a copy is not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// It cannot be.
    #[error(transparent)]
    Move(#[from] MoveError),
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] HistoryError),
    /// That it is made cannot be written down, or not even where the history is now.
    #[error("a start after a kill would not know where the history is: {0}")]
    Signpost(#[from] WriteError),
    /// The last move is not written down.
    #[error("the disk does not say yet that the history was moved to {}", .0.display())]
    Unsettled(PathBuf),
}

// === impl Pauses ===

impl Pauses {
    pub(super) fn is_paused(&self) -> bool {
        self.current.load(Ordering::SeqCst) != 0
    }
}

// === impl Pause ===

impl Pause {
    fn begin(pauses: &Arc<Pauses>) -> Self {
        let number = pauses.begun.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        pauses.current.store(number, Ordering::SeqCst);
        Self { pauses: Arc::clone(pauses), number }
    }

    /// Tells, from any thread, whether somebody still waits for what is done under this pause.
    pub(super) fn watch(&self) -> impl Fn() -> bool + Send + 'static {
        let (pauses, number) = (Arc::clone(&self.pauses), self.number);
        move || pauses.current.load(Ordering::SeqCst) == number
    }
}

impl Drop for Pause {
    fn drop(&mut self) {
        // What waited is written with the next line, or when the coordinator tries again.
        let _ = self.pauses.current.compare_exchange(self.number, 0, Ordering::SeqCst, Ordering::SeqCst);
    }
}

// === impl Announced ===

impl Announced {
    fn new(signpost: Signpost, from: &Path, to: &Path) -> Result<Self, WriteError> {
        // First, so that it is taken back where the second half of writing it fails.
        let announced = Self { signpost, before: Some(Whereabouts::at(from)) };
        announced.signpost.put(&Whereabouts { moving_to: Some(to.into()), ..Whereabouts::at(from) })?;
        Ok(announced)
    }

    /// Somebody else says where the history is from here on.
    fn stands(mut self) {
        self.before = None;
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        let Some(before) = self.before.take() else { return };
        if let Err(error) = self.signpost.put(&before) {
            // The next start looks for the copy, and finds none.
            tracing::warn!(%error, "the disk still says that the data folder is being moved");
        }
    }
}

// === impl Place ===

impl Place {
    /// Copies the history to a folder. Blocks for as long as the disks take.
    pub(super) fn copy(
        history: &History,
        to: &Path,
        is_wanted: impl Fn() -> bool,
        turn: OwnedMutexGuard<()>,
    ) -> Result<Self, CopyError> {
        let (from, signpost) = {
            // Whoever was writing when the pause began is done now.
            let mut books = history.lock();
            books.unstage_all();
            if books.settling.is_some() && !books.flush_signpost() {
                return Err(CopyError::Unsettled(books.shelf.path.clone()));
            }
            (books.shelf.path.clone(), books.signpost.clone())
        };
        let announced = Announced::new(signpost, &from, to)?;
        let incoming = Incoming::copy(&from, to, is_wanted)?;
        let (shelf, damaged) = Shelf::open(to, usize::MAX)?;
        for file in &damaged {
            tracing::warn!(%file, "history");
        }
        Ok(Self { shelf, incoming, announced, turn })
    }
}

impl History {
    /// The folder that counts.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.lock().shelf.path.clone()
    }

    /// Why there is no pid file, if there is none: the disk is full.
    #[must_use]
    pub fn pid_error(&self) -> Option<String> {
        self.lock().lock.as_ref()?.pid_error().map(ToString::to_string)
    }

    /// A start on this folder is certain: if the node is killed from here on, the next one looks here first. What cannot be written
    /// now is written with the next generation, or when the coordinator tries again.
    pub fn settle_here(&self) {
        self.lock().settle_here();
    }

    /// Gives the data folder back: at the end of the process. Whoever names another one from here on means it.
    pub fn release(&self) {
        drop(self.undo());
        let (lock, signpost) = {
            let mut books = self.lock();
            (books.lock.take(), books.signpost.clone())
        };
        if let Err(error) = signpost.take_away() {
            tracing::warn!(%error, "the next start takes this stop for a crash");
        }
        drop(lock);
    }

    /// From here on nothing is written, until the pause is dropped.
    pub(super) fn pause(&self) -> Pause {
        Pause::begin(&self.pauses)
    }

    /// Waits until nobody else copies.
    pub(super) async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Moves to the copy. Does not block for files. False for an actor that was left behind.
    pub(super) fn move_to(&self, term: u64, place: Place, pause: Pause) -> bool {
        let mut books = self.lock();
        if self.pauses.term.load(Ordering::SeqCst) != term {
            return false;
        }
        let Place { shelf, incoming, announced, turn } = place;
        let before = books.swap(shelf);
        books.moved = Some(Moved { before, incoming, announced, turn, pause });
        true
    }

    /// Moves back, unless the move stands already. What this returns has to be dropped where it may block.
    pub(super) fn move_back(&self, term: u64) -> Option<impl Send + 'static> {
        let is_in_office = self.pauses.term.load(Ordering::SeqCst) == term;
        if is_in_office { self.undo() } else { None }
    }

    fn undo(&self) -> Option<Place> {
        let mut books = self.lock();
        let Moved { before, incoming, announced, turn, pause } = books.moved.take()?;
        let shelf = books.swap(before);
        drop(pause);
        Some(Place { shelf, incoming, announced, turn })
    }

    /// The move stands: the disk is told, what waited is written to the new folder, and the old one is let go of.
    pub(super) fn settle(&self) {
        let old = {
            let mut books = self.lock();
            let Some(Moved { before, incoming, announced, turn, pause }) = books.moved.take() else { return };
            let (data_dir, settling) = incoming.keep();
            let old = books.lock.replace(data_dir);
            books.left = Some(before.path.clone());
            books.settling = Some(settling);
            announced.stands();
            drop(pause);
            // All under the lock: nothing is written to a folder that does not count.
            books.flush();
            (before, old, turn)
        };
        let (from, to) = (old.0.path.display().to_string(), self.path());
        drop(old);
        tracing::info!(from, to = %to.display(), "the data folder was moved; what the old one holds stays there");
    }

    /// Whether the folder that counts is still the one that is locked.
    pub(super) fn is_in_place(&self) -> io::Result<bool> {
        let books = self.lock();
        match (&books.moved, &books.lock) {
            (Some(moved), _) => moved.incoming.data_dir().is_in_place(),
            (None, Some(lock)) => lock.is_in_place(),
            (None, None) => Ok(true),
        }
    }

    /// An actor takes office: whoever was before moves nothing from here on, and what he did not finish is undone.
    pub(super) fn take_office(&self) -> u64 {
        let term = {
            // Under the lock: a move is either before this, and undone, or refused.
            let _books = self.lock();
            self.pauses.term.fetch_add(1, Ordering::SeqCst).saturating_add(1)
        };
        let undone = self.undo();
        self.pauses.current.store(0, Ordering::SeqCst);
        if let Some(undone) = undone {
            // Whoever starts an actor does not wait for a disk that may be what the predecessor is stuck at.
            std::thread::spawn(move || drop(undone));
        }
        term
    }
}
