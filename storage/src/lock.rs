//! The data folder of one running node: created, found writable, and held against a second instance.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use reload::fault;

use crate::atomic::{self, Mode, WriteError};

/// Locked for as long as a node runs on the folder.
pub(crate) const LOCK: &str = "fednode.lock";
/// The pid of the node that runs (contract: "Signals").
pub(crate) const PID: &str = "fednode.pid";

/// A data folder that this process holds. Dropping it removes the pid file; the lock itself is the kernel's and goes
/// with the process, however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    pid_error: Option<WriteError>,
    /// Held open: closing it gives the lock back.
    lock: File,
}

/// Why a node cannot run on a data folder.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It is not there and cannot be made.
    #[error("{}: cannot create the data folder: {source} (create it, or change node.data_dir)", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written to.
    #[error(
        "{}: the data folder is not writable: {source} (give it to the user that the node runs as, or change \
         node.data_dir)",
        path.display()
    )]
    NotWritable {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another instance runs on it.
    #[error(
        "{}: another instance{} holds the data folder (stop it, or change node.data_dir)",
        path.display(),
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Held {
        /// The folder.
        path: PathBuf,
        /// The other instance, if it has said so.
        pid: Option<u32>,
    },
    /// The file system cannot lock.
    #[error("{}: cannot lock the data folder: {source} (put node.data_dir on a local file system)", path.display())]
    Lock {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The pid file cannot be written.
    #[error(transparent)]
    Pid(#[from] WriteError),
}

// === impl DataDir ===

impl DataDir {
    /// Creates the folder (0700) where it is missing, takes its lock, removes leftovers and writes the pid. Blocks for a
    /// few file operations.
    ///
    /// # Errors
    /// If the folder cannot be made, written or locked, or another instance holds it.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        fault::io("data_dir::create")
            .and_then(|()| DirBuilder::new().recursive(true).mode(0o700).create(path))
            .map_err(|source| DataDirError::Create { path: path.into(), source })?;
        let not_writable = |source| DataDirError::NotWritable { path: path.into(), source };
        let lock = loop {
            let lock = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path.join(LOCK))
                .map_err(not_writable)?;
            fault::io("data_dir::lock").map_err(not_writable)?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(DataDirError::Held { path: path.into(), pid: read_pid(path) });
                }
                Err(TryLockError::Error(source)) => {
                    return Err(DataDirError::Lock { path: path.into(), source });
                }
            }
            // Whoever held it may have taken the file away between the two calls (a move that was rolled back): then this is the
            // lock of nothing.
            match is_named(&lock, path) {
                Ok(true) => break lock,
                Ok(false) => {}
                Err(source) => return Err(not_writable(source)),
            }
        };
        // The lock file may be writable in a folder that is not; the pid file is a new name, so it tells.
        atomic::sweep(path).map_err(not_writable)?;
        fault::pass("data_dir::pid");
        match atomic::write_soon(
            &path.join(PID),
            format!("{}\n", std::process::id()).as_bytes(),
            Mode::OwnerOnly,
        ) {
            Ok(()) => Ok(Self { path: path.into(), pid_error: None, lock }),
            Err(WriteError { source, .. })
                if matches!(source.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem) =>
            {
                Err(not_writable(source))
            }
            // A full disk is when a node is needed most. The lock is what counts; the pid is a convenience.
            Err(error)
                if matches!(error.source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) =>
            {
                Ok(Self { path: path.into(), pid_error: Some(error), lock })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Why there is no pid file: the disk is full.
    #[must_use]
    pub const fn pid_error(&self) -> Option<&WriteError> {
        self.pid_error.as_ref()
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the folder of this name is still the one that is locked: nobody has moved it away. Blocks for a file operation.
    ///
    /// # Errors
    /// If that cannot be seen.
    pub fn is_in_place(&self) -> io::Result<bool> {
        is_named(&self.lock, &self.path)
    }
}

/// Whether the folder's lock file is this one.
fn is_named(lock: &File, folder: &Path) -> io::Result<bool> {
    let (ours, named) = match fs::metadata(folder.join(LOCK)) {
        Ok(named) => (lock.metadata()?, named),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok((ours.dev(), ours.ino()) == (named.dev(), named.ino()))
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // Still under the lock, so it is our own; if it cannot be removed, the next start overwrites it.
        let _ = fs::remove_file(self.path.join(PID));
    }
}

/// The pid in the folder's pid file. The file may be stale: only the lock says whether a node runs.
#[must_use]
pub fn read_pid(data_dir: &Path) -> Option<u32> {
    let mut text = String::new();
    File::open(data_dir.join(PID)).ok()?.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// The process that runs on a folder, if one does. One that has not come so far as to write its pid counts as none: to look at
/// its lock could make it think that another instance holds it.
#[must_use]
pub fn holder(data_dir: &Path) -> Option<u32> {
    let pid = read_pid(data_dir)?;
    let raw = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw)?;
    if rustix::process::test_kill_process(raw) == Err(rustix::io::Errno::SRCH) {
        return None;
    }
    let lock = File::open(data_dir.join(LOCK)).ok()?;
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn a_held_folder_names_its_holder_and_is_free_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/data");
        let held = DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(read_pid(&path), Some(std::process::id()));

        let error = DataDir::open(&path).unwrap_err();
        assert!(matches!(&error, DataDirError::Held { pid: Some(pid), .. } if *pid == std::process::id()));
        assert!(error.to_string().contains(&format!("another instance (pid {})", std::process::id())));
        assert_eq!(read_pid(&path), Some(std::process::id()), "a refused start leaves the pid file alone");
        assert_eq!(holder(&path), Some(std::process::id()));

        drop(held);
        assert_eq!((read_pid(&path), holder(&path)), (None, None));
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_stale_pid_file_is_no_holder() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(PID), "1\n").unwrap();
        let _held = DataDir::open(dir.path()).unwrap();
        assert_eq!(read_pid(dir.path()), Some(std::process::id()));
    }

    #[test]
    fn a_folder_that_cannot_be_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let error = DataDir::open(&dir.path().join("file/data")).unwrap_err();
        assert!(matches!(error, DataDirError::Create { .. }) && error.to_string().contains("file/data"));
    }

    #[test]
    fn a_folder_that_is_not_writable_is_refused() {
        // Works for root too, whom permissions do not stop: nothing can be created under /proc.
        let dir = tempfile::tempdir().unwrap();
        symlink("/proc/self", dir.path().join("data")).unwrap();
        let error = DataDir::open(&dir.path().join("data")).unwrap_err();
        assert!(matches!(error, DataDirError::NotWritable { .. }), "{error}");
    }
}
