//! A log file that is rotated by its size and can be reopened after somebody has moved it away.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use reload::fault;
use rustix::fs::{Access, OFlags};

use super::LogFileError;

/// Readable by the group, as logs are on most systems (`adm`); no secret is ever logged.
const MODE: u32 = 0o640;

/// After a rotation that failed, so many bytes are written before the next try.
const RETRY: u64 = 1 << 20;

/// Files beyond `max_backups` that one rotation removes at most, after the number was lowered.
const MAX_TRIM: u32 = 1000;

/// When a file is rotated; read anew for every line, because it changes without the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// No line makes the file larger than this, in bytes, unless it is alone in it.
    pub(super) max_size: u64,
    /// How many files are put aside, as `NAME.1` (the newest) to `NAME.max_backups`; with 0 the file begins anew.
    pub(super) max_backups: u32,
}

/// What somebody should hear of after a write, once.
#[derive(Debug)]
pub(super) enum Note {
    /// A line was lost, after one that was not.
    Failing(io::Error),
    /// Lines are written again, after so many were lost.
    Recovered(u64),
    /// The file could not be rotated and grows on.
    NotRotated(io::Error),
}

/// The files that are open, by path: whoever names the same path gets the same file, so that two settings never rotate
/// it against each other, and none removes what the other has just opened.
#[derive(Debug, Default)]
pub(super) struct Files(Mutex<BTreeMap<PathBuf, Weak<RotatingFile>>>);

/// The file. Lines of all threads go through its lock, so that each is whole. One that was created here and never
/// written to is removed when it is let go: a reload that is rolled back leaves nothing.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    files: Weak<Files>,
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    len: u64,
    id: Id,
    /// No rotation is tried below this length.
    retry_at: u64,
    /// Lines lost since the last one that was written.
    lost: u64,
    /// Created here, and not yet written to.
    is_fresh: bool,
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Id {
    device: u64,
    inode: u64,
}

// === impl Files ===

impl Files {
    /// Opens the file for appending (0640 if it is new), unless it is open already. Blocks.
    pub(super) fn open(self: &Arc<Self>, path: &Path) -> Result<Arc<RotatingFile>, LogFileError> {
        let at = |source| LogFileError { path: path.into(), source };
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = files.get(path).and_then(Weak::upgrade) {
            return Ok(file);
        }
        fault::io("log::open").map_err(at)?;
        let (file, is_fresh) = match append_to(path, true) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                (append_to(path, false).map_err(at)?, false)
            }
            Err(error) => return Err(at(error)),
        };
        let open = Mutex::new(Open { is_fresh, ..Open::new(file).map_err(at)? });
        let file = Arc::new(RotatingFile { path: path.into(), files: Arc::downgrade(self), open });
        files.retain(|_, file| file.strong_count() > 0);
        files.insert(path.into(), Arc::downgrade(&file));
        Ok(file)
    }
}

// === impl RotatingFile ===

impl RotatingFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one line, whole or not at all.
    pub(super) fn write(&self, line: &[u8], limits: Limits) -> (bool, Option<Note>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut note = None;
        let after = open.len.saturating_add(line.len() as u64);
        if open.len > 0
            && after > limits.max_size
            && open.len >= open.retry_at
            && let Err(error) = self.rotate(&mut open, line.len() as u64, limits)
        {
            open.retry_at = open.len.saturating_add(RETRY);
            note = Some(Note::NotRotated(error));
        }
        match fault::io("log::write").and_then(|()| write_whole(&open.file, line)) {
            Ok(()) => {
                open.len = open.len.saturating_add(line.len() as u64);
                open.is_fresh = false;
                let lost = std::mem::take(&mut open.lost);
                (true, if lost > 0 { Some(Note::Recovered(lost)) } else { note })
            }
            Err(error) => {
                open.lost = open.lost.saturating_add(1);
                (false, if open.lost == 1 { Some(Note::Failing(error)) } else { note })
            }
        }
    }

    /// So many lines that were lost could not be told of, because a short line had room and that one had not: they are told of when
    /// there is room again.
    pub(super) fn owe(&self, lost: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.lost = open.lost.saturating_add(lost);
    }

    /// Opens the path again if it is another file by now, or none: after a tool has moved ours away. Blocks.
    pub(super) fn reopen(&self) -> Result<bool, LogFileError> {
        let at = |source| LogFileError { path: self.path.clone(), source };
        if Id::of(&self.path) == Some(self.open.lock().unwrap_or_else(PoisonError::into_inner).id) {
            return Ok(false);
        }
        fault::io("log::reopen").map_err(at)?;
        // Opened outside of the lock: lines go on into the old file meanwhile.
        let next = Open::new(append_to(&self.path, false).map_err(at)?).map_err(at)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_moved = next.id != open.id;
        if is_moved {
            *open = Open { lost: open.lost, ..next };
        }
        Ok(is_moved)
    }

    /// Whether the file may be written. One that is missing was moved away, and lines go where it went. Blocks.
    pub(super) fn probe(&self) -> io::Result<()> {
        fault::io("log::probe")?;
        match rustix::fs::access(&self.path, Access::WRITE_OK) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes all lines durable. Blocks.
    pub(super) fn sync(&self) -> io::Result<()> {
        fault::io("log::sync")?;
        let file = self.open.lock().unwrap_or_else(PoisonError::into_inner).file.try_clone()?;
        file.sync_data()
    }

    fn rotate(&self, open: &mut Open, more: u64, limits: Limits) -> io::Result<()> {
        fault::io("log::rotate")?;
        let lost = open.lost;
        if Id::of(&self.path) != Some(open.id) {
            // Somebody has moved it away and not yet told us: what stands there now is not ours to put aside.
            *open = Open { lost, ..Open::new(append_to(&self.path, false)?)? };
            return Ok(());
        }
        open.len = open.file.metadata()?.len();
        if open.len.saturating_add(more) <= limits.max_size {
            // Somebody has cut it off.
            return Ok(());
        }
        if limits.max_backups == 0 {
            open.file.set_len(0)?;
            (open.len, open.retry_at) = (0, 0);
            return Ok(());
        }
        // The next file first: while it cannot be made, lines go on into this one under its own name.
        let waiting = self.beside("next");
        let next = Open::new(append_to(&waiting, false)?)?;
        self.shift(limits.max_backups)?;
        fs::rename(&self.path, numbered(&self.path, 1))?;
        fault::io("log::rotated")?;
        fs::rename(&waiting, &self.path)?;
        *open = Open { lost, ..next };
        self.trim(limits.max_backups);
        Ok(())
    }

    /// Frees `NAME.1`. Files move up only as far as the first number that is free; the last one makes room.
    fn shift(&self, max_backups: u32) -> io::Result<()> {
        let free = (1..max_backups).find(|&number| !numbered(&self.path, number).exists());
        for number in (1..free.unwrap_or(max_backups)).rev() {
            fs::rename(numbered(&self.path, number), numbered(&self.path, number.saturating_add(1)))?;
        }
        Ok(())
    }

    fn trim(&self, max_backups: u32) {
        for beyond in (1..=MAX_TRIM).map(|more| max_backups.saturating_add(more)) {
            if fs::remove_file(numbered(&self.path, beyond)).is_err() {
                // Usually: there is none. One that cannot be removed is tried again with the next rotation.
                return;
            }
        }
    }

    fn beside(&self, end: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.path.with_file_name(format!(".{name}.{end}"))
    }
}

impl Drop for RotatingFile {
    fn drop(&mut self) {
        let is_fresh = self.open.get_mut().unwrap_or_else(PoisonError::into_inner).is_fresh;
        let Some(files) = self.files.upgrade().filter(|_| is_fresh) else { return };
        // Never waited for: an empty file that stays harms nobody.
        let Ok(mut open) = files.0.try_lock() else { return };
        if open.get(&self.path).is_some_and(|file| std::ptr::eq(file.as_ptr(), self)) {
            open.remove(&self.path);
            // If it cannot be removed, it is an empty file.
            let _ = fs::remove_file(&self.path);
        }
    }
}

// === impl Open ===

impl Open {
    fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(
                ErrorKind::InvalidInput,
                "is no regular file; use logging.console_output for a stream",
            ));
        }
        let id = Id { device: metadata.dev(), inode: metadata.ino() };
        Ok(Self { len: metadata.len(), file, id, retry_at: 0, lost: 0, is_fresh: false })
    }
}

// === impl Id ===

impl Id {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// `NAME.number`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn append_to(path: &Path, must_be_new: bool) -> io::Result<File> {
    // Without it a FIFO would wait for its reader; a regular file does not notice it.
    let nonblock = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let mut options = OpenOptions::new();
    options.append(true).mode(MODE).custom_flags(nonblock);
    if must_be_new {
        options.create_new(true)
    } else {
        options.create(true)
    };
    options.open(path)
}

/// Writes the whole line in one call, as a rule. What a full disk took of it is cut off again.
fn write_whole(mut file: &File, line: &[u8]) -> io::Result<()> {
    let mut left = line;
    while !left.is_empty() {
        match file.write(left) {
            Ok(0) => return undo(file, line.len() - left.len(), ErrorKind::WriteZero.into()),
            Ok(written) => left = left.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return undo(file, line.len() - left.len(), error),
        }
    }
    Ok(())
}

fn undo(file: &File, written: usize, error: io::Error) -> io::Result<()> {
    if written > 0 {
        let len = file.metadata()?.len();
        file.set_len(len.saturating_sub(written as u64))?;
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_path_is_one_file_and_goes_with_its_last_holder_if_nobody_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.log");
        let files = Arc::new(Files::default());
        let given_up = files.open(&path).unwrap();
        let kept = files.open(&path).unwrap();
        assert!(Arc::ptr_eq(&given_up, &kept));
        drop(given_up);
        assert!(path.exists(), "a late rollback does not remove what its successor has opened");
        drop(kept);
        assert!(!path.exists());

        let written = files.open(&path).unwrap();
        assert!(written.write(b"line\n", Limits { max_size: 100, max_backups: 1 }).0);
        drop(written);
        drop(files.open(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"line\n");

        let empty = dir.path().join("empty.log");
        fs::write(&empty, "").unwrap();
        drop(files.open(&empty).unwrap());
        assert!(empty.exists(), "it was there before");
    }
}
