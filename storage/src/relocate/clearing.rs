//! What a kill in a move, or soon after it, has left in the folder where the history is not: cleared up by the next start.

use std::path::Path;

use super::trail::{Relation, Trail, is_same, relation};
use super::undo::{Made, Undo, has_sockets, remove_dead_sockets};
use super::{GENERATIONS, MoveError, Note, failed};
use crate::atomic::{self, Action};
use crate::lock::{LOCK, PID};
use crate::signpost::Whereabouts;
use crate::{DataDir, DataDirError, generations};

/// Clears up what a kill has left in `to`, to which `from` was to move: the copy, if it is one that was made in an empty folder and
/// never came to count; temporary files and a dead socket in any case.
///
/// # Errors
/// If the folder cannot be read or had.
pub fn abandon(from: &Path, to: &Path) -> Result<(), MoveError> {
    if is_same(from, to) || !to.join(LOCK).exists() {
        return Ok(());
    }
    // Sweeps.
    let data_dir = DataDir::open(to)?;
    let generations = to.join(GENERATIONS);
    if generations.is_dir() {
        atomic::sweep(&generations).map_err(|source| generations::OpenError { path: generations, source })?;
    }
    remove_dead_sockets(to).map_err(failed(to, Action::Remove))?;
    // Killed before the note was there, it holds no more than the lock.
    let is_begun = Trail::is_empty(to)? && Note::read(to)?.is_none();
    if is_begun || Note::is_of_a_new_copy(to, from)? && relation(from, to)? != Relation::Later {
        let mut made = Made::by_one_before(to);
        made.is_locked = true;
        drop(Undo(Some(made)));
    }
    drop(data_dir);
    Ok(())
}

/// Clears up what a kill has left in the folder that was moved away from: the pid, and the socket that nobody serves. Its history
/// stays. Nothing is touched where a node runs, or where no note says that this is the folder.
///
/// # Errors
/// If the folder cannot be read or had.
pub fn let_go(told: &Whereabouts) -> Result<(), MoveError> {
    let Some(left) = told.left.as_deref() else { return Ok(()) };
    let has_leftovers = left.join(PID).symlink_metadata().is_ok() || has_sockets(left);
    if !has_leftovers || is_same(left, &told.data_dir) {
        return Ok(());
    }
    if !Note::read(left)?.is_some_and(|note| is_same(&note.history_in, &told.data_dir)) {
        return Ok(());
    }
    let data_dir = match DataDir::open(left) {
        Ok(data_dir) => data_dir,
        Err(DataDirError::Held { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    remove_dead_sockets(left).map_err(failed(left, Action::Remove))?;
    // The pid file is ours by now, and goes with the lock.
    drop(data_dir);
    Ok(())
}
