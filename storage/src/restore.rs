//! Files of people that are made to say what a generation said, with what they said before kept beside them (contract:
//! "Rollback and the file").

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use reload::fault;

use crate::atomic::{self, Action, Mode, WriteError};
use crate::document::MAX_FILE;
use crate::document::source::{self, ReadError};
use crate::mounted::is_swapped;

/// Names that are tried for what one number replaced.
const MAX_SAME: u32 = 64;

/// What was to be done about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It said so already.
    AsItWas,
    /// It says so now. What it said before is in the file named; nothing where there was no file.
    Written(Option<PathBuf>),
}

/// Why a file does not say what it should. What it said is still there.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// What is there cannot be kept, so it is not replaced.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ReadError,
    },
    /// It comes out of a ConfigMap or Secret of Kubernetes, whose next version would undo the change.
    #[error("{}: is mounted from a ConfigMap or Secret (change it there)", .0.display())]
    Mounted(PathBuf),
    /// The disk refused.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The bytes of a file; `None` where there is none.
///
/// # Errors
/// If there is one and it cannot be read.
pub fn bytes_of(path: &Path) -> Result<Option<Vec<u8>>, RestoreError> {
    match source::read(path, MAX_FILE) {
        Ok(file) => Ok(Some(file.bytes)),
        Err(ReadError::Missing) => Ok(None),
        Err(source) => Err(RestoreError::Read { path: path.to_owned(), source }),
    }
}

/// Makes the file at `path` say `wanted` (`None`: not be there), and keeps what it replaces as `NAME.replaced-N`, of which
/// at most `keep` are left. Blocks for two durable writes.
///
/// # Errors
/// If the file cannot be read, kept or written. It is then as it was.
pub fn restore(
    path: &Path,
    wanted: Option<&[u8]>,
    number: u64,
    keep: usize,
) -> Result<Restored, RestoreError> {
    let before = bytes_of(path)?;
    if before.as_deref() == wanted {
        return Ok(Restored::AsItWas);
    }
    let failed = |source| WriteError { path: path.to_owned(), action: Action::Write, source };
    let target = atomic::follow(path).map_err(failed)?;
    if is_swapped(path, &target) {
        return Err(RestoreError::Mounted(path.to_owned()));
    }
    fault::io("restore::keep").map_err(failed)?;
    let kept = match &before {
        Some(before) => Some(keep_replaced(path, before, number)?),
        None => None,
    };
    fault::io("restore::write").map_err(failed)?;
    match wanted {
        Some(wanted) => atomic::write(path, wanted, Mode::KeepOr(0o600))?,
        None => atomic::remove(path)?,
    }
    fault::io("restore::written").map_err(failed)?;
    prune(path, keep);
    Ok(Restored::Written(kept))
}

/// Writes what is replaced to `NAME.replaced-N`, or to the next `NAME.replaced-N.M` where that holds something else.
fn keep_replaced(path: &Path, bytes: &[u8], number: u64) -> Result<PathBuf, RestoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".replaced-{number}"));
    let first = PathBuf::from(&name);
    for more in 0..MAX_SAME {
        let kept = if more == 0 { first.clone() } else { with_suffix(&first, &format!(".{more}")) };
        match bytes_of(&kept) {
            Ok(None) => {
                // A copy of a file with a key in it, for its owner only; and never through a symlink that leads nowhere yet.
                match atomic::create(&kept, bytes) {
                    Ok(()) => return Ok(kept),
                    Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(Some(same)) if same == bytes => return Ok(kept),
            Ok(Some(_)) | Err(_) => {}
        }
    }
    let source = io::Error::from(io::ErrorKind::AlreadyExists);
    Err(WriteError { path: first, action: Action::Create, source }.into())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Lets the oldest go. They are copies of what generations hold as well, in most cases; that they are left is no error.
fn prune(path: &Path, keep: usize) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    let prefix = format!("{name}.replaced-");
    let numbered = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = entry.file_name();
        let (number, more) = match name.to_str()?.strip_prefix(&prefix)?.split_once('.') {
            Some((number, more)) => (number.parse::<u64>().ok()?, more.parse::<u64>().ok()?),
            None => (name.to_str()?.strip_prefix(&prefix)?.parse::<u64>().ok()?, 0),
        };
        Some(((number, more), entry.path()))
    };
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut kept: Vec<_> = entries.filter_map(numbered).collect();
    kept.sort();
    for (_, old) in kept.iter().rev().skip(keep) {
        if let Err(error) = fault::io("restore::prune").and_then(|()| fs::remove_file(old)) {
            tracing::warn!(path = %old.display(), %error, "a replaced file could not be let go");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::names;

    #[test]
    fn a_file_says_what_it_should_and_what_it_said_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conf.yaml");
        fs::write(&path, "new").unwrap();
        let kept = folder.path().join("conf.yaml.replaced-7");
        assert_eq!(restore(&path, Some(b"old"), 7, 9).unwrap(), Restored::Written(Some(kept.clone())));
        assert_eq!((fs::read(&path).unwrap(), fs::read(&kept).unwrap()), (b"old".to_vec(), b"new".to_vec()));
        assert_eq!(restore(&path, Some(b"old"), 8, 9).unwrap(), Restored::AsItWas);
        // Another time under the same number: nothing that was kept is lost.
        fs::write(&path, "other").unwrap();
        restore(&path, Some(b"old"), 7, 9).unwrap();
        assert_eq!(names(folder.path()), ["conf.yaml", "conf.yaml.replaced-7", "conf.yaml.replaced-7.1"]);
        // The same bytes are kept once.
        fs::write(&path, "new").unwrap();
        restore(&path, Some(b"old"), 7, 9).unwrap();
        assert_eq!(names(folder.path()).len(), 3);
    }

    #[test]
    fn a_file_that_should_not_be_there_goes_and_one_that_should_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("peers.yaml");
        assert_eq!(restore(&path, None, 1, 9).unwrap(), Restored::AsItWas);
        assert_eq!(restore(&path, Some(b"x"), 1, 9).unwrap(), Restored::Written(None));
        let kept = folder.path().join("peers.yaml.replaced-2");
        assert_eq!(restore(&path, None, 2, 9).unwrap(), Restored::Written(Some(kept)));
        assert!(!path.exists());
    }

    #[test]
    fn what_is_kept_goes_through_no_symlink_and_the_file_stays_its_owners() {
        use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
        let folder = tempfile::tempdir().unwrap();
        let (path, victim) = (folder.path().join("c"), folder.path().join("victim"));
        fs::write(&path, "new").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        // Only root can give files away; for others there is nothing to be seen here.
        let _ = std::os::unix::fs::chown(&path, Some(1), Some(1));
        let owner =
            |path: &Path| fs::metadata(path).map(|found| (found.uid(), found.gid(), found.mode() & 0o777));
        let before = owner(&path).unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join("c.replaced-1")).unwrap();
        let kept = folder.path().join("c.replaced-1.1");
        assert_eq!(restore(&path, Some(b"old"), 1, 9).unwrap(), Restored::Written(Some(kept.clone())));
        assert!(!victim.exists());
        assert_eq!(owner(&path).unwrap(), before);
        assert_eq!(owner(&kept).unwrap().2, 0o600);
    }

    #[test]
    fn only_the_newest_replaced_files_are_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        for number in 8..13 {
            fs::write(&path, format!("{number}")).unwrap();
            restore(&path, Some(b"old"), number, 3).unwrap();
        }
        assert_eq!(names(folder.path()), ["c", "c.replaced-10", "c.replaced-11", "c.replaced-12"]);
    }

    #[test]
    fn what_cannot_be_kept_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        fs::create_dir(&path).unwrap();
        let error = restore(&path, Some(b"old"), 1, 3).unwrap_err();
        assert!(matches!(error, RestoreError::Read { .. }), "{error}");
        assert!(path.is_dir());
    }
}
