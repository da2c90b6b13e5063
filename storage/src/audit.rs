//! The audit log: one line of JSON for every attempt to change the configuration (R20).
//!
//! A line is complete with its newline, and is written with it in one call. A crash can tear the last line only; that is
//! mended at the next start. Nobody reads the log on the hot path.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use reload::fault;
use serde::Serialize;
use serde_json::Value;

use crate::{atomic, regular};

/// The size at which a file is put aside, in bytes (contract: "Order of sight").
pub const ROTATE_AT: u64 = 10 << 20;

/// How many files are put aside, as `audit.jsonl.1` (the newest) to `audit.jsonl.5`.
pub const BACKUPS: u32 = 5;

/// The longest line that is written, in bytes: an outcome that names 10,000 members has about 3 MiB.
pub const MAX_LINE: usize = 8 << 20;

/// How much [`AuditLog::tail`] reads at most, in bytes.
const MAX_TAIL: u64 = 16 << 20;

/// No file of the log is larger, in bytes: one that had room for another line, and that line.
const MAX_FILE: u64 = ROTATE_AT + MAX_LINE as u64;

/// What is read at a time, going backwards.
const CHUNK: u64 = 64 << 10;

/// The log. One owner; methods block for file operations.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    file: File,
    len: u64,
    /// [`ROTATE_AT`], less in tests.
    rotate_at: u64,
}

/// Why a line was not written, or the log not opened. The log holds whole lines in either case.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file system refused.
    #[error("{}: {source}{}", path.display(), atomic::hint(source).map(|hint| format!(" ({hint})")).unwrap_or_default())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The value is no JSON.
    #[error("an audit line cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
    /// The line is too long.
    #[error("an audit line has {0} bytes; at most {MAX_LINE} are written")]
    TooLong(usize),
}

// === impl AuditLog ===

impl AuditLog {
    /// Opens the log (0600) and mends it: a last line that is whole but for its newline gets one, any other is cut off. A
    /// line that was completed is never touched.
    ///
    /// # Errors
    /// If the file cannot be opened, read or mended.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let opened = (|| {
            fault::io("audit::open")?;
            let is_new = !path.try_exists()?;
            let mut file = open_file(path)?;
            if is_new {
                atomic::sync_folder(atomic::folder_of(path))?;
            }
            let len = mend(&mut file)?;
            Ok(Self { path: path.into(), file, len, rotate_at: ROTATE_AT })
        })();
        opened.map_err(|source| AuditError::Io { path: path.into(), source })
    }

    /// Appends one line. It can be read when this returns; it survives a power cut after [`AuditLog::sync`].
    ///
    /// # Errors
    /// If the value is no JSON, the line is too long or the disk refuses; then nothing was appended.
    pub fn append(&mut self, entry: &impl Serialize) -> Result<(), AuditError> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        if line.len() > MAX_LINE {
            return Err(AuditError::TooLong(line.len()));
        }
        let len = line.len() as u64;
        if self.len > 0 && self.len.saturating_add(len) > self.rotate_at {
            self.rotate().map_err(|source| AuditError::Io { path: self.path.clone(), source })?;
        }
        let written = fault::io("audit::append").and_then(|()| self.file.write_all(&line));
        match written.and_then(|()| fault::io("audit::appended")) {
            Ok(()) => {
                self.len = self.len.saturating_add(len);
                Ok(())
            }
            Err(source) => {
                // A full disk takes a part of a line. If even cutting fails, the next start mends it.
                let _ = self.file.set_len(self.len);
                Err(AuditError::Io { path: self.path.clone(), source })
            }
        }
    }

    /// Whether the file that is written to is still the one of this name: nobody has moved it away.
    ///
    /// # Errors
    /// If that cannot be seen.
    pub fn is_in_place(&self) -> io::Result<bool> {
        regular::is_named(&self.file, &self.path)
    }

    /// Makes all lines durable. Blocks for an fdatasync: off the hot path.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn sync(&self) -> Result<(), AuditError> {
        let synced = fault::io("audit::sync").and_then(|()| self.file.sync_data());
        synced.map_err(|source| AuditError::Io { path: self.path.clone(), source })
    }

    /// The last `limit` lines, oldest first, from files put aside too; fewer where they have more than 16 MiB. What is no
    /// JSON is left out.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn tail(&self, limit: usize) -> Result<Vec<Value>, AuditError> {
        tail(&self.path, limit)
    }

    fn rotate(&mut self) -> io::Result<()> {
        fault::io("audit::rotate")?;
        // Files move up only as far as the first number that is free: one of them is, if a rotation was cut short, and nothing is
        // put aside twice.
        let free = (0..BACKUPS).find(|&number| !numbered(&self.path, number).exists()).unwrap_or(BACKUPS);
        for number in (0..free).rev() {
            fs::rename(numbered(&self.path, number), numbered(&self.path, number.saturating_add(1)))?;
        }
        fault::io("audit::rotated")?;
        self.file = open_file(&self.path)?;
        self.len = self.file.metadata()?.len();
        atomic::sync_folder(atomic::folder_of(&self.path))
    }
}

/// [`AuditLog::tail`] of a log that is not opened: nothing is mended, and nothing made.
pub(crate) fn tail(path: &Path, limit: usize) -> Result<Vec<Value>, AuditError> {
    let mut entries = VecDeque::new();
    let mut left = MAX_TAIL;
    for path in names(path) {
        let wanted = limit.saturating_sub(entries.len());
        let opened = fault::io("audit::read").and_then(|()| regular::read(&path));
        let text = match opened.and_then(|mut file| last_lines(&mut file, wanted, left)) {
            Ok(text) => text,
            // A rotation that a kill cut short leaves a number free.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(source) => return Err(AuditError::Io { path, source }),
        };
        left = left.saturating_sub(text.len() as u64);
        let lines = text.split(|&byte| byte == b'\n').rev();
        for entry in lines.filter_map(|line| serde_json::from_slice(line).ok()).take(wanted) {
            entries.push_front(entry);
        }
        if entries.len() >= limit || left == 0 {
            break;
        }
    }
    Ok(entries.into())
}

/// Whether some line says this id. Nothing is parsed, so that it takes little time also where the log is large.
pub(crate) fn mentions(path: &Path, id: &str) -> Result<bool, AuditError> {
    let needle = format!("\"id\":{}", Value::from(id));
    for path in names(path) {
        let read = regular::read(&path).and_then(|file| {
            let mut text = Vec::new();
            file.take(MAX_FILE).read_to_end(&mut text)?;
            Ok(text)
        });
        match read {
            Ok(text) if String::from_utf8_lossy(&text).contains(&needle) => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(AuditError::Io { path, source }),
        }
    }
    Ok(false)
}

/// The log's files, newest first, whether or not they are there.
pub(crate) fn names(path: &Path) -> impl Iterator<Item = PathBuf> {
    (0..=BACKUPS).map(|number| numbered(path, number))
}

fn open_file(path: &Path) -> io::Result<File> {
    regular::open(path, OpenOptions::new().read(true).append(true).create(true).mode(0o600))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.into();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Mends the last line, and returns the file's length.
fn mend(file: &mut File) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let last = last_lines(file, 1, MAX_LINE as u64)?;
    if len == 0 || last.ends_with(b"\n") {
        return Ok(len);
    }
    if serde_json::from_slice::<serde_json::Map<String, Value>>(&last).is_ok() {
        file.write_all(b"\n")?;
        file.sync_data()?;
        return Ok(len.saturating_add(1));
    }
    // Longer than any line that we write: not a torn one. It is ended, not cut, so that nothing unknown is lost.
    if last.len() as u64 >= MAX_LINE as u64 {
        file.write_all(b"\n")?;
        return Ok(len.saturating_add(1));
    }
    let whole = len.saturating_sub(last.len() as u64);
    file.set_len(whole)?;
    file.sync_data()?;
    Ok(whole)
}

/// The last `lines` lines of a file, beginning with a whole one where the file has so many within `most` bytes.
fn last_lines(file: &mut File, lines: usize, most: u64) -> io::Result<Vec<u8>> {
    let len = file.seek(SeekFrom::End(0))?;
    let mut from = len;
    let mut chunks = VecDeque::new();
    let mut newlines = 0_usize;
    let floor = len.saturating_sub(most);
    // One newline more than lines: the one that ends the line before.
    while from > floor && newlines <= lines {
        let start = from.saturating_sub(CHUNK).max(floor);
        let mut chunk = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        (&mut *file).take(from.saturating_sub(start)).read_to_end(&mut chunk)?;
        newlines = newlines.saturating_add(chunk.iter().filter(|&&byte| byte == b'\n').count());
        chunks.push_front(chunk);
        from = start;
    }
    let text = Vec::from(chunks).concat();
    // An end without a newline is a line too.
    let ended = usize::from(text.last() == Some(&b'\n'));
    let mut ends = text.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
    let start = match ends.nth(lines.saturating_add(ended).saturating_sub(1)) {
        Some(end) => end.saturating_add(1),
        None => 0,
    };
    Ok(text.get(start..).unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt as _;

    fn ids(entries: &[Value]) -> Vec<u64> {
        entries.iter().map(|entry| entry["id"].as_u64().unwrap()).collect()
    }

    #[test]
    fn lines_are_read_back_in_order_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let mut log = AuditLog::open(&path).unwrap();
        assert_eq!(log.tail(3).unwrap(), [Value::Null; 0]);
        for id in 0..10 {
            log.append(&json!({"id": id, "note": "two\nlines"})).unwrap();
        }
        log.sync().unwrap();
        drop(log);
        let log = AuditLog::open(&path).unwrap();
        assert_eq!(ids(&log.tail(3).unwrap()), [7, 8, 9]);
        assert_eq!(log.tail(100).unwrap().len(), 10);
        assert_eq!(log.tail(0).unwrap().len(), 0);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 10);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_torn_last_line_is_mended_and_no_complete_one_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let long = format!("{{\"id\":2,\"note\":\"{}", "x".repeat(200_000));
        for (before, after) in [
            ("{\"id\":1}\n{\"id\":2", "{\"id\":1}\n"),
            ("{\"id\":1}\n{\"id\":2}", "{\"id\":1}\n{\"id\":2}\n"),
            ("{\"id\":1}\n", "{\"id\":1}\n"),
            ("{\"id", ""),
            ("not json, but complete\n{", "not json, but complete\n"),
            ("\n7", "\n"),
            (&format!("{{\"id\":1}}\n{long}"), "{\"id\":1}\n"),
        ] {
            fs::write(&path, before).unwrap();
            let mut log = AuditLog::open(&path).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), after);
            log.append(&json!({"id": 3})).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), format!("{after}{{\"id\":3}}\n"));
        }
    }

    #[test]
    fn a_full_file_is_put_aside_and_the_tail_reaches_into_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        let mut log = AuditLog::open(&path).unwrap();
        assert_eq!(log.rotate_at, 10 * 1024 * 1024, "the contract's");
        log.rotate_at = 100;
        for id in 0..25 {
            // Three lines fit into a file.
            log.append(&json!({"id": id, "note": "y".repeat(10)})).unwrap();
        }
        for number in 0..=BACKUPS {
            let bytes = fs::metadata(numbered(&path, number)).unwrap().len();
            assert!((1..=100).contains(&bytes), "{number}: {bytes}");
        }
        assert!(!numbered(&path, BACKUPS + 1).exists());
        assert_eq!(ids(&log.tail(4).unwrap()), [21, 22, 23, 24]);
        assert_eq!(ids(&log.tail(1000).unwrap()), (9..25).collect::<Vec<_>>(), "six files are kept");
    }

    #[test]
    fn what_is_too_long_is_refused_and_the_log_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = AuditLog::open(&dir.path().join("audit.jsonl")).unwrap();
        assert!(matches!(log.append(&"x".repeat(MAX_LINE)), Err(AuditError::TooLong(_))));
        log.append(&json!({"id": 1})).unwrap();
        assert_eq!(ids(&log.tail(9).unwrap()), [1]);
    }

    #[test]
    fn any_bytes_can_be_opened_and_read() {
        use proptest::prelude::*;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        proptest!(|(bytes in proptest::collection::vec(any::<u8>(), 0..300), limit in 0_usize..5)| {
            fs::write(&path, &bytes).unwrap();
            let mut log = AuditLog::open(&path).unwrap();
            let complete = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
            prop_assert!(fs::read(&path).unwrap().starts_with(&bytes[..complete]));
            log.append(&json!({"id": 1})).unwrap();
            let tail = log.tail(limit).unwrap();
            prop_assert!(tail.len() <= limit);
            prop_assert_eq!(tail.last().cloned(), (limit > 0).then(|| json!({"id": 1})));
        });
    }

    /// Runs itself again under a limit on the size of files, which takes a part of a line and refuses the rest, as a full
    /// disk does.
    #[test]
    fn a_full_disk_refuses_a_line_and_tears_none() {
        if let Some(dir) = std::env::var_os("FEDNODE_TEST_FULL_DISK") {
            let mut log = AuditLog::open(&Path::new(&dir).join("audit.jsonl")).unwrap();
            let refused =
                (0..200).filter(|id| log.append(&json!({"id": id, "note": "some text"})).is_err()).count();
            assert_eq!(log.tail(200).unwrap().len(), 200 - refused);
            fs::write(Path::new(&dir).join("refused"), refused.to_string()).unwrap();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let child = std::process::Command::new("sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 5; exec \"$0\" --exact \"$1\""])
            .arg(std::env::current_exe().unwrap())
            .arg("audit::tests::a_full_disk_refuses_a_line_and_tears_none")
            .env("FEDNODE_TEST_FULL_DISK", dir.path())
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        let refused: usize = fs::read_to_string(dir.path().join("refused")).unwrap().parse().unwrap();
        let text = fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
        assert!(refused > 0 && text.ends_with('\n'));
        for line in text.lines() {
            serde_json::from_str::<Value>(line).unwrap();
        }
        // With room again, the log goes on where it stopped.
        let mut log = AuditLog::open(&dir.path().join("audit.jsonl")).unwrap();
        log.append(&json!({"id": 200})).unwrap();
        assert_eq!(log.tail(1000).unwrap().len(), 201 - refused);
    }
}
