//! The node's keeping in another data folder: a copy, and a note that makes it survive a kill at any instant.
//!
//! `data_dir/moved.json` (0600) says in which other folder the history of this one goes on. It is written to the new folder before
//! anything is copied there, so that a start on a copy that a kill cut short ([`take_up`]) copies anew instead of beginning with
//! generation 1. When the move stands, it is taken out of the new folder, and one that points the other way is left in the old
//! one, so that whoever starts a node there again goes on as well.
//!
//! Copied are the generations that are whole, the audit log with the files put aside, `standing.json` and `known.yaml`. Lock, pid
//! and socket are made anew. Nothing is ever taken out of the folder that is copied.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use reload::fault;
use serde::{Deserialize, Serialize};

use crate::atomic::{self, Action, Mode, WriteError};
use crate::audit::{self, AuditError};
use crate::document::source;
use crate::generations::{self, Generations};
use crate::lock::{LOCK, PID};
use crate::standing::STANDING;
use crate::{DataDir, DataDirError};
use trail::{Relation, Trail, is_same, relation};

mod trail;

/// The note's name in the data folder.
pub const NOTE: &str = "moved.json";

/// The folder of the generations in the data folder.
pub const GENERATIONS: &str = "generations";
/// The audit log in the data folder.
pub const AUDIT: &str = "audit.jsonl";
/// What the node has learnt of peers; not every node has it.
const KNOWN: &str = "known.yaml";

/// Larger than any note that was written: one path.
const MAX_NOTE: u64 = 16 << 10;
/// Larger than any file that a node keeps: a generation has 33 MiB at most, and an audit log no more than that.
const MAX_FILE: u64 = 64 << 20;
/// A folder that holds a whole copy of the history, under its lock, and does not count yet. Dropped, it is as it was before: what
/// was made there goes again. Where it held an earlier copy already, the copy stays brought up to date, with the note.
#[derive(Debug)]
pub struct Incoming {
    /// First, so that it is undone under the lock.
    undo: Undo,
    data_dir: DataDir,
    /// The folder that was copied.
    from: PathBuf,
}

/// What the old folder is told when a move stands.
#[derive(Debug)]
pub struct Settling {
    from: PathBuf,
    to: PathBuf,
}

/// Removes what a move has made; nothing where a history was there before.
#[derive(Debug)]
struct Undo(Option<Made>);

/// What a move makes in a folder that holds nothing.
#[derive(Debug)]
struct Made {
    folder: PathBuf,
    /// The folders that were not there, the deepest first.
    folders: Vec<PathBuf>,
    /// The lock's file was not there.
    lock: bool,
    /// Nobody else writes there now.
    is_locked: bool,
}

/// What became of a note at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// There was none, or nothing is left of what it points to.
    Nothing,
    /// The history that went on in this folder goes on here.
    From(PathBuf),
    /// This folder went its own way meanwhile: each keeps what it holds, and the note is gone.
    Apart(PathBuf),
}

/// Why the keeping cannot be moved to a folder, or not be taken up from one. What counts is as it was.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// A folder cannot be had.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// It is the folder in use, by another name.
    #[error("{}: is the folder in use under another name (keep the name, or name another folder)", .0.display())]
    Same(PathBuf),
    /// It holds something else than an earlier copy.
    #[error("{}: holds the history of another node, or of another life of this one (name an empty folder, or move \
             generations, audit.jsonl, standing.json and known.yaml out of it)", .0.display())]
    Another(PathBuf),
    /// It holds what this history is an earlier copy of.
    #[error("{}: holds a later history of this node than {} (stop the node and start it there, or name an empty folder)",
            .to.display(), .from.display())]
    Later {
        /// The folder in use.
        from: PathBuf,
        /// The one that is later.
        to: PathBuf,
    },
    /// The generations cannot be read.
    #[error(transparent)]
    Generations(#[from] generations::OpenError),
    /// The audit log cannot be read.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: source::ReadError,
    },
    /// A file or folder cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Nobody waits for it any more.
    #[error("{}: the copy was given up on: nobody waits for it any more (raise reload.budget)", .0.display())]
    GivenUp(PathBuf),
}

/// What the note says.
#[derive(Serialize, Deserialize)]
struct Note {
    history_in: PathBuf,
}

// === impl Incoming ===

impl Incoming {
    /// Copies what `from` keeps to `to`, durably. Nobody may write to `from` meanwhile. Blocks for as long as the disks take;
    /// `is_wanted` is asked before each file.
    ///
    /// # Errors
    /// If the folder cannot be had, holds something else, or the disk refuses; what was made there is removed.
    pub fn copy(from: &Path, to: &Path, is_wanted: impl Fn() -> bool) -> Result<Self, MoveError> {
        if is_same(from, to) {
            return Err(MoveError::Same(to.into()));
        }
        // Before the folder is touched: what is there afterwards cannot be told from what was there.
        let mut undo = Undo(Trail::is_empty(to)?.then(|| Made::nothing_yet(to)));
        let data_dir = DataDir::open(to).inspect_err(|error| {
            // The files of an instance that runs there are its own.
            if matches!(error, DataDirError::Held { .. }) {
                undo.0 = None;
            }
        })?;
        if let Some(made) = &mut undo.0 {
            made.is_locked = true;
        }
        let incoming = Self { undo, data_dir, from: from.into() };
        match relation(from, to)? {
            Relation::Nothing | Relation::Earlier => {}
            Relation::Later => return Err(MoveError::Later { from: from.into(), to: to.into() }),
            Relation::Another => return Err(MoveError::Another(to.into())),
        }
        write_note(to, from)?;
        copy(from, to, is_wanted)?;
        Ok(incoming)
    }

    /// The folder, under its lock.
    #[must_use]
    pub const fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    /// The move stands: from here on this folder counts.
    #[must_use]
    pub fn keep(self) -> (DataDir, Settling) {
        let Self { mut undo, data_dir, from } = self;
        undo.0 = None;
        let settling = Settling { from, to: data_dir.path().to_owned() };
        (data_dir, settling)
    }
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

// === impl Settling ===

impl Settling {
    /// Tells both folders where the history is from now on. While the first note stands, a start on the new folder looks into the
    /// old one first, which holds nothing that the new one lacks.
    ///
    /// # Errors
    /// What the disk says.
    pub fn settle(&self) -> Result<(), WriteError> {
        fault::pass("move::settle");
        atomic::remove(&self.to.join(NOTE))?;
        fault::pass("move::settled");
        write_note(&self.from, &self.to)
    }
}

// === impl MoveError ===

impl MoveError {
    /// What the system said, if it was the system: another try may help.
    #[must_use]
    pub const fn io(&self) -> Option<&io::Error> {
        match self {
            Self::DataDir(
                DataDirError::Create { source, .. }
                | DataDirError::NotWritable { source, .. }
                | DataDirError::Lock { source, .. }
                | DataDirError::Pid(WriteError { source, .. }),
            )
            | Self::Generations(generations::OpenError { source, .. })
            | Self::Audit(AuditError::Io { source, .. })
            | Self::Read { source: source::ReadError::Io(source), .. }
            | Self::Write(WriteError { source, .. }) => Some(source),
            _ => None,
        }
    }
}

// === impl Made ===

impl Made {
    fn nothing_yet(folder: &Path) -> Self {
        let missing = folder.ancestors().take_while(|ancestor| ancestor.symlink_metadata().is_err());
        Self {
            folder: folder.into(),
            folders: missing.map(Path::to_owned).collect(),
            lock: folder.join(LOCK).symlink_metadata().is_err(),
            is_locked: false,
        }
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
            for name in [STANDING, KNOWN, NOTE, PID] {
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

fn remove_file(path: &Path) -> io::Result<()> {
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

/// Makes `to` hold what `from` does; a file that is there already is left as it is.
fn copy(from: &Path, to: &Path, is_wanted: impl Fn() -> bool) -> Result<(), MoveError> {
    let failed = |path: &Path, action| {
        let path = path.to_owned();
        move |source| WriteError { path, action, source }
    };
    let folder = to.join(GENERATIONS);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(failed(&folder, Action::Create))?;
    let (store, _) = Generations::open(&from.join(GENERATIONS), usize::MAX)?;
    let mut files = store.files();
    files.extend(audit::names(&from.join(AUDIT)));
    files.extend([STANDING, KNOWN].map(|name| from.join(name)));
    let mut placed = Vec::new();
    for path in files {
        if !is_wanted() {
            return Err(MoveError::GivenUp(to.into()));
        }
        let Ok(name) = path.strip_prefix(from) else { continue };
        let target = to.join(name);
        match source::read(&path, MAX_FILE) {
            Ok(file) => {
                fault::io("move::copy").map_err(failed(&target, Action::Write))?;
                if source::read(&target, MAX_FILE).is_ok_and(|there| there.bytes == file.bytes) {
                    continue;
                }
                atomic::place(&target, &file.bytes)?;
                placed.push(target);
            }
            // What stood in an earlier copy stands no more.
            Err(source::ReadError::Missing) => {
                remove_file(&target).map_err(failed(&target, Action::Remove))?;
            }
            Err(source) => return Err(MoveError::Read { path, source }),
        }
    }
    // All at the end: the first fsync takes most of the others' work.
    for path in &placed {
        let synced = File::open(path).and_then(|file| file.sync_all());
        synced.map_err(failed(path, Action::Write))?;
    }
    for folder in [&folder, to] {
        atomic::sync_folder(folder).map_err(failed(folder, Action::SyncFolder))?;
    }
    fault::io("move::copied").map_err(failed(to, Action::Write))?;
    Ok(())
}

/// The folder in which the history of this one goes on, if there is a note.
///
/// # Errors
/// If there is one that cannot be used.
fn goes_on_in(data_dir: &Path) -> Result<Option<PathBuf>, MoveError> {
    let path = data_dir.join(NOTE);
    let read = match source::read(&path, MAX_NOTE) {
        Ok(file) => serde_json::from_slice::<Note>(&file.bytes)
            .map_err(|error| source::ReadError::Io(io::Error::new(ErrorKind::InvalidData, error))),
        Err(source::ReadError::Missing) => return Ok(None),
        Err(error) => Err(error),
    };
    read.map(|note| Some(note.history_in)).map_err(|source| MoveError::Read { path, source })
}

/// Takes up what goes on in another folder, at a start on a folder with a note: afterwards this one is whole, and the other has the
/// note. Blocks for as long as the disks take.
///
/// # Errors
/// If the other folder is held, or something fails: then nothing may begin here that the other folder knows more about.
pub fn take_up(data_dir: &DataDir) -> Result<Taken, MoveError> {
    let to = data_dir.path();
    let Some(from) = goes_on_in(to)? else { return Ok(Taken::Nothing) };
    if is_same(&from, to) || Trail::is_empty(&from)? {
        // Somebody has taken it away: what is here is all that there is.
        return Ok(Taken::Nothing);
    }
    let _other = DataDir::open(&from)?;
    match relation(&from, to)? {
        Relation::Nothing | Relation::Earlier => copy(&from, to, || true)?,
        Relation::Later => {}
        Relation::Another => {
            atomic::remove(&to.join(NOTE))?;
            return Ok(Taken::Apart(from));
        }
    }
    Settling { from: from.clone(), to: to.into() }.settle()?;
    Ok(Taken::From(from))
}

fn write_note(data_dir: &Path, history_in: &Path) -> Result<(), WriteError> {
    let path = data_dir.join(NOTE);
    let failed = |source| WriteError { path: path.clone(), action: Action::Write, source };
    fault::io("move::note").map_err(failed)?;
    let note = Note { history_in: history_in.into() };
    // Fails for a path that is no text, and such a folder cannot be named in `conf.yaml`.
    let text = serde_json::to_vec(&note).map_err(|error| failed(error.into()))?;
    atomic::write(&path, &text, Mode::OwnerOnly)?;
    fault::io("move::noted").map_err(failed)
}

#[cfg(test)]
mod tests;
