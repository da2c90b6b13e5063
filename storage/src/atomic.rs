//! Files that are there as a whole or not at all, also after a power cut.
//!
//! Temp file in the same folder, write, fsync, rename, fsync of the folder: after `Ok` the new contents survive a crash,
//! before it the old ones do. What a killed process leaves behind has a recognisable name and is removed by [`sweep`].

mod exchange;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use reload::fault;

pub use exchange::{Exchanged, Placed};

/// Symlinks that are followed before a chain counts as a loop; Linux itself stops at 40.
const MAX_LINKS: usize = 40;

/// Temp names that are tried; each is taken only by a leftover, and those are few.
const MAX_NAMES: usize = 64;

/// Who may read the file that is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 0600: everything that is a secret or holds one (N2).
    OwnerOnly,
    /// Mode and owner of the file that is replaced, or this mode for a new file: for files that belong to people.
    KeepOr(u32),
}

/// Why a file was not written. The contents before are still there, except after [`Action::SyncFolder`], where the new
/// ones are in place but may not survive a power cut.
#[derive(Debug, thiserror::Error)]
#[error("{}: cannot {action}: {source}{}", path.display(), Remedy(hint(source)))]
pub struct WriteError {
    /// The file or folder at which it failed.
    pub path: PathBuf,
    /// What was tried.
    pub action: Action,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// The steps of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Following the target's symlinks.
    Resolve,
    /// Making the temp file.
    Create,
    /// Writing the contents, with their fsync.
    Write,
    /// Moving the temp file to its name.
    Rename,
    /// Removing a file.
    Remove,
    /// Making the new name durable.
    SyncFolder,
}

struct Remedy(Option<&'static str>);

/// Contents that are on disk under a temporary name, and take their own with [`Staged::put_in_place`]. Dropped, they go.
pub struct Staged {
    temp: Temp,
    target: PathBuf,
}

/// Writes `contents` to `path`, atomically and durably. A symlink stays one: the file that it points to is replaced.
/// Blocks for the time of two fsyncs.
///
/// # Errors
/// With the path, the step and the remedy; no temp file is left.
pub fn write(path: &Path, contents: &[u8], mode: Mode) -> Result<(), WriteError> {
    stage(path, contents, mode)?.put_in_place()
}

/// Like [`write()`], but after a power cut the contents before may be there again, as a whole. Blocks for the time of one fsync.
///
/// # Errors
/// With the path, the step and the remedy; no temp file is left.
pub fn write_soon(path: &Path, contents: &[u8], mode: Mode) -> Result<(), WriteError> {
    stage(path, contents, mode)?.rename()
}

/// The first half of [`write()`]: what takes time and may fail for want of room. Blocks for the time of one fsync.
///
/// # Errors
/// With the path, the step and the remedy; no temp file is left.
pub fn stage(path: &Path, contents: &[u8], mode: Mode) -> Result<Staged, WriteError> {
    let target = follow(path).map_err(at(path, Action::Resolve))?;
    let old = match mode {
        Mode::OwnerOnly => None,
        Mode::KeepOr(_) => fs::metadata(&target).ok(),
    };
    let mode = match (mode, &old) {
        (Mode::OwnerOnly, _) => 0o600,
        (Mode::KeepOr(new), None) => new,
        (Mode::KeepOr(_), Some(old)) => old.permissions().mode() & 0o777,
    };
    let temp =
        Temp::create(folder_of(&target), target.file_name(), mode).map_err(at(&target, Action::Create))?;
    if let Some(old) = old {
        // A file that belongs to somebody stays theirs, as far as we may give files away: only root may.
        let _ = std::os::unix::fs::fchown(&temp.file, Some(old.uid()), Some(old.gid()));
    }
    temp.fill(contents).map_err(at(&target, Action::Write))?;
    Ok(Staged { temp, target })
}

/// Makes `path` hold what the file `from` does, whole at any instant, but not durable yet: for many files, which the caller makes
/// durable together.
pub(crate) fn place(path: &Path, from: &File) -> Result<(), WriteError> {
    let mut temp =
        Temp::create(folder_of(path), path.file_name(), 0o600).map_err(at(path, Action::Create))?;
    // In the kernel, where it can: on some file systems nothing is copied at all.
    io::copy(&mut &*from, &mut &temp.file).map_err(at(path, Action::Write))?;
    fs::rename(&temp.path, path).map_err(at(path, Action::Rename))?;
    temp.renamed = true;
    Ok(())
}

/// Makes `path` another name of the file `from`, whose contents must never change. False where the file system cannot.
pub(crate) fn alias(path: &Path, from: &Path) -> Result<bool, WriteError> {
    let Some(name) = path.file_name() else { return Ok(false) };
    let temp = folder_of(path).join(temp_name(name));
    // Whatever the reason (another file system, no such thing on this one, somebody else's file), a copy is as good.
    if fs::hard_link(from, &temp).is_err() {
        return Ok(false);
    }
    fs::rename(&temp, path).map_err(|source| {
        // If even this fails, the name tells the next `sweep` what it is.
        let _ = fs::remove_file(&temp);
        at(path, Action::Rename)(source)
    })?;
    Ok(true)
}

/// Like [`write()`], for a file that must not be there yet (also not as a symlink); says so with
/// [`ErrorKind::AlreadyExists`].
///
/// # Errors
/// With the path, the step and the remedy; no temp file is left.
pub fn create(path: &Path, contents: &[u8]) -> Result<(), WriteError> {
    let folder = folder_of(path);
    let temp = Temp::create(folder, path.file_name(), 0o600).map_err(at(path, Action::Create))?;
    temp.fill(contents).map_err(at(path, Action::Write))?;
    // A link fails where a rename would replace.
    fault::io("atomic::link")
        .and_then(|()| fs::hard_link(&temp.path, path))
        .map_err(at(path, Action::Rename))?;
    drop(temp);
    sync_folder(folder).map_err(at(folder, Action::SyncFolder))
}

/// Removes a file, durably. One that is not there is removed already.
///
/// # Errors
/// With the path, the step and the remedy.
pub fn remove(path: &Path) -> Result<(), WriteError> {
    match fault::io("atomic::remove").and_then(|()| fs::remove_file(path)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        removed => removed.map_err(at(path, Action::Remove))?,
    }
    let folder = folder_of(path);
    sync_folder(folder).map_err(at(folder, Action::SyncFolder))
}

/// Makes the names in a folder durable.
///
/// # Errors
/// What the system says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    fault::io("atomic::sync_folder")?;
    File::open(folder)?.sync_all()
}

/// Removes what killed processes have left in `folder`, and returns how many files that were. Temp files of processes
/// that live are kept.
///
/// # Errors
/// If the folder cannot be read or a leftover cannot be removed.
pub fn sweep(folder: &Path) -> io::Result<usize> {
    fault::io("atomic::sweep")?;
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !is_leftover(&entry.file_name()) || entry.file_type()?.is_dir() {
            continue;
        }
        match fs::remove_file(entry.path()) {
            Ok(()) => removed += 1,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(removed)
}

/// A name in the form `.NAME.tmp-PID-N` that no other process of this moment uses.
pub(crate) fn temp_name(name: &OsStr) -> OsString {
    let number = NUMBERS.first.saturating_add(NUMBERS.used.fetch_add(1, Ordering::Relaxed));
    let mut temp = OsString::from(".");
    temp.push(name);
    temp.push(format!(".tmp-{}-{number}", std::process::id()));
    temp
}

/// What to do about an error of the file system, where the kind tells.
pub(crate) fn hint(error: &io::Error) -> Option<&'static str> {
    Some(match error.kind() {
        ErrorKind::StorageFull => "make room on the file system",
        ErrorKind::QuotaExceeded => "raise the quota of the user that the node runs as",
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only: mount it writable or move the file",
        ErrorKind::PermissionDenied => "give the user that the node runs as write permission on the folder",
        ErrorKind::NotFound | ErrorKind::NotADirectory => "create the folder first",
        ErrorKind::IsADirectory => "a folder has this name: remove it or choose another name",
        ErrorKind::AlreadyExists => "it is there already and is never overwritten: move it away first",
        _ => return None,
    })
}

/// The numbers of this process's temp files. They start at the time of day, so that a leftover of a process with the
/// same pid (in a container every node is pid 1) is told from a file that this one is writing.
struct Numbers {
    first: u64,
    used: AtomicU64,
}

static NUMBERS: LazyLock<Numbers> = LazyLock::new(|| Numbers {
    first: SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| u64::try_from(since.as_nanos()).ok())
        .unwrap_or(0),
    used: AtomicU64::new(0),
});

fn is_leftover(name: &OsStr) -> bool {
    let Some((pid, number)) = temp_parts(name) else { return false };
    if pid == std::process::id() {
        return number < NUMBERS.first;
    }
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    // A process of another user answers with EPERM: it lives.
    pid.is_none_or(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

fn temp_parts(name: &OsStr) -> Option<(u32, u64)> {
    let name = name.to_string_lossy();
    let (_, numbers) = name.strip_prefix('.')?.rsplit_once(".tmp-")?;
    let (pid, number) = numbers.split_once('-')?;
    Some((pid.parse().ok()?, number.parse().ok()?))
}

/// Where a write of this path goes.
pub(crate) fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = folder_of(&path).join(next),
            // Not a link, or nothing there yet.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// The folder that a path stands in; `.` for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().as_bytes().is_empty()).unwrap_or(Path::new("."))
}

fn at(path: &Path, action: Action) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_path_buf();
    move |source| WriteError { path, action, source }
}

// === impl Staged ===

impl Staged {
    /// The second half of [`write()`]. Blocks for the time of one fsync.
    ///
    /// # Errors
    /// With the path, the step and the remedy; no temp file is left.
    pub fn put_in_place(self) -> Result<(), WriteError> {
        let folder = folder_of(&self.target).to_owned();
        self.rename()?;
        sync_folder(&folder).map_err(at(&folder, Action::SyncFolder))
    }

    fn rename(mut self) -> Result<(), WriteError> {
        fault::io("atomic::rename")
            .and_then(|()| fs::rename(&self.temp.path, &self.target))
            .map_err(at(&self.target, Action::Rename))?;
        self.temp.renamed = true;
        Ok(())
    }
}

impl fmt::Debug for Staged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staged").field("target", &self.target).finish_non_exhaustive()
    }
}

/// A file under its temporary name, which is removed unless the file was given another.
struct Temp {
    file: File,
    path: PathBuf,
    renamed: bool,
}

// === impl Temp ===

impl Temp {
    fn create(folder: &Path, name: Option<&OsStr>, mode: u32) -> io::Result<Self> {
        fault::io("atomic::create")?;
        let name = name.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "the path names no file"))?;
        for _ in 0..MAX_NAMES {
            let path = folder.join(temp_name(name));
            match OpenOptions::new().write(true).create_new(true).mode(mode & 0o700).open(&path) {
                Ok(file) => {
                    let temp = Self { file, path, renamed: false };
                    // Exactly this mode, whatever the umask; opened narrower, so that it is never wider.
                    temp.file.set_permissions(Permissions::from_mode(mode))?;
                    return Ok(temp);
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("every temporary name is taken"))
    }

    fn fill(&self, contents: &[u8]) -> io::Result<()> {
        fault::io("atomic::write")?;
        (&self.file).write_all(contents)?;
        fault::io("atomic::sync")?;
        self.file.sync_all()
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.renamed {
            // If even this fails, the name tells the next `sweep` what it is.
            let _ = fs::remove_file(&self.path);
        }
    }
}

// === impl Action ===

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "follow its symlinks",
            Self::Create => "create a temporary file beside it",
            Self::Write => "write it",
            Self::Rename => "put it in place",
            Self::Remove => "remove it",
            Self::SyncFolder => "make the folder durable",
        })
    }
}

// === impl Remedy ===

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |hint| write!(f, " ({hint})"))
    }
}

#[cfg(test)]
mod tests;
