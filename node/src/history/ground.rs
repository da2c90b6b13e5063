//! The data folder that somebody takes away from a node that runs: nothing is written to files without a name, and when a folder is
//! there again the node goes on in it.

use std::io;

use storage::generations::OpenError;
use storage::relocate::{self, AUDIT};
use storage::{AuditLog, DataDirError, MoveError};

use super::books::Books;

/// Why there is nothing to write to.
#[derive(Debug, thiserror::Error)]
enum Lost {
    /// No folder.
    #[error("the data folder is gone (put it back, or make an empty one of this name)")]
    Gone,
    /// Another one.
    #[error(
        "this is another data folder than the one that was there (put that one back, or restart the node)"
    )]
    Another,
    /// It cannot be looked into.
    #[error(transparent)]
    Unknown(#[from] MoveError),
    /// It cannot be held.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The generations have no room.
    #[error(transparent)]
    Generations(#[from] OpenError),
    /// The audit log has none.
    #[error(transparent)]
    Audit(#[from] storage::audit::AuditError),
}

impl Books {
    /// Whether what is written now has a name. What was taken away is made anew where the folder is there: the lock, the pid file,
    /// the folder of the generations, the audit log. The file of the log may also be missing alone: somebody put it aside.
    pub(super) fn has_ground(&mut self) -> bool {
        match self.find_ground() {
            Ok(()) => true,
            Err(error) => {
                let folder = self.shelf.path.display();
                tracing::warn!(%folder, %error, "what has to be written waits for the data folder");
                false
            }
        }
    }

    fn find_ground(&mut self) -> Result<(), Lost> {
        // Once the node has stopped nobody is in anybody's way.
        let Some(lock) = &mut self.lock else { return Ok(()) };
        let is_locked = seen(lock.is_in_place());
        let is_told = seen(self.shelf.audit.is_in_place());
        if is_locked && is_told {
            return Ok(());
        }
        let folder = &self.shelf.path;
        if !folder.is_dir() {
            return Err(Lost::Gone);
        }
        if !is_locked && !is_told && !relocate::may_go_on(folder, self.ended.iter().map(String::as_str))? {
            return Err(Lost::Another);
        }
        if !is_locked {
            lock.take_again()?;
            self.shelf.generations.make_folder_again()?;
            self.standing_unwritten = true;
            tracing::warn!(folder = %folder.display(), "the data folder was taken away; the node goes on in the one that is there");
        }
        if !is_told {
            self.shelf.audit = AuditLog::open(&folder.join(AUDIT))?;
        }
        Ok(())
    }
}

/// What cannot be seen is taken to be as it was: writing will tell.
fn seen(is_in_place: io::Result<bool>) -> bool {
    is_in_place.unwrap_or(true)
}
