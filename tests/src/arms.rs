//! Fault points of a running node: armed from outside, for one hit each (see `reload::fault`).

use std::fs;
use std::path::{Path, PathBuf};

/// The folder in which a node's fault points are armed.
#[derive(Debug)]
pub struct Arms(PathBuf);

// === impl Arms ===

impl Arms {
    /// What the node is told the folder by.
    pub const VARIABLE: &str = "FAILPOINTS_FOLDER";

    /// A folder for this in the node's own.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn beside(folder: &Path) -> Self {
        let arms = folder.join("faults");
        fs::create_dir_all(&arms).expect("the folder can be made");
        Self(arms)
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Lets the point act so at its next hit, or after `2 ` at the third.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn arm(&self, point: &str, action: &str) {
        // In one step: the node may reach the point at any time.
        let beside = self.0.join("next");
        fs::write(&beside, action).expect("the folder can be written");
        fs::rename(beside, self.0.join(point)).expect("a file can be renamed");
    }

    /// Whether the point has acted.
    #[must_use]
    pub fn was_hit(&self, point: &str) -> bool {
        self.0.join(format!("{point}.hit")).exists()
    }

    /// Nothing is armed any more, and nothing was hit.
    pub fn clear(&self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let _ = fs::remove_file(entry.path());
        }
    }
}
