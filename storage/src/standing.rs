//! What must outlive the process besides the generations themselves: a confirmation that is awaited, and files that could not be
//! made to say what runs (contract: "Rollback and the file").
//!
//! `data_dir/standing.json` (0600) is there only while one of the two is.

use std::path::{Path, PathBuf};

use reload::{Generation, Unconfirmed, fault};
use serde::{Deserialize, Serialize};

use crate::atomic::{self, Action, Mode, WriteError};
use crate::document::source;
use crate::generations::record::Checksum;

/// The file's name in the data folder.
pub const STANDING: &str = "standing.json";

/// Larger than any that was written: two paths, some numbers.
const MAX_STANDING: u64 = 64 << 10;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// A generation that goes back by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unconfirmed: Option<Unconfirmed>,
    /// Files whose bytes are passed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// Files whose bytes are passed over until they change, because a generation came back that they do not say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The generation that came back. Written before it is, so this means nothing while the history does not have it.
    pub since: Generation,
    /// `conf.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conf: Option<HeldFile>,
    /// `peers.yaml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peers: Option<HeldFile>,
}

/// A file that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldFile {
    /// Absolute.
    pub path: PathBuf,
    /// SHA-256 of the bytes that are passed over; nothing where the absence of the file is.
    pub sha256: Option<String>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StandingError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: source::ReadError,
    },
    /// It is not what this program writes.
    #[error("{}: is damaged: {source} (what it said is lost: a confirmation that was awaited, or a file that was held)", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

// === impl Standing ===

impl Standing {
    /// Reads what stands in a data folder; nothing stands where there is no file.
    ///
    /// # Errors
    /// If there is one that cannot be used.
    pub fn read(data_dir: &Path) -> Result<Self, StandingError> {
        let path = data_dir.join(STANDING);
        let read = fault::io("standing::read").map_err(source::ReadError::from);
        match read.and_then(|()| source::read(&path, MAX_STANDING)) {
            Ok(file) => {
                serde_json::from_slice(&file.bytes).map_err(|source| StandingError::Damaged { path, source })
            }
            Err(source::ReadError::Missing) => Ok(Self::default()),
            Err(source) => Err(StandingError::Read { path, source }),
        }
    }

    /// Writes it down, durably; removes the file where nothing stands.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&self, data_dir: &Path) -> Result<(), WriteError> {
        let path = data_dir.join(STANDING);
        let failed = |source| WriteError { path: path.clone(), action: Action::Write, source };
        fault::io("standing::write").map_err(failed)?;
        if *self == Self::default() {
            return atomic::remove(&path);
        }
        // Fails for no value of this type.
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        atomic::write(&path, &text, Mode::OwnerOnly)?;
        fault::io("standing::written").map_err(failed)
    }
}

// === impl HeldFile ===

impl HeldFile {
    /// A file that holds these bytes, or is not there.
    #[must_use]
    pub fn new(path: &Path, bytes: Option<&[u8]>) -> Self {
        Self { path: path.to_owned(), sha256: bytes.map(sha256) }
    }

    /// Whether these are the bytes that are passed over.
    #[must_use]
    pub fn is(&self, path: &Path, bytes: Option<&[u8]>) -> bool {
        self.path == path && self.sha256 == bytes.map(sha256)
    }
}

fn sha256(bytes: &[u8]) -> String {
    Checksum::of(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_stands_is_read_back_and_nothing_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Standing::read(folder.path()).unwrap(), Standing::default());
        let file = HeldFile::new(Path::new("/etc/conf.yaml"), Some(b"x"));
        let standing = Standing {
            unconfirmed: Some(Unconfirmed { target: Generation::FIRST, by_unix_ms: 7, within_ms: Some(5) }),
            held: Some(Held { since: Generation::FIRST.next(), conf: Some(file.clone()), peers: None }),
        };
        standing.write(folder.path()).unwrap();
        assert_eq!(Standing::read(folder.path()).unwrap(), standing);
        assert!(file.is(Path::new("/etc/conf.yaml"), Some(b"x")));
        assert!(!file.is(Path::new("/etc/conf.yaml"), Some(b"y")) && !file.is(Path::new("/x"), Some(b"x")));
        assert!(!file.is(Path::new("/etc/conf.yaml"), None));
        Standing::default().write(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        Standing::default().write(folder.path()).unwrap();
    }

    #[test]
    fn a_damaged_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(STANDING), "{").unwrap();
        let error = Standing::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("standing.json: is damaged"), "{error}");
    }
}
