//! One writer at a time: the lock on the folder of `peers.yaml`, who holds it, and files that are not to be written to at all.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use reload::fault;

use super::rewrite::RewriteError;
use crate::document::ReadError;
use crate::{atomic, mounted};

/// How long another writer is waited for. Each needs some milliseconds; one that needs a reload, its budget.
pub const TURN_WITHIN: Duration = Duration::from_secs(40);

/// Between two looks whether the turn has come. The kernel has no lock with a time limit.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// This process's turn to write the file. Over when it is dropped, however the process ends.
#[derive(Debug)]
pub struct Turn {
    pub(super) path: PathBuf,
    /// How many members run by the file.
    pub(super) running: usize,
    /// The folder, locked: the file itself is another one after every write.
    _folder: File,
}

// === impl Turn ===

impl Turn {
    /// Waits until no other process writes the file at `path`, at most [`TURN_WITHIN`], and clears up what a killed one has left
    /// beside it. Blocks.
    ///
    /// # Errors
    /// If another one goes on, the folder is not there, or the file is not to be written to.
    pub fn wait(path: &Path) -> Result<Self, RewriteError> {
        let failed = |source| RewriteError::Lock { path: path.to_owned(), source };
        // Where a symlink leads, the write goes; so that is what is locked.
        let target = atomic::follow(path).map_err(failed)?;
        if mounted::is_swapped(path, &target) {
            return Err(RewriteError::Mounted(path.to_owned()));
        }
        fault::io("peers_file::lock").map_err(failed)?;
        let folder = File::open(atomic::folder_of(&target)).map_err(failed)?;
        let within = fault::patience(TURN_WITHIN);
        let until = Instant::now() + within;
        loop {
            match folder.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(LOOK_AGAIN),
                Err(TryLockError::WouldBlock) => {
                    let holder = holder(&folder);
                    return Err(RewriteError::Busy { path: path.to_owned(), within, holder });
                }
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        // What cannot be cleared up now is no reason not to write.
        let _ = atomic::sweep(atomic::folder_of(&target));
        Ok(Self { path: path.to_owned(), running: 0, _folder: folder })
    }

    /// So many members run by the file: if it is gone, it is not written anew without them.
    #[must_use]
    pub fn of_running(self, members: usize) -> Self {
        Self { running: members, ..self }
    }
}

/// The process that has locked this file, as the kernel tells (proc(5), `/proc/locks`): its id, and what it is called.
fn holder(file: &File) -> Option<String> {
    let metadata = file.metadata().ok()?;
    let device = metadata.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let place = format!("{major:02x}:{minor:02x}:{}", metadata.ino());
    let locks = fs::read_to_string("/proc/locks").ok()?;
    let pid = holder_in(&locks, &place)?;
    Some(match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("pid {pid}, {}", name.trim()),
        // A lock is its open file's, which a child may have inherited.
        Err(_) => format!("a child of pid {pid}, which has ended"),
    })
}

/// As `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`. Whoever waits has an arrow in his line; one of another pid namespace is 0.
fn holder_in(locks: &str, place: &str) -> Option<u32> {
    locks.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, "FLOCK", _, _, pid, at, ..] if at == place => pid.parse().ok().filter(|pid| *pid > 0),
        _ => None,
    })
}

/// Shown in [`RewriteError::Busy`].
pub(super) fn shown(holder: Option<&str>) -> String {
    holder.map_or("a `fednode peers` that hangs?".to_owned(), ToOwned::to_owned)
}

/// Shown in [`RewriteError::Lock`].
pub(super) fn remedy(error: &io::Error) -> String {
    atomic::hint(error).map(|hint| format!(" ({hint})")).unwrap_or_default()
}

/// Shown in [`RewriteError::Read`].
pub(super) fn read_remedy(error: &ReadError) -> String {
    error.problem("").hint.map(|hint| format!(" ({hint})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.yaml");
        let turn = Turn::wait(&path).unwrap();
        let other = File::open(folder.path()).unwrap();
        let told = holder(&other).unwrap();
        assert!(told.starts_with(&format!("pid {},", std::process::id())), "{told}");
        drop(turn);
        assert_eq!(holder(&other), None);
    }

    #[test]
    fn only_whoever_holds_it_is_named() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 08:01:1234 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 0 08:01:1234 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 8 08:01:1234 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 9 08:01:1235 0 EOF\n\n";
        assert_eq!(holder_in(locks, "08:01:1234"), None);
        assert_eq!(holder_in(locks, "08:01:1235"), Some(9));
    }

    #[test]
    fn what_a_kubelet_swaps_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let (data, path) = (folder.path().join("..2024_1"), folder.path().join("peers.yaml"));
        fs::create_dir(&data).unwrap();
        fs::write(data.join("peers.yaml"), "peers: []\n").unwrap();
        std::os::unix::fs::symlink("..2024_1", folder.path().join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/peers.yaml", &path).unwrap();
        let error = Turn::wait(&path).unwrap_err().to_string();
        assert!(error.contains("ConfigMap") && error.contains("peers.file"), "{error}");
    }
}
