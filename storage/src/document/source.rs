//! Bytes of a configuration file: read with a bound, and never from what is no file.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use reload::{Class, Problem, fault};
use rustix::fs::OFlags;
use rustix::io::Errno;

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
            Self::Io(error) if is(error, Errno::MFILE) => {
                "raise the limit of open files (LimitNOFILE=, ulimit -n), or lower network.limits.connections"
            }
            Self::Io(error) if is(error, Errno::NFILE) => {
                "all files that this machine may have open are: raise fs.file-max, or stop what holds them"
            }
            Self::Io(_) => "see whether the disk and the path are well",
        };
        Problem::new(self.class(), self.to_string()).file(file).hint(hint)
    }

    /// Whose fault it is: the file's, or the machine's, where another try may help (R15).
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Io(error) if reload::error::may_pass(error) => Class::System,
            _ => Class::Validation,
        }
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

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// If there is no such file, or it is refused before a byte of it is read.
pub fn read(path: &Path, limit: u64) -> Result<FileBytes, ReadError> {
    let (file, metadata) = open(path, limit)?;
    let bytes = read_bounded(file, Vec::new(), metadata.len(), limit)?;
    Ok(FileBytes { bytes, metadata })
}

/// Reads a regular file of at most `limit` bytes; one that still holds what it held is not kept a second time. Every byte is
/// compared: times and inode numbers can be the same for two contents.
///
/// # Errors
/// As [`read`].
pub fn read_again(path: &Path, limit: u64, before: &Arc<[u8]>) -> Result<Arc<[u8]>, ReadError> {
    // Fits into the processor's cache beside what it is compared with.
    const PIECE: usize = 64 << 10;
    let (mut file, metadata) = open(path, limit)?;
    let mut same = 0;
    let mut piece = vec![0; PIECE.min(before.len().saturating_add(1))];
    loop {
        let read = match file.read(&mut piece) {
            Ok(0) if same == before.len() => return Ok(Arc::clone(before)),
            Ok(read) => piece.get(..read).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        if !read.is_empty() && before.get(same..).is_some_and(|rest| rest.starts_with(read)) {
            same += read.len();
            continue;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
        bytes.extend_from_slice(before.get(..same).unwrap_or_default());
        bytes.extend_from_slice(read);
        return read_bounded(file, bytes, metadata.len(), limit).map(Into::into);
    }
}

/// Opens a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`read`].
pub(crate) fn open(path: &Path, limit: u64) -> Result<(File, Metadata), ReadError> {
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
    Ok((file, metadata))
}

/// Reads what is left after `bytes`. The size may have grown since it was asked for, so the reading itself is bounded too.
fn read_bounded(file: File, mut bytes: Vec<u8>, size: u64, limit: u64) -> Result<Vec<u8>, ReadError> {
    bytes.reserve_exact(usize::try_from(size).unwrap_or(0).saturating_sub(bytes.len()));
    let left = (limit + 1).saturating_sub(bytes.len() as u64);
    file.take(left).read_to_end(&mut bytes)?;
    let read = bytes.len() as u64;
    if read > limit { Err(ReadError::TooLarge { size: read, limit }) } else { Ok(bytes) }
}

/// The bytes as text, without a byte order mark.
pub(crate) fn text<'t>(file: &str, bytes: &'t [u8]) -> Result<&'t str, Box<Problem>> {
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
    // `contains` is many times faster than the search for the place, which is needed once in a life.
    if bytes.contains(&0)
        && let Some(at) = bytes.iter().position(|byte| *byte == 0)
    {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_descriptor_left_is_not_sent_to_look_at_the_disk() {
        for (errno, remedy) in [
            (Errno::MFILE, "LimitNOFILE="),
            (Errno::NFILE, "fs.file-max"),
            (Errno::ACCESS, "chmod"),
            (Errno::IO, "the disk"),
        ] {
            let problem = ReadError::from(io::Error::from(errno)).problem("conf.yaml");
            assert!(problem.hint.as_ref().is_some_and(|hint| hint.contains(remedy)), "{problem}");
        }
    }

    #[test]
    fn what_is_read_again_is_the_same_or_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let old: Arc<[u8]> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let changed = |at: usize| {
            let mut new = old.to_vec();
            new[at] ^= 1;
            new
        };
        let longer = [&old[..], b"x"].concat();
        for new in [
            changed(0),
            changed(65_535),
            changed(65_536),
            changed(199_999),
            longer,
            old[..199_999].to_vec(),
            old[..65_536].to_vec(),
            Vec::new(),
        ] {
            std::fs::write(&path, &new).unwrap();
            assert_eq!(&*read_again(&path, 1 << 20, &old).unwrap(), &*new);
            let before: Arc<[u8]> = new.into();
            assert!(Arc::ptr_eq(&read_again(&path, 1 << 20, &before).unwrap(), &before));
        }
        std::fs::write(&path, &old).unwrap();
        assert!(matches!(read_again(&path, 100_000, &old), Err(ReadError::TooLarge { .. })));
        assert!(matches!(read_again(folder.path(), 1, &old), Err(ReadError::NotAFile)));
        assert!(matches!(read_again(&path.join("x"), 1, &old), Err(ReadError::Io(_) | ReadError::Missing)));
    }
}
