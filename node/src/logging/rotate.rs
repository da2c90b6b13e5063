//! A log file that is rotated by its size and can be reopened after somebody has moved it away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use reload::fault;
use rustix::fs::{Access, OFlags};

use super::desk::Note;
use super::writer::Output;

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

/// The file, in the hands of the one thread that writes to it: everything here may block for as long as the disk does.
#[derive(Debug)]
pub(super) struct RotatingFile {
    path: PathBuf,
    open: Open,
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

// === impl RotatingFile ===

impl RotatingFile {
    /// Opens the file for appending (0640 if it is new).
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fault::io("log::open")?;
        let (file, is_fresh) = match append_to(path, true) {
            Ok(file) => (file, true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => (append_to(path, false)?, false),
            Err(error) => return Err(error),
        };
        Ok(Self { path: path.into(), open: Open { is_fresh, ..Open::new(file)? } })
    }

    /// Whether it was created here and never written to: let go, it is removed, and a reload that is rolled back leaves nothing.
    pub(super) fn is_fresh(&self) -> bool {
        self.open.is_fresh
    }

    /// Lets it go.
    pub(super) fn close(self) {
        if self.open.is_fresh && Id::of(&self.path) == Some(self.open.id) {
            // If it cannot be removed, it is an empty file.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Opens the path again if it is another file by now, or none: after a tool has moved ours away.
    pub(super) fn reopen(&mut self) -> io::Result<bool> {
        if Id::of(&self.path) == Some(self.open.id) {
            return Ok(false);
        }
        fault::io("log::reopen")?;
        let next = Open::new(append_to(&self.path, false)?)?;
        let is_moved = next.id != self.open.id;
        if is_moved {
            self.open = Open { lost: self.open.lost, ..next };
        }
        Ok(is_moved)
    }

    /// Whether the file may be written. One that is missing was moved away, and lines go where it went.
    pub(super) fn probe(&self) -> io::Result<()> {
        fault::io("log::probe")?;
        match rustix::fs::access(&self.path, Access::WRITE_OK) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The file as it is now, for [`sync()`].
    pub(super) fn to_sync(&self) -> io::Result<File> {
        self.open.file.try_clone()
    }

    fn rotate(&mut self, more: u64, limits: Limits) -> io::Result<()> {
        fault::io("log::rotate")?;
        let lost = self.open.lost;
        if Id::of(&self.path) != Some(self.open.id) {
            // Somebody has moved it away and not yet told us: what stands there now is not ours to put aside.
            self.open = Open { lost, ..Open::new(append_to(&self.path, false)?)? };
            return Ok(());
        }
        self.open.len = self.open.file.metadata()?.len();
        if self.open.len.saturating_add(more) <= limits.max_size {
            // Somebody has cut it off.
            return Ok(());
        }
        if limits.max_backups == 0 {
            self.open.file.set_len(0)?;
            (self.open.len, self.open.retry_at) = (0, 0);
            return Ok(());
        }
        // The next file first: while it cannot be made, lines go on into this one under its own name.
        let waiting = self.beside("next");
        let next = Open::new(append_to(&waiting, false)?)?;
        self.shift(limits.max_backups)?;
        fs::rename(&self.path, numbered(&self.path, 1))?;
        fault::io("log::rotated")?;
        fs::rename(&waiting, &self.path)?;
        self.open = Open { lost, ..next };
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

impl Output for RotatingFile {
    fn write(&mut self, line: &[u8], limits: Limits) -> (bool, Option<Note>) {
        let mut note = None;
        let after = self.open.len.saturating_add(line.len() as u64);
        if self.open.len > 0
            && after > limits.max_size
            && self.open.len >= self.open.retry_at
            && let Err(error) = self.rotate(line.len() as u64, limits)
        {
            self.open.retry_at = self.open.len.saturating_add(RETRY);
            note = Some(Note::NotRotated(error));
        }
        match fault::io("log::write").and_then(|()| write_whole(&self.open.file, line)) {
            Ok(()) => {
                self.open.len = self.open.len.saturating_add(line.len() as u64);
                self.open.is_fresh = false;
                let lost = std::mem::take(&mut self.open.lost);
                (true, if lost > 0 { Some(Note::Recovered(lost)) } else { note })
            }
            Err(error) => {
                self.open.lost = self.open.lost.saturating_add(1);
                (false, if self.open.lost == 1 { Some(Note::Failing(error)) } else { note })
            }
        }
    }

    fn owe(&mut self, lost: u64) {
        self.open.lost = self.open.lost.saturating_add(lost);
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

/// Makes the lines of a file durable. Takes as long as the disk does.
pub(super) fn sync(file: &File) -> io::Result<()> {
    fault::io("log::sync")?;
    file.sync_data()
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
