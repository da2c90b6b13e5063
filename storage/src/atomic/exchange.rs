//! A file and its successor change places in one step of the kernel: what was replaced is known to the byte, and can come back.
//!
//! A rename throws away what stands at the name in that very moment, whoever has put it there. After an exchange it stands under
//! the temporary name, so that somebody's save that came in between is found, and given its place again.

use std::fs;
use std::io;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Action, Staged, WriteError, at, folder_of, sync_folder};

/// What became of [`Staged::exchange`].
#[derive(Debug)]
pub enum Placed {
    /// The new contents are in place, and what they replaced is kept until this is dropped.
    Instead(Exchanged),
    /// They are in place, and what they replaced is not known: there was nothing, or the file system cannot exchange (NFS).
    Alone,
    /// Nothing was done: there is a file where there was none, or none where there was one.
    Otherwise,
}

/// A file in place, with its predecessor under the temporary name. Dropped, the predecessor goes.
#[derive(Debug)]
pub struct Exchanged(Staged);

// === impl Staged ===

impl Staged {
    /// Puts the contents in place of a file that there is (`instead`), or where there is none. Not durable before
    /// [`Exchanged::sync`]. Does not block for the disk.
    ///
    /// # Errors
    /// With the path, the step and the remedy; no temp file is left.
    pub fn exchange(mut self, instead: bool) -> Result<Placed, WriteError> {
        let flags = if instead { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        match self.swap(flags) {
            Ok(()) if instead => Ok(Placed::Instead(Exchanged(self))),
            Ok(()) => {
                self.temp.renamed = true;
                Ok(Placed::Alone)
            }
            Err(Errno::NOENT) if instead && self.temp.path.exists() => Ok(Placed::Otherwise),
            Err(Errno::EXIST) => Ok(Placed::Otherwise),
            // What a file system says that does not know of it.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                self.rename()?;
                Ok(Placed::Alone)
            }
            Err(error) => Err(at(&self.target, Action::Rename)(error.into())),
        }
    }

    fn swap(&self, flags: RenameFlags) -> Result<(), Errno> {
        renameat_with(CWD, &self.temp.path, CWD, &self.target, flags)
    }
}

// === impl Exchanged ===

impl Exchanged {
    /// What was replaced, as it is now: whoever had it open before may still write to it.
    ///
    /// # Errors
    /// What the system says.
    pub fn former(&self) -> io::Result<Vec<u8>> {
        fs::read(&self.0.temp.path)
    }

    /// Makes the new contents durable. Blocks for the time of an fsync.
    ///
    /// # Errors
    /// With the folder. They are in place all the same, and may not survive a power cut.
    pub fn sync(&self) -> Result<(), WriteError> {
        let folder = folder_of(&self.0.target);
        sync_folder(folder).map_err(at(folder, Action::SyncFolder))
    }

    /// The predecessor has its place again, durably, unless somebody has replaced the successor (`ours`) meanwhile: then that is
    /// newer than both, and stays. Blocks for the time of an fsync.
    ///
    /// # Errors
    /// With the path, the step and the remedy.
    pub fn give_back(self, ours: &[u8]) -> Result<(), WriteError> {
        let failed = |error: Errno| at(&self.0.target, Action::Rename)(error.into());
        match self.0.swap(RenameFlags::EXCHANGE) {
            Ok(()) => {}
            // Somebody has taken the file away since.
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
        if self.former().is_ok_and(|former| former != ours) {
            self.0.swap(RenameFlags::EXCHANGE).map_err(failed)?;
        }
        self.sync()
    }
}
