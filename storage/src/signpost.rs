//! Where the data of a node is, beside its configuration: for a start after a kill.
//!
//! People write `node.data_dir` before the node has moved there, so a start on `conf.yaml` alone cannot tell a new node's folder, or
//! an earlier copy, from the one that counts. `conf.yaml.running` (0600) says it: it stands from a start to a clean stop, and is
//! what a move changes first. After a clean stop it is gone, and `conf.yaml` alone says where a node begins.
//!
//! It names the configuration that it belongs to, so that a copy of the folder with everything in it is a node of its own.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use reload::fault;
use serde::{Deserialize, Serialize};

use crate::atomic::{self, Action, Mode, WriteError};
use crate::document::source;

/// What is added to the name of the configuration.
const ADDED: &str = ".running";

/// Larger than any that was written: four paths.
const MAX_LEN: u64 = 64 << 10;

/// The file beside one configuration. Its methods block for file operations.
#[derive(Clone, Debug)]
pub struct Signpost {
    conf: PathBuf,
    path: PathBuf,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The folder whose history counts.
    pub data_dir: PathBuf,
    /// The folder that is being made a copy of it.
    pub moving_to: Option<PathBuf>,
    /// The folder that was left for this one. A node that is killed before it has let go of it leaves its pid and socket there.
    pub left: Option<PathBuf>,
}

/// Why it cannot be read. Nothing should start then that it may know better.
#[derive(Debug, thiserror::Error)]
#[error("{}: says where the node's data is, and {source} (remove it, if node.data_dir names the right folder)", path.display())]
pub struct SignpostError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub source: source::ReadError,
}

/// The text of the file.
#[derive(Serialize, Deserialize)]
struct Text {
    conf: PathBuf,
    data_dir: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moving_to: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    left: Option<PathBuf>,
}

// === impl Signpost ===

impl Signpost {
    /// The one of the configuration at `conf`.
    #[must_use]
    pub fn beside(conf: &Path) -> Self {
        let conf = std::path::absolute(conf).unwrap_or_else(|_| conf.to_owned());
        let mut name = conf.file_name().map_or_else(OsString::new, OsString::from);
        name.push(ADDED);
        Self { path: conf.with_file_name(name), conf }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says; `None` where there is none, or only one that came here with a copy of another node's folder.
    ///
    /// # Errors
    /// If there is one that cannot be used.
    pub fn read(&self) -> Result<Option<Whereabouts>, SignpostError> {
        let read = match source::read(&self.path, MAX_LEN) {
            Ok(file) => serde_json::from_slice::<Text>(&file.bytes)
                .map_err(|error| source::ReadError::Io(io::Error::new(ErrorKind::InvalidData, error))),
            Err(source::ReadError::Missing) => return Ok(None),
            Err(error) => Err(error),
        };
        let text = read.map_err(|source| SignpostError { path: self.path.clone(), source })?;
        let Text { conf, data_dir, moving_to, left } = text;
        Ok((conf == self.conf).then_some(Whereabouts { data_dir, moving_to, left }))
    }

    /// Makes it say this; durably, but for a copy that is being made: what said before where the history is says it still. A folder that the node may not write to has no signpost, which is no error: only a kill between
    /// an edit of `node.data_dir` and the end of the move is told apart less well there.
    ///
    /// # Errors
    /// What the disk says.
    pub fn put(&self, whereabouts: &Whereabouts) -> Result<(), WriteError> {
        let is_said = self.read().is_ok_and(|said| said.as_ref() == Some(whereabouts));
        // A pipe or a descriptor is read once, and nothing stands beside it.
        if is_said || fs::metadata(&self.conf).is_ok_and(|conf| !conf.is_file()) {
            return Ok(());
        }
        let failed = |source| WriteError { path: self.path.clone(), action: Action::Write, source };
        fault::io("signpost::put").map_err(failed)?;
        let Whereabouts { data_dir, moving_to, left } = whereabouts.clone();
        // Fails for a path that is no text, and such a folder cannot be named in `conf.yaml`.
        let text = serde_json::to_vec(&Text { conf: self.conf.clone(), data_dir, moving_to, left });
        let text = text.map_err(|error| failed(error.into()))?;
        let write = if whereabouts.moving_to.is_some() { atomic::write_soon } else { atomic::write };
        match write(&self.path, &text, Mode::OwnerOnly) {
            // One that stands and cannot be changed would mislead.
            Err(error) if is_forbidden(&error) && self.path.symlink_metadata().is_err() => return Ok(()),
            written => written,
        }?;
        fault::io("signpost::stands").map_err(failed)
    }

    /// Takes it away: the node stops, and whoever names another folder from here on means it.
    ///
    /// # Errors
    /// What the disk says.
    pub fn take_away(&self) -> Result<(), WriteError> {
        fault::pass("signpost::take_away");
        atomic::remove(&self.path)
    }
}

// === impl Whereabouts ===

impl Whereabouts {
    /// At rest in this folder.
    #[must_use]
    pub fn at(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), moving_to: None, left: None }
    }
}

fn is_forbidden(error: &WriteError) -> bool {
    use ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.source.kind(), PermissionDenied | ReadOnlyFilesystem | NotFound | NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn it_says_what_it_was_made_to_say_until_it_is_taken_away() {
        let dir = tempfile::tempdir().unwrap();
        let conf = dir.path().join("conf.yaml");
        let signpost = Signpost::beside(&conf);
        assert_eq!(signpost.path(), dir.path().join("conf.yaml.running"));
        assert_eq!(signpost.read().unwrap(), None);
        let at = Whereabouts::at(Path::new("/a"));
        let moving = Whereabouts { moving_to: Some("/b".into()), ..at.clone() };
        let moved = Whereabouts { left: Some("/b".into()), ..at.clone() };
        for whereabouts in [at, moving, moved] {
            signpost.put(&whereabouts).unwrap();
            assert_eq!(signpost.read().unwrap(), Some(whereabouts));
        }
        assert_eq!(fs::metadata(signpost.path()).unwrap().permissions().mode() & 0o777, 0o600);
        signpost.take_away().unwrap();
        signpost.take_away().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_of_another_configuration_says_nothing_and_a_spoilt_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("conf.yaml"), dir.path().join("copy/conf.yaml"));
        let (one, other) = (Signpost::beside(&one), Signpost::beside(&other));
        one.put(&Whereabouts::at(Path::new("/a"))).unwrap();
        fs::create_dir(dir.path().join("copy")).unwrap();
        fs::copy(one.path(), other.path()).unwrap();
        assert_eq!(other.read().unwrap(), None);
        fs::write(one.path(), "{").unwrap();
        let error = one.read().unwrap_err().to_string();
        assert!(error.contains("conf.yaml.running") && error.contains("remove it"), "{error}");
        one.put(&Whereabouts::at(Path::new("/a"))).unwrap();
        assert!(one.read().unwrap().is_some(), "the next start's is whole again");
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_has_none() {
        // Works for root too, whom permissions do not stop: nothing can be created under /proc.
        let signpost = Signpost::beside(Path::new("/proc/self/conf.yaml"));
        signpost.put(&Whereabouts::at(Path::new("/a"))).unwrap();
        assert_eq!(signpost.read().unwrap(), None);
    }
}
