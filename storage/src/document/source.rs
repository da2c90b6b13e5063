//! Bytes of a configuration file: read with a bound, and never from what is no file.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use reload::{Class, Problem, fault};
use rustix::fs::OFlags;

/// A file that was read whole.
#[derive(Debug)]
pub struct FileBytes {
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Owner, mode and times at the moment of reading.
    pub metadata: Metadata,
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is none.
    #[error("does not exist")]
    Missing,
    /// A folder, pipe, socket or device.
    #[error("is not a regular file")]
    NotAFile,
    /// Larger than the bound; nothing was read.
    #[error("is {size} bytes large; more than {limit} bytes ({} MiB) are not read", limit >> 20)]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The bound in bytes.
        limit: u64,
    },
    /// The system refused.
    #[error("cannot be read: {0}")]
    Io(io::Error),
}

// === impl ReadError ===

impl ReadError {
    /// The same as a problem of the file named, with its remedy.
    #[must_use]
    pub fn problem(&self, file: &str) -> Problem {
        let hint = match self {
            Self::Missing => "create it, or name another one",
            Self::NotAFile => "name a regular file",
            Self::TooLarge { .. } => "is it the right file?",
            Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "let the node's user read it: chown or chmod"
            }
            Self::Io(_) => "see whether the disk and the path are well",
        };
        Problem::new(Class::Validation, self.to_string()).file(file).hint(hint)
    }
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::IsADirectory => Self::NotAFile,
            _ => Self::Io(error),
        }
    }
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// If there is no such file, or it is refused before a byte of it is read.
pub fn read(path: &Path, limit: u64) -> Result<FileBytes, ReadError> {
    fault::io("file::read")?;
    // Without NONBLOCK the open of a pipe that nobody writes to would never return.
    let file =
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReadError::NotAFile);
    }
    let size = metadata.len();
    if size > limit {
        return Err(ReadError::TooLarge { size, limit });
    }
    let bytes = read_bounded(file, size, limit)?;
    Ok(FileBytes { bytes, metadata })
}

/// The size may have grown since it was asked for, so the reading itself is bounded too.
fn read_bounded(file: File, size: u64, limit: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(limit + 1).read_to_end(&mut bytes)?;
    let read = bytes.len() as u64;
    if read > limit { Err(ReadError::TooLarge { size: read, limit }) } else { Ok(bytes) }
}

/// The bytes as text, without a byte order mark.
pub(super) fn text<'t>(file: &str, bytes: &'t [u8]) -> Result<&'t str, Box<Problem>> {
    let problem = |message: String| Problem::new(Class::Validation, message).file(file);
    if bytes.len() as u64 > super::MAX_FILE {
        let error = ReadError::TooLarge { size: bytes.len() as u64, limit: super::MAX_FILE };
        return Err(Box::new(error.problem(file)));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Box::new(problem("is UTF-16, not UTF-8".into()).hint("save it as UTF-8")));
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(Box::new(empty(file)));
    }
    let placed = |at: usize, message: String| {
        let before = bytes.get(..at).unwrap_or_default();
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let mut problem = problem(message).hint("is it the right file? write plain UTF-8 text");
        problem.line = u32::try_from(line).ok();
        problem.column = u32::try_from(at - line_start + 1).ok();
        Box::new(problem)
    };
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(placed(at, format!("byte {at} is NUL, which is no text")));
    }
    std::str::from_utf8(bytes)
        .map_err(|error| placed(error.valid_up_to(), format!("byte {} is not UTF-8", error.valid_up_to())))
}

/// The problem of a file with nothing in it: more likely an accident than a wish (contract: an empty file is refused).
pub(super) fn empty(file: &str) -> Problem {
    Problem::new(Class::Validation, "is empty")
        .file(file)
        .hint("was it cut off while it was written? `fednode init` writes an example")
}
