//! Files that are held: a generation came back that they do not say, and they could not be written. Their bytes are passed
//! over until they change (contract: "Rollback and the file").

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage::document::{MAX_FILE, ReadError, source};
use storage::standing::HeldFile;

/// The held files of a node, with what they are taken to say instead.
#[derive(Debug, Default)]
pub struct HeldFiles(Mutex<Vec<Instead>>);

/// A held file with what it is taken to say; nothing where it is taken not to be there.
pub type Instead = (HeldFile, Option<Arc<[u8]>>);

// === impl HeldFiles ===

impl HeldFiles {
    /// From now on these are held, and no others.
    pub fn set(&self, files: impl IntoIterator<Item = Instead>) {
        *self.lock() = files.into_iter().collect();
    }

    /// The files that were held when they were read last.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock().iter().map(|(file, _)| file.path.clone()).collect()
    }

    /// Whether this file was held when it was read last.
    #[must_use]
    pub fn contains(&self, path: &Path) -> bool {
        self.lock().iter().any(|(file, _)| file.path == path)
    }

    /// Reads a file, or what it is taken to say; where it holds what it held before, these are the same bytes. One that has
    /// changed is held no longer.
    ///
    /// # Errors
    /// If it cannot be read; also if it is taken not to be there.
    pub(super) fn read(&self, path: &Path, before: Option<&Arc<[u8]>>) -> Result<Arc<[u8]>, ReadError> {
        let read = match before {
            Some(before) => source::read_again(path, MAX_FILE, before),
            None => source::read(path, MAX_FILE).map(|file| file.bytes.into()),
        };
        let mut held = self.lock();
        let Some(index) = held.iter().position(|(file, _)| file.path == path) else { return read };
        let bytes = match &read {
            Ok(bytes) => Some(&**bytes),
            Err(ReadError::Missing) => None,
            Err(_) => return read,
        };
        match &held[index] {
            (file, instead) if file.is(path, bytes) => instead.clone().ok_or(ReadError::Missing),
            _ => {
                held.remove(index);
                read
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Instead>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn held_bytes_are_passed_over_until_they_change() {
        let folder = tempfile::tempdir().unwrap();
        let (conf, peers) = (folder.path().join("conf.yaml"), folder.path().join("peers.yaml"));
        fs::write(&conf, "theirs").unwrap();
        let held = HeldFiles::default();
        let read = |path| held.read(path, None).unwrap();
        assert_eq!(*read(&conf), *b"theirs");
        held.set([
            (HeldFile::new(&conf, Some(b"theirs")), Some(b"ours"[..].into())),
            (HeldFile::new(&peers, None), Some(b"peers"[..].into())),
        ]);
        assert_eq!((&*read(&conf), &*read(&peers)), (&b"ours"[..], &b"peers"[..]));
        assert_eq!(held.paths(), [conf.clone(), peers.clone()]);
        fs::write(&conf, "changed").unwrap();
        fs::write(&peers, "").unwrap();
        assert_eq!((&*read(&conf), &*read(&peers)), (&b"changed"[..], &b""[..]));
        assert!(held.paths().is_empty());
        fs::write(&conf, "theirs").unwrap();
        assert_eq!(*read(&conf), *b"theirs", "it had changed: what it says now counts");
        held.set([(HeldFile::new(&peers, Some(b"")), None)]);
        assert!(matches!(held.read(&peers, None), Err(ReadError::Missing)), "taken not to be there");
    }
}
