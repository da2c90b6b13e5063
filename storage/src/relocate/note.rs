//! The note that a data folder holds about another one.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use reload::fault;
use serde::{Deserialize, Serialize};

use super::{MoveError, NOTE};
use crate::atomic::{self, Action, Mode, WriteError};
use crate::document::source;

/// Larger than any note that was written: one path.
const MAX_LEN: u64 = 16 << 10;

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Where the history of this folder goes on, or is still: one that is being copied here.
    pub(super) history_in: PathBuf,
    /// The folder held nothing before it was copied to: what is in it is the copy's alone.
    #[serde(default)]
    pub(super) is_new: bool,
}

// === impl Note ===

impl Note {
    /// The one in a folder, if there is one.
    ///
    /// # Errors
    /// If it cannot be used.
    pub(super) fn read(data_dir: &Path) -> Result<Option<Self>, MoveError> {
        let path = data_dir.join(NOTE);
        let read = match source::read(&path, MAX_LEN) {
            Ok(file) => serde_json::from_slice(&file.bytes)
                .map_err(|error| source::ReadError::Io(io::Error::new(ErrorKind::InvalidData, error))),
            Err(source::ReadError::Missing) => return Ok(None),
            Err(error) => Err(error),
        };
        read.map(Some).map_err(|source| MoveError::Read { path, source })
    }

    /// Whether the folder holds a copy of `from` that was made in an empty folder and never came to count.
    ///
    /// # Errors
    /// If there is a note that cannot be used.
    pub(super) fn is_of_a_new_copy(data_dir: &Path, from: &Path) -> Result<bool, MoveError> {
        Ok(Self::read(data_dir)?.is_some_and(|note| note.is_new && note.history_in == from))
    }

    /// Leaves it in a folder. After a power cut there may be none again: it is the signpost that has to stand.
    ///
    /// # Errors
    /// What the disk says.
    pub(super) fn write(&self, data_dir: &Path) -> Result<(), WriteError> {
        let path = data_dir.join(NOTE);
        let failed = |source| WriteError { path: path.clone(), action: Action::Write, source };
        fault::io("move::note").map_err(failed)?;
        // Fails for a path that is no text, and such a folder cannot be named in `conf.yaml`.
        let text = serde_json::to_vec(self).map_err(|error| failed(error.into()))?;
        atomic::write_soon(&path, &text, Mode::OwnerOnly)?;
        fault::io("move::noted").map_err(failed)
    }
}
