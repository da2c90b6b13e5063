//! What a configuration says about its data folder, its socket and its members' file, without judging the rest of it: an edited file need not be
//! valid to be asked about, and a broken one must not keep its node from what it knows.

use std::path::{Path, PathBuf};

use storage::document::{Document, MAX_FILE, source};

/// What stands in a file, as far as it can be read.
#[derive(Debug)]
pub struct Loose {
    folder: PathBuf,
    is_yaml: bool,
    data_dir: Option<String>,
    socket: Option<String>,
    peers_file: Option<String>,
}

// === impl Loose ===

impl Loose {
    /// Reads the file; `None` if it cannot be read at all.
    #[must_use]
    pub fn read(config: &Path) -> Option<Self> {
        let bytes = source::read(config, MAX_FILE).ok()?.bytes;
        let nothing = Self::nothing(config);
        Some(match Document::parse("", &bytes) {
            Ok(document) => {
                let text_at = |section, key| document.text_at(section, key).map(str::to_owned);
                let (data_dir, socket) = (text_at("node", "data_dir"), text_at("admin", "socket"));
                Self { is_yaml: true, data_dir, socket, peers_file: text_at("peers", "file"), ..nothing }
            }
            Err(_) => Self { data_dir: from_a_line(&String::from_utf8_lossy(&bytes)), ..nothing },
        })
    }

    /// What a file says that says nothing.
    #[must_use]
    pub fn nothing(config: &Path) -> Self {
        let folder = config.parent().unwrap_or(Path::new("")).to_owned();
        Self { folder, is_yaml: false, data_dir: None, socket: None, peers_file: None }
    }

    /// Whether it is a mapping at all.
    #[must_use]
    pub const fn is_yaml(&self) -> bool {
        self.is_yaml
    }

    /// `node.data_dir`. In a file that is no YAML: from the first line that looks like it.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.folder.join(self.data_dir.as_deref().unwrap_or("data"))
    }

    /// `peers.file`.
    #[must_use]
    pub fn peers_file(&self) -> PathBuf {
        self.folder.join(self.peers_file.as_deref().unwrap_or("peers.yaml"))
    }

    /// `admin.socket`.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.data_dir().join(self.socket.as_deref().unwrap_or("admin.sock"))
    }
}

fn from_a_line(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix("data_dir:"))?;
    // A line has no aliases that could explode.
    serde_yaml::from_str(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_still_tells_its_data_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("conf.yaml");
        for (text, data_dir, socket) in [
            ("node: {data_dir: /d}\nadmin: {socket: s}", "/d", "/d/s"),
            ("a: [\n  data_dir: '/d e' # there\n", "/d e", "/d e/admin.sock"),
            ("a: [", "data", "data/admin.sock"),
            ("node: 7", "data", "data/admin.sock"),
        ] {
            std::fs::write(&path, text).unwrap();
            let loose = Loose::read(&path).unwrap();
            assert_eq!(loose.data_dir(), folder.path().join(data_dir), "{text}");
            assert_eq!(loose.socket(), folder.path().join(socket), "{text}");
        }
        assert!(Loose::read(&folder.path().join("none")).is_none());
    }
}
