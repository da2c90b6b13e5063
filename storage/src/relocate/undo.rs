//! What a move has made in a folder that held nothing, and how it goes again.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use reload::fault;

use super::{AUDIT, GENERATIONS, KNOWN, NOTE};
use crate::lock::{LOCK, PID};
use crate::standing::STANDING;
use crate::{audit, generations, socket_path};

/// Removes what a move has made when it is dropped; nothing where a history was there before.
#[derive(Debug)]
pub(super) struct Undo(pub(super) Option<Made>);

/// What a move makes in a folder that holds nothing.
#[derive(Debug)]
pub(super) struct Made {
    folder: PathBuf,
    /// The folders that were not there, the deepest first.
    folders: Vec<PathBuf>,
    /// The lock's file was not there.
    lock: bool,
    /// Nobody else writes there now.
    pub(super) is_locked: bool,
    /// Whoever made it is dead, and so is the socket that he had there.
    dead_sockets: bool,
}

// === impl Undo ===

impl Drop for Undo {
    fn drop(&mut self) {
        let Some(made) = self.0.take() else { return };
        if let Err(error) = made.remove() {
            tracing::warn!(folder = %made.folder.display(), %error, "a part of a copy that is not needed stays behind");
        }
    }
}

// === impl Made ===

impl Made {
    pub(super) fn nothing_yet(folder: &Path) -> Self {
        let missing = folder.ancestors().take_while(|ancestor| ancestor.symlink_metadata().is_err());
        Self {
            folder: folder.into(),
            folders: missing.map(Path::to_owned).collect(),
            lock: folder.join(LOCK).symlink_metadata().is_err(),
            is_locked: false,
            dead_sockets: false,
        }
    }

    /// What one that was killed has made: everything but the folder, of which nobody knows who made it.
    pub(super) fn by_one_before(folder: &Path) -> Self {
        Self { folder: folder.into(), folders: Vec::new(), lock: true, is_locked: false, dead_sockets: true }
    }

    /// Removes what a node keeps there, and the folders that were made.
    fn remove(&self) -> io::Result<()> {
        fault::io("move::remove")?;
        if self.is_locked {
            let generations = self.folder.join(GENERATIONS);
            for entry in fs::read_dir(&generations).into_iter().flatten() {
                let entry = entry?;
                if generations::is_own(&entry.file_name().to_string_lossy()) {
                    remove_file(&entry.path())?;
                }
            }
            remove_folder(&generations)?;
            for path in audit::names(&self.folder.join(AUDIT)) {
                remove_file(&path)?;
            }
            if self.dead_sockets {
                remove_dead_sockets(&self.folder)?;
            }
            // The note last: killed before, the next start knows still what this is.
            for name in [STANDING, KNOWN, PID, NOTE] {
                remove_file(&self.folder.join(name))?;
            }
        }
        // A folder that was made is ours to the last file, also where it could not be locked.
        if self.lock && (self.is_locked || !self.folders.is_empty()) {
            remove_file(&self.folder.join(LOCK))?;
        }
        self.folders.iter().try_for_each(|folder| remove_folder(folder))
    }
}

/// Removes the sockets in a data folder that nobody serves: whoever served them was killed.
pub(super) fn remove_dead_sockets(folder: &Path) -> io::Result<()> {
    sockets(folder)
        .filter(|path| socket_path::occupied(path).is_none())
        .try_for_each(|path| remove_file(&path))
}

/// Whether there are sockets in a data folder.
pub(super) fn has_sockets(folder: &Path) -> bool {
    sockets(folder).next().is_some()
}

fn sockets(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket())).map(|entry| entry.path())
}

/// Removes a file that may not be there.
pub(super) fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// What somebody else has put there stays, and its folder with it.
fn remove_folder(path: &Path) -> io::Result<()> {
    match fs::remove_dir(path) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => Ok(()),
        removed => removed,
    }
}
