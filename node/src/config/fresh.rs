//! Whether what runs is still what the files hold.

use storage::document::{MAX_FILE, ReadError, source};

use super::{Config, files};

impl Config {
    /// Whether every file that this configuration was made from still holds the same bytes (contract: a file newer than what
    /// runs "shows in metrics and `status`"). Reads them: blocks.
    #[must_use]
    pub fn files_are_unchanged(&self) -> bool {
        let is = |path: &std::path::Path, bytes: Option<&[u8]>| match source::read(path, MAX_FILE) {
            Ok(file) => bytes == Some(&file.bytes),
            Err(ReadError::Missing) => bytes.is_none(),
            Err(_) => false,
        };
        let snapshot = &self.source.snapshot;
        is(&self.source.path, Some(&snapshot.conf))
            && is(&self.peers.file, snapshot.peers.as_deref())
            && files::named_are_same(&self.source)
    }
}
