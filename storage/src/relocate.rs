//! The node's keeping in another data folder: a copy that does not count until it stands, whenever the node is killed.
//!
//! Which folder counts is told by the [`Signpost`] beside the configuration, and changes with one rename in [`Settling::settle`].
//! Before it the new folder is a copy that a start on the old one removes, and a start on the new one brings up to date; after it
//! the old one is an earlier copy. `data_dir/moved.json` (0600) is the second witness, in the folders themselves: it is the first
//! thing in the new folder and the last thing that goes, and one that points the other way stays in the old folder, so that whoever
//! starts a node there with an old `conf.yaml` goes on as well.
//!
//! Copied are the generations that are whole, the audit log with the files put aside, `standing.json` and `known.yaml` with its
//! backup. What never changes any more gets a second name instead of a copy where the file system can, so that a move takes
//! milliseconds. Lock, pid and socket are made anew. Nothing is ever taken out of the folder that is copied.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use reload::fault;

use crate::atomic::{self, Action, WriteError};
use crate::audit::{self, AuditError};
use crate::document::source;
use crate::generations::{self, Generations};
use crate::known_file::{BACKUP, KNOWN, MAX_KNOWN};
use crate::signpost::{Signpost, Whereabouts};
use crate::standing::STANDING;
use crate::{DataDir, DataDirError, lock};
use note::Note;
use trail::{Relation, Trail, is_same, relation};
use undo::{Made, Undo, remove_file};

mod clearing;
mod nesting;
mod note;
mod trail;
mod undo;

pub use clearing::{abandon, let_go};
pub use nesting::is_nested;

/// The note's name in the data folder.
pub const NOTE: &str = "moved.json";

/// The folder of the generations in the data folder.
pub const GENERATIONS: &str = "generations";
/// The audit log in the data folder.
pub const AUDIT: &str = "audit.jsonl";
/// Larger than any file of the history: a generation has 33 MiB at most, and an audit log no more than that.
const MAX_FILE: u64 = 64 << 20;

/// How many folders are looked into that say of each other where a history goes on.
const MAX_HOPS: usize = 16;

/// A folder that holds a whole copy of the history, under its lock, and does not count yet. Dropped, it is as it was before: what
/// was made there goes again. Where it held an earlier copy already, the copy stays brought up to date, with the note.
#[derive(Debug)]
pub struct Incoming {
    /// First, so that it is undone under the lock.
    undo: Undo,
    data_dir: DataDir,
    /// The folder that was copied.
    from: PathBuf,
    unsynced: Vec<PathBuf>,
}

/// A move that is to stand.
#[derive(Debug)]
pub struct Settling {
    from: PathBuf,
    to: PathBuf,
    /// What is there and may not survive a power cut yet: files and folders.
    unsynced: Vec<PathBuf>,
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
    /// One of the two is in the other: who removes the one that was left would remove both.
    #[error("{}: is in {}, the folder in use, or around it (name a folder that is neither)", .to.display(), .from.display())]
    Nested {
        /// The folder in use.
        from: PathBuf,
        /// The other one.
        to: PathBuf,
    },
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

// === impl Incoming ===

impl Incoming {
    /// Copies what `from` keeps to `to`. Nobody may write to `from` meanwhile. Blocks for as long as the disks take; `is_wanted` is
    /// asked before each file. A kill may come at any time; for a power cut the copy is made safe when it is to count.
    ///
    /// # Errors
    /// If the folder cannot be had, holds something else, or the disk refuses; what was made there is removed.
    pub fn copy(from: &Path, to: &Path, is_wanted: impl Fn() -> bool) -> Result<Self, MoveError> {
        if is_same(from, to) {
            return Err(MoveError::Same(to.into()));
        }
        if is_nested(from, to) {
            return Err(MoveError::Nested { from: from.into(), to: to.into() });
        }
        // Before the folder is touched: what is there afterwards cannot be told from what was there, and what is refused stays as
        // it is.
        let mut undo = Undo(if Trail::is_empty(to)? {
            Some(Made::nothing_yet(to))
        } else {
            lock::refuse_held(to)?;
            let is_new = Note::is_of_a_new_copy(to, from)?;
            refuse_other_history(from, to, is_new)?;
            is_new.then(|| Made::by_one_before(to))
        });
        let data_dir = DataDir::open(to).inspect_err(|error| {
            // The files of an instance that runs there are its own.
            if matches!(error, DataDirError::Held { .. }) {
                undo.0 = None;
            }
        })?;
        if let Some(made) = &mut undo.0 {
            made.is_locked = true;
        }
        let is_new = undo.0.is_some();
        let mut incoming = Self { undo, data_dir, from: from.into(), unsynced: Vec::new() };
        // Somebody may have come in between: what he made is his.
        refuse_other_history(from, to, is_new).inspect_err(|_| incoming.undo.0 = None)?;
        Note { history_in: from.into(), is_new }.write(to)?;
        incoming.unsynced = copy(from, to, is_wanted)?;
        Ok(incoming)
    }

    /// The folder, under its lock.
    #[must_use]
    pub const fn data_dir(&self) -> &DataDir {
        &self.data_dir
    }

    /// There is no way back any more: what this returns makes the move stand.
    #[must_use]
    pub fn keep(self) -> (DataDir, Settling) {
        let Self { mut undo, data_dir, from, unsynced } = self;
        undo.0 = None;
        let settling = Settling { from, to: data_dir.path().to_owned(), unsynced };
        (data_dir, settling)
    }
}

// === impl Settling ===

impl Settling {
    /// Makes the new folder count. May be repeated until it succeeds; the old folder may be one that cannot be written to any more.
    ///
    /// # Errors
    /// What the disk says. Until it succeeds, what the new folder holds beyond the old one tells that it counts.
    pub fn settle(&self, signpost: &Signpost) -> Result<(), WriteError> {
        fault::pass("move::settle");
        for path in &self.unsynced {
            let synced = File::open(path).and_then(|file| file.sync_all());
            synced.map_err(failed(path, Action::Write))?;
        }
        signpost.put(&Whereabouts { left: Some(self.from.clone()), ..Whereabouts::at(&self.to) })?;
        fault::pass("move::settled");
        // In this order: one of the two folders names the other at any instant.
        if let Err(error) = (Note { history_in: self.to.clone(), is_new: false }).write(&self.from) {
            tracing::warn!(%error, "the folder that was left does not say where the history goes on");
        }
        atomic::remove(&self.to.join(NOTE))?;
        // What was left still has its pid.
        fault::pass("move::ended");
        Ok(())
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

fn failed(path: &Path, action: Action) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError { path, action, source }
}

/// Refuses a folder whose history is no earlier copy of `from`. One that is cut short may hold nothing yet by which it can be known:
/// a new one is known by its note.
fn refuse_other_history(from: &Path, to: &Path, is_new: bool) -> Result<(), MoveError> {
    match relation(from, to)? {
        Relation::Nothing | Relation::Earlier => Ok(()),
        Relation::Another if is_new => Ok(()),
        Relation::Later => Err(MoveError::Later { from: from.into(), to: to.into() }),
        Relation::Another => Err(MoveError::Another(to.into())),
    }
}

/// Whether the node may go on in a folder that stands where its own was taken away: it holds nothing, or something of what this
/// node did, by the ids of its newest attempts.
///
/// # Errors
/// If it cannot be read.
pub fn may_go_on<'i>(folder: &Path, ids: impl IntoIterator<Item = &'i str>) -> Result<bool, MoveError> {
    if Trail::is_empty(folder)? {
        return Ok(true);
    }
    let audit = folder.join(AUDIT);
    for id in ids {
        if audit::mentions(&audit, id)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes `to` hold what `from` does, and returns what is not durable yet.
fn copy(from: &Path, to: &Path, is_wanted: impl Fn() -> bool) -> Result<Vec<PathBuf>, MoveError> {
    let folder = to.join(GENERATIONS);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(failed(&folder, Action::Create))?;
    let (store, _) = Generations::open(&from.join(GENERATIONS), usize::MAX)?;
    let audit = from.join(AUDIT);
    let mut logs = audit::names(&audit);
    // The one that is written to, and what is small.
    let living = logs.next().into_iter().chain([STANDING, KNOWN, BACKUP].map(|name| from.join(name)));
    let dead = store.files().into_iter().chain(logs);
    let all = dead.map(|path| (path, true)).chain(living.map(|path| (path, false)));
    let mut unsynced = Vec::new();
    for (path, never_changes) in all {
        if !is_wanted() {
            return Err(MoveError::GivenUp(to.into()));
        }
        let Ok(name) = path.strip_prefix(from) else { continue };
        let target = to.join(name);
        let file = match source::open(&path, MAX_FILE.max(MAX_KNOWN)) {
            Ok((file, _)) => file,
            // What stood in an earlier copy stands no more.
            Err(source::ReadError::Missing) => {
                remove_file(&target).map_err(failed(&target, Action::Remove))?;
                continue;
            }
            Err(source) => return Err(MoveError::Read { path, source }),
        };
        fault::io("move::copy").map_err(failed(&target, Action::Write))?;
        if never_changes && (is_same(&path, &target) || atomic::alias(&target, &path)?) {
            continue;
        }
        if !never_changes || !is_equal(&path, &target) {
            atomic::place(&target, &file)?;
        }
        unsynced.push(target);
    }
    unsynced.extend([folder, to.to_owned()]);
    fault::io("move::copied").map_err(failed(to, Action::Write))?;
    Ok(unsynced)
}

/// Whether two files hold the same.
fn is_equal(one: &Path, other: &Path) -> bool {
    let len = |path| fs::metadata(path).ok().map(|metadata| metadata.len());
    let bytes = |path| source::read(path, MAX_FILE).ok().map(|file| file.bytes);
    len(one) == len(other) && bytes(one).is_some_and(|one| Some(one) == bytes(other))
}

/// Takes up what goes on in another folder, at a start on a folder with a note: afterwards this one is whole, and the other has the
/// note. Blocks for as long as the disks take.
///
/// # Errors
/// If the other folder is held, or something fails: then nothing may begin here that the other folder knows more about.
pub fn take_up(data_dir: &DataDir, signpost: &Signpost) -> Result<Taken, MoveError> {
    let to = data_dir.path();
    let Some(from) = end_of_the_trail(to)? else { return Ok(Taken::Nothing) };
    let _other = DataDir::open(&from)?;
    let is_new = Note::is_of_a_new_copy(to, &from)?;
    let unsynced = match relation(&from, to)? {
        Relation::Nothing | Relation::Earlier => copy(&from, to, || true)?,
        Relation::Another if is_new => copy(&from, to, || true)?,
        Relation::Later => Vec::new(),
        Relation::Another => {
            atomic::remove(&to.join(NOTE))?;
            return Ok(Taken::Apart(from));
        }
    };
    Settling { from: from.clone(), to: to.into(), unsynced }.settle(signpost)?;
    Ok(Taken::From(from))
}

/// The folder that the notes lead to from this one, by way of others if need be; nothing where there is no note, or somebody has
/// taken away what it points to: what is here is then all that there is.
fn end_of_the_trail(to: &Path) -> Result<Option<PathBuf>, MoveError> {
    let mut end: Option<PathBuf> = None;
    for _ in 0..MAX_HOPS {
        let Some(Note { history_in: next, .. }) = Note::read(end.as_deref().unwrap_or(to))? else { break };
        // Two that point at each other: a move that was about to stand.
        if is_same(&next, to)
            || end.as_ref().is_some_and(|end| is_same(&next, end))
            || Trail::is_empty(&next)?
        {
            break;
        }
        end = Some(next);
    }
    Ok(end)
}

/// Where the history is that counts, at a start on a configuration that names the folder `said`, if that is not the one: what the
/// signpost tells, unless the history has gone on elsewhere since (what a move could not write down), or nothing is left of it.
///
/// # Errors
/// If a folder cannot be read, or if the one that counts cannot be had.
pub fn home(told: &Whereabouts, said: &Path) -> Result<Option<DataDir>, MoveError> {
    let mut home = &*told.data_dir;
    if Trail::is_empty(home)? {
        return Ok(None);
    }
    for other in told.moving_to.as_deref().into_iter().chain([said]) {
        if !is_same(home, other) && relation(home, other)? == Relation::Later {
            home = other;
        }
    }
    if is_same(home, said) { Ok(None) } else { Ok(Some(DataDir::open(home)?)) }
}

#[cfg(test)]
mod tests;
